//! What became of the workflow: read from the events that the virtual machine sends.

use super::path_of;
use crate::output;
use anyhow::{Context, Result};
use events::{Event, Outcome as Ended, Record, Seconds};
use hint::hinted;
use serde::Serialize;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};

/// The events of a virtual machine, received in a file without a name.
#[derive(Debug)]
pub(super) struct Events(File);

/// What became of a workflow, as `--output json` prints it.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Outcome {
    /// The first failure that was not allowed; none if the workflow succeeded.
    pub(super) failure: Option<Failure>,
    /// How the machine went on, in the words of its console; nothing if it ended before.
    pub(super) decision: Option<String>,
    /// The jobs that ended or were skipped, in order.
    jobs: Vec<Job>,
    /// From the start of the kernel to the last event.
    seconds: Option<Seconds>,
}

/// A failure, as its block on the console has it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Failure {
    stage: events::Stage,
    job: Option<String>,
    error: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// The last lines that the job wrote.
    output: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Job {
    id: String,
    outcome: Ended,
    seconds: Option<Seconds>,
    why: Option<String>,
}

impl Events {
    /// # Errors
    /// When no temporary file can be made.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(tempfile::tempfile().context("cannot make a temporary file")?))
    }

    /// QEMU's arguments for the port from which they come.
    pub(super) fn arguments(&self) -> [OsString; 6] {
        let mut file = OsString::from("file,id=events,path=");
        file.push(path_of(&self.0));
        let port = format!("virtserialport,chardev=events,name={}", events::PORT);
        ["-device".into(), "virtio-serial-pci".into(), "-chardev".into(), file, "-device".into(), port.into()]
    }

    /// What they tell, after the machine has ended.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is no event.
    pub(super) fn outcome(mut self) -> Result<Outcome> {
        self.0.rewind().context("cannot read the events of the virtual machine")?;
        Outcome::of(BufReader::new(self.0))
    }
}

impl Outcome {
    fn of(lines: impl BufRead) -> Result<Self> {
        let mut outcome = Self::default();
        for line in lines.lines() {
            let line = line.context("cannot read the events of the virtual machine")?;
            // Its last line may be cut off; one of another version may hold events that are not known here.
            if let Ok(record) = serde_json::from_str::<Record>(&line) {
                outcome.add(record);
            }
        }
        Ok(outcome)
    }

    fn add(&mut self, record: Record) {
        self.seconds = Some(record.uptime);
        match record.event {
            Event::JobEnd { job, outcome, seconds, why } => {
                let why = why.map(|why| why.to_string());
                self.jobs.push(Job { id: job.to_string(), outcome, seconds, why });
            }
            Event::Failure { stage, job, error, causes, hint, output } if self.failure.is_none() => {
                let all = |texts: Vec<events::Text>| texts.iter().map(ToString::to_string).collect();
                self.failure = Some(Failure {
                    stage,
                    job: job.map(|job| job.to_string()),
                    error: error.to_string(),
                    causes: all(causes),
                    hint: hint.map(|hint| hint.to_string()),
                    output: all(output),
                });
            }
            Event::Decided { text, .. } => self.decision = Some(text.to_string()),
            _ => {}
        }
    }

    /// Whether the workflow succeeded, and the machine was handed over.
    pub(super) fn is_success(&self) -> bool {
        self.failure.is_none() && self.decision.is_some()
    }

    /// Prints it as JSON.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn print(&self) -> Result<()> {
        output::write(std::io::stdout(), &(serde_json::to_string_pretty(self)? + "\n"))
    }

    /// # Errors
    /// When the machine ended before its workflow: nobody knows whether that works.
    pub(super) fn check_end(&self) -> Result<()> {
        if self.failure.is_some() || self.decision.is_some() {
            return Ok(());
        }
        Err(hinted(
            "the virtual machine ended before its workflow did",
            "its console says why: a panic of the kernel, say, or Ctrl-A X",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{Decision, Stage, Text};
    use std::time::UNIX_EPOCH;

    fn outcome(events: &[Event]) -> Outcome {
        let line = |event: &Event| Record::new(2.0, UNIX_EPOCH, event.clone()).line().unwrap();
        let lines: String = events.iter().map(line).collect();
        Outcome::of((lines + "{\"uptime\":3.0,\"ev").as_bytes()).unwrap()
    }

    fn decided(decision: Decision) -> Event {
        Event::Decided { decision, text: Text::of("handover: power off") }
    }

    #[test]
    fn a_workflow_succeeds_if_the_machine_is_handed_over_without_a_failure() {
        let ended = |outcome, why: Option<&str>| Event::JobEnd {
            job: Text::of("one"),
            outcome,
            seconds: None,
            why: why.map(Text::of),
        };
        let good = outcome(&[ended(Ended::Success, None), decided(Decision::PowerOff)]);
        assert!(good.is_success() && good.check_end().is_ok());
        let failure = Event::Failure {
            stage: Stage::Job,
            job: Some(Text::of("one")),
            error: Text::of("the job `one` failed"),
            causes: vec![Text::of("exit status 3")],
            hint: None,
            output: vec![Text::of("its last line")],
        };
        let bad =
            outcome(&[ended(Ended::Failure, Some("exit status 3")), failure, decided(Decision::PowerOff)]);
        assert!(!bad.is_success() && bad.check_end().is_ok());
        let json = serde_json::to_value(&bad).unwrap();
        assert_eq!(json["jobs"][0]["outcome"], "failure");
        assert_eq!(json["failure"]["causes"][0], "exit status 3");
        assert_eq!(json["failure"]["output"][0], "its last line");
        let cut_short = outcome(&[ended(Ended::Success, None)]);
        assert!(!cut_short.is_success());
        assert!(cut_short.check_end().unwrap_err().to_string().contains("ended before its workflow"));
    }
}
