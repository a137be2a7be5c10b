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
    /// The boot has begun.
    Boot = "boot" {
        /// The version of the program.
        version: Text,
        /// The version of the running kernel.
        kernel: Text,
        /// The machine's memory, in bytes.
        memory: u64,
    }
    /// A stage has begun.
    StageBegin = "stage-begin" {
        /// The stage.
        stage: Stage,
    }
    /// A stage has ended.
    StageEnd = "stage-end" {
        /// The stage.
        stage: Stage,
        /// The outcome.
        outcome: Outcome,
        /// How long it took.
        seconds: Seconds,
    }
    /// A job has begun; pulling its images follows.
    JobBegin = "job-begin" {
        /// Its ID in the workflow.
        job: Text,
        /// Its name, if it has one.
        name: Option<Text>,
    }
    /// A job's services are ready, and its container has started.
    JobStarted = "job-started" {
        /// Its ID in the workflow.
        job: Text,
    }
    /// A job has ended, or was skipped without beginning.
    JobEnd = "job-end" {
        /// Its ID in the workflow.
        job: Text,
        /// The outcome.
        outcome: Outcome,
        /// How long its container ran, if it succeeded.
        seconds: Option<Seconds>,
        /// Why it failed or was skipped.
        why: Option<Text>,
    }
    /// A step has begun.
    StepBegin = "step-begin" {
        /// The job's ID.
        job: Text,
        /// The number of the step, counted from 1.
        step: u64,
        /// The number and name of the step.
        title: Text,
    }
    /// A step has ended, or was skipped without beginning.
    StepEnd = "step-end" {
        /// The job's ID.
        job: Text,
        /// The number of the step, counted from 1.
        step: u64,
        /// The number and name of the step.
        title: Text,
        /// The outcome.
        outcome: Outcome,
        /// How long it took; `null` if it was skipped.
        seconds: Option<Seconds>,
        /// Why it failed.
        why: Option<Text>,
    }
    /// A pull has begun.
    PullBegin = "pull-begin" {
        /// The reference of the image.
        image: Text,
    }
    /// The manifest of an image has been read and approved.
    PullResolved = "pull-resolved" {
        /// The reference of the image.
        image: Text,
        /// The mirror or file that it comes from, if not the registry in its name.
        place: Option<Text>,
        /// The digest of its manifest.
        digest: Text,
        /// The number of layers.
        layers: u64,
        /// The size of the layers in bytes, compressed.
        bytes: u64,
        /// The size of the layers in bytes, unpacked.
        unpacked: u64,
        /// Whether `unpacked` is exact rather than estimated.
        exact: bool,
    }
    /// The progress of a pull.
    PullProgress = "pull-progress" {
        /// The reference of the image.
        image: Text,
        /// Bytes received, compressed.
        done: u64,
        /// Total bytes, compressed.
        bytes: u64,
        /// The time since it began.
        seconds: Seconds,
    }
    /// A pull has ended.
    PullEnd = "pull-end" {
        /// The reference of the image.
        image: Text,
        /// The outcome.
        outcome: Outcome,
        /// How long it took.
        seconds: Seconds,
    }
    /// A line that a container wrote.
    Output = "output" {
        /// The service that wrote it; `null` for the progress files, which all containers share.
        service: Option<Text>,
        /// Whether it is one of the last lines of a failed service.
        failed: bool,
        /// The line.
        text: Text,
    }
    /// A line that a program of a job wrote to the terminal or the console. A job may write 256 KiB to the log.
    JobOutput = "job-output" {
        /// The job's ID.
        job: Text,
        /// The line.
        text: Text,
    }
    /// A warning.
    Warning = "warning" {
        /// The warning.
        text: Text,
    }
    /// Something failed.
    Failure = "failure" {
        /// The stage in which it failed.
        stage: Stage,
        /// The job, if one failed.
        job: Option<Text>,
        /// What failed.
        error: Text,
        /// The causes, the nearest one first.
        causes: Vec<Text>,
        /// What to do about it.
        hint: Option<Text>,
        /// The last lines that the job wrote, at most 20.
        output: Vec<Text>,
    }
    /// Iguana is waiting for something.
    Waiting = "waiting" {
        /// What it is waiting for.
        text: Text,
        /// How long it has waited so far.
        seconds: Seconds,
        /// How long it waits at most.
        limit: Seconds,
    }
    /// The memory usage of the boot.
    Memory = "memory" {
        /// The peak usage in bytes.
        peak: u64,
        /// The machine's memory in bytes.
        total: u64,
    }
    /// An interface has been assigned an address.
    Network = "network" {
        /// The name of the interface.
        interface: Text,
        /// Its address with the prefix length.
        address: Text,
        /// The source of the address: a DHCP server, or `ip=`.
        from: Text,
        /// How long it took, if it was requested from a server.
        seconds: Option<Seconds>,
    }
    /// The next action has been decided: switch root, kexec, reboot, power off or another.
    Decided = "decided" {
        /// The decision.
        decision: Decision,
        /// The decision in words, with the reason.
        text: Text,
    }
    /// Any other message.
    Message = "message" {
        /// The severity.
        level: Level,
        /// The message.
        text: Text,
    }
    /// The log was full, and its middle was removed here.
    Lost = "lost" {
        /// The number of bytes removed.
        bytes: u64,
    }
}
