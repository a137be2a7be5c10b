//! The host side of the connection to the PID 1 of a container: the requests sent, and the replies received.

use super::cgroup::Cgroup;
use super::protocol;
use super::protocol::{Execution, Order, ProgramReply, ProgramRequest, Refusal, SpawnRequest};
use super::running::MAY_BE_FROZEN;
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
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for building a root or executing a program. Both are work in memory, but a volume may be on a slow
/// network.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time limit for ending by force: draining the terminal takes up to 5 s, and the kernel needs time, too.
const END_LIMIT: Duration = Duration::from_secs(15);

/// How long a PID 1 may be silent, and not read its requests. It answers in milliseconds, later when memory is full, and
/// never if it was stopped (SIGSTOP) or frozen (cgroups(7)). While it starts a program, the limit is [`START_LIMIT`].
const SILENCE_LIMIT: Duration = Duration::from_secs(20);
/// How often it is asked for a sign of life.
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
    /// How the init system ended, if by reboot(2).
    reboot: Option<ProgramExit>,
    contact: Contact,
    /// PID 1 was killed because it was silent.
    was_silent: bool,
}

/// Whether PID 1 responds. Counts checks and not time, which also passes while this process itself is stopped.
#[derive(Default)]
struct Contact {
    /// Its last message, or the last check since then. It is not asked before its root is built.
    checked: Option<Instant>,
    /// Checks since its last message; each asks for an answer.
    unanswered: u32,
}

enum ProgramState {
    Asked,
    Refused(Refusal),
    Runs,
    ProgramExit(ProgramExit),
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
        match self.wait(Some(START_LIMIT), |known| known.root.take().or(known.end.map(|end| Err(gone(end)))))
        {
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
        ours.set_write_timeout(Some(SILENCE_LIMIT))?;
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
            self.known().note(answer, self.may_hand_over);
            self.changed.notify_all();
        }
        let status =
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED));
        let signal = status.ok().flatten().and_then(|status| status.terminating_signal());
        let mut known = self.known();
        known.end = Some(match signal {
            // If PID 1 has exited by itself, the kernel has killed the rest.
            None => ProgramExit::With(128 + libc::SIGKILL as u8),
            Some(_) if known.was_silent => ProgramExit::InitSilent,
            Some(signal) => end_by(signal, self.may_hand_over),
        });
        drop(known);
        self.changed.notify_all();
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
            self.check(&mut known);
        }
    }

    /// Asks PID 1 for a sign of life, and kills it when it gives none: it could neither report the end of its programs nor
    /// end them. One that the kernel cannot end is abandoned.
    fn check(&self, known: &mut Received) {
        if known.end.is_some() || !known.contact.is_due() {
            return;
        }
        let silence = known.contact.count_check();
        let limit = if known.is_starting() { START_LIMIT } else { SILENCE_LIMIT };
        if silence > limit + END_LIMIT {
            known.end = Some(ProgramExit::InitSilent);
        } else if silence > limit {
            self.kill_silent(known);
        } else {
            self.ping();
        }
    }

    fn ping(&self) {
        let one_at_a_time = self.sending.try_lock();
        // A message that is being sent has a limit of its own.
        if !matches!(one_at_a_time, Err(TryLockError::WouldBlock)) {
            // Ignored: it has ended, or has not read what was sent before.
            let _ = protocol::send_at_once(&self.socket, &ProgramRequest::Ping);
        }
    }

    fn kill_silent(&self, known: &mut Received) {
        known.was_silent = true;
        // Ignored: it may have just ended.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }

    /// Kills PID 1 if it owes an answer for [`POLL_INTERVAL`] or longer; returns whether it does. For a program that did not
    /// end: PID 1 has not passed the signal on.
    pub(super) fn end_if_silent(&self) -> bool {
        let mut known = self.known();
        let is_silent = known.contact.unanswered > 1;
        if is_silent {
            self.kill_silent(&mut known);
        }
        is_silent
    }

    /// Has PID 1 start a program, and returns the ID that was chosen for it.
    pub(super) fn run(&self, mut program: Execution, output: BorrowedFd<'_>) -> anyhow::Result<u64> {
        let id = self.known().ask();
        program.id = id;
        self.send(&ProgramRequest::Run(program), Some(output));
        match self.wait(Some(START_LIMIT), |known| known.started(id)) {
            Some(Ok(())) => Ok(id),
            Some(Err(refusal)) => Err(refusal.into_error()),
            None => {
                self.kill_silent(&mut self.known());
                Err(silent().into_error())
            }
        }
    }

    /// Sends a signal to a program's process group, if the program has not ended.
    pub(super) fn signal(&self, id: u64, signal: i32) {
        self.send(&ProgramRequest::Signal { id, signal }, None);
    }

    fn send(&self, message: &impl Serialize, descriptor: Option<BorrowedFd<'_>>) {
        let _one_at_a_time = self.sending.lock();
        // Another failure means that PID 1 has ended, which every wait detects.
        let sent = protocol::send(&self.socket, message, descriptor);
        // socket(7), `SO_SNDTIMEO`. A part of the message may be sent, so no other can follow.
        if sent.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            self.kill_silent(&mut self.known());
        }
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

    /// Whether the container's init system has called reboot(2), which kills all of its programs, and is reported after
    /// their end.
    pub(super) fn reboots_within(&self, limit: Duration) -> Option<ProgramExit> {
        self.wait(Some(limit), |known| known.reboot)
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

    fn note(&mut self, answer: ProgramReply, may_hand_over: bool) {
        self.contact = Contact { checked: Some(Instant::now()), unanswered: 0 };
        let (id, state) = match answer {
            ProgramReply::Pong => return,
            ProgramReply::Ready => return self.root = Some(Ok(())),
            ProgramReply::Refused(refusal) => return self.root = Some(Err(refusal)),
            ProgramReply::Started { id } => (id, ProgramState::Runs),
            ProgramReply::NotStarted { id, refusal } => (id, ProgramState::Refused(refusal)),
            ProgramReply::ProgramExit { id, status } => {
                (id, ProgramState::ProgramExit(ProgramExit::With(status)))
            }
            ProgramReply::Rebooted { id, signal } => {
                let end = end_by(signal, may_hand_over);
                self.reboot = Some(end);
                (id, ProgramState::ProgramExit(end))
            }
        };
        self.programs.insert(id, state);
    }

    /// Whether a program was started, once that is known.
    fn started(&mut self, id: u64) -> Option<Result<(), Refusal>> {
        match self.programs.get(&id)? {
            ProgramState::Asked => self.end.map(|end| Err(gone(end))),
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
            Some(ProgramState::ProgramExit(end)) => Some(*end),
            _ => self.end,
        };
        if ended.is_some() {
            self.programs.remove(&id);
        }
        ended
    }

    /// Whether PID 1 may be starting a program. Its files may be on a slow disk or network.
    fn is_starting(&self) -> bool {
        self.programs.values().any(|state| matches!(state, ProgramState::Asked))
    }

    fn running(&self) -> Vec<u64> {
        let runs = self
            .programs
            .iter()
            .filter(|(_, state)| matches!(state, ProgramState::Asked | ProgramState::Runs));
        runs.map(|(id, _)| *id).collect()
    }
}

impl Contact {
    fn is_due(&self) -> bool {
        self.checked.is_some_and(|at| at.elapsed() >= POLL_INTERVAL)
    }

    /// Counts a check; returns how long PID 1 owes an answer.
    fn count_check(&mut self) -> Duration {
        let silence = POLL_INTERVAL * self.unanswered;
        *self = Self { checked: Some(Instant::now()), unanswered: self.unanswered + 1 };
        silence
    }
}

/// The meaning of a signal that has ended the PID 1 of a namespace.
fn end_by(signal: i32, may_hand_over: bool) -> ProgramExit {
    KernelAction::of_signal(signal)
        .map_or(ProgramExit::Killed(signal), |action| ProgramExit::AskedFor { action, may_hand_over })
}

fn cannot_start<T>(error: std::io::Error) -> anyhow::Result<T> {
    let is_stopped = error.kind() == ErrorKind::TimedOut;
    let failed = Err(error).context("cannot create namespaces");
    match is_stopped {
        true => failed
            .hint("a container that sees the processes of the machine (`pid: host`) may have stopped it"),
        false => failed,
    }
}

fn gone(end: ProgramExit) -> Refusal {
    if end == ProgramExit::InitSilent {
        return silent();
    }
    Refusal::of(&hinted(
        "the container's PID 1 exited before this was done",
        "check the kernel's messages for lack of memory",
    ))
}

fn silent() -> Refusal {
    Refusal::of(&hinted("the container's PID 1 did not respond, and was killed", MAY_BE_FROZEN))
}

fn too_slow(what: &str) -> anyhow::Error {
    hinted(
        format!("{what} within {} s", START_LIMIT.as_secs()),
        "a volume may be on a disk or a network that does not respond",
    )
}
