//! What the programs of a job write: the log has it, and a failure is reported with its last lines.

use super::commands::Commands;
use crate::report::Report;
use events::{Event, Text};
use printable::Secrets;
use runtime::Shown;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a job's lines in the log, which holds 4 MiB; the lines of a usual installation are 50 KiB.
const LOG_LIMIT: usize = 256 << 10;
/// Lines that a failure is reported with: what fits on a screen of 24 lines.
const LAST: usize = 20;

/// Lines of all summaries of a job that are shown: a few screens.
const SUMMARY_LIMIT: usize = 100;

/// The output of one job. Clones share it.
#[derive(Clone)]
pub(super) struct JobOutput {
    job: String,
    report: Report,
    secrets: Secrets,
    lines: Arc<Mutex<Lines>>,
    commands: Arc<Commands>,
}

/// Whose secrets a job adds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hides {
    /// Those of the whole boot.
    Everywhere,
    /// Its own: a container with fewer rights must not make the messages of others unreadable.
    OwnOutput,
}

#[derive(Default)]
struct Lines {
    /// Bytes that the log has.
    logged: usize,
    last: VecDeque<String>,
    /// Lines of summaries that were shown.
    summarized: usize,
}

impl JobOutput {
    pub(super) fn new(job: &str, report: &Report, hides: Hides) -> Self {
        let secrets = match hides {
            Hides::Everywhere => report.secrets(),
            Hides::OwnOutput => report.secrets().separate(),
        };
        let commands = Arc::new(Commands::new(job, report, secrets.clone()));
        Self { job: job.into(), report: report.clone(), secrets, lines: Arc::default(), commands }
    }

    /// Adds a line.
    pub(super) fn add(&self, line: &str) {
        let mut lines = self.lines();
        if lines.last.len() == LAST {
            lines.last.pop_front();
        }
        lines.last.push_back(line.into());
        let before = lines.logged;
        lines.logged = before.saturating_add(exchange::log_cost(line));
        match (before <= LOG_LIMIT, lines.logged <= LOG_LIMIT) {
            (true, true) => self.tell(line),
            (true, false) => self.tell("… (the log takes no more lines of this job)"),
            (false, _) => {}
        }
    }

    /// Carries out a workflow command, and returns what is shown in its place.
    pub(super) fn carry_out(&self, line: &str) -> Shown {
        self.commands.carry_out(line)
    }

    /// The values that are not shown in its output.
    pub(super) fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    /// Shows what a program wrote as a summary.
    pub(super) fn show_summary(&self, summary: &str) {
        for line in self.secrets.hide(summary).lines() {
            let shown = {
                let mut lines = self.lines();
                lines.summarized += 1;
                lines.summarized
            };
            match shown {
                1..=SUMMARY_LIMIT => self.report.say(format_args!("job {}: summary: {line}", self.job)),
                _ => {
                    let message = "summary: more lines than are shown";
                    return self.report.say(format_args!("job {}: {message} ({SUMMARY_LIMIT})", self.job));
                }
            }
        }
    }

    /// Its last lines, without empty ones at the beginning and the end.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let lines = self.lines();
        let is_blank = |line: &&String| line.trim().is_empty();
        let mut last: Vec<String> = lines.last.iter().skip_while(is_blank).cloned().collect();
        while last.last().as_ref().is_some_and(is_blank) {
            last.pop();
        }
        last
    }

    fn tell(&self, line: &str) {
        self.report.tell(Event::JobOutput { job: Text::of(&self.job), text: Text::of(line) });
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // A panic leaves one line out at most.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_the_first_lines_and_a_failure_the_last_ones() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let output = JobOutput::new("install", &Report::to_log(log.path()), Hides::Everywhere);
        output.add("the first one");
        (0..20_000).for_each(|number| output.add(&format!("line {number} of many others that say nothing")));
        output.add("");
        let last = output.last_lines();
        assert_eq!(last.len(), LAST - 1);
        assert!(last[0].starts_with("line 19981 ") && last[LAST - 2].starts_with("line 19999 "));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut log, &mut text).unwrap();
        assert!(text.contains("iguana: job install: | the first one\n"), "{}", &text[..200]);
        assert_eq!(text.matches("the log takes no more").count(), 1);
        assert!(text.len() < 4 * LOG_LIMIT, "{}", text.len());
    }

    #[test]
    fn a_job_with_fewer_rights_hides_values_only_in_its_own_output() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let report = Report::to_log(log.path());
        report.secrets().add("s3cret");
        let output = JobOutput::new("unprivileged", &report, Hides::OwnOutput);
        output.carry_out("::add-mask::e");
        assert_eq!(output.secrets().hide("the s3cret"), "th*** ***");
        report.warn("the disk is broken, s3cret");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut log, &mut text).unwrap();
        assert!(text.contains("the disk is broken, ***"), "{text}");
    }

    #[test]
    fn a_summary_is_shown_up_to_a_limit() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let output = JobOutput::new("install", &Report::to_log(log.path()), Hides::Everywhere);
        output.show_summary("# Installed\n");
        output.show_summary(&"line\n".repeat(10_000));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut log, &mut text).unwrap();
        assert!(text.contains("iguana: job install: summary: # Installed\n"), "{text}");
        assert_eq!((text.lines().count(), text.matches("more lines").count()), (SUMMARY_LIMIT + 1, 1));
    }

    #[test]
    fn many_empty_lines_fill_no_log() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let output = JobOutput::new("install", &Report::to_log(log.path()), Hides::Everywhere);
        (0..20_000).for_each(|_| output.add(""));
        (0..20_000).for_each(|_| output.add("\"\\\u{200b}"));
        assert!(log.as_file().metadata().unwrap().len() < LOG_LIMIT as u64);
    }
}
