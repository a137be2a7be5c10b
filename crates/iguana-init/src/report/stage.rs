//! The stages of a boot, from their beginning to their end.

use super::{At as _, Failure, Report, Stage};
use events::{Event, Outcome};
use std::time::Instant;

impl Report {
    /// Does a stage, and tells when it begins, and when and how it ends.
    ///
    /// # Errors
    /// Its own, with the stage.
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
    /// Its own.
    pub(crate) fn during<T, E>(&self, stage: Stage, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.tell(Event::StageBegin { stage });
        let start = Instant::now();
        let done = work();
        let outcome = if done.is_ok() { Outcome::Success } else { Outcome::Failure };
        self.tell(Event::StageEnd { stage, outcome, seconds: start.elapsed().into() });
        done
    }
}
