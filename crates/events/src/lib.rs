//! The events of a boot as data: stages, jobs, steps, pulls, lines of containers, warnings, failures, decisions.
//!
//! Principles:
//!
//! 1. One table defines the vocabulary. The type [`Event`], [`VOCABULARY`], the JSON Schema and `docs/events.md` are
//!    generated from it.
//! 2. An event is a value without I/O. Sinks show or send it, and it knows nothing about them.
//! 3. A line is bounded and has no control characters, so that a log can be shown on a terminal as it is.
//!
//! ```
//! use events::{Event, Record, Stage};
//!
//! let record = Record::new(1.5, std::time::UNIX_EPOCH, Event::StageBegin { stage: Stage::Network });
//! let line = record.line().unwrap();
//! assert_eq!(
//!     line,
//!     "{\"uptime\":1.5,\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"stage-begin\",\"stage\":\"network\"}\n"
//! );
//! assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
//! ```
//!
//! Errors: only those of `serde_json`, when a line is not one of these records.
//!
//! Specifications: RFC 8259 (JSON), RFC 3339 (times), JSON Schema 2020-12, <https://jsonlines.org>.
#![forbid(unsafe_code)]

mod document;
mod record;
mod value;
mod vocabulary;

pub use document::{page, schema};
pub use record::{Record, stated_format};
pub use value::{Decision, Level, Outcome, Seconds, Stage, Text, Value};
pub use vocabulary::{Event, EventField, EventKind, VOCABULARY};

/// Name of the virtio port through which a virtual machine sends its events to the host, if the host has made one.
pub const PORT: &str = "org.iguana.events";

/// Version of the record format, which `log` events state. Adding events and fields does not change it, because
/// readers ignore unknown ones. Raise it when one is removed or changes its meaning.
pub const FORMAT: u64 = 1;
