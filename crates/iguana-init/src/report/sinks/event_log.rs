//! The log of events, `log.jsonl`: its first event, `log`, states the format, and `lost` replaces the middle of a full
//! log (docs/events.md).

use super::limited_file::LimitedFile;
use crate::report::uptime;
use events::{Event, Record, Text};
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// The log with all events, one JSON object per line.
pub(super) struct EventLog(LimitedFile);

impl EventLog {
    /// Opens or creates the log. If it is new, the first event states the format.
    ///
    /// # Errors
    /// When it can be neither opened nor created.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut log = LimitedFile::open(path, |bytes| line_now(Event::Lost { bytes }))?;
        if log.is_empty() {
            let version = Text::of(env!("CARGO_PKG_VERSION"));
            log.add(&line_now(Event::Log { format: events::FORMAT, version }));
        }
        Ok(Self(log))
    }

    pub(super) fn add(&mut self, uptime: f64, time: SystemTime, event: Event) {
        self.0.add(&line(uptime, time, event));
    }
}

fn line_now(event: Event) -> String {
    line(uptime(), SystemTime::now(), event)
}

/// The line of an event. Every event can be serialized.
fn line(uptime: f64, time: SystemTime, event: Event) -> String {
    Record::new(uptime, time, event).line().unwrap_or_default()
}
