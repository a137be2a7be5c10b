//! A failure with all that its reader needs.

use std::fmt;

/// Where in the boot something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Boot,
    Trust,
    Modules,
    Devices,
    Network,
    Clock,
    ControlFile,
    Workflow,
    Image,
    Service,
    Job,
    Handover,
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Boot => "boot",
            Self::Trust => "trust",
            Self::Modules => "kernel modules",
            Self::Devices => "devices",
            Self::Network => "network",
            Self::Clock => "clock",
            Self::ControlFile => "control file",
            Self::Workflow => "workflow",
            Self::Image => "image",
            Self::Service => "service",
            Self::Job => "job",
            Self::Handover => "handover",
        })
    }
}

/// What failed, and where.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) job: Option<String>,
    pub(crate) error: anyhow::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#}", self.error)
    }
}

/// Says where a result came from.
pub(crate) trait At<T> {
    /// The result, its error with the stage.
    fn at(self, stage: Stage) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> At<T> for Result<T, E> {
    fn at(self, stage: Stage) -> Result<T, Failure> {
        self.map_err(|error| Failure { stage, job: None, error: error.into() })
    }
}

impl Failure {
    /// The same failure, of a job.
    pub(crate) fn of_job(self, job: &str) -> Self {
        let error = self.error.context(format!("the job `{job}` failed"));
        Self { job: Some(job.into()), error, ..self }
    }

    /// The block that the person at the machine reads.
    pub(super) fn lines(&self, log: Option<&str>) -> Vec<String> {
        let mut chain = self.error.chain().map(ToString::to_string);
        let mut lines = vec![format!("error: {}", chain.next().unwrap_or_default())];
        lines.extend(chain.map(|cause| format!("  why: {cause}")));
        lines.push(match &self.job {
            Some(job) => format!("  stage: {}, job {job}", self.stage),
            None => format!("  stage: {}", self.stage),
        });
        lines.extend(hint::of(&self.error).map(|hint| format!("  hint: {hint}")));
        lines.extend(log.map(|log| format!("  log: {log}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use hint::WithHint as _;

    #[test]
    fn a_block_has_what_why_where_and_what_to_do() {
        let failure = Err::<(), _>(anyhow::anyhow!("connection refused"))
            .hint("start the server")
            .context("cannot get `http://x`")
            .at(Stage::Image)
            .unwrap_err()
            .of_job("one");
        assert_eq!(
            failure.lines(Some("/run/iguana/log")),
            [
                "error: the job `one` failed",
                "  why: cannot get `http://x`",
                "  why: connection refused",
                "  stage: image, job one",
                "  hint: start the server",
                "  log: /run/iguana/log",
            ]
        );
    }
}
