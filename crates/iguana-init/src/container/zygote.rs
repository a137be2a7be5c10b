//! The process of which process 1 of every container is a copy.
//!
//! To execute this program anew for each container would cost more than the rest of its start: the kernel loads
//! and relocates it, page by page, and an emulated processor translates it again. This one is executed once. It
//! has one thread and little memory, and knows nothing of the boot: what a copy must not have is not there.

use super::protocol::{self, Birth, Inbox};
use super::{INIT_NAME, INIT_NAME_C};
use crate::sys;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{Shutdown, shutdown};
use rustix::process::Pid;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::{Mutex, PoisonError};

/// Begins with the first container. Dropping it ends the process; the copies go on.
#[derive(Debug, Default)]
pub(crate) struct Zygote(Mutex<Option<Process>>);

#[derive(Debug)]
struct Process {
    inbox: Inbox,
    child: Child,
}

/// What a copy is told by: the kernel's number of an error is all that crosses.
type Born = Result<i32, i32>;

impl Zygote {
    /// Makes a copy, a child of this process, that is process 1 of a container and takes its orders from `socket`.
    ///
    /// # Errors
    /// When the kernel refuses (clone(2)).
    pub(super) fn bear(&self, birth: &Birth, socket: BorrowedFd<'_>) -> io::Result<Pid> {
        let mut process = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = process.as_mut().and_then(|process| process.ask(birth, socket).ok());
        let answer = match answer {
            Some(answer) => answer,
            // The first one; or memory was full, and the kernel has ended the last one.
            None => process.insert(Process::start()?).ask(birth, socket)?,
        };
        let number = answer.map_err(io::Error::from_raw_os_error)?;
        Pid::from_raw(number).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Its number in the machine.
    #[cfg(test)]
    pub(super) fn pid(&self) -> Option<Pid> {
        self.0.lock().unwrap().as_ref().map(|process| Pid::from_child(&process.child))
    }
}

impl Process {
    fn start() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // For what a copy may have to say when it breaks.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let console = open("/dev/console", flags, Mode::empty())
            .or_else(|_| open("/dev/null", flags, Mode::empty()))?;
        let child = sys::start_again(INIT_NAME, theirs.into(), &File::from(console))?;
        Ok(Self { inbox: Inbox::new(ours.into()), child })
    }

    fn ask(&mut self, birth: &Birth, socket: BorrowedFd<'_>) -> io::Result<Born> {
        protocol::send(self.inbox.socket(), birth, Some(socket))?;
        self.inbox.wait_for_next()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = shutdown(self.inbox.socket(), Shutdown::Both);
        let _ = self.child.wait();
    }
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
        let birth: Birth = inbox.wait_for_next()?;
        let socket = inbox.descriptor()?;
        let born = match copy(&birth) {
            Ok(None) => return Ok(socket),
            Ok(Some(pid)) => Born::Ok(pid.as_raw_pid()),
            Err(error) => Born::Err(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        protocol::send(inbox.socket(), &born, None)?;
    }
}

fn copy(birth: &Birth) -> io::Result<Option<Pid>> {
    let open =
        |folder: &Path| open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let cgroup = birth.cgroup.as_deref().map(open).transpose()?;
    sys::copy_into_namespaces(birth.pid_host, cgroup.as_ref().map(OwnedFd::as_fd))
}

/// The number stays taken: no file that is opened later gets it, and is mistaken for standard input.
fn take_standard_input() -> io::Result<OwnedFd> {
    let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), libc::STDERR_FILENO + 1)?;
    rustix::stdio::dup2_stdin(rustix::stdio::stdout())?;
    Ok(input)
}
