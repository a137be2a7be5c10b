//! Attempts at one operation: counted, spaced out, and limited by the table of retries.

use crate::failure::{Failure, FailureKind};
use crate::table::{DAMAGED, NEXT_LOCATION, OVERLOADED, Schedule, UNREACHABLE, some_of};
use std::time::{Duration, Instant};

/// The pause before the next attempt.
#[derive(Debug)]
pub struct Pause {
    /// Why the last attempt failed.
    pub why: anyhow::Error,
    /// The length of the pause.
    pub wait: Duration,
    /// The number of attempts so far.
    pub tried: u32,
    /// The maximum number of attempts.
    pub tries: u32,
}

/// The attempts at one document, or at one layer from one location.
#[derive(Debug)]
pub struct Attempts {
    start: Instant,
    /// The longest total limit of the rows that the failures so far belong to.
    total: Duration,
    /// The number of failures of each kind: unreachable, overloaded, damaged.
    tried: [u32; 3],
    /// Whether the first failure ends the attempts, because another location is tried instead.
    is_once: bool,
}

impl Attempts {
    /// For the only location of something.
    #[must_use]
    pub fn usual() -> Self {
        Self { start: Instant::now(), total: UNREACHABLE.total, tried: [0; 3], is_once: false }
    }

    /// For one of several locations.
    #[must_use]
    pub fn once() -> Self {
        Self { is_once: true, total: NEXT_LOCATION.total, ..Self::usual() }
    }

    /// The time that is left for the next attempt.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.total.saturating_sub(self.start.elapsed())
    }

    /// Returns the pause before the next attempt.
    ///
    /// # Errors
    /// The failure itself, when it is permanent or a limit is reached.
    pub fn pause(&mut self, failure: Failure) -> anyhow::Result<Pause> {
        let (schedule, met): (Schedule, _) = match failure.kind {
            FailureKind::Permanent => return Err(failure.error),
            FailureKind::Unreachable => (UNREACHABLE, &mut self.tried[0]),
            FailureKind::Overloaded => (OVERLOADED, &mut self.tried[1]),
            FailureKind::Damaged => (DAMAGED, &mut self.tried[2]),
        };
        if self.is_once {
            return Err(failure.error);
        }
        *met += 1;
        let (tried, tries) = (*met, schedule.tries.unwrap_or(u32::MAX));
        self.total = self.total.max(schedule.total);
        if tried >= tries {
            return Err(failure.error.context(self.given_up()));
        }
        let (pause, left) = (schedule.pause(tried), self.left());
        let wait = match failure.not_before {
            Some(wanted) if wanted >= left => return Err(self.deferred(failure.error, wanted, left)),
            // A server may send all of its clients the same `Retry-After`: jitter keeps them from coming back all at
            // once.
            Some(wanted) => (wanted + some_of(wanted / 4)).max(pause).min(left),
            None if pause >= left => return Err(failure.error.context(self.given_up())),
            None => pause,
        };
        Ok(Pause { why: failure.error, wait, tried, tries })
    }

    fn given_up(&self) -> String {
        let tried: u32 = self.tried.iter().sum();
        let plural = if tried == 1 { "" } else { "s" };
        let (elapsed, total) = (self.start.elapsed().as_secs(), self.total.as_secs());
        format!("gave up after {tried} attempt{plural} in {elapsed} s of {total} s")
    }

    fn deferred(&self, error: anyhow::Error, wanted: Duration, left: Duration) -> anyhow::Error {
        let (wanted, left, total) = (wanted.as_secs(), left.as_secs(), self.total.as_secs());
        let message = format!(
            "the server asks to retry after {wanted} s, but only {left} s of the total {total} s are left"
        );
        hint::attach(error.context(message), "try later, log in, or use a mirror")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind, not_before: Option<u64>) -> Failure {
        let not_before = not_before.map(Duration::from_secs);
        Failure { not_before, ..Failure::new(kind, anyhow::anyhow!("out of order")) }
    }

    /// The number of attempts when every one fails with `kind`, and the final message.
    fn tried(kind: FailureKind) -> (u32, String) {
        let mut attempts = Attempts::usual();
        loop {
            if let Err(error) = attempts.pause(failure(kind, None)) {
                return (attempts.tried.iter().sum(), format!("{error:#}"));
            }
        }
    }

    #[test]
    fn each_kind_of_failure_is_retried_as_its_row_says() {
        let said = |tries, total| {
            (tries, format!("gave up after {tries} attempts in 0 s of {total} s: out of order"))
        };
        assert_eq!(tried(FailureKind::Unreachable), said(5, 300));
        assert_eq!(tried(FailureKind::Overloaded), said(10, 600));
        assert_eq!(tried(FailureKind::Damaged), said(3, 1800));
        assert_eq!(tried(FailureKind::Permanent), (0, "out of order".into()));
        assert!(Attempts::once().pause(failure(FailureKind::Unreachable, None)).is_err());
    }

    #[test]
    fn a_refusal_between_two_answers_does_not_reset_the_attempts() {
        let mut attempts = Attempts::usual();
        for _ in 0..4 {
            attempts.pause(failure(FailureKind::Overloaded, None)).unwrap();
            assert_eq!(attempts.left().as_secs(), 599);
        }
        assert_eq!(attempts.pause(failure(FailureKind::Unreachable, None)).unwrap().tried, 1);
    }

    #[test]
    fn nothing_is_tried_again_after_the_total() {
        let start = Instant::now().checked_sub(Duration::from_secs(299)).unwrap();
        let mut attempts = Attempts { start, tried: [3, 0, 0], ..Attempts::usual() };
        assert!(attempts.left() <= Duration::from_secs(1));
        let error = attempts.pause(failure(FailureKind::Unreachable, None)).unwrap_err();
        assert!(format!("{error:#}").starts_with("gave up after 4 attempts in 299 s of 300 s"), "{error:#}");
    }

    #[test]
    fn retry_after_is_respected_within_the_total_limit() {
        for wanted in [1, 61, 500, 599] {
            let pause = Attempts::usual().pause(failure(FailureKind::Overloaded, Some(wanted))).unwrap();
            let wanted = Duration::from_secs(wanted);
            assert!(pause.wait >= wanted && pause.wait <= OVERLOADED.total, "{:?}", pause.wait);
            assert!(pause.wait <= (wanted + wanted / 4).max(OVERLOADED.first_pause), "{:?}", pause.wait);
        }
        assert!(Attempts::usual().pause(failure(FailureKind::Overloaded, Some(u64::MAX))).is_err());
        let error = Attempts::usual().pause(failure(FailureKind::Overloaded, Some(601))).unwrap_err();
        assert!(
            format!("{error:#}").contains("retry after 601 s, but only 599 s of the total 600 s"),
            "{error:#}"
        );
        assert!(format!("{error:#}").ends_with("out of order"), "{error:#}");
        assert!(hint::of(&error).is_some());
    }
}
