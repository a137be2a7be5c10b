//! The files that this program writes for users. Apart from temporary files, only this module creates any.
//!
//! Others may be able to write to the directory of an output, for example in `/tmp`. So each output is created under
//! a random name (`O_EXCL`, `O_NOFOLLOW`) and gets its own name by rename(2) when it is complete. A planted link is
//! replaced and not followed, and nobody sees a partial file. Existing special files in `/dev` and `/proc` are
//! written to directly: `/dev/stdout`, or a disk that the user named on purpose.

#![allow(clippy::disallowed_methods, reason = "this is the one that does it")]

use anyhow::{Context, Result, bail};
use hint::{WithHint, hinted};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use untrusted_fs::{Directory, Links, NewFile, open_in_place};

/// The mode of an output that everyone may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// Directories with devices and descriptors. [`NOT_SPECIAL`] lists those below in which ordinary users can create files.
const SPECIAL: &[&str] = &["/dev", "/proc"];
const NOT_SPECIAL: &[&str] = &["/dev/shm", "/dev/mqueue"];

/// An unfinished output. [`Output::finish`] gives it its name; without that, dropping it removes the file.
pub(crate) struct Output<'a> {
    place: &'a Destination,
    target: Target<'a>,
}

enum Target<'a> {
    New(NewFile<'a>),
    Open(File),
}

/// The place of an output.
pub(crate) struct Destination {
    directory: Directory,
    path: PathBuf,
}

/// Writes a complete file.
pub(crate) fn write(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let place = Destination::of(path)?;
    let mut output = place.begin()?;
    output.stream().write_all(content).with_context(|| cannot(path))?;
    output.finish(mode)
}

impl Destination {
    /// Examines the path of an output.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let directory =
            path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let opened = Directory::open(directory).with_context(|| cannot(path));
        Ok(Self { directory: opened.hint("the directory must be there")?, path: path.to_owned() })
    }

    /// Creates the file.
    pub(crate) fn begin(&self) -> Result<Output<'_>> {
        let target = if self.is_special()? {
            Target::Open(open_in_place(&self.path).with_context(|| cannot(&self.path))?)
        } else {
            self.new_file()?
        };
        Ok(Output { place: self, target })
    }

    fn is_special(&self) -> Result<bool> {
        let directory = self.directory.path().canonicalize().with_context(|| cannot(&self.path))?;
        let is_in = |places: &[&str]| places.iter().any(|place| directory.starts_with(place));
        Ok(is_in(SPECIAL) && !is_in(NOT_SPECIAL))
    }

    fn new_file(&self) -> Result<Target<'_>> {
        if let Ok(found) = fs::symlink_metadata(&self.path)
            && !found.is_file()
            && !found.is_symlink()
        {
            return Err(hinted(
                format!("`{}` is there, and is not a file", self.path.display()),
                "name a file, or one of `/dev`",
            ));
        }
        let begun = self.directory.begin().with_context(|| cannot(&self.path));
        Ok(Target::New(begun.hint("the directory must be there, writable and not full")?))
    }
}

impl Output<'_> {
    /// The file to write to.
    pub(crate) fn stream(&mut self) -> &mut File {
        match &mut self.target {
            Target::New(file) => file.file(),
            Target::Open(file) => file,
        }
    }

    /// Sets the mode of the file and gives it its name.
    pub(crate) fn finish(self, mode: u32) -> Result<()> {
        let path = &self.place.path;
        match self.target {
            Target::Open(mut file) => file.flush().with_context(|| cannot(path)),
            Target::New(file) => {
                let name = path.file_name().with_context(|| format!("`{}` names no file", path.display()))?;
                file.place(name, mode).with_context(|| cannot(path))
            }
        }
    }
}

/// A directory for several outputs, created if necessary. Links in its own path are followed, links inside it are
/// not.
pub(crate) struct OutputDirectory(Directory);

impl OutputDirectory {
    /// Opens the directory, or creates it and its parents.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot make the directory `{}`", path.display());
        fs::create_dir_all(path).with_context(cannot)?;
        Ok(Self(Directory::open(path).with_context(cannot)?))
    }

    /// Whether the directory is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.names(0).is_ok()
    }

    /// Creates a subdirectory unless it exists.
    pub(crate) fn directory(&self, name: &str) -> Result<()> {
        self.0.directory_or_new(name, 0o755).map(drop).hint("it must be a directory, and no link")
    }

    /// Writes a file and creates its parent directories.
    pub(crate) fn write(&self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let write = || -> Result<()> {
            let mut names: Vec<_> = Path::new(path).components().collect();
            let Some(Component::Normal(name)) = names.pop() else { bail!("it is no path of a file") };
            let mut directory = self.0.directory("", Links::Refuse)?;
            for part in names {
                directory = directory.directory_or_new(part, 0o755)?;
            }
            Ok(directory.replace(name, mode, content)?)
        };
        let shown = self.0.path().join(path);
        write()
            .with_context(|| format!("cannot write `{}`", shown.display()))
            .hint("no link in it is followed")
    }

    /// The content of a file in it, at most `limit` bytes; `None` if the file does not exist.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self.0.read(path, Links::Refuse, limit) {
            Err(error) if error.is_not_found() => Ok(None),
            read => Ok(Some(read?)),
        }
    }
}

/// Moves the complete directory `made` from `room` to its place in `parent`, where nothing may exist: a link there is
/// an error and is not followed (rename(2)).
pub(crate) fn place_directory(room: &Directory, made: &str, parent: &Directory, output: &Path) -> Result<()> {
    let name = output.file_name().with_context(|| format!("`{}` names no directory", output.display()))?;
    let placed = room.move_to(made, parent, name).with_context(|| cannot(output));
    placed.hint("name a directory that is not there yet")
}

fn cannot(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    #[test]
    fn a_file_is_replaced_whole_and_readable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("initrd");
        fs::write(&path, "old").unwrap();
        write(&path, 0o640, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = write(&directory.path().join("absent/initrd"), PUBLIC, b"").unwrap_err().to_string();
        assert!(error.starts_with("cannot write `"), "{error}");
    }

    #[test]
    fn a_planted_link_is_replaced_and_not_followed() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, victim) = (directory.path().join("out"), outside.path().join("victim"));
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, &path).unwrap();
        write(&path, PUBLIC, b"new").unwrap();
        symlink(outside.path(), directory.path().join("grub")).unwrap();
        let several = OutputDirectory::open(directory.path()).unwrap();
        assert!(several.write("grub/grub.cfg", PUBLIC, b"new").is_err());
        symlink(&victim, directory.path().join("vmlinuz")).unwrap();
        several.write("vmlinuz", PUBLIC, b"new").unwrap();
        several.write("pxelinux.cfg/default", PUBLIC, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        for name in ["out", "vmlinuz", "pxelinux.cfg/default"] {
            assert_eq!(fs::read(directory.path().join(name)).unwrap(), b"new", "{name}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        fs::create_dir(directory.path().join("directory")).unwrap();
        for name in ["socket", "directory"] {
            let error = write(&directory.path().join(name), PUBLIC, b"").unwrap_err().to_string();
            assert!(error.contains("is not a file"), "{error}");
        }
    }

    #[test]
    fn what_is_open_is_written_to_as_it_is() {
        write(Path::new("/dev/null"), PUBLIC, b"text").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file.as_file()));
        write(Path::new(&path), PUBLIC, b"text").unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"text");
    }
}
