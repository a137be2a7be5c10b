//! An event with its times, as a line of JSON.

use crate::Event;
use crate::value::Seconds;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};
use timestamp::Timestamp;

/// An event with its times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since the kernel started (clock_gettime(2), `CLOCK_BOOTTIME`), as in kernel messages. This clock is
    /// never set.
    pub uptime: Seconds,
    /// The wall-clock time (RFC 3339), as far as the machine knew it.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// A record; `uptime` is in seconds.
    #[must_use]
    pub fn new(uptime: f64, time: SystemTime, event: Event) -> Self {
        let milliseconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
        let time = Timestamp::of(time).to_string();
        let time = format!("{}.{milliseconds:03}Z", time.trim_end_matches('Z'));
        Self { uptime: Seconds::from_f64(uptime), time, event }
    }

    /// One line of JSON, with its line break.
    ///
    /// # Errors
    /// None that is known: every event can be serialized.
    pub fn line(&self) -> serde_json::Result<String> {
        let mut line = printable::json(&serde_json::to_string(self)?);
        line.push('\n');
        Ok(line)
    }
}

/// The version of the format that a line states, if it is the event `log`, with which a log begins. This event is read
/// in a log of any version, also where [`Record`] cannot be.
#[must_use]
pub fn stated_format(line: &[u8]) -> Option<u64> {
    /// What this event has in every version.
    #[derive(Deserialize)]
    struct Statement {
        event: String,
        format: u64,
    }
    let statement: Statement = serde_json::from_slice(line).ok()?;
    (statement.event == "log").then_some(statement.format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, Text};

    fn record(text: &str) -> Record {
        let event = Event::Message { level: Level::Info, text: Text::of(text) };
        Record::new(2.0, UNIX_EPOCH + std::time::Duration::from_millis(1_042), event)
    }

    #[test]
    fn every_event_is_read_as_it_was_written() {
        for event in Event::examples() {
            let written = Record::new(2.0, UNIX_EPOCH, event);
            let read: Record = serde_json::from_str(&written.line().unwrap()).unwrap();
            assert_eq!(read, written);
        }
    }

    #[test]
    fn text_from_outside_is_one_line_that_steers_no_terminal_and_is_read_as_it_was() {
        let text = "a\nb\r\t\u{1b}[2J\u{9b}31m\u{7f}\0\u{202e}\u{200b}\u{2028}\u{e0041}\"\\ ä 🦎 ##vso[a]b ##[error]c";
        let line = record(text).line().unwrap();
        assert!(!line.trim_end_matches('\n').contains(printable::is_hidden), "{line:?}");
        assert!(!line.contains("##"), "{line}");
        assert!(
            line.starts_with(r#"{"uptime":2.0,"time":"1970-01-01T00:00:01.042Z","event":"message""#),
            "{line}"
        );
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record(text));
    }

    #[test]
    fn a_long_text_is_truncated_visibly() {
        let line = record(&"ä".repeat(1 << 20)).line().unwrap();
        assert!(line.len() < 17 << 10, "{}", line.len());
        assert!(line.contains("… (2080768 bytes omitted)"), "{}", &line[line.len() - 100..]);
    }

    #[test]
    fn the_format_is_read_in_a_log_of_any_version() {
        let written = Record::new(2.0, UNIX_EPOCH, Event::Log { format: 1, version: Text::of("1") });
        assert_eq!(stated_format(written.line().unwrap().as_bytes()), Some(1));
        assert_eq!(stated_format(br#"{"event": "log", "format": 2, "clock": [0, 1]}"#), Some(2));
        for other in
            [record("x").line().unwrap().as_str(), r#"{"event": "x", "format": 2}"#, "{\"event\": \"lo", ""]
        {
            assert_eq!(stated_format(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_reader_ignores_fields_that_it_does_not_know() {
        let line = record("x").line().unwrap().replace("\"level\"", "\"later\":[1],\"level\"");
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record("x"));
    }
}
