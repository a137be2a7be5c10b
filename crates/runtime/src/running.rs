//! A program that runs in a container, and how it ends.

use super::cgroup::{MemoryAccount, ProcessAccount};
use super::link::Link;
use hint::hinted;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Time limit for the kernel to end a killed process.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How long the end of an init system may come after that of the programs that end with it.
const REBOOT_LIMIT: Duration = Duration::from_secs(10);

/// The exit status of a program that `SIGKILL` ended.
const KILLED: u8 = 128 + libc::SIGKILL as u8;
/// The exit status of a program that `SIGTERM` ended, which systemd sends first.
const TERMINATED: u8 = 128 + libc::SIGTERM as u8;

/// The hint for a PID 1 that does not respond.
pub(super) const MAY_BE_FROZEN: &str = "a program of the container may have stopped or frozen it, or a volume may be on a disk or \
                                        a network that does not respond";

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramExit {
    /// It exited with this status; 128 and more stands for a signal, as in shells.
    With(u8),
    /// The container's PID 1 itself was killed by this signal.
    Killed(i32),
    /// It called reboot(2), which ended the container.
    AskedFor {
        /// What for.
        action: KernelAction,
        /// Whether its container may hand over.
        may_hand_over: bool,
    },
    /// The container's PID 1 did not respond, and was killed: the end of the program is unknown.
    InitSilent,
    /// It exceeded its time limit.
    TimedOut {
        /// The time limit.
        limit: Duration,
        /// Whether it also ignored `SIGTERM` for the plan's `stop_grace`, and was killed.
        by_force: bool,
    },
    /// It ended because of a [`StopToken`].
    Stopped {
        /// Whether it ignored `SIGTERM` for the plan's `stop_grace`, and was killed.
        by_force: bool,
    },
    /// It ended after the kernel had killed it, or a part of it, for lack of memory.
    OutOfMemory {
        /// Its exit status.
        status: u8,
        /// What is known about the shortage.
        memory_shortage: MemoryShortage,
    },
    /// It ended after the process limit of all containers was reached and a fork failed.
    TooManyProcesses {
        /// Its exit status.
        status: u8,
        /// The limit of processes and threads of all containers.
        limit: u64,
    },
}

/// What a program asked the kernel for by reboot(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelAction {
    /// To restart the machine.
    Reboot,
    /// To power it off, or to halt it: in a PID namespace both end alike.
    PowerOff,
}

impl KernelAction {
    /// The word for it in the result file `kernelAction`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "poweroff",
        }
    }

    /// What reboot(2) was called for in a PID namespace whose PID 1 ended by this signal. PID 1 ignores or handles
    /// these signals when others send them.
    pub(super) fn of_signal(signal: i32) -> Option<Self> {
        match signal {
            libc::SIGHUP => Some(Self::Reboot),
            libc::SIGINT => Some(Self::PowerOff),
            _ => None,
        }
    }
}

/// Which memory limit was reached; in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// The container's own.
    Own(u64),
    /// That of all containers together.
    AllContainers(u64),
    /// None: the machine has no more memory.
    Machine,
}

/// What is known about a memory shortage, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryShortage {
    /// Which limit was reached.
    pub(super) limit: LimitReached,
    /// The peak memory use of the container. Not every kernel counts it.
    pub(super) peak: Option<u64>,
}

impl ProgramExit {
    /// Whether its exit status is 0, or it ended by asking for a kernel action that its container may ask for.
    pub fn is_success(self) -> bool {
        matches!(self, Self::With(0) | Self::AskedFor { may_hand_over: true, .. })
    }

    /// The exit status as a shell reports it; `None` if the program did not end by itself, or its end is unknown.
    pub fn status(self) -> Option<u8> {
        match self {
            Self::With(status) | Self::OutOfMemory { status, .. } | Self::TooManyProcesses { status, .. } => {
                Some(status)
            }
            Self::Killed(signal) => u8::try_from(128 + signal).ok(),
            Self::AskedFor { .. } | Self::InitSilent | Self::TimedOut { .. } | Self::Stopped { .. } => None,
        }
    }

    /// The hint, for causes that the program itself does not report.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Self::OutOfMemory {
                memory_shortage: MemoryShortage { limit: LimitReached::Own(_), .. }, ..
            } => Some("raise the container's `memory`; files in its root and in a tmpfs count as well"),
            Self::OutOfMemory { .. } => {
                Some("give the machine more memory, or have the container write to a disk")
            }
            Self::AskedFor { .. } => Some("have it exit instead, or allow it with `handover: true`"),
            Self::InitSilent => Some(MAY_BE_FROZEN),
            Self::TooManyProcesses { .. } => Some("a program may be forking endlessly: set `pids`"),
            _ => None,
        }
    }

    /// Turns a failure into [`Self::OutOfMemory`], after the kernel has killed a part of the program for lack of
    /// memory.
    fn out_of_memory(self, memory_shortage: MemoryShortage) -> Self {
        match self {
            Self::With(status) if status != 0 => Self::OutOfMemory { status, memory_shortage },
            Self::Killed(libc::SIGKILL) => Self::OutOfMemory { status: KILLED, memory_shortage },
            ended => ended,
        }
    }
}

impl fmt::Display for ProgramExit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::With(status @ 129..=192) => write!(out, "exit status {status} (signal {})", status - 128),
            Self::With(status) => write!(out, "exit status {status}"),
            Self::Killed(signal) => write!(out, "killed by signal {signal}"),
            Self::AskedFor { action, may_hand_over: true } => {
                write!(out, "asked for `{}` by reboot(2)", action.word())
            }
            Self::AskedFor { action, may_hand_over: false } => {
                let action = action.word();
                write!(
                    out,
                    "ended when it asked for `{action}` by reboot(2): its container may not hand over"
                )
            }
            Self::InitSilent => write!(out, "killed: its container's PID 1 did not respond"),
            Self::TimedOut { limit, by_force: false } => {
                write!(out, "stopped after its time limit of {:.1} s", limit.as_secs_f32())
            }
            Self::TimedOut { limit, by_force: true } => {
                let limit = limit.as_secs_f32();
                write!(out, "killed after its time limit of {limit:.1} s: it did not stop when asked to")
            }
            Self::Stopped { by_force: false } => write!(out, "stopped"),
            Self::Stopped { by_force: true } => write!(out, "killed: it did not stop when asked to"),
            Self::TooManyProcesses { status, limit } => write!(
                out,
                "exit status {status} after it could not start more processes: all containers together \
                 reached the limit of {limit}"
            ),
            Self::OutOfMemory { status: KILLED, memory_shortage } => {
                write!(out, "killed by signal {}: {memory_shortage}", libc::SIGKILL)
            }
            Self::OutOfMemory { status, memory_shortage } => {
                write!(out, "exit status {status} after one of its processes was killed: {memory_shortage}")
            }
        }
    }
}

impl fmt::Display for MemoryShortage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            LimitReached::Own(limit) => {
                write!(out, "it exceeded its memory limit of {}", in_words(limit))?;
            }
            // The limit is unknown before the machine's memory was read for the first time.
            LimitReached::AllContainers(0) => write!(out, "the memory limit of all containers was reached")?,
            LimitReached::AllContainers(limit) => {
                write!(out, "the memory limit of all containers, {}, was reached", in_words(limit))?;
            }
            LimitReached::Machine => write!(out, "the machine was out of memory")?,
        }
        match self.peak {
            Some(peak) => write!(out, " (peak {})", in_words(peak)),
            None => Ok(()),
        }
    }
}

fn in_words(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

/// Stops the program that a thread waits for with [`Running::wait_unless`]; without such a thread, the next one.
#[derive(Default)]
pub struct StopToken(Mutex<StopState>);

#[derive(Default)]
struct StopState {
    is_open: bool,
    waiting: Weak<Link>,
}

impl StopToken {
    /// Stops the program that is waited for, now or next.
    pub fn call(&self) {
        let waiting = {
            let mut calls = self.calls();
            calls.is_open = true;
            calls.waiting.upgrade()
        };
        if let Some(link) = waiting {
            link.look_again();
        }
    }

    fn is_set(&self) -> bool {
        self.calls().is_open
    }

    fn register_waiter(&self, link: &Arc<Link>) {
        self.calls().waiting = Arc::downgrade(link);
    }

    fn take_request(&self) {
        self.calls().is_open = false;
    }

    fn calls(&self) -> MutexGuard<'_, StopState> {
        // A poisoned lock is safe to use: each change is complete.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Called once, after the end of a program.
pub(super) type ShowRest = Box<dyn FnOnce() + Send>;

/// A running program. Dropping this does not end it; the end of its container does.
pub struct Running {
    link: Arc<Link>,
    id: u64,
    stop_signal: i32,
    stop_grace: Duration,
    /// Its container has an init system, which is another program.
    is_beside_init: bool,
    /// The memory account of the container, and its number of kills before this program started.
    memory: MemoryAccount,
    kills_before: u64,
    /// The same for processes.
    processes: ProcessAccount,
    refusals_before: u64,
    /// Waits, with a limit, until its output is shown.
    show_rest: Option<ShowRest>,
    ended: Option<ProgramExit>,
}

impl Running {
    pub(super) fn new(
        link: Arc<Link>,
        id: u64,
        (stop_signal, stop_grace): (i32, Duration),
        is_beside_init: bool,
        (memory, processes): (MemoryAccount, ProcessAccount),
        (kills_before, refusals_before): (u64, u64),
        show_rest: Option<ShowRest>,
    ) -> Self {
        Self {
            link,
            id,
            stop_signal,
            stop_grace,
            is_beside_init,
            memory,
            kills_before,
            processes,
            refusals_before,
            show_rest,
            ended: None,
        }
    }

    /// Waits for its end. At the limit it gets its stop signal, and is killed after the plan's `stop_grace`.
    ///
    /// # Errors
    /// When the kernel cannot end it: it waits for a disk or a network.
    pub fn wait(&mut self, limit: Option<Duration>) -> anyhow::Result<ProgramExit> {
        self.wait_unless(&StopToken::default(), limit)
    }

    /// Like [`Self::wait`], and also stops it when the stop token is set.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_unless(
        &mut self,
        stop_token: &StopToken,
        limit: Option<Duration>,
    ) -> anyhow::Result<ProgramExit> {
        stop_token.register_waiter(&self.link);
        if let Some(ended) = self.ends_unless(stop_token, limit) {
            return Ok(ended);
        }
        let by_force = self.stop()?;
        if let Some(ProgramExit::InitSilent) = self.ended {
            return Ok(ProgramExit::InitSilent);
        }
        let ended = if stop_token.is_set() {
            stop_token.take_request();
            ProgramExit::Stopped { by_force }
        } else {
            ProgramExit::TimedOut { limit: limit.unwrap_or_default(), by_force }
        };
        self.ended = Some(ended);
        Ok(ended)
    }

    /// Sends its stop signal, and kills it if it does not end; returns whether that was needed.
    fn stop(&mut self) -> anyhow::Result<bool> {
        let by_force = !self.ends_by(self.stop_signal, self.stop_grace);
        if by_force && !self.ends_by(libc::SIGKILL, KILL_LIMIT) && !self.ends_with_silent_init() {
            return Err(hinted(
                format!("the program still exists {KILL_LIMIT:?} after it was killed"),
                "it waits for a disk or a network that does not respond; check the kernel's messages",
            ));
        }
        Ok(by_force)
    }

    /// Its end, if it ends within `limit`; it runs on otherwise.
    pub fn wait_briefly(&mut self, limit: Duration) -> Option<ProgramExit> {
        self.ends_within(Some(limit))
    }

    /// Its end, if it has ended.
    #[cfg(test)]
    pub(super) fn try_wait(&mut self) -> Option<ProgramExit> {
        self.ends_within(Some(Duration::ZERO))
    }

    /// Ends the container if its PID 1 does not respond: no signal has reached the program.
    fn ends_with_silent_init(&mut self) -> bool {
        self.link.end_if_silent() && self.ends_within(Some(KILL_LIMIT)).is_some()
    }

    fn ends_by(&mut self, signal: i32, limit: Duration) -> bool {
        self.link.signal(self.id, signal);
        self.ends_within(Some(limit)).is_some()
    }

    fn ends_within(&mut self, limit: Option<Duration>) -> Option<ProgramExit> {
        self.ends_unless(&StopToken::default(), limit)
    }

    fn ends_unless(&mut self, stop_token: &StopToken, limit: Option<Duration>) -> Option<ProgramExit> {
        if self.ended.is_none() {
            let ended = self.link.end_of(self.id, limit, || stop_token.is_set());
            self.ended = ended.map(|ended| self.explained(ended));
            if self.ended.is_some() {
                // Its last output comes before the report of its end.
                if let Some(show_rest) = self.show_rest.take() {
                    show_rest();
                }
            }
        }
        self.ended
    }

    fn explained(&self, ended: ProgramExit) -> ProgramExit {
        if self.is_beside_init
            && matches!(ended, ProgramExit::With(TERMINATED | KILLED))
            && let Some(reboot) = self.link.reboots_within(REBOOT_LIMIT)
        {
            return reboot;
        }
        if self.memory.kills() > self.kills_before {
            return ended.out_of_memory(self.memory.memory_shortage());
        }
        match ended {
            ProgramExit::With(status) if status != 0 && self.processes.refusals() > self.refusals_before => {
                ProgramExit::TooManyProcesses { status, limit: self.processes.limit() }
            }
            ended => ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        assert_eq!(ProgramExit::With(3).to_string(), "exit status 3");
        assert_eq!(ProgramExit::With(137).to_string(), "exit status 137 (signal 9)");
        assert!(ProgramExit::With(0).is_success() && !ProgramExit::Killed(9).is_success());
    }

    #[test]
    fn a_limit_is_reported_with_the_usage() {
        let limit = Duration::from_secs(90);
        assert_eq!(
            ProgramExit::TimedOut { limit, by_force: false }.to_string(),
            "stopped after its time limit of 90.0 s"
        );
        let killed = ProgramExit::TimedOut { limit, by_force: true }.to_string();
        assert_eq!(killed, "killed after its time limit of 90.0 s: it did not stop when asked to");
    }

    #[test]
    fn an_oom_kill_is_reported_with_the_limit_and_the_peak() {
        let limited = MemoryShortage { limit: LimitReached::Own(64 << 20), peak: Some(64 << 20) };
        assert_eq!(
            ProgramExit::With(137).out_of_memory(limited).to_string(),
            "killed by signal 9: it exceeded its memory limit of 64 MiB (peak 64 MiB)"
        );
        let unlimited = MemoryShortage { limit: LimitReached::Machine, peak: None };
        let killed = ProgramExit::Killed(libc::SIGKILL).out_of_memory(unlimited);
        assert_eq!(killed.to_string(), "killed by signal 9: the machine was out of memory");
        assert!(killed.remedy().unwrap().contains("machine"));
        let small = MemoryShortage { limit: LimitReached::Own(300 << 10), peak: None };
        assert_eq!(
            ProgramExit::With(2).out_of_memory(small).to_string(),
            "exit status 2 after one of its processes was killed: it exceeded its memory limit of 300 KiB"
        );
        assert!(ProgramExit::With(0).out_of_memory(small).is_success());
        let shared = MemoryShortage { limit: LimitReached::AllContainers(400 << 20), peak: Some(399 << 20) };
        assert_eq!(
            ProgramExit::With(137).out_of_memory(shared).to_string(),
            "killed by signal 9: the memory limit of all containers, 400 MiB, was reached (peak 399 MiB)"
        );
    }
}
