//! Retries as the table of the crate `retry` says. Pauses are reported, and end when the pull is cancelled.

use super::pull::PullEvent;
use ::retry::Attempts;
pub(super) use ::retry::Failure;
use fetch::http::{DOCUMENT_TIME_LIMIT, Deadline};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How soon a pause ends when the pull has failed elsewhere.
pub(super) const LOOK_UP_INTERVAL: Duration = Duration::from_millis(100);

/// The receiver of a pull's events, which can also cancel it.
pub(super) struct PullObserver<'a> {
    pub(super) tell: &'a dyn Fn(PullEvent),
    pub(super) is_cancelled: &'a AtomicBool,
}

/// The remaining attempts at one operation.
pub(super) struct RetryPolicy(Attempts);

impl RetryPolicy {
    /// For the only source of something.
    pub(super) fn usual() -> Self {
        Self(Attempts::usual())
    }

    /// For one of several sources.
    pub(super) fn none() -> Self {
        Self(Attempts::once())
    }

    /// Makes attempts until one succeeds, the failure is permanent, or a limit is reached. Each attempt gets its
    /// deadline.
    pub(super) fn until_done<T>(
        mut self,
        observer: &PullObserver<'_>,
        mut attempt: impl FnMut(Deadline) -> Result<T, Failure>,
    ) -> anyhow::Result<T> {
        loop {
            let limit = self.0.left().min(DOCUMENT_TIME_LIMIT);
            (observer.tell)(PullEvent::Asking { limit });
            match attempt(Deadline::within(limit)) {
                Ok(done) => return Ok(done),
                Err(failure) => self.wait_out(failure, observer)?,
            }
        }
    }

    /// Waits before the next attempt, or returns the failure if there is none.
    pub(super) fn wait_out(&mut self, failure: Failure, observer: &PullObserver<'_>) -> anyhow::Result<()> {
        let pause = self.0.pause(failure)?;
        let (wait, tried, tries) = (pause.wait, pause.tried, pause.tries);
        (observer.tell)(PullEvent::Waiting { why: format!("{:#}", pause.why), wait, tried, tries });
        if observer.wait_unless_cancelled(wait) { Ok(()) } else { Err(pause.why) }
    }
}

impl PullObserver<'_> {
    /// Runs an operation with `watch` as its observer, without cancellation.
    pub(super) fn staying<T>(
        watch: &mut dyn FnMut(PullEvent),
        act: impl FnOnce(&PullObserver<'_>) -> T,
    ) -> T {
        let watch = RefCell::new(watch);
        let tell = |event| (watch.borrow_mut())(event);
        act(&PullObserver { tell: &tell, is_cancelled: &AtomicBool::new(false) })
    }

    /// Waits; `false` when the pull was cancelled meanwhile.
    fn wait_unless_cancelled(&self, wait: Duration) -> bool {
        let end = Instant::now() + wait;
        while !self.is_cancelled.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(LOOK_UP_INTERVAL));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn transient_failures_are_retried_and_reported() {
        let told = RefCell::new(Vec::new());
        let tell = |event| told.borrow_mut().push(event);
        let observer = PullObserver { tell: &tell, is_cancelled: &AtomicBool::new(false) };
        let mut tries = 0;
        let outcome = RetryPolicy::usual().until_done(&observer, |deadline| {
            tries += 1;
            assert!(deadline.left() > DOCUMENT_TIME_LIMIT - Duration::from_secs(9));
            if tries < 2 { Err(Failure::unreachable(anyhow::anyhow!("out of order"))) } else { Ok(()) }
        });
        assert!(outcome.is_ok());
        let told = told.into_inner();
        assert!(matches!(&told[0], PullEvent::Asking { limit } if limit.as_secs() >= 299), "{told:?}");
        assert!(
            matches!(&told[1], PullEvent::Waiting { why, tried: 1, tries: 5, .. } if why == "out of order"),
            "{told:?}"
        );
        assert_eq!((tries, told.len()), (2, 3));
    }

    #[test]
    fn a_failed_pull_is_not_waited_for() {
        let observer = PullObserver { tell: &|_| (), is_cancelled: &AtomicBool::new(true) };
        let start = Instant::now();
        let busy = || {
            let error = anyhow::anyhow!("busy");
            Failure { not_before: Some(Duration::from_secs(30)), ..Failure::unreachable(error) }
        };
        assert!(RetryPolicy::usual().until_done(&observer, |_| Err::<(), _>(busy())).is_err());
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
