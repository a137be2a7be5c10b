//! The process of which PID 1 of every container is a copy.
//!
//! To execute this program anew for each container would cost more than the rest of its start: the kernel loads
//! and relocates it, page by page, and an emulated processor translates it again. This one is executed once. It
//! has one thread and little memory, and knows nothing of the boot: what a copy must not have is not there.

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

/// How long it may take to make a copy, which takes milliseconds: longer where memory is full, for ever if it was stopped.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to end when nobody can ask it for anything any more.
const END_LIMIT: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// When memory is full PID 1 of a container, whose end frees all that the container keeps in a tmpfs, is killed before
/// anything of the machine's, and after the programs ([`sys::PROGRAM_OOM_SCORE`]): as if it used a quarter of all memory.
const SCORE_OF_COPIES: &str = "250";

const OWN_PROGRAM: &str = "/proc/self/exe";

/// Begins with the first container. Dropping it ends the process; the copies go on.
#[derive(Debug)]
pub(super) struct Zygote {
    process: Mutex<Option<Process>>,
    /// The cgroups of version 1 in which it is, and its copies begin.
    cgroups: Vec<PathBuf>,
}

#[derive(Debug)]
struct Process {
    inbox: Inbox,
    child: Child,
}

/// This very program, in a way that nobody can write to it. A container that may execute `/proc/self/exe` gets hold of the
/// file, and root in it could change its content, once nobody executes it, and its mode (CVE-2019-5736).
fn own_program() -> io::Result<OwnedFd> {
    read_only_program().or_else(|_| copy_of_program())
}

/// Through a mount that is not attached anywhere: it costs nothing.
fn read_only_program() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = open_tree(CWD, OWN_PROGRAM, flags)?;
    sys::restrict_mounts(&program, MountFlags::RDONLY, false)?;
    Ok(program)
}

/// A kernel before 5.12 cannot have such a mount: there the program is in memory a second time.
fn copy_of_program() -> io::Result<OwnedFd> {
    let copy = memfd_create(INIT_NAME_C, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(OWN_PROGRAM)?, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // The kernel executes no file that is open for writing.
    open(format!("/proc/self/fd/{}", copy.as_raw_fd()), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Into::into)
}

/// What a copy is told by: the kernel's number of an error is all that crosses.
type SpawnReply = Result<i32, i32>;

impl Zygote {
    /// One that has not begun. It is to be in these cgroups of version 1.
    pub(super) fn new(cgroups: Vec<PathBuf>) -> Self {
        Self { process: Mutex::default(), cgroups }
    }

    /// Makes a copy, a child of this process, that is PID 1 of a container and takes its orders from `socket`.
    ///
    /// # Errors
    /// When the kernel refuses (clone(2)).
    pub(super) fn spawn(&self, request: &SpawnRequest, socket: BorrowedFd<'_>) -> io::Result<Pid> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match process.as_mut().map(|process| process.ask(request, socket)) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) if error.kind() == ErrorKind::TimedOut => Err(error),
            // The first one; or memory was full, and the kernel has ended the last one.
            None | Some(Err(_)) => process.insert(Process::start(&self.cgroups)?).ask(request, socket),
        };
        if answer.is_err() {
            // The next container gets a new one. A copy that this one may still make finds nobody at its socket.
            *process = None;
        }
        let number = answer?.map_err(io::Error::from_raw_os_error)?;
        Pid::from_raw(number).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Its number in the machine.
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
        // For what a copy may have to say when it breaks.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let console = open("/dev/console", flags, Mode::empty())
            .or_else(|_| open("/dev/null", flags, Mode::empty()))?;
        let child = sys::start(own_program()?, INIT_NAME, theirs.into(), &File::from(console))?;
        for directory in cgroups {
            // Without, only what has a limit of its own is limited.
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

    /// Waits for its end, which comes by itself unless it was stopped.
    fn end(&mut self) -> io::Result<()> {
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > END_LIMIT {
                self.child.kill()?;
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = shutdown(self.inbox.socket(), Shutdown::Both);
        let _ = self.end();
    }
}

fn too_slow() -> String {
    format!("the process that containers are forked from does not answer within {} s", ANSWER_LIMIT.as_secs())
}

/// The life of the zygote. Comes back in every copy, with the socket of its orders.
///
/// # Errors
/// When the machine's side is gone.
pub(super) fn live() -> io::Result<OwnedFd> {
    let mut inbox = Inbox::new(take_standard_input()?);
    // Ctrl-C is for whoever started this; copies end when their containers do.
    rustix::process::setsid()?;
    // In place of `exe`, under which it was executed; copies inherit it.
    rustix::thread::set_name(INIT_NAME_C)?;
    loop {
        let request: SpawnRequest = inbox.wait_for_next()?;
        let socket = inbox.descriptor()?;
        let reply = match copy(&request) {
            Ok(None) => {
                // Where it may not be raised it was not lowered either.
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

/// The number stays taken: no file that is opened later gets it, and is mistaken for standard input.
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
    fn either_way_the_program_runs() {
        for program in [read_only_program(), copy_of_program()] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let null = File::options().write(true).open("/dev/null").unwrap();
            let mut child = sys::start(program.unwrap(), INIT_NAME, theirs.into(), &null).unwrap();
            drop(ours);
            // The zygote ends when nobody can ask it for anything.
            child.wait().unwrap();
        }
    }
}
