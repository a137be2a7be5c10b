//! The only printer. What happens is an event; the console, two logs (in words, and as events) and the splash screen show it,
//! each in its way, and none of them has the boot wait.
//!
//! What it prints may come from anywhere (a registry, a workflow, a container's last words), and is escaped here, once:
//! one message is one line, and whatever line breaks it has lead to lines that say so.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the printer")]

mod activity;
mod console;
mod failure;
mod log;
mod progress;
mod splash;
mod stage;
mod waiting;
mod words;

use activity::Activity;
pub(crate) use activity::{Attended, SILENCE_LIMIT};
use console::Console;
pub(crate) use failure::{At, Failure, Stage};
use log::Log;
use splash::Splash;
pub(crate) use waiting::{Waiting, waiting};

use events::{Decision, Event, Record, Text};

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// Everything that was said, also what the console did not show.
pub(crate) const LOG: &str = "/run/iguana/log";
/// The same as events: docs/events.md.
pub(crate) const EVENTS: &str = "/run/iguana/log.jsonl";
/// What everything that is said is shown on: the main one of the kernel's consoles.
const CONSOLE: &str = "/dev/console";

/// Says things. Copies speak through the same console and log.
#[derive(Clone)]
pub(crate) struct Report {
    outputs: Arc<Mutex<Outputs>>,
    activity: Activity,
}

/// How much is shown; each level shows those before it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

struct Outputs {
    screen: Screen,
    /// In words.
    log: Option<Log>,
    /// As events.
    events: Option<Log>,
    level: Level,
    /// The console is the machine's: the kernel's time stands before each line.
    at_machine: bool,
    /// Has each line, too.
    splash: Option<Splash>,
}

/// Who reads along.
enum Screen {
    /// The person at the machine. A console that is stopped must stop nothing.
    Machine(Console),
    /// Whoever called this program, and stops it by stopping to read, as with any command.
    Caller(File),
    Nobody,
}

impl Report {
    /// Speaks to the console, and to the log if it can be written.
    pub(crate) fn open() -> Self {
        let screen = Console::open(Path::new(CONSOLE)).map_or(Screen::Nobody, Screen::Machine);
        if let Some(directory) = Path::new(LOG).parent() {
            // Without a log the console still tells everything that matters.
            let _ = std::fs::create_dir_all(directory);
        }
        let log = Log::open(Path::new(LOG), cut_out).ok();
        let events = open_events(Path::new(EVENTS)).ok();
        Self::with(Outputs {
            screen,
            log,
            events,
            level: Level::Info,
            at_machine: true,
            splash: Splash::connect(),
        })
    }

    /// Speaks to standard error, for whoever called this program.
    pub(crate) fn to_caller(level: Level) -> Self {
        let stderr = std::io::stderr().as_fd().try_clone_to_owned();
        let screen = stderr.map_or(Screen::Nobody, |stderr| Screen::Caller(stderr.into()));
        Self::with(Outputs { screen, log: None, events: None, level, at_machine: false, splash: None })
    }

    /// Speaks to this log only.
    #[cfg(test)]
    pub(crate) fn to_log(log: &Path) -> Self {
        Self::with(Outputs {
            screen: Screen::Nobody,
            log: Some(Log::open(log, cut_out).unwrap()),
            events: None,
            level: Level::Info,
            at_machine: true,
            splash: None,
        })
    }

    fn with(outputs: Outputs) -> Self {
        Self { outputs: Arc::new(Mutex::new(outputs)), activity: Activity::default() }
    }

    /// Shows on the console what [`Report::detail`] says, too.
    pub(crate) fn show_details(&self) {
        self.outputs().level = Level::Debug;
    }

    /// Tells what happened. Nobody waits for whoever shows it.
    pub(crate) fn tell(&self, event: Event) {
        self.activity.note();
        self.outputs().write(event);
    }

    /// Tells the person at the machine.
    pub(crate) fn say(&self, text: impl Display) {
        self.tell(Event::Message { level: events::Level::Info, text: Text::of(text) });
    }

    /// Shows an event to the person at the machine, and keeps it in no log.
    fn show(&self, event: Event) {
        self.outputs().show(&event, uptime());
    }

    /// Tells what may be wrong.
    pub(crate) fn warn(&self, text: impl Display) {
        self.tell(Event::Warning { text: Text::of(text) });
    }

    /// For the log; shown only with `rd.iguana.debug`.
    pub(crate) fn detail(&self, text: impl Display) {
        self.tell(Event::Message { level: events::Level::Debug, text: Text::of(text) });
    }

    /// One block that says what failed, why, where, and what to do.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.tell(failure.event());
    }

    /// Tells how the machine goes on, and why.
    pub(crate) fn decided(&self, decision: Decision, text: impl Display) {
        self.tell(Event::Decided { decision, text: Text::of(text) });
    }

    /// Tells of a wait that goes on: no sign that anything happens.
    fn remind(&self, event: Event) {
        self.outputs().write(event);
    }

    /// Waits, at most for `limit`, until the console has sent all that was said.
    pub(crate) fn drain(&self, limit: Duration) {
        if let Screen::Machine(console) = &self.outputs().screen {
            // What a console does not take is in the log.
            let _ = console.drain(limit);
        }
    }

    /// Lets the console go on, whoever has stopped it meanwhile.
    pub(crate) fn resume(&self) {
        console::resume(Path::new(CONSOLE));
    }

    /// Until the value is dropped, something runs that may take as long as it likes, and say nothing.
    pub(crate) fn attend(&self) -> Attended {
        self.activity.attend()
    }

    /// Whether something has been said within [`SILENCE_LIMIT`], or a limit of its own has not passed yet, or something
    /// runs that has none.
    pub(crate) fn is_active(&self) -> bool {
        self.activity.is_recent()
    }

    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        // A panic while printing must not silence the others.
        self.outputs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Outputs {
    fn write(&mut self, event: Event) {
        let (uptime, time) = (uptime(), SystemTime::now());
        let lines = self.show(&event, uptime);
        if let Some(log) = &mut self.log {
            lines.iter().for_each(|line| log.add(&timed(uptime, line)));
        }
        if let Some(events) = &mut self.events
            && let Ok(line) = Record::new(uptime, time, event).line()
        {
            events.add(&line);
        }
    }

    /// Shows an event to whoever reads along; its lines.
    fn show(&mut self, event: &Event, uptime: f64) -> Vec<String> {
        let log = self.log.is_some().then_some(LOG);
        let mut shown = Vec::new();
        for (level, text) in words::lines(event, log) {
            let lines = printable::lines(&text);
            lines.iter().for_each(|line| self.show_line(line, level, uptime));
            shown.extend(lines);
        }
        shown
    }

    fn show_line(&mut self, line: &str, level: Level, uptime: f64) {
        if level <= Level::Info {
            self.splash.take_if(|splash| !splash.show(line));
        }
        if level <= self.level {
            let whole = if self.at_machine { timed(uptime, line) } else { format!("iguana: {line}\n") };
            self.screen.show(whole);
        }
    }
}

impl Screen {
    fn show(&mut self, line: String) {
        match self {
            Self::Machine(console) => console.say(line),
            Self::Caller(file) => {
                // Nobody is left to be told.
                let _ = file.write_all(line.as_bytes());
            }
            Self::Nobody => {}
        }
    }
}

/// Opens the log of events. Whoever begins it states its format.
fn open_events(path: &Path) -> io::Result<Log> {
    let mut log = Log::open(path, |bytes| event_line(Event::Lost { bytes }))?;
    if log.is_empty() {
        let version = Text::of(env!("CARGO_PKG_VERSION"));
        log.add(&event_line(Event::Log { format: events::FORMAT, version }));
    }
    Ok(log)
}

/// An event of now. Each can be written.
fn event_line(event: Event) -> String {
    Record::new(uptime(), SystemTime::now(), event).line().unwrap_or_default()
}

/// What stands in the log in place of its middle.
fn cut_out(bytes: u64) -> String {
    timed(uptime(), &format!("warning: the log was full: {bytes} bytes are cut out here"))
}

fn timed(uptime: f64, line: &str) -> String {
    format!("[{uptime:9.3}] iguana: {line}\n")
}

/// Seconds since the kernel started, as in its own messages.
pub(crate) fn uptime() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Answers whoever called this program on standard output, a line for each of the text's.
pub(crate) fn answer(text: &str) {
    for line in text.lines() {
        println!("{}", printable::without_commands(&printable::visible(line)));
    }
}

/// Tells whoever called this program what is wrong with the call.
pub(crate) fn misused(program: &str, error: &anyhow::Error, hint: &str) {
    for line in printable::lines(&format!("{program}: error: {error:#}")) {
        eprintln!("{line}");
    }
    eprintln!("  hint: {hint}");
}

/// What the supervisor reads: one line of JSON.
pub(crate) fn hand_on(verdict: &str) {
    println!("{verdict}");
}

/// `iguana-init --version`.
pub(crate) fn version() -> ExitCode {
    println!("iguana-init {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

/// What somebody sees who calls this program by hand.
pub(crate) fn not_for_people() -> ExitCode {
    eprintln!(
        "iguana-init: error: this program runs as PID 1 of an initrd\n  \
         hint: make one with `iguana build`, try a workflow with `iguana try WORKFLOW`, or run one on this \
         system with `iguana-init run WORKFLOW`"
    );
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _};

    /// What a registry, a workflow, a container or the network could say.
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
        let outputs = Outputs {
            screen: match at_machine {
                true => Screen::Machine(Console::start(target).unwrap()),
                false => Screen::Caller(target),
            },
            log: Some(Log::open(log.path(), cut_out).unwrap()),
            events: Some(open_events(events.path()).unwrap()),
            level: Level::Debug,
            at_machine,
            splash: None,
        };
        act(&Report::with(outputs));
        let mut text = String::new();
        shown.rewind().unwrap();
        shown.read_to_string(&mut text).unwrap();
        check_events(&std::fs::read_to_string(events.path()).unwrap());
        [text, std::fs::read_to_string(log.path()).unwrap()]
    }

    /// Each line is an event, and steers no terminal.
    fn check_events(log: &str) {
        for line in log.lines() {
            assert!(!line.contains(printable::is_hidden), "{line:?}");
            serde_json::from_str::<Record>(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(log.starts_with("{\"uptime\":") && log.lines().next().unwrap().contains("\"format\":1"));
    }

    /// Who begins a line: us, after the time where there is one.
    fn messages(text: &str) -> Vec<&str> {
        text.lines()
            .map(|line| match line.strip_prefix('[') {
                Some(timed) => timed.split_once("] ").unwrap().1,
                None => line,
            })
            .collect()
    }

    #[test]
    fn nothing_from_outside_steers_the_console_or_looks_like_a_message_of_ours() {
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
    fn a_console_that_takes_nothing_stops_no_event_and_the_logs_have_them_in_order() {
        let home = tempfile::tempdir().unwrap();
        let (_unread, target) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let path = home.path().join("log.jsonl");
        let report = Report::with(Outputs {
            screen: Screen::Machine(Console::start(target.into()).unwrap()),
            log: Log::open(&home.path().join("log"), cut_out).ok(),
            events: open_events(&path).ok(),
            level: Level::Debug,
            at_machine: true,
            splash: None,
        });
        let start = std::time::Instant::now();
        let done = report.during(Stage::Network, || {
            (0..5000).for_each(|number| report.say(format_args!("{number}: {}", "x".repeat(100))));
            Err::<(), _>("no carrier")
        });
        assert_eq!(done, Err("no carrier"));
        // A second for the console, once; each line would have one otherwise.
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
    fn the_log_of_events_keeps_its_beginning_and_its_end_and_an_event_says_what_was_cut_out() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log.jsonl");
        let report = Report::with(Outputs {
            screen: Screen::Nobody,
            log: None,
            events: open_events(&path).ok(),
            level: Level::Debug,
            at_machine: true,
            splash: None,
        });
        for number in 0..40_000 {
            report.say(format_args!("{number}: {}", "x".repeat(200)));
        }
        // Whoever opens it next goes on with it.
        drop(open_events(&path).unwrap());
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
