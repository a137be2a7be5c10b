//! The stages of a boot.

use super::{At as _, Failure, Report, Stage};
use events::{Event, Outcome};
use std::time::Instant;

impl Report {
    /// Runs a stage, and reports its begin and its end with the outcome.
    ///
    /// # Errors
    /// That of `work`, with the stage added.
    pub(crate) fn stage<T, E: Into<anyhow::Error>>(
        &self,
        stage: Stage,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Failure> {
        self.during(stage, work).at(stage)
    }

    /// The same for work whose errors have a stage already.
    ///
    /// # Errors
    /// That of `work`.
    pub(crate) fn during<T, E>(&self, stage: Stage, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.tell(Event::StageBegin { stage });
        let start = Instant::now();
        let done = work();
        let outcome = if done.is_ok() { Outcome::Success } else { Outcome::Failure };
        self.tell(Event::StageEnd { stage, outcome, seconds: start.elapsed().into() });
        done
    }
}
