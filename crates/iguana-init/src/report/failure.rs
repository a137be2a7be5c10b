//! A failure with everything that its reader needs.

pub(crate) use events::Stage;
use events::{Event, Text};
use std::fmt;

/// What failed, and where.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) job: Option<String>,
    pub(crate) error: anyhow::Error,
    /// The last lines that the job wrote.
    pub(crate) output: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#}", self.error)
    }
}

/// Adds the stage in which an error occurred.
pub(crate) trait At<T> {
    /// The result, with the stage added to its error.
    fn at(self, stage: Stage) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> At<T> for Result<T, E> {
    fn at(self, stage: Stage) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(stage, error))
    }
}

impl Failure {
    /// A failure outside of a job.
    pub(crate) fn new(stage: Stage, error: impl Into<anyhow::Error>) -> Self {
        Self { stage, job: None, error: error.into(), output: Vec::new() }
    }

    /// The same failure, with the last lines that the job wrote.
    pub(crate) fn with_output(self, output: Vec<String>) -> Self {
        Self { output, ..self }
    }

    /// The same failure, attributed to a job.
    pub(crate) fn of_job(self, job: &str) -> Self {
        let error = self.error.context(format!("the job `{job}` failed"));
        Self { job: Some(job.into()), error, ..self }
    }

    /// The failure as an event.
    pub(super) fn event(&self) -> Event {
        let mut chain = self.error.chain().map(Text::of);
        Event::Failure {
            stage: self.stage,
            job: self.job.as_ref().map(Text::of),
            error: chain.next().unwrap_or_else(|| Text::of("")),
            causes: chain.collect(),
            hint: hint::of(&self.error).map(Text::of),
            output: self.output.iter().map(Text::of).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event_text;
    use super::*;
    use anyhow::Context as _;
    use hint::WithHint as _;

    #[test]
    fn a_report_says_what_failed_why_where_and_what_to_do() {
        let failure = Err::<(), _>(anyhow::anyhow!("connection refused"))
            .hint("start the server")
            .context("cannot fetch `http://x`")
            .at(Stage::Image)
            .unwrap_err()
            .with_output(vec!["a line of the job".into()])
            .of_job("one");
        let lines = event_text::lines(&failure.event(), Some("/run/iguana/log"));
        assert_eq!(
            lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>(),
            [
                "error: the job `one` failed",
                "  why: cannot fetch `http://x`",
                "  why: connection refused",
                "  stage: image, job one",
                "  hint: start the server",
                "  last lines of the job:",
                "  | a line of the job",
                "  log: /run/iguana/log",
            ]
        );
    }
}
