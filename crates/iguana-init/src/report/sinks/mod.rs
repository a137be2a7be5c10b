//! The sinks of events: consoles, the logs as text and as events, the splash screen, and the host of a virtual machine.

mod console;
mod consoles;
mod event_log;
mod event_port;
mod kernel_log;
mod limited_file;
mod splash;
mod text_log;

use super::event_text;
use super::{EVENTS, LOG, Level, uptime};
use consoles::Consoles;
use event_log::EventLog;
use event_port::EventPort;
use events::Event;
use splash::Splash;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};
use text_log::TextLog;

/// Where each event goes.
pub(super) struct Sinks {
    screen: Screen,
    text_log: Option<TextLog>,
    event_log: Option<EventLog>,
    level: Level,
    /// Also shows each line.
    splash: Option<Splash>,
    /// Gets all events.
    host: Option<EventPort>,
}

/// Where lines are shown.
pub(super) enum Screen {
    /// The machine's consoles. They must not block the boot, even when they are stopped.
    Machine(Consoles),
    /// Standard error of the caller, which may block this program by not reading, as with any command.
    Caller(File),
    Nobody,
}

impl Sinks {
    /// All sinks of this machine that can be opened.
    pub(super) fn of_machine() -> Self {
        if let Some(directory) = Path::new(LOG).parent() {
            // Without a log, the console still shows everything that matters.
            let _ = std::fs::create_dir_all(directory);
        }
        let screen = Screen::Machine(Consoles::open());
        let logs = (Some(Path::new(LOG)), Some(Path::new(EVENTS)));
        Self { splash: Splash::connect(), ..Self::new(screen, Level::Info, logs) }
    }

    /// A screen, and the logs as text and as events at these paths, if they can be opened.
    pub(super) fn new(screen: Screen, level: Level, (text, events): (Option<&Path>, Option<&Path>)) -> Self {
        let text_log = text.and_then(|path| TextLog::open(path).ok());
        let event_log = events.and_then(|path| EventLog::open(path).ok());
        Self { screen, text_log, event_log, level, splash: None, host: None }
    }

    /// Shows lines up to this level from now on.
    pub(super) fn show_up_to(&mut self, level: Level) {
        self.level = level;
    }

    /// Whether lines of this level are shown.
    pub(super) fn shows(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Starts to send all events to the host of a virtual machine, if it asks for them.
    pub(super) fn send_to_host(&mut self) {
        self.host = Some(EventPort::start(Path::new(EVENTS)));
    }

    /// Shows and logs an event.
    pub(super) fn write(&mut self, event: Event) {
        let (uptime, time) = (uptime(), SystemTime::now());
        let lines = self.show(&event, uptime);
        if let Some(log) = &mut self.text_log {
            lines.iter().for_each(|line| log.add(uptime, line));
        }
        if let Some(log) = &mut self.event_log {
            log.add(uptime, time, event);
        }
    }

    /// Shows an event on the screen, and returns its lines.
    pub(super) fn show(&mut self, event: &Event, uptime: f64) -> Vec<String> {
        let log = self.text_log.is_some().then_some(LOG);
        let mut shown = Vec::new();
        for (level, text) in event_text::lines(event, log) {
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
            self.screen.show(uptime, line, level);
        }
    }

    /// Waits up to `limit` each until the consoles have sent everything, and the host has all events.
    pub(super) fn drain(&self, limit: Duration) {
        if let Screen::Machine(consoles) = &self.screen {
            consoles.drain(limit);
        }
        if let Some(host) = &self.host {
            host.drain(Path::new(EVENTS), limit);
        }
    }
}

impl Screen {
    fn show(&mut self, uptime: f64, line: &str, level: Level) {
        match self {
            Self::Machine(consoles) => consoles.show(uptime, line, level),
            Self::Caller(file) => {
                // There is nowhere to report this error.
                let _ = file.write_all(format!("iguana: {line}\n").as_bytes());
            }
            Self::Nobody => {}
        }
    }

    /// A machine whose only console is `target`.
    #[cfg(test)]
    pub(super) fn machine(target: File) -> Self {
        Self::Machine(Consoles::of(console::Console::start(target).unwrap(), Vec::new(), None))
    }
}

/// Resumes the main console if it was stopped.
pub(super) fn resume_console() {
    consoles::resume();
}
