//! The files that Iguana exchanges with one container: the scripts of steps, and the output file.
//!
//! The container sees the directory read-only, so it cannot replace a script. Only the output file, which is a mount of
//! its own, is writable. Iguana opens that file before the container starts and never looks it up again.

use anyhow::Context as _;
use hint::hinted;
use std::fs::File;
use std::io::Seek as _;
use std::path::Path;
use untrusted_fs::{Cause, Directory, read_bounded};

/// The directory as a container sees it.
pub const INSIDE: &str = "/run/iguana";
/// The output file as a container sees it.
pub const OUTPUT_INSIDE: &str = "/run/iguana/output";
/// The name of the output file in the directory.
pub const OUTPUT: &str = "output";
/// Writable for any user.
const OUTPUT_MODE: u32 = 0o666;
/// Bytes of the outputs of one step: GitHub's limit for a job.
const OUTPUT_LIMIT: u64 = 1 << 20;
/// Any user may read and execute a script.
const SCRIPT_MODE: u32 = 0o755;

/// The directory of one container, as the host sees it.
#[derive(Debug)]
pub struct StepFiles {
    directory: Directory,
    output: File,
}

impl StepFiles {
    /// Creates the directory and an empty output file in it.
    ///
    /// # Errors
    /// When the name exists already, or the directory cannot be created.
    pub fn create(parent: &Path, name: &str) -> anyhow::Result<Self> {
        let directory = Directory::open(parent)?.create_directory(name, 0o755)?;
        let output = directory.create(OUTPUT, OUTPUT_MODE)?;
        Ok(Self { directory, output })
    }

    /// Truncates the output file.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn clear_output(&self) -> anyhow::Result<()> {
        self.output.set_len(0).context("cannot truncate the output file")
    }

    /// Reads the output file.
    ///
    /// # Errors
    /// When it exceeds the limit.
    pub fn read_output(&self) -> anyhow::Result<Vec<u8>> {
        (&self.output).rewind()?;
        match read_bounded(self.output.try_clone()?, OUTPUT_LIMIT) {
            Ok(bytes) => Ok(bytes),
            Err(Cause::TooLarge(_)) => Err(hinted(
                format!("the output file is larger than {OUTPUT_LIMIT} bytes"),
                "pass large data through a volume or `/iguana`",
            )),
            Err(cause) => Err(cause).context("cannot read the output file"),
        }
    }

    /// Writes a script, and returns its path in the container.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn write_script(&self, name: &str, script: &str) -> anyhow::Result<String> {
        // A privileged container can have remounted the directory writable and put something in this place.
        self.directory.remove(name)?;
        self.directory.replace(name, SCRIPT_MODE, script.as_bytes())?;
        Ok(format!("{INSIDE}/{name}"))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these tests play the container")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn outputs_are_read_from_the_created_file_even_if_replaced() {
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        fs::write(&victim, "victim").unwrap();
        let files = StepFiles::create(home.path(), "exchange").unwrap();
        let output = home.path().join("exchange/output");
        fs::write(&output, "a=1\n").unwrap();
        assert_eq!(files.read_output().unwrap(), b"a=1\n");
        fs::remove_file(&output).unwrap();
        symlink(&victim, &output).unwrap();
        files.clear_output().unwrap();
        assert_eq!(files.read_output().unwrap(), b"");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "victim");
        assert!(StepFiles::create(home.path(), "exchange").is_err(), "it must be new");
    }

    #[test]
    fn outputs_are_bounded() {
        let home = tempfile::tempdir().unwrap();
        let files = StepFiles::create(home.path(), "exchange").unwrap();
        fs::write(home.path().join("exchange/output"), "x".repeat(1 << 20)).unwrap();
        assert_eq!(files.read_output().unwrap().len(), 1 << 20);
        File::options()
            .write(true)
            .open(home.path().join("exchange/output"))
            .unwrap()
            .set_len(10 << 30)
            .unwrap();
        assert!(files.read_output().unwrap_err().to_string().contains("larger than 1048576 bytes"));
    }

    #[test]
    fn a_script_replaces_whatever_lies_in_its_place() {
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        fs::write(&victim, "victim").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        let files = StepFiles::create(home.path(), "exchange").unwrap();
        let script = home.path().join("exchange/step-1");
        for place in ["nothing", "link", "directory", "hard link", "fifo"] {
            let _ = fs::remove_file(&script);
            match place {
                "link" => symlink(&victim, &script).unwrap(),
                "directory" => fs::create_dir_all(script.join("deep")).unwrap(),
                "hard link" => fs::hard_link(&victim, &script).unwrap(),
                "fifo" => {
                    drop(Directory::open(home.path().join("exchange")).unwrap().create_fifo("step-1", 0o666))
                }
                _ => {}
            }
            assert_eq!(files.write_script("step-1", "true").unwrap(), "/run/iguana/step-1");
            assert_eq!(fs::read_to_string(&script).unwrap(), "true", "{place}");
            assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o7777, 0o755, "{place}");
            assert_eq!(fs::read_to_string(&victim).unwrap(), "victim", "{place}");
            assert_eq!(fs::metadata(&victim).unwrap().permissions().mode() & 0o7777, 0o600, "{place}");
        }
    }
}
