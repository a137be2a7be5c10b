//! The table of all events.

use crate::value::{Decision, FieldType, Level, Outcome, Seconds, Stage, Text, Value};
use serde::{Deserialize, Serialize};

/// An event of the vocabulary, for generated documentation.
#[derive(Debug, Clone, Copy)]
pub struct EventKind {
    /// The value of `event` in a record.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Its fields in the order of a record.
    pub fields: &'static [EventField],
}

/// A field of an event.
#[derive(Debug, Clone, Copy)]
pub struct EventField {
    /// Its key in a record.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Its type.
    pub value: Value,
}

macro_rules! vocabulary {
    ($(
        #[doc = $doc:literal]
        $variant:ident = $name:literal { $(#[doc = $field_doc:literal] $field:ident: $type:ty,)* }
    )+) => {
        /// An event.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "event")]
        pub enum Event {
            $(
                #[doc = $doc]
                #[serde(rename = $name)]
                $variant { $(#[doc = $field_doc] $field: $type,)* },
            )+
        }

        /// All events, in the order of the documentation.
        pub const VOCABULARY: &[EventKind] = &[$(
            EventKind {
                name: $name,
                doc: $doc,
                fields: &[$(
                    EventField { name: stringify!($field), doc: $field_doc, value: <$type as FieldType>::VALUE },
                )*],
            },
        )+];

        impl Event {
            /// An example of each event, in the order of [`VOCABULARY`].
            #[must_use]
            pub fn examples() -> Vec<Self> {
                vec![$(Self::$variant { $($field: FieldType::example(),)* },)+]
            }
        }
    };
}

vocabulary! {
    /// The first line of a log.
    Log = "log" {
        /// The format of all lines: 1.
        format: u64,
        /// The version of the program that writes it.
        version: Text,
    }
    /// A boot begins.
    Boot = "boot" {
        /// The version of the program.
        version: Text,
        /// The version of the running kernel.
        kernel: Text,
        /// The machine's memory, in bytes.
        memory: u64,
    }
    /// A stage begins.
    StageBegin = "stage-begin" {
        /// Which one.
        stage: Stage,
    }
    /// A stage has ended.
    StageEnd = "stage-end" {
        /// Which one.
        stage: Stage,
        /// How.
        outcome: Outcome,
        /// How long it took.
        seconds: Seconds,
    }
    /// A job begins: its images are next.
    JobBegin = "job-begin" {
        /// Its ID in the workflow.
        job: Text,
        /// Its name, if it has one.
        name: Option<Text>,
    }
    /// A job's services are there, and its own container has been started.
    JobStarted = "job-started" {
        /// Its ID in the workflow.
        job: Text,
    }
    /// A job has ended. One that was skipped has not begun.
    JobEnd = "job-end" {
        /// Its ID in the workflow.
        job: Text,
        /// How.
        outcome: Outcome,
        /// How long its container ran, if it succeeded.
        seconds: Option<Seconds>,
        /// Why it failed or was skipped.
        why: Option<Text>,
    }
    /// A step of a job begins.
    StepBegin = "step-begin" {
        /// The job's ID.
        job: Text,
        /// The number of the step; the first one is 1.
        step: u64,
        /// The number, and what the workflow calls the step.
        title: Text,
    }
    /// A step of a job has ended. One that was skipped has not begun.
    StepEnd = "step-end" {
        /// The job's ID.
        job: Text,
        /// The number of the step; the first one is 1.
        step: u64,
        /// The number, and what the workflow calls the step.
        title: Text,
        /// How.
        outcome: Outcome,
        /// How long it took; nothing when it was skipped.
        seconds: Option<Seconds>,
        /// Why it failed.
        why: Option<Text>,
    }
    /// A pull begins.
    PullBegin = "pull-begin" {
        /// The reference of the image.
        image: Text,
    }
    /// It is known what a pull will bring.
    PullResolved = "pull-resolved" {
        /// The reference of the image.
        image: Text,
        /// Where it comes from, if not from the registry of its name.
        place: Option<Text>,
        /// The digest of its manifest.
        digest: Text,
        /// How many layers it has.
        layers: u64,
        /// Their bytes, compressed.
        bytes: u64,
        /// Their bytes, unpacked.
        unpacked: u64,
        /// Whether `unpacked` is known, and not estimated.
        exact: bool,
    }
    /// A pull goes on.
    PullProgress = "pull-progress" {
        /// The reference of the image.
        image: Text,
        /// Bytes that are here, compressed.
        done: u64,
        /// Bytes in all, compressed.
        bytes: u64,
        /// How long it has taken so far.
        seconds: Seconds,
    }
    /// A pull has ended.
    PullEnd = "pull-end" {
        /// The reference of the image.
        image: Text,
        /// How.
        outcome: Outcome,
        /// How long it took.
        seconds: Seconds,
    }
    /// A line that a container wrote.
    Output = "output" {
        /// The service that wrote it; nothing for the progress files, which all containers share.
        service: Option<Text>,
        /// Whether the line is one of the last ones of a service that failed.
        failed: bool,
        /// The line.
        text: Text,
    }
    /// Something may be wrong.
    Warning = "warning" {
        /// What.
        text: Text,
    }
    /// Something failed.
    Failure = "failure" {
        /// In which stage.
        stage: Stage,
        /// Of which job, if it was one.
        job: Option<Text>,
        /// What failed.
        error: Text,
        /// Why, the nearest cause first.
        causes: Vec<Text>,
        /// What to do.
        hint: Option<Text>,
    }
    /// Something is waited for.
    Waiting = "waiting" {
        /// For what.
        text: Text,
        /// How long already.
        seconds: Seconds,
        /// How long at most.
        limit: Seconds,
    }
    /// How much memory was needed.
    Memory = "memory" {
        /// The most bytes that were in use.
        peak: u64,
        /// Bytes in all.
        total: u64,
    }
    /// An interface has got an address.
    Network = "network" {
        /// The name of the interface.
        interface: Text,
        /// Its address, and what came with it.
        address: Text,
        /// Who gave it.
        from: Text,
        /// How long that took, if it was asked for.
        seconds: Option<Seconds>,
    }
    /// It is decided how the machine goes on.
    Decided = "decided" {
        /// How.
        decision: Decision,
        /// In words, with the reason.
        text: Text,
    }
    /// Anything else.
    Message = "message" {
        /// Who needs to see it.
        level: Level,
        /// The message.
        text: Text,
    }
    /// The middle of the log was cut out here, since it was full.
    Lost = "lost" {
        /// Bytes that were cut out.
        bytes: u64,
    }
}
