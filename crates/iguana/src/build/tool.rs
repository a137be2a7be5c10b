//! Third-party programs and files, with the package to install when one is missing.

use anyhow::{Context, Result};
use hint::hinted;
use iguana_vm::on_path;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Directories of administrators' programs, which may not be on the user's PATH.
const ADMINISTRATORS: &[&str] = &["/usr/sbin", "/sbin"];

/// A third-party program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    /// The program's name.
    pub(crate) program: &'static str,
    /// The package of Debian and Ubuntu that has it.
    pub(crate) package: &'static str,
}

impl Tool {
    /// A command that runs the program, without arguments. Paths in its arguments must be absolute.
    pub(crate) fn command(self) -> Result<Command> {
        Ok(iguana_vm::command(self.find()?))
    }

    /// The program's path.
    fn find(self) -> Result<PathBuf> {
        let beside = || ADMINISTRATORS.iter().map(|directory| Path::new(directory).join(self.program));
        let found = on_path(self.program).or_else(|| beside().find(|path| path.is_file()));
        found.ok_or_else(|| hinted(format!("`{}` is not on the PATH", self.program), install(self.package)))
    }
}

/// The content of a file that `package` installs.
pub(crate) fn packaged_file(path: &Path, package: &str) -> Result<Vec<u8>> {
    fs::read(path)
        .map_err(|error| hinted(format!("cannot read `{}`: {error}", path.display()), install(package)))
}

fn install(package: &str) -> String {
    format!("install the package `{package}`: `apt install {package}`")
}

/// Runs `command` to its end and returns its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    finish(command.stdin(Stdio::null()))
}

/// The same, with `input` as standard input.
pub(crate) fn run_with_input(command: &mut Command, input: File) -> Result<String> {
    finish(command.stdin(input))
}

fn finish(command: &mut Command) -> Result<String> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
    let output = command.output().with_context(|| format!("cannot run `{program}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let done = output.status.success().then_some(());
    done.with_context(|| format!("`{program}` failed ({}): {}", output.status, said.trim()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_reported_with_its_package() {
        let error = Tool { program: "no-such-tool", package: "tools" }.command().unwrap_err();
        assert_eq!(error.to_string(), "`no-such-tool` is not on the PATH");
        assert_eq!(hint::of(&error), Some("install the package `tools`: `apt install tools`"));
        let error = packaged_file(Path::new("/no/such/file"), "files").unwrap_err();
        assert!(error.to_string().starts_with("cannot read `/no/such/file`: "), "{error}");
        assert_eq!(hint::of(&error), Some("install the package `files`: `apt install files`"));
    }

    #[test]
    fn a_failure_includes_the_output_of_the_program() {
        let mut failing = Tool { program: "sh", package: "dash" }.command().unwrap();
        let error = run(failing.args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert_eq!(error, "`sh` failed (exit status: 3): why");
        let mut printing = Tool { program: "sh", package: "dash" }.command().unwrap();
        assert_eq!(run(printing.args(["-c", "echo out"])).unwrap(), "out\n");
    }

    #[test]
    fn programs_do_not_run_in_the_current_directory() {
        let mut shell = Tool { program: "sh", package: "dash" }.command().unwrap();
        assert_eq!(run(shell.args(["-c", "pwd -P"])).unwrap(), "/\n");
    }
}
