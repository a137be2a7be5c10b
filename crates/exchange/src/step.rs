//! The files that Iguana exchanges with one container: the scripts of steps, and the files that steps write to.
//!
//! The container sees the directory read-only, so it cannot replace a script. Only the files of [`StepFile`], which are
//! mounts of their own, are writable. Iguana opens them before the container starts and never looks them up again.

use anyhow::Context as _;
use hint::hinted;
use std::fs::File;
use std::io::Seek as _;
use std::path::Path;
use untrusted_fs::{Cause, Directory, read_bounded};

/// The directory as a container sees it.
pub const INSIDE: &str = "/run/iguana";
/// Writable for any user.
const FILE_MODE: u32 = 0o666;
/// Bytes of one file of one step: GitHub's limit for the outputs of a job, and for a summary.
const FILE_LIMIT: u64 = 1 << 20;

/// A file that the programs of a step write to (GitHub's workflow commands, "Environment files").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepFile {
    /// Outputs: lines `NAME=VALUE`.
    Output,
    /// Variables of later steps: lines `NAME=VALUE`.
    Env,
    /// Directories that later steps search for programs first: one in a line.
    Path,
    /// Text for the person at the machine.
    Summary,
}

impl StepFile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Output, Self::Env, Self::Path, Self::Summary];

    /// Its name in the directory, and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Env => "env",
            Self::Path => "path",
            Self::Summary => "summary",
        }
    }

    /// The variables that have its path.
    #[must_use]
    pub fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Output => &["IGUANA_OUTPUT", "GITHUB_OUTPUT"],
            Self::Env => &["GITHUB_ENV"],
            Self::Path => &["GITHUB_PATH"],
            Self::Summary => &["GITHUB_STEP_SUMMARY"],
        }
    }

    /// Its path as a container sees it.
    #[must_use]
    pub fn inside(self) -> String {
        format!("{INSIDE}/{}", self.name())
    }
}

/// Any user may read and execute a script.
const SCRIPT_MODE: u32 = 0o755;

/// The directory of one container, as the host sees it.
#[derive(Debug)]
pub struct StepFiles {
    directory: Directory,
    /// In the order of [`StepFile::ALL`].
    files: [File; 4],
}

impl StepFiles {
    /// Creates the directory and the empty files in it.
    ///
    /// # Errors
    /// When the name exists already, or the directory cannot be created.
    pub fn create(parent: &Path, name: &str) -> anyhow::Result<Self> {
        let directory = Directory::open(parent)?.create_directory(name, 0o755)?;
        let [output, env, path, summary] = StepFile::ALL.map(|file| directory.create(file.name(), FILE_MODE));
        let files = [output?, env?, path?, summary?];
        Ok(Self { directory, files })
    }

    /// Truncates the files.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn clear(&self) -> anyhow::Result<()> {
        self.files.iter().try_for_each(|file| file.set_len(0)).context("cannot truncate the files of a step")
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it exceeds the limit.
    pub fn read(&self, file: StepFile) -> anyhow::Result<Vec<u8>> {
        let name = file.name();
        let mut file = &self.files[file as usize];
        file.rewind()?;
        match read_bounded(file.try_clone()?, FILE_LIMIT) {
            Ok(bytes) => Ok(bytes),
            Err(Cause::TooLarge(_)) => Err(hinted(
                format!("the {name} file is larger than {FILE_LIMIT} bytes"),
                "pass large data through a volume or `/iguana`",
            )),
            Err(cause) => Err(cause).with_context(|| format!("cannot read the {name} file")),
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
        assert_eq!(files.read(StepFile::Output).unwrap(), b"a=1\n");
        fs::remove_file(&output).unwrap();
        symlink(&victim, &output).unwrap();
        files.clear().unwrap();
        assert_eq!(files.read(StepFile::Output).unwrap(), b"");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "victim");
        for file in StepFile::ALL {
            assert_eq!(Path::new(&file.inside()), Path::new(INSIDE).join(file.name()));
            assert_eq!(files.read(file).unwrap(), b"");
        }
        assert!(StepFiles::create(home.path(), "exchange").is_err(), "it must be new");
    }

    #[test]
    fn outputs_are_bounded() {
        let home = tempfile::tempdir().unwrap();
        let files = StepFiles::create(home.path(), "exchange").unwrap();
        fs::write(home.path().join("exchange/output"), "x".repeat(1 << 20)).unwrap();
        assert_eq!(files.read(StepFile::Output).unwrap().len(), 1 << 20);
        File::options()
            .write(true)
            .open(home.path().join("exchange/output"))
            .unwrap()
            .set_len(10 << 30)
            .unwrap();
        assert!(files.read(StepFile::Output).unwrap_err().to_string().contains("larger than 1048576 bytes"));
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
