//! The only module that prints. Everything is reported as an event. The console, two logs (as text and as events) and
//! the splash screen show it, each in its own way, and none of them can block the boot.
//!
//! Text may come from anywhere (a registry, a workflow, a container) and is escaped here, once: a message is one line,
//! and further lines of it are marked as continuations.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the printer")]

mod activity;
mod container_progress;
mod event_text;
mod failure;
mod secrets;
mod sinks;
mod stage;
mod waiting;

use activity::Activity;
pub(crate) use activity::{SILENCE_LIMIT, SilentOperation};
pub(crate) use failure::{At, Failure, Stage};
use printable::Secrets;
use sinks::{Screen, Sinks};
pub(crate) use waiting::{Waiting, waiting};

use events::{Decision, Event, Text};

use std::fmt::Display;
use std::os::fd::AsFd as _;
#[cfg(test)]
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The text log, which also has what the console does not show.
pub(crate) const LOG: &str = "/run/iguana/log";
/// The log of events: docs/events.md.
pub(crate) const EVENTS: &str = "/run/iguana/log.jsonl";

/// Reports events. Clones share console and log.
#[derive(Clone)]
pub(crate) struct Report {
    sinks: Arc<Mutex<Sinks>>,
    activity: Activity,
    /// Values that no sink gets.
    secrets: Secrets,
}

/// How much is shown; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing: no message has this level.
    Off,
    Error,
    Warn,
    Info,
    Debug,
    /// Never shown: the consoles have it already.
    LogOnly,
}

impl Report {
    /// Reports to all consoles, and to the logs if they can be written.
    pub(crate) fn open() -> Self {
        Self::with(Sinks::of_machine())
    }

    /// Starts to send all events to the host of a virtual machine, if it asks for them. In one process only.
    pub(crate) fn send_to_host(&self) {
        self.sinks().send_to_host();
    }

    /// Reports to the caller on standard error.
    pub(crate) fn to_caller(level: Level) -> Self {
        let stderr = std::io::stderr().as_fd().try_clone_to_owned();
        let screen = stderr.map_or(Screen::Nobody, |stderr| Screen::Caller(stderr.into()));
        Self::with(Sinks::new(screen, level, (None, None)))
    }

    /// Reports to this log only.
    #[cfg(test)]
    pub(crate) fn to_log(log: &Path) -> Self {
        Self::with(Sinks::new(Screen::Nobody, Level::Info, (Some(log), None)))
    }

    fn with(sinks: Sinks) -> Self {
        Self {
            sinks: Arc::new(Mutex::new(sinks)),
            activity: Activity::default(),
            secrets: Secrets::default(),
        }
    }

    /// Also shows the messages of [`Report::detail`] on the console.
    pub(crate) fn show_details(&self) {
        self.sinks().show_up_to(Level::Debug);
    }

    /// Whether the console shows the messages of [`Report::detail`].
    pub(crate) fn shows_details(&self) -> bool {
        self.sinks().shows(Level::Debug)
    }

    /// The values that are hidden in all messages.
    pub(crate) fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    /// Reports an event. Does not wait for an output that is blocked.
    pub(crate) fn tell(&self, event: Event) {
        self.activity.note();
        self.sinks().write(secrets::hidden(event, &self.secrets));
    }

    /// Reports a message.
    pub(crate) fn say(&self, text: impl Display) {
        self.tell(Event::Message { level: events::Level::Info, text: Text::of(text) });
    }

    /// Shows an event on the screen, but does not log it.
    fn show(&self, event: Event) {
        self.sinks().show(&secrets::hidden(event, &self.secrets), uptime());
    }

    /// Reports a warning.
    pub(crate) fn warn(&self, text: impl Display) {
        self.tell(Event::Warning { text: Text::of(text) });
    }

    /// Reports a message for the log, shown only with `rd.iguana.debug`.
    pub(crate) fn detail(&self, text: impl Display) {
        self.tell(Event::Message { level: events::Level::Debug, text: Text::of(text) });
    }

    /// Reports a failure as one block: what failed, why, where, and what to do.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.tell(failure.event());
    }

    /// Reports how the machine continues, and why.
    pub(crate) fn decided(&self, decision: Decision, text: impl Display) {
        self.tell(Event::Decided { decision, text: Text::of(text) });
    }

    /// Reports a wait that continues, without counting it as activity.
    fn remind(&self, event: Event) {
        self.sinks().write(secrets::hidden(event, &self.secrets));
    }

    /// Waits up to `limit` each until the consoles have sent everything, and the host has all events.
    pub(crate) fn drain(&self, limit: Duration) {
        self.sinks().drain(limit);
    }

    /// Resumes the console if it was stopped.
    pub(crate) fn resume(&self) {
        sinks::resume_console();
    }

    /// Until the value is dropped, silence of any length counts as activity: an operation without a limit is running.
    pub(crate) fn begin_silent_operation(&self) -> SilentOperation {
        self.activity.begin_silent_operation()
    }

    /// Whether there was an event within [`SILENCE_LIMIT`], or a wait with a limit or an operation without one is in
    /// progress.
    pub(crate) fn is_active(&self) -> bool {
        self.activity.is_recent()
    }

    fn sinks(&self) -> MutexGuard<'_, Sinks> {
        // A panic while printing must not silence the other threads.
        self.sinks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Seconds since the kernel started, as in the kernel's messages.
pub(crate) fn uptime() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Prints the answer to the caller on standard output, line by line.
pub(crate) fn answer(text: &str) {
    for line in text.lines() {
        println!("{}", printable::without_commands(&printable::visible(line)));
    }
}

/// Reports a usage error to the caller.
pub(crate) fn misused(program: &str, error: &anyhow::Error, hint: &str) {
    for line in printable::lines(&format!("{program}: error: {error:#}")) {
        eprintln!("{line}");
    }
    eprintln!("  hint: {hint}");
}

/// Sends one line of JSON to the supervisor.
pub(crate) fn pass_on(verdict: &str) {
    println!("{verdict}");
}

/// `iguana-init --version`.
pub(crate) fn version() -> ExitCode {
    println!("iguana-init {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

/// The message for users who call this program by hand.
pub(crate) fn not_for_people() -> ExitCode {
    eprintln!(
        "iguana-init: error: this program runs as PID 1 of an initrd\n  hint: create one with `iguana \
         build`, try a workflow with `iguana try WORKFLOW`, or run one on this system with `iguana-init \
         run WORKFLOW`"
    );
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Record;
    use std::io::{Read as _, Seek as _};

    /// Text that a registry, a workflow, a container or the network could send.
    const HOSTILE: &[&str] = &[
        "no\niguana: workflow: signed by ECDSA P-256 sha256:00",
        "no\r\n[    1.000] iguana: workflow: signed by you",
        "\u{1b}[2J\u{1b}[Higuana: ready",
        "\u{9b}31m\u{8}\u{7f}\0",
        "iguana: a\riguana: b",
        "gpj\u{202e}exe\u{200b}\u{2028}iguana: x\u{85}iguana: y",
        "::error::x\n##[error]x\n  ::add-mask::x\n##vso[task.setvariable variable=a]b",
    ];

    fn printed(at_machine: bool, act: impl FnOnce(&Report)) -> [String; 2] {
        let mut shown = tempfile::tempfile().unwrap();
        let target = shown.try_clone().unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let events = tempfile::NamedTempFile::new().unwrap();
        let screen = match at_machine {
            true => Screen::machine(target),
            false => Screen::Caller(target),
        };
        let logs = (Some(log.path()), Some(events.path()));
        act(&Report::with(Sinks::new(screen, Level::Debug, logs)));
        let mut text = String::new();
        shown.rewind().unwrap();
        shown.read_to_string(&mut text).unwrap();
        check_events(&std::fs::read_to_string(events.path()).unwrap());
        [text, std::fs::read_to_string(log.path()).unwrap()]
    }

    /// Checks that each line is an event, and has no control characters.
    fn check_events(log: &str) {
        for line in log.lines() {
            assert!(!line.contains(printable::is_hidden), "{line:?}");
            serde_json::from_str::<Record>(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(log.starts_with("{\"uptime\":") && log.lines().next().unwrap().contains("\"format\":1"));
    }

    /// The lines without the timestamps of the console.
    fn messages(text: &str) -> Vec<&str> {
        text.lines()
            .map(|line| match line.strip_prefix('[') {
                Some(timed) => timed.split_once("] ").unwrap().1,
                None => line,
            })
            .collect()
    }

    #[test]
    fn untrusted_text_cannot_control_the_console_or_imitate_a_message() {
        for hostile in HOSTILE {
            let error = || anyhow::anyhow!("it says: {hostile}").context(format!("cannot pull `{hostile}`"));
            let failure = Err::<(), _>(error()).at(Stage::Image).unwrap_err().of_job(hostile);
            for at_machine in [true, false] {
                for text in printed(at_machine, |report| {
                    report.say(format_args!("image {hostile}: resolving"));
                    report.warn(hostile);
                    report.detail(hostile);
                    report.failure(&failure);
                }) {
                    let hidden = |letter| letter != '\n' && printable::is_hidden(letter);
                    assert!(!text.contains(hidden), "{text:?}");
                    assert!(!text.contains("##[") && !text.contains("##vso["), "{text}");
                    let own = [
                        "iguana: image ",
                        "iguana: warning: ",
                        "iguana: error: ",
                        "iguana:   why: ",
                        "iguana:   stage: ",
                        "iguana:   log: ",
                        "iguana:   | ",
                    ];
                    let first = hostile.split('\n').next().unwrap_or_default().trim_end();
                    let detail = format!("iguana: {}", printable::visible(first));
                    for line in messages(&text) {
                        let is_detail =
                            line.starts_with(&detail) || line.starts_with(r"iguana: \u{3a}:error");
                        assert!(is_detail || own.iter().any(|start| line.starts_with(start)), "{line}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_blocked_console_delays_no_event_and_logs_keep_their_order() {
        let home = tempfile::tempdir().unwrap();
        let (_unread, target) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (text_log, path) = (home.path().join("log"), home.path().join("log.jsonl"));
        let logs = (Some(&*text_log), Some(&*path));
        let report = Report::with(Sinks::new(Screen::machine(target.into()), Level::Debug, logs));
        let start = std::time::Instant::now();
        let done = report.during(Stage::Network, || {
            (0..5000).for_each(|number| report.say(format_args!("{number}: {}", "x".repeat(100))));
            Err::<(), _>("no carrier")
        });
        assert_eq!(done, Err("no carrier"));
        // The console may delay one line by a second, but not every line.
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        let text = std::fs::read_to_string(&path).unwrap();
        let read = |line| serde_json::from_str::<Record>(line).unwrap();
        let records: Vec<Record> = text.lines().map(read).collect();
        assert!(records.is_sorted_by(|one, next| one.uptime <= next.uptime));
        let is_message = |record: &&Record| matches!(record.event, Event::Message { .. });
        assert_eq!(records.iter().filter(is_message).count(), 5000);
        assert_eq!(records[1].event, Event::StageBegin { stage: Stage::Network });
        let outcome = events::Outcome::Failure;
        assert!(matches!(&records.last().unwrap().event,
            Event::StageEnd { stage: Stage::Network, outcome: ended, .. } if *ended == outcome));
    }

    #[test]
    fn the_event_log_keeps_its_beginning_and_its_end_and_notes_the_gap() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log.jsonl");
        let sinks = || Sinks::new(Screen::Nobody, Level::Debug, (None, Some(&*path)));
        let report = Report::with(sinks());
        for number in 0..40_000 {
            report.say(format_args!("{number}: {}", "x".repeat(200)));
        }
        // Reopening appends to the same log.
        drop(sinks());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() <= 4 << 20, "{}", text.len());
        let records: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let is_log = |record: &&Record| matches!(record.event, Event::Log { format: 1, .. });
        assert!(is_log(&&records[0]) && records.iter().filter(is_log).count() == 1);
        let is_lost = |record: &&Record| matches!(record.event, Event::Lost { .. });
        assert_eq!(records.iter().filter(is_lost).count(), 1);
        assert!(text.lines().last().unwrap().contains("39999: "));
    }
}
