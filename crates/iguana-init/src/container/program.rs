//! Starts one program in a container whose root is built already.

use super::{privileges, protocol::Execution, seccomp, user};
use crate::sys::{self, Session};
use anyhow::Context as _;
use iguana_core::hint::{WithHint as _, hinted};
use indexmap::IndexMap;
use rustix::process::Pid;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// podman's, for images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts it; `output` is the terminal if it has one.
pub(super) fn start(program: &Execution, output: &File, privileged: bool) -> anyhow::Result<Pid> {
    let child = command(program, output, privileged)?
        .spawn()
        .map_err(|error| explain(error, &program.arguments[0]))?;
    Ok(Pid::from_child(&child))
}

fn command(program: &Execution, output: &File, privileged: bool) -> anyhow::Result<Command> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let user = user::look_up(&program.user, &read("/etc/passwd"), &read("/etc/group"))?;
    let mut env: IndexMap<&str, &str> = IndexMap::from([("PATH", DEFAULT_PATH), ("HOME", &user.home)]);
    env.extend(program.env.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let path = find(&program.arguments[0], env["PATH"])?;
    fs::create_dir_all(&program.folder)
        .with_context(|| format!("cannot make the working folder `{}`", program.folder))?;
    let mut command = Command::new(&path);
    command.current_dir(&program.folder).stdout(output.try_clone()?).stderr(output.try_clone()?);
    let has_terminal = program.terminal.is_some();
    command.stdin(if has_terminal { output.try_clone()?.into() } else { Stdio::null() });
    let session = if has_terminal { Session::Foreground } else { Session::Own };
    let capabilities = if privileged { None } else { Some(privileges::CAPABILITIES) };
    sys::set_up_process(&mut command, user.identity, session, capabilities);
    if !privileged {
        sys::filter_calls(
            &mut command,
            seccomp::filters().context("cannot make the filter of system calls")?,
        );
    }
    let env: Vec<String> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    sys::execute_exactly(&mut command, &path, &program.arguments, &env)
        .context("the arguments or the environment hold a zero byte")?;
    Ok(command)
}

/// Looks a program up as a shell does.
fn find(name: &str, search_path: &str) -> anyhow::Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let candidates = search_path.split(':').map(|folder| Path::new(folder).join(name));
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    candidates.into_iter().find(is_program).ok_or_else(|| {
        hinted(
            format!("there is no program `{name}` in the image"),
            format!("its `PATH` is `{search_path}`; check the image's entrypoint and command"),
        )
    })
}

fn explain(error: io::Error, program: &str) -> anyhow::Error {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT) => {
            "the file, or the interpreter that it names, is not in the image; check the image's entrypoint and command"
        }
        Some(libc::ENOEXEC) => "it is for another processor architecture, or a script without a `#!` line",
        Some(libc::EACCES) => "it is not executable: `chmod +x` it when the image is built",
        Some(libc::E2BIG) => "its arguments or its environment are too long: pass them in a file",
        Some(libc::EAGAIN) => "its container has as many processes as it may have: raise `pids`",
        _ => "check the image's entrypoint and command",
    };
    let failed = Err::<(), _>(error).with_context(|| format!("cannot execute `{program}`"));
    failed.hint(remedy).unwrap_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_along_the_path() {
        assert_eq!(find("sh", "/nonexistent:/bin").unwrap(), PathBuf::from("/bin/sh"));
        assert_eq!(find("./x", "").unwrap(), PathBuf::from("./x"));
        assert!(find("no-such-program", "/bin").unwrap_err().to_string().contains("`no-such-program`"));
    }
}
