//! What became of the workflow: read from the events that the virtual machine sends.
//!
//! A guest may send anything. Its events are read while it runs, so that neither a file nor memory collects them, and
//! only the parts of the outcome are kept, up to [`LIMIT`].

use crate::open_path;
use crate::output;
use anyhow::{Context, Result, anyhow};
use events::{Event, Outcome as Ended, Record, Seconds};
use format_version::Format;
use hint::hinted;
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, PipeWriter, Read as _};
use std::thread::{self, JoinHandle};

/// Bytes of one event, and of the ended jobs together; the log of events has as many (docs/limits.md). The longest
/// event is a failure with 20 lines of output, each of 16 KiB at most.
const LIMIT: usize = 4 << 20;

/// The format of the events. The virtual machine may have been built by another release.
const FORMAT: Format = Format { document: "the log of the virtual machine", newest: events::FORMAT };

/// The events of a virtual machine, which are read while it runs.
#[derive(Debug)]
pub(super) struct Events {
    port: PipeWriter,
    outcome: JoinHandle<Result<Outcome>>,
}

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
    /// When no pipe or thread can be made.
    pub(super) fn receive() -> Result<Self> {
        let (reader, port) = io::pipe().context("cannot make a pipe")?;
        let read = move || Outcome::of(BufReader::new(reader));
        let outcome = thread::Builder::new().name("events".into()).spawn(read);
        Ok(Self { port, outcome: outcome.context("cannot start a thread")? })
    }

    /// QEMU's arguments for the port from which they come.
    pub(super) fn arguments(&self) -> [OsString; 6] {
        let mut file = OsString::from("file,id=events,path=");
        file.push(open_path::of(&self.port));
        let port = format!("virtserialport,chardev=events,name={}", events::PORT);
        ["-device".into(), "virtio-serial-pci".into(), "-chardev".into(), file, "-device".into(), port.into()]
    }

    /// What they tell, after the machine has ended.
    ///
    /// # Errors
    /// When they cannot be read, exceed a limit, or have a newer format than this program reads.
    pub(super) fn outcome(self) -> Result<Outcome> {
        // The pipe ends when nobody can write to it.
        drop(self.port);
        self.outcome
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread that reads them panicked")))
            .context("cannot read the events of the virtual machine")
    }
}

impl Outcome {
    fn of(mut events: impl BufRead) -> Result<Self> {
        let (mut outcome, mut line, mut jobs) = (Self::default(), Vec::new(), 0);
        while events.by_ref().take(LIMIT as u64).read_until(b'\n', &mut line)? > 0 {
            if let Some(Err(error)) = events::stated_format(&line).map(|format| FORMAT.check(format)) {
                return drained(&mut events, error);
            }
            // The last line may be cut off; a machine of another release may send events that are not known here.
            let record = serde_json::from_slice::<Record>(&line).ok();
            if record.as_ref().is_some_and(|record| matches!(record.event, Event::JobEnd { .. })) {
                jobs += line.len();
            }
            if jobs > LIMIT || (line.len() == LIMIT && !line.ends_with(b"\n")) {
                let excess = if jobs > LIMIT { "the ended jobs have" } else { "one event has" };
                return drained(&mut events, too_long(excess));
            }
            record.into_iter().for_each(|record| outcome.add(record));
            line.clear();
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
        output::write_json(io::stdout(), self)
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

fn too_long(what: &str) -> anyhow::Error {
    hinted(
        format!("{what} more than {LIMIT} bytes"),
        "no workflow has so much to tell: a container or the kernel of the virtual machine wrote to the port of the events",
    )
}

/// The error, once the events have ended. The machine goes on: its console shows more than these events.
fn drained(events: &mut impl BufRead, error: anyhow::Error) -> Result<Outcome> {
    io::copy(events, &mut io::sink())?;
    Err(error)
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

    fn read(events: impl io::Read) -> Result<Outcome> {
        Outcome::of(BufReader::new(events))
    }

    #[test]
    fn an_endless_event_line_is_refused_at_the_limit() {
        let mut endless = io::repeat(b'x').take(16 * LIMIT as u64);
        let error = read(&mut endless).unwrap_err().to_string();
        assert_eq!(error, format!("one event has more than {LIMIT} bytes"));
        assert_eq!(endless.limit(), 0, "a pipe that nobody reads would stop the machine");
    }

    #[test]
    fn ended_jobs_are_refused_beyond_the_limit() {
        let id = "x".repeat(LIMIT / 8);
        let ended = format!(
            "{{\"uptime\":1.0,\"time\":\"\",\"event\":\"job-end\",\"job\":\"{id}\",\"outcome\":\"success\",\"seconds\":null,\"why\":null}}\n"
        );
        assert_eq!(read(ended.repeat(7).as_bytes()).unwrap().jobs.len(), 7);
        let error = read(ended.repeat(8).as_bytes()).unwrap_err().to_string();
        assert_eq!(error, format!("the ended jobs have more than {LIMIT} bytes"));
    }

    /// In a newer format a failure may have another name: without one, the workflow would count as successful.
    #[test]
    fn a_log_in_a_newer_format_is_refused_by_its_version() {
        let decided = Record::new(2.0, UNIX_EPOCH, decided(Decision::PowerOff)).line().unwrap();
        let log = format!("{{\"uptime\": \"0\", \"event\": \"log\", \"format\": 2}}\n{decided}");
        let error = read(log.as_bytes()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("the log of the virtual machine needs version `2` of its format"), "{text}");
        assert!(hint::of(&error).unwrap().contains("a newer release of Iguana"));
        assert!(read(log.replace("\"format\": 2", "\"format\": 1").as_bytes()).unwrap().is_success());
    }

    #[test]
    fn bytes_that_are_not_events_are_skipped() {
        let decided = Record::new(2.0, UNIX_EPOCH, decided(Decision::PowerOff)).line().unwrap();
        let sent = [b"\xff\n".as_slice(), b"\0{\n", decided.as_bytes(), b"\xfe"].concat();
        assert!(read(sent.as_slice()).unwrap().is_success());
    }

    #[test]
    fn events_are_read_while_they_are_written() {
        let events = Events::receive().unwrap();
        let port = events.arguments().into_iter().find_map(|argument| {
            argument.to_str()?.strip_prefix("file,id=events,path=").map(ToOwned::to_owned)
        });
        let mut guest = std::fs::OpenOptions::new().write(true).open(port.unwrap()).unwrap();
        let other = vec![b'\n'; 1 << 20];
        io::Write::write_all(&mut guest, &other).unwrap();
        let decided = Record::new(2.0, UNIX_EPOCH, decided(Decision::PowerOff)).line().unwrap();
        io::Write::write_all(&mut guest, decided.as_bytes()).unwrap();
        drop(guest);
        assert!(events.outcome().unwrap().is_success());
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
