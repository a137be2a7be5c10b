//! What services write: each has a log, and a failure is reported with its last lines, as events `output`.

use crate::report::Report;
use anyhow::Context as _;
use events::{Event, Text};
use exchange::ServiceLog;
use runtime::Stdio;

/// Lines of a failed service's output that are shown.
const LINES_SHOWN: usize = 10;

/// The output of one service.
pub(super) struct ServiceOutput {
    service: String,
    log: ServiceLog,
    /// For `rd.iguana.debug`: all of it is reported and kept.
    is_shown: bool,
}

impl ServiceOutput {
    /// An empty log of this name in `/iguana`.
    pub(super) fn create(service: &str, file: &str, is_shown: bool) -> anyhow::Result<Self> {
        let log = ServiceLog::create(file);
        let log = log.with_context(|| format!("cannot create the log of the service `{service}`"))?;
        Ok(Self { service: service.into(), log, is_shown })
    }

    /// The standard output of a program of the service.
    pub(super) fn stdio(&self) -> anyhow::Result<Stdio> {
        Ok(Stdio::Log(self.log.writer()?.into()))
    }

    /// Reports the last lines of a service that has failed.
    pub(super) fn report_last_lines(&self, report: &Report) {
        let written = self.log.end();
        let lines: Vec<&str> = written.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
            report.tell(self.event(line, true));
        }
    }

    /// Reports the lines of a service that has stopped, if they are wanted.
    pub(super) fn report_if_shown(&self, report: &Report) {
        if self.is_shown {
            self.log.end().lines().for_each(|line| report.tell(self.event(line, false)));
        }
    }

    /// Removes the log, except that of a failed service, of which only the last lines were shown.
    pub(super) fn clean_up(&self, has_failed: bool) {
        if !has_failed && !self.is_shown {
            self.log.remove();
        }
    }

    fn event(&self, line: &str, failed: bool) -> Event {
        let service = Some(Text::of(format_args!("service {}", self.service)));
        Event::Output { service, failed, text: Text::of(line) }
    }
}
