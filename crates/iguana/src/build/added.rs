//! The files that are added to a medium (`--add`). Another user may own them: a file with holes has any size, and takes no
//! room on the disk, but the medium that is made with it is in memory.

use super::inputs::Input;
use anyhow::{Context, Result, ensure};
use hint::{WithHint, hinted};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of all these files together: the largest file of FAT and of ISO 9660, so that a medium with one may be made.
const SIZE_LIMIT: u64 = u32::MAX as u64;
/// How often their content is in memory at once: as input, as file of the medium, in its file system, and in the medium.
/// Measured with `--format usb`: 4.4 GB for a file of 1 GiB.
const COPIES: u64 = 4;
/// Bytes of proc_meminfo(5) that are read; it has some 1.5 kB.
const MEMINFO_LIMIT: u64 = 64 << 10;

/// Reads the files, each with its name on the medium, if there is memory for a medium with all of them.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<(String, Input)>> {
    let opened = paths.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let bytes = opened.iter().fold(0_u64, |sum, added| sum.saturating_add(added.bytes));
    if bytes > 0 {
        check_size(bytes, available())?;
    }
    opened.into_iter().map(Added::read).collect()
}

/// A file that is added, and was not read yet.
struct Added<'a> {
    path: &'a Path,
    name: String,
    file: File,
    bytes: u64,
}

fn open(path: &Path) -> Result<Added<'_>> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.with_context(|| format!("`--add {}` does not name a file", path.display()))?;
    let open = || {
        let file = untrusted_fs::open_file(path)?;
        let bytes = file.metadata()?.len();
        anyhow::Ok(Added { path, name, file, bytes })
    };
    cannot_read(path, open())
}

impl Added<'_> {
    /// The file may have grown since its size was counted; then it is refused.
    fn read(self) -> Result<(String, Input)> {
        Ok((self.name, cannot_read(self.path, Input::of(self.file, self.bytes))?))
    }
}

fn cannot_read<T>(path: &Path, result: Result<T>) -> Result<T> {
    result
        .with_context(|| format!("cannot read `{}`", path.display()))
        .hint("`--add` takes a file to put on the medium")
}

/// Fails if the files are too large for a medium, or for this machine's memory.
fn check_size(bytes: u64, available: Option<u64>) -> Result<()> {
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    ensure!(
        bytes <= SIZE_LIMIT,
        hinted(
            format!(
                "the files of `--add` have {} MB, more than the limit of {} MB",
                megabytes(bytes),
                megabytes(SIZE_LIMIT)
            ),
            "put them on another medium, or fetch them while the machine boots"
        )
    );
    let (need, available) = (bytes * COPIES, available.unwrap_or(u64::MAX));
    ensure!(
        need <= available,
        hinted(
            format!(
                "a medium with the files of `--add` takes {} MB of memory, and {} MB are available",
                megabytes(need),
                available / 1_000_000
            ),
            "add smaller files, or build on a machine with more memory"
        )
    );
    Ok(())
}

/// Bytes of memory that this machine can give to programs (proc_meminfo(5), `MemAvailable`).
fn available() -> Option<u64> {
    let mut text = String::new();
    untrusted_fs::open_file("/proc/meminfo").ok()?.take(MEMINFO_LIMIT).read_to_string(&mut text).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_files_that_do_not_fit_into_memory_are_refused() {
        let told = |bytes, available| check_size(bytes, available).err().map(|error| error.to_string());
        assert_eq!(told(1 << 20, Some(4 << 20)), None);
        assert_eq!(
            told(1 << 20, Some((4 << 20) - 1)).unwrap(),
            "a medium with the files of `--add` takes 5 MB of memory, and 4 MB are available"
        );
        assert_eq!(told(SIZE_LIMIT, None), None);
        assert!(available().unwrap() > 1 << 20);
    }

    #[test]
    fn the_size_of_all_added_files_together_is_limited_before_they_are_read() {
        let home = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| home.path().join(name));
        for path in &paths {
            // Without a block on the disk.
            File::create(path).unwrap().set_len(3 << 30).unwrap();
        }
        let error = read(&paths).unwrap_err().to_string();
        assert_eq!(error, "the files of `--add` have 6443 MB, more than the limit of 4295 MB");
    }

    #[test]
    fn a_file_that_grows_after_it_was_counted_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        std::fs::write(&path, "text").unwrap();
        let added = open(&path).unwrap();
        std::fs::write(&path, "more text").unwrap();
        assert!(format!("{:#}", added.read().unwrap_err()).contains("it has more than 4 bytes"));
    }
}
