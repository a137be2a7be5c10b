//! The worker as PID 1 sees it: its messages, and whether it is stuck.

use super::Verdict;
use crate::machine::memory;
use crate::report;
use crate::report::{Report, SILENCE_LIMIT};
use anyhow::Context as _;
use hint::hinted;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How often the worker reports that it is alive.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How often PID 1 checks its children.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Checks without a message after which the worker counts as stuck. Checks are counted instead of seconds because PID 1
/// does not check while the whole machine is paused.
const SILENT_CHECKS: u32 = looks(Duration::from_secs(30));
/// Checks for which the worker may stay stopped (SIGSTOP).
const STOPPED_CHECKS: u32 = looks(Duration::from_secs(10));
/// Checks within which the worker must exit after its decision. A thread that waits for a disk may keep it forever.
const EXIT_CHECKS: u32 = looks(Duration::from_secs(5));
/// Checks within which an out-of-memory kill may have hit the worker. The kernel counts the kill before the process
/// ends.
const KILL_CHECKS: usize = looks(Duration::from_secs(2)) as usize;
/// Bytes of one message; a verdict has some hundred.
const MESSAGE_LIMIT: usize = 64 << 10;

const fn looks(time: Duration) -> u32 {
    (time.as_millis() / POLL_INTERVAL.as_millis()) as u32
}

/// Messages from the worker to PID 1: lines of JSON on its standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The boot makes progress.
    Active,
    /// The process is alive, but there was no activity: see [`SILENCE_LIMIT`].
    Inactive,
    Decided(Verdict),
}

impl Message {
    /// Sends the message to PID 1.
    pub(crate) fn send(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            report::pass_on(&line);
        }
    }
}

/// Called in the worker: reports to PID 1 whether the boot makes progress, until the process ends.
pub(crate) fn report_periodically(report: &Report) {
    let report = report.clone();
    thread::spawn(move || {
        loop {
            let message = if report.is_active() { Message::Active } else { Message::Inactive };
            message.send();
            thread::sleep(HEARTBEAT_INTERVAL);
        }
    });
}

/// Why the worker made no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failed {
    Ended,
    Killed(i32),
    /// Killed by the kernel because memory was full.
    OutOfMemory,
    Stopped(i32),
    Mute,
    Inactive,
}

/// A running worker.
pub(super) struct Worker {
    process: Child,
    /// Whether to reap all children of this process, as PID 1 must.
    reaps_all: bool,
    messages: Option<ChildStdout>,
    received: Vec<u8>,
    /// Checks since its last message; and checks since it was stopped, with the signal.
    silent: u32,
    stopped: Option<(u32, i32)>,
    ended: Option<WaitStatus>,
    /// The kernel's count of out-of-memory kills at the last checks, latest last. An older kill was of a container,
    /// which the kernel kills first, and not of the worker.
    memory_kills: VecDeque<u64>,
}

impl Worker {
    /// Starts the worker.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = started.context("cannot start the boot program")?;
        let messages = process.stdout.take();
        messages.iter().try_for_each(|pipe| rustix::io::ioctl_fionbio(pipe, true))?;
        let reaps_all = rustix::process::getpid().is_init();
        let (received, memory_kills) = (Vec::new(), VecDeque::from([memory::kills()]));
        Ok(Self {
            process,
            reaps_all,
            messages,
            received,
            silent: 0,
            stopped: None,
            ended: None,
            memory_kills,
        })
    }

    /// Waits for the decision; calls `at_look` at each check. Afterwards the worker has ended, by force if necessary.
    ///
    /// # Errors
    /// When the worker has ended without a decision, or is stuck: with the reason.
    pub(super) fn decision(&mut self, mut at_look: impl FnMut()) -> anyhow::Result<Verdict> {
        let decided = loop {
            at_look();
            if let Some(decided) = self.look() {
                break decided;
            }
        };
        self.end(at_look);
        decided.map_err(Failed::into_error)
    }

    /// Does one check, which takes [`POLL_INTERVAL`] unless something happens before.
    fn look(&mut self) -> Option<Result<Verdict, Failed>> {
        self.wait_for_message();
        self.reap();
        self.silent += 1;
        for message in self.take_messages() {
            match message {
                Message::Active => self.silent = 0,
                Message::Inactive => return Some(Err(Failed::Inactive)),
                Message::Decided(verdict) => return Some(Ok(verdict)),
            }
        }
        if let Some(status) = self.ended {
            return Some(Err(match status.terminating_signal() {
                Some(libc::SIGKILL) if self.memory_was_full() => Failed::OutOfMemory,
                Some(signal) => Failed::Killed(signal),
                None => Failed::Ended,
            }));
        }
        self.note_kills(memory::kills());
        self.stuck().map(Err)
    }

    fn note_kills(&mut self, count: u64) {
        if self.memory_kills.len() >= KILL_CHECKS {
            self.memory_kills.pop_front();
        }
        self.memory_kills.push_back(count);
    }

    fn memory_was_full(&self) -> bool {
        self.memory_kills.front().is_some_and(|before| memory::kills() > *before)
    }

    fn stuck(&mut self) -> Option<Failed> {
        match &mut self.stopped {
            Some((looks, signal)) if *looks >= STOPPED_CHECKS => Some(Failed::Stopped(*signal)),
            Some((looks, _)) => {
                *looks += 1;
                None
            }
            None if self.silent >= SILENT_CHECKS => Some(Failed::Mute),
            None => None,
        }
    }

    fn wait_for_message(&self) {
        let Some(messages) = &self.messages else { return thread::sleep(POLL_INTERVAL) };
        let limit = Timespec { tv_sec: 0, tv_nsec: POLL_INTERVAL.as_nanos() as i64 };
        // A signal, or lack of memory, only makes this check come earlier.
        let _ = poll(&mut [PollFd::new(messages, PollFlags::IN)], Some(&limit));
    }

    fn take_messages(&mut self) -> Vec<Message> {
        let mut block = [0; 4096];
        while let Some(messages) = &mut self.messages {
            match messages.read(&mut block) {
                Ok(0) => self.messages = None,
                Ok(count) => self.received.extend_from_slice(&block[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.messages = None,
            }
            if self.received.len() > MESSAGE_LIMIT {
                self.messages = None;
            }
        }
        let whole = self.received.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.received.drain(..whole).collect();
        lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// Reaps ended children, and records the state of the worker.
    fn reap(&mut self) {
        let worker = Pid::from_child(&self.process);
        let which = if self.reaps_all { None } else { Some(worker) };
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
        while let Ok(Some((process, status))) = waitpid(which, options) {
            if process != worker {
                continue;
            }
            match status.stopping_signal() {
                Some(signal) => self.stopped = Some((0, signal)),
                None if status.continued() => (self.stopped, self.silent) = (None, 0),
                None => self.ended = Some(status),
            }
        }
    }

    /// Waits until the worker has exited, and kills it after a limit.
    fn end(&mut self, mut at_look: impl FnMut()) {
        self.messages = None;
        for look in 0..2 * EXIT_CHECKS {
            self.reap();
            if self.ended.is_some() {
                return;
            }
            if look == EXIT_CHECKS || self.stopped.is_some() || self.silent >= SILENT_CHECKS {
                // Fails if it has just ended.
                let _ = kill_process(Pid::from_child(&self.process), Signal::KILL);
            }
            at_look();
            thread::sleep(if look == 0 { FIRST_LOOK } else { POLL_INTERVAL });
        }
    }
}

/// The delay of the first check in [`Worker::end`], since most workers exit at once.
const FIRST_LOOK: Duration = Duration::from_millis(5);

impl Failed {
    fn into_error(self) -> anyhow::Error {
        let seconds = |looks: u32| (POLL_INTERVAL * looks).as_secs();
        match self {
            Self::Ended => hinted("the boot program exited without a decision", "please report this"),
            Self::OutOfMemory => {
                hinted("the boot program was killed: out of memory", "give the machine more memory")
            }
            Self::Killed(libc::SIGKILL) => hinted(
                "the boot program was killed by signal 9, but not by lack of memory",
                "a container that sees the processes of the machine (`pid: host`) may have killed it",
            ),
            Self::Killed(signal) => {
                hinted(format!("the boot program crashed with signal {signal}"), "please report this")
            }
            Self::Stopped(signal) => hinted(
                format!(
                    "the boot program was stopped by signal {signal} and not continued within {} s",
                    seconds(STOPPED_CHECKS)
                ),
                "a container that sees the processes of the machine (`pid: host`) may have stopped it",
            ),
            Self::Mute => hinted(
                format!(
                    "the boot program does not respond: no sign of life for {} s",
                    seconds(SILENT_CHECKS)
                ),
                "check the kernel's messages for lack of memory or a disk that does not respond",
            ),
            Self::Inactive => hinted(
                format!("the boot is stuck: nothing has happened for {} s", SILENCE_LIMIT.as_secs()),
                "a disk may not respond: check the lines before this one and the kernel's messages",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::Handover;
    use std::time::Instant;

    fn worker(script: &str) -> Worker {
        Worker::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    fn failure(script: &str) -> String {
        worker(script).decision(|| ()).unwrap_err().to_string()
    }

    fn is_gone(worker: &Worker) -> bool {
        !std::path::Path::new(&format!("/proc/{}", worker.process.id())).exists()
    }

    #[test]
    fn the_verdict_of_a_worker_that_does_not_exit_is_carried_out() {
        let verdict = Verdict::HandOver(Handover::Reboot);
        let line = serde_json::to_string(&Message::Decided(verdict.clone())).unwrap();
        let active = serde_json::to_string(&Message::Active).unwrap();
        let mut quick = worker(&format!("echo '{active}'; echo '{line}'"));
        assert_eq!(quick.decision(|| ()).unwrap(), verdict);
        let start = Instant::now();
        let mut slow = worker(&format!("trap '' TERM; echo '{line}'; exec sleep 1000"));
        assert_eq!(slow.decision(|| ()).unwrap(), verdict);
        assert!(is_gone(&slow) && start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn an_exit_without_a_verdict_is_reported() {
        assert!(failure("echo; echo '{\"Decided\":7}'").contains("exited without a decision"));
        assert!(failure("kill -SEGV $$").contains("crashed with signal 11"));
        assert!(failure("kill -KILL $$").contains("not by lack of memory"));
    }

    #[test]
    fn an_oom_kill_is_attributed_to_the_worker_only_if_simultaneous() {
        let mut worker = worker("kill -KILL $$");
        (0..100).for_each(|count| worker.note_kills(count));
        assert_eq!((worker.memory_kills.len(), worker.memory_kills.front()), (KILL_CHECKS, Some(&92)));
    }

    #[test]
    fn a_stopped_worker_is_detected() {
        let start = Instant::now();
        let mut stopped = worker("kill -STOP $$; sleep 1000");
        let error = stopped.decision(|| ()).unwrap_err();
        assert!(error.to_string().contains("stopped by signal 19"), "{error:#}");
        assert!(is_gone(&stopped) && start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }

    #[test]
    fn a_worker_stopped_briefly_continues() {
        let line = serde_json::to_string(&Message::Decided(Verdict::HandOver(Handover::Halt))).unwrap();
        let mut worker = worker(&format!("(sleep 2; kill -CONT $$) & kill -STOP $$; echo '{line}'"));
        assert_eq!(worker.decision(|| ()).unwrap(), Verdict::HandOver(Handover::Halt));
    }

    #[test]
    fn a_worker_that_neither_reports_nor_runs_is_stuck() {
        assert!(failure("exec sleep 1000").contains("does not respond: no sign of life for 30 s"));
        let inactive = serde_json::to_string(&Message::Inactive).unwrap();
        assert!(
            failure(&format!("echo '{inactive}'; exec sleep 1000"))
                .contains("nothing has happened for 600 s")
        );
    }
}
