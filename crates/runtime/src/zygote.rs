//! The zygote: the process that the PID 1 of every container is forked from.
//!
//! To execute this program again for each container would cost more than the rest of its start: the kernel loads and
//! relocates it, page by page, and an emulated processor translates it again. So it is executed once. The zygote has
//! one thread, little memory, and no data of the boot, so a copy cannot leak any.

use super::cgroup;
use super::protocol::{self, Inbox, SpawnRequest};
use super::{INIT_NAME, INIT_NAME_C};
use rustix::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open};
use rustix::mount::{MountFlags, OpenTreeFlags, open_tree};
use rustix::net::{Shutdown, shutdown};
use rustix::process::Pid;
use std::fs;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for a copy. It takes milliseconds, longer when memory is full, and forever if the zygote was stopped.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Time limit for its end after the socket was closed.
const END_LIMIT: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The OOM score adjustment of a container's PID 1: as if it used a quarter of all memory in addition. Its end frees
/// everything that the container keeps in a tmpfs. So the kernel kills it before any process of the host, and after the
/// programs ([`sys::PROGRAM_OOM_SCORE`]).
const SCORE_OF_COPIES: &str = "250";

const OWN_PROGRAM: &str = "/proc/self/exe";

/// Starts with the first container. Dropping it ends the process; its copies live on.
#[derive(Debug)]
pub(super) struct Zygote {
    process: Mutex<Option<Process>>,
    /// The cgroups of version 1 that it joins, and in which its copies start.
    cgroups: Vec<PathBuf>,
}

#[derive(Debug)]
struct Process {
    inbox: Inbox,
    child: Child,
}

/// Opens this program so that it cannot be changed. A container that may execute `/proc/self/exe` gets a descriptor of
/// the file. Root in it could then change the file's mode, and its content once nothing executes it (CVE-2019-5736).
fn own_program() -> io::Result<OwnedFd> {
    read_only_program().or_else(|_| copy_of_program())
}

/// Through a detached read-only mount, which costs nothing.
fn read_only_program() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = open_tree(CWD, OWN_PROGRAM, flags)?;
    sys::restrict_mounts(&program, MountFlags::RDONLY, false)?;
    Ok(program)
}

/// For a kernel before 5.12, which has no such mounts: the program takes its memory twice.
fn copy_of_program() -> io::Result<OwnedFd> {
    let copy = memfd_create(INIT_NAME_C, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(OWN_PROGRAM)?, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // The kernel does not execute a file that is open for writing.
    open(format!("/proc/self/fd/{}", copy.as_raw_fd()), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Into::into)
}

/// The PID of a copy, or the error number of the kernel.
type SpawnReply = Result<i32, i32>;

impl Zygote {
    /// A zygote that is not started yet, for these cgroups of version 1.
    pub(super) fn new(cgroups: Vec<PathBuf>) -> Self {
        Self { process: Mutex::default(), cgroups }
    }

    /// Forks a child of this process that is the PID 1 of a container and reads its requests from `socket`.
    ///
    /// # Errors
    /// When the kernel refuses (clone(2)).
    pub(super) fn spawn(&self, request: &SpawnRequest, socket: BorrowedFd<'_>) -> io::Result<Pid> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match process.as_mut().map(|process| process.ask(request, socket)) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) if error.kind() == ErrorKind::TimedOut => Err(error),
            // The first one; or the kernel has killed the last one for lack of memory.
            None | Some(Err(_)) => process.insert(Process::start(&self.cgroups)?).ask(request, socket),
        };
        if answer.is_err() {
            // The next container gets a new zygote. A copy that this one may still make finds its socket closed.
            *process = None;
        }
        let number = answer?.map_err(io::Error::from_raw_os_error)?;
        Pid::from_raw(number).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Its PID on the host.
    #[cfg(test)]
    pub(super) fn pid(&self) -> Option<Pid> {
        self.process.lock().unwrap().as_ref().map(|process| Pid::from_child(&process.child))
    }
}

impl Process {
    fn start(cgroups: &[PathBuf]) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(ANSWER_LIMIT))?;
        ours.set_write_timeout(Some(ANSWER_LIMIT))?;
        // For the message of a copy that panics.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let console = open("/dev/console", flags, Mode::empty())
            .or_else(|_| open("/dev/null", flags, Mode::empty()))?;
        let child = sys::start(own_program()?, INIT_NAME, theirs.into(), &File::from(console))?;
        for directory in cgroups {
            // Ignored: without it, only containers with a limit of their own are limited.
            let _ = cgroup::write(&directory.join("cgroup.procs"), &child.id().to_string());
        }
        Ok(Self { inbox: Inbox::new(ours.into()), child })
    }

    fn ask(&mut self, request: &SpawnRequest, socket: BorrowedFd<'_>) -> io::Result<SpawnReply> {
        let sent = protocol::send(self.inbox.socket(), request, Some(socket));
        sent.and_then(|()| self.inbox.wait_for_next()).map_err(|error| match error.kind() {
            // socket(7), `SO_RCVTIMEO`.
            ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, too_slow()),
            _ => error,
        })
    }

    /// Waits for its end, and kills it if it was stopped and does not end by itself.
    fn end(&mut self) -> io::Result<()> {
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > END_LIMIT {
                self.child.kill()?;
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ignored: both fail only if it has ended.
        let _ = shutdown(self.inbox.socket(), Shutdown::Both);
        let _ = self.end();
    }
}

fn too_slow() -> String {
    format!("the process that containers are forked from did not respond within {} s", ANSWER_LIMIT.as_secs())
}

/// The main loop of the zygote. Returns in every copy, with the socket of its requests.
///
/// # Errors
/// When the host side is gone.
pub(super) fn live() -> io::Result<OwnedFd> {
    let mut inbox = Inbox::new(take_standard_input()?);
    // So that Ctrl-C does not reach it; copies end when their containers do.
    rustix::process::setsid()?;
    // Replaces `exe`, the name it was executed by; copies inherit it.
    rustix::thread::set_name(INIT_NAME_C)?;
    loop {
        let request: SpawnRequest = inbox.wait_for_next()?;
        let socket = inbox.descriptor()?;
        let reply = match copy(&request) {
            Ok(None) => {
                // Ignored: if it cannot be raised, it was not lowered either.
                let _ = fs::write(sys::OOM_SCORE, SCORE_OF_COPIES);
                return Ok(socket);
            }
            Ok(Some(pid)) => SpawnReply::Ok(pid.as_raw_pid()),
            Err(error) => SpawnReply::Err(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        protocol::send(inbox.socket(), &reply, None)?;
    }
}

fn copy(request: &SpawnRequest) -> io::Result<Option<Pid>> {
    let open =
        |directory: &Path| open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let cgroup = request.cgroup.as_deref().map(open).transpose()?;
    sys::copy_into_namespaces(request.pid_host, cgroup.as_ref().map(OwnedFd::as_fd))
}

/// Takes over standard input as the socket. Descriptor 0 stays in use: otherwise a file that is opened later would get
/// it, and be taken for standard input.
fn take_standard_input() -> io::Result<OwnedFd> {
    let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), libc::STDERR_FILENO + 1)?;
    rustix::stdio::dup2_stdin(rustix::stdio::stdout())?;
    Ok(input)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn the_program_that_a_container_may_reach_cannot_be_changed() {
        let path = |program: &OwnedFd| format!("/proc/self/fd/{}", program.as_raw_fd());
        let program = read_only_program().unwrap();
        let mode = fs::metadata(path(&program)).unwrap().permissions();
        let refusal = fs::set_permissions(path(&program), mode).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(libc::EROFS));
        let refusal = OpenOptions::new().write(true).truncate(true).open(path(&program)).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(libc::EROFS));
        let copy = copy_of_program().unwrap();
        let refusal = OpenOptions::new().write(true).truncate(true).open(path(&copy)).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(libc::EPERM));
        assert_eq!(fs::read(path(&copy)).unwrap().len() as u64, fs::metadata(OWN_PROGRAM).unwrap().len());
    }

    #[test]
    fn the_program_runs_from_a_mount_or_a_copy() {
        for program in [read_only_program(), copy_of_program()] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let null = File::options().write(true).open("/dev/null").unwrap();
            let mut child = sys::start(program.unwrap(), INIT_NAME, theirs.into(), &null).unwrap();
            drop(ours);
            // The zygote ends when its socket is closed.
            child.wait().unwrap();
        }
    }
}
