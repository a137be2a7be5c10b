//! Starts one program in a container whose root is built.

use super::protocol::Execution;
use super::{privileges, rootfs, seccomp, user};
use anyhow::Context as _;
use hint::hinted;
use indexmap::IndexMap;
use rustix::fd::AsFd as _;
use rustix::process::Pid;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use sys::Session;
use untrusted_fs::{Directory, Links};

/// podman's default, for images that set none.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of `/etc/passwd` and of `/etc/group`: enough for a hundred thousand users.
const USERS_LIMIT: u64 = 16 << 20;

/// What the programs of a container may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    /// Everything.
    pub(super) all: bool,
    /// A volume shows processes of another PID namespace, or the container is in the host's.
    pub(super) sees_others: bool,
}

/// Starts a program; `input` and `output` are the terminal if it has one. Nothing is opened by a path that an earlier
/// program of the container could have changed, except as the container's own files: this process has all rights.
pub(super) fn start(program: &Execution, input: &File, output: &File, rights: Rights) -> anyhow::Result<Pid> {
    let child = command(program, input, output, rights)?
        .spawn()
        .map_err(|error| explain(error, &program.arguments[0]))?;
    Ok(Pid::from_child(&child))
}

/// The command that executes a program.
pub(super) fn command(
    program: &Execution,
    input: &File,
    output: &File,
    rights: Rights,
) -> anyhow::Result<Command> {
    let root = Directory::open("/").context("cannot open the container's root")?;
    let user = user::look_up(&program.user, &read(&root, "/etc/passwd")?, &read(&root, "/etc/group")?)?;
    let mut env: IndexMap<&str, &str> = IndexMap::from([("PATH", DEFAULT_PATH), ("HOME", &user.home)]);
    env.extend(program.env.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let path = find(&program.arguments[0], env["PATH"])?;
    let directory = rootfs::working_directory(&root, &program.directory)?;
    let mut command = Command::new(&path);
    command.stdin(input.try_clone()?).stdout(output.try_clone()?).stderr(output.try_clone()?);
    // An init system releases its terminal, and gives it to what asks for a login there.
    let is_in_foreground = program.has_terminal && !program.is_init;
    let session = if is_in_foreground { Session::Foreground } else { Session::Own };
    let capabilities = if rights.all { None } else { Some(privileges::CAPABILITIES) };
    if !rights.all && rights.sees_others {
        sys::inspect_own_processes_only(&mut command, &root)
            .context("cannot isolate it from the machine's processes")?;
    }
    sys::begin_in(&mut command, directory.as_fd().try_clone_to_owned()?);
    sys::set_up_process(&mut command, user.identity, session, capabilities);
    sys::stay_in_root(&mut command);
    if !rights.all {
        let filters = seccomp::filters();
        sys::filter_calls(&mut command, filters.context("cannot create the seccomp filter")?);
    }
    let env: Vec<String> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    sys::execute_exactly(&mut command, &path, &program.arguments, &env)
        .context("the arguments or the environment contain a NUL byte")?;
    Ok(command)
}

/// Reads a file of the container; a missing one counts as empty.
fn read(root: &Directory, path: &str) -> anyhow::Result<String> {
    match root.read(path, Links::Inside, USERS_LIMIT) {
        Err(error) if error.is_not_found() => Ok(String::new()),
        read => Ok(String::from_utf8_lossy(&read?).into_owned()),
    }
}

/// Looks up a program in `PATH`, as a shell does.
fn find(name: &str, search_path: &str) -> anyhow::Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let candidates = search_path.split(':').map(|directory| Path::new(directory).join(name));
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    candidates.into_iter().find(is_program).ok_or_else(|| {
        hinted(
            format!("program `{name}` not found in the image"),
            format!("check the image's entrypoint and command; its `PATH` is `{search_path}`"),
        )
    })
}

/// The error of a program that was not executed, with a hint.
pub(super) fn explain(error: io::Error, program: &str) -> anyhow::Error {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT) => {
            "the file or its interpreter is not in the image: check the image's entrypoint and command"
        }
        Some(libc::ENOEXEC) => "it is for another architecture, or a script without a `#!` line",
        Some(libc::EACCES) => "it is not executable: `chmod +x` it when the image is built",
        Some(libc::E2BIG) => "its arguments or its environment are too long: pass them in a file",
        Some(libc::EXDEV) => "its working directory is outside the container: use a directory of the image",
        Some(libc::EAGAIN) => "its container has reached its limit of processes: raise `pids`",
        _ => "check the image's entrypoint and command",
    };
    hint::attach(anyhow::Error::from(error).context(format!("cannot execute `{program}`")), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path() {
        assert_eq!(find("sh", "/nonexistent:/bin").unwrap(), PathBuf::from("/bin/sh"));
        assert_eq!(find("./x", "").unwrap(), PathBuf::from("./x"));
        assert!(find("no-such-program", "/bin").unwrap_err().to_string().contains("`no-such-program`"));
    }
}
