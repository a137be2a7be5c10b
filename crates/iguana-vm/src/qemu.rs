//! The QEMU program of this machine.

use crate::{Accelerator, Console, Echo, Machine};
use anyhow::{Context, Result, anyhow};
use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program that runs an x86-64 PC.
const PROGRAM: &str = "qemu-system-x86_64";

/// The current directory of third-party programs. Some look for their files there first: QEMU for its firmware and
/// option ROMs (`qemu_find_file` in its sources). The caller's current directory may belong to another user.
const DIRECTORY: &str = "/";

/// The QEMU program, with the accelerator for its guests.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// The program's path.
    pub program: PathBuf,
    /// The accelerator, which was tested.
    pub accelerator: Accelerator,
}

impl Qemu {
    /// Finds QEMU on the PATH, and the accelerator that works with it.
    pub fn find() -> Result<Self> {
        let program = on_path(PROGRAM).ok_or_else(|| {
            anyhow!(
                "`{PROGRAM}` is not on the PATH (in the package `qemu-system-x86` of Debian and Ubuntu, \
                 `qemu-system-x86-core` of Fedora, `qemu-x86` of openSUSE)"
            )
        })?;
        let accelerator = Accelerator::proved(&program)?;
        Ok(Self { program, accelerator })
    }

    /// Starts `machine` with its serial console connected to the result. All lines are written to `log`.
    pub fn start(&self, machine: &Machine, log: &Path, echo: Echo) -> Result<Console> {
        Console::start(self.command(machine)?, log, echo)
    }

    /// The command that runs `machine`.
    fn command(&self, machine: &Machine) -> Result<Command> {
        let mut command = command(&self.program);
        command.args(["-accel", self.accelerator.argument(), "-cpu", self.accelerator.processor()]);
        command.args(machine.in_absolute_paths()?.arguments());
        Ok(command)
    }

    /// Runs `machine` on the current terminal until it ends. Its serial console goes to `output`.
    pub fn run(&self, machine: &Machine, output: impl Into<Stdio>) -> Result<()> {
        let program = self.program.display();
        let status = self
            .command(machine)?
            .stdout(output)
            .status()
            .with_context(|| format!("cannot run `{program}`"))?;
        status.success().then_some(()).ok_or_else(|| anyhow!("`{program}` failed: {status}"))
    }
}

/// A command that runs a third-party program, without arguments. It runs in `/`, so paths in its arguments
/// must be absolute.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(DIRECTORY);
    command
}

/// The first executable file called `name` in the directories of the PATH. Relative ones do not count, because another
/// user may own the current directory.
pub fn on_path(name: &str) -> Option<PathBuf> {
    in_directories(env::split_paths(&env::var_os("PATH")?), name)
}

fn in_directories(directories: impl Iterator<Item = PathBuf>, name: &str) -> Option<PathBuf> {
    let mut absolute = directories.filter(|directory| directory.is_absolute());
    absolute.find_map(|directory| Some(directory.join(name)).filter(|file| is_executable(file)))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_executable_file_counts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tool");
        let find =
            || in_directories([PathBuf::from("/nowhere"), directory.path().into()].into_iter(), "tool");
        assert_eq!(find(), None);
        std::fs::write(&file, "").unwrap();
        assert_eq!(find(), None);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(), Some(file.clone()));
    }

    #[test]
    fn a_relative_directory_of_the_path_does_not_count() {
        let directories = || ["", ".", "../../../../../../../../../bin"].map(PathBuf::from).into_iter();
        assert!(directories().any(|directory| is_executable(&directory.join("sh"))));
        assert_eq!(in_directories(directories(), "sh"), None);
    }
}
