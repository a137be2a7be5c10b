//! The host side of the connection to the PID 1 of a container: the requests sent, and the replies received.

use super::cgroup::Cgroup;
use super::protocol;
use super::protocol::{Execution, Order, ProgramReply, ProgramRequest, Refusal, SpawnRequest};
use super::zygote::Zygote;
use super::{KernelAction, ProgramExit};
use anyhow::Context as _;
use hint::{WithHint as _, hinted};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for building a root or executing a program. Both are work in memory, but a volume may be on a slow
/// network.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time limit for ending by force: draining the terminal takes up to 5 s, and the kernel needs time, too.
const END_LIMIT: Duration = Duration::from_secs(15);

/// How long a PID 1 may stay stopped, and how often that is checked.
const STOPPED_LIMIT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A connection to a PID 1. When it is closed, PID 1 and all processes of its container end.
pub(super) struct Link {
    socket: UnixStream,
    pid: Pid,
    process: OwnedFd,
    may_hand_over: bool,
    /// Held while a message is sent, so that those of two threads do not mix.
    sending: Mutex<()>,
    known: Mutex<Received>,
    changed: Condvar,
}

/// What PID 1 has reported.
#[derive(Default)]
pub(super) struct Received {
    root: Option<Result<(), Refusal>>,
    programs: HashMap<u64, ProgramState>,
    next: u64,
    /// How PID 1 itself ended.
    end: Option<ProgramExit>,
    /// Since when PID 1 is stopped (SIGSTOP), and whether it was killed for that.
    stopped_since: Option<Instant>,
    was_stopped: bool,
}

enum ProgramState {
    Asked,
    Refused(Refusal),
    Runs,
    ProgramExit(u8),
}

impl Link {
    /// Starts a PID 1 in its cgroup.
    pub(super) fn open(
        pid_host: bool,
        may_hand_over: bool,
        cgroup: &Cgroup,
        zygote: &Zygote,
    ) -> anyhow::Result<Arc<Self>> {
        let started = Self::start_process(pid_host, may_hand_over, cgroup, zygote);
        let link = Arc::new(started.or_else(cannot_start)?);
        let observer = Arc::clone(&link);
        thread::spawn(move || observer.listen());
        Ok(link)
    }

    /// Has PID 1 build the root.
    pub(super) fn build(&self, order: &Order) -> anyhow::Result<()> {
        self.send(order, None);
        match self.wait(Some(START_LIMIT), |known| known.root.take().or(known.end.map(|_| Err(gone())))) {
            Some(Ok(())) => Ok(()),
            Some(Err(refusal)) => Err(refusal.into_error()),
            None => Err(too_slow("the container's root was not built")),
        }
    }

    fn start_process(
        pid_host: bool,
        may_hand_over: bool,
        cgroup: &Cgroup,
        zygote: &Zygote,
    ) -> std::io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let pid = cgroup.admit(|directory| {
            zygote.spawn(&SpawnRequest { pid_host, cgroup: directory.map(Into::into) }, theirs.as_fd())
        })?;
        // The PID cannot be reused before the process is reaped.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self {
            socket: ours,
            pid,
            process,
            may_hand_over,
            sending: Mutex::default(),
            known: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Records the replies of PID 1 until it ends.
    fn listen(&self) {
        for line in BufReader::new(&self.socket).lines() {
            let answer = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(answer) = answer else { break };
            self.known().note(answer);
            self.changed.notify_all();
        }
        let status =
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED));
        let signal = status.ok().flatten().and_then(|status| status.terminating_signal());
        let mut known = self.known();
        known.end = Some(match signal {
            // If PID 1 has exited by itself, the kernel has killed the rest.
            None => ProgramExit::With(128 + libc::SIGKILL as u8),
            Some(_) if known.was_stopped => ProgramExit::InitStopped,
            Some(signal) => self.end_by(signal),
        });
        drop(known);
        self.changed.notify_all();
    }

    fn end_by(&self, signal: i32) -> ProgramExit {
        let may_hand_over = self.may_hand_over;
        KernelAction::of_signal(signal)
            .map_or(ProgramExit::Killed(signal), |action| ProgramExit::AskedFor { action, may_hand_over })
    }

    fn known(&self) -> MutexGuard<'_, Received> {
        // A poisoned lock is safe to use: the state is consistent after each line.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` returns a value, at most for `limit`.
    pub(super) fn wait<T>(
        &self,
        limit: Option<Duration>,
        mut look: impl FnMut(&mut Received) -> Option<T>,
    ) -> Option<T> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut known = self.known();
        loop {
            if let Some(found) = look(&mut known) {
                return Some(found);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return None;
            }
            let look = left.map_or(POLL_INTERVAL, |left| left.min(POLL_INTERVAL));
            known = self.changed.wait_timeout(known, look).unwrap_or_else(PoisonError::into_inner).0;
            self.end_if_stopped(&mut known);
        }
    }

    /// Kills a PID 1 that stays stopped: it could neither report the end of its programs nor end them.
    fn end_if_stopped(&self, known: &mut Received) {
        if known.end.is_some() || !is_stopped(self.pid) {
            known.stopped_since = None;
        } else if known.stopped_since.get_or_insert_with(Instant::now).elapsed() > STOPPED_LIMIT {
            known.was_stopped = true;
            // Ignored: it may have just ended.
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
        }
    }

    /// Has PID 1 start a program, and returns the ID that was chosen for it.
    pub(super) fn run(&self, mut program: Execution, output: BorrowedFd<'_>) -> anyhow::Result<u64> {
        let id = self.known().ask();
        program.id = id;
        self.send(&ProgramRequest::Run(program), Some(output));
        match self.wait(Some(START_LIMIT), |known| known.started(id)) {
            Some(Ok(())) => Ok(id),
            Some(Err(refusal)) => Err(refusal.into_error()),
            None => Err(too_slow("the program was not started")),
        }
    }

    /// Sends a signal to a program's process group, if the program has not ended.
    pub(super) fn signal(&self, id: u64, signal: i32) {
        self.send(&ProgramRequest::Signal { id, signal }, None);
    }

    fn send(&self, message: &impl Serialize, descriptor: Option<BorrowedFd<'_>>) {
        let _one_at_a_time = self.sending.lock();
        // A failure means that PID 1 has ended, which every wait detects.
        let _ = protocol::send(&self.socket, message, descriptor);
    }

    /// The end of a program, if it came within the limit and before the wait was cancelled.
    pub(super) fn end_of(
        &self,
        id: u64,
        limit: Option<Duration>,
        is_called_off: impl Fn() -> bool,
    ) -> Option<ProgramExit> {
        self.wait(limit, |known| known.end_of(id).map(Some).or_else(|| is_called_off().then_some(None)))
            .flatten()
    }

    /// Has all waiting threads check their condition again.
    pub(super) fn look_again(&self) {
        // Taking the lock ensures that no thread is between its check and its wait.
        drop(self.known());
        self.changed.notify_all();
    }

    /// The IDs of the running programs.
    pub(super) fn running(&self) -> Vec<u64> {
        self.known().running()
    }

    /// Waits until no program runs; `false` at the limit.
    pub(super) fn wait_until_quiet(&self, limit: Duration) -> bool {
        self.wait(Some(limit), |known| (known.end.is_some() || known.running().is_empty()).then_some(()))
            .is_some()
    }

    /// The PID on the host, unless PID 1 has ended.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.known().end.is_none().then_some(self.pid)
    }

    /// Ends PID 1 and all processes of its container; `false` when the kernel cannot do it.
    pub(super) fn close(&self) -> bool {
        // A failure means that it has ended.
        let _ = self.socket.shutdown(Shutdown::Write);
        if self.wait_for_end(END_LIMIT) {
            return true;
        }
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        self.wait_for_end(END_LIMIT)
    }

    fn wait_for_end(&self, limit: Duration) -> bool {
        self.wait(Some(limit), |known| known.end).is_some()
    }
}

impl Received {
    /// Allocates the ID of a new program.
    fn ask(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        self.programs.insert(id, ProgramState::Asked);
        id
    }

    fn note(&mut self, answer: ProgramReply) {
        let (id, state) = match answer {
            ProgramReply::Ready => return self.root = Some(Ok(())),
            ProgramReply::Refused(refusal) => return self.root = Some(Err(refusal)),
            ProgramReply::Started { id } => (id, ProgramState::Runs),
            ProgramReply::NotStarted { id, refusal } => (id, ProgramState::Refused(refusal)),
            ProgramReply::ProgramExit { id, status } => (id, ProgramState::ProgramExit(status)),
        };
        self.programs.insert(id, state);
    }

    /// Whether a program was started, once that is known.
    fn started(&mut self, id: u64) -> Option<Result<(), Refusal>> {
        match self.programs.get(&id)? {
            ProgramState::Asked => self.end.map(|_| Err(gone())),
            ProgramState::Runs | ProgramState::ProgramExit(_) => Some(Ok(())),
            ProgramState::Refused(_) => match self.programs.remove(&id)? {
                ProgramState::Refused(refusal) => Some(Err(refusal)),
                _ => None,
            },
        }
    }

    /// How a program ended, once that is known; its record is then removed.
    fn end_of(&mut self, id: u64) -> Option<ProgramExit> {
        let ended = match self.programs.get(&id) {
            Some(ProgramState::ProgramExit(status)) => Some(ProgramExit::With(*status)),
            _ => self.end,
        };
        if ended.is_some() {
            self.programs.remove(&id);
        }
        ended
    }

    fn running(&self) -> Vec<u64> {
        let runs = self
            .programs
            .iter()
            .filter(|(_, state)| matches!(state, ProgramState::Asked | ProgramState::Runs));
        runs.map(|(id, _)| *id).collect()
    }
}

/// Whether a process is stopped by a signal, and not by a debugger (proc_pid_stat(5), field 3).
fn is_stopped(process: Pid) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_pid()));
    // The process name, in parentheses, may contain anything.
    text.is_ok_and(|text| text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

fn cannot_start<T>(error: std::io::Error) -> anyhow::Result<T> {
    let is_stopped = error.kind() == std::io::ErrorKind::TimedOut;
    let failed = Err(error).context("cannot create namespaces");
    match is_stopped {
        true => failed
            .hint("a container that sees the processes of the machine (`pid: host`) may have stopped it"),
        false => failed,
    }
}

fn gone() -> Refusal {
    Refusal::of(&hinted(
        "the container's PID 1 exited before this was done",
        "check the kernel's messages for lack of memory",
    ))
}

fn too_slow(what: &str) -> anyhow::Error {
    hinted(
        format!("{what} within {} s", START_LIMIT.as_secs()),
        "a volume may be on a disk or a network that does not respond",
    )
}
