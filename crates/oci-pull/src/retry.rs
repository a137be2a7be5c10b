//! Trying again: what may pass is waited out, told, and bounded.

use super::pull::PullEvent;
use fetch::http;
use hint::WithHint as _;
use std::cell::RefCell;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often one thing is asked for: the first time, and four times more after 1, 2, 4 and 8 s.
const TRIES: u32 = 5;
/// Before the second try; each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A server that wants to be left alone for longer than this is given up: a person must look at it. As
/// in containers/image.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After this time nothing is tried again: a server that takes long to fail each time is not asked five times.
pub(super) const TOTAL: Duration = http::DOCUMENT_TIME_LIMIT;
/// How soon a wait ends when the pull has failed elsewhere.
const LOOK_UP_EVERY: Duration = Duration::from_millis(100);

/// Why something was not had, and whether it may be had later.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: anyhow::Error,
    pub(super) may_pass: bool,
    /// Whether the server has no such thing.
    pub(super) is_absent: bool,
    /// What the server says (`Retry-After`).
    pub(super) not_before: Option<Duration>,
}

impl Failure {
    pub(super) fn for_good(error: anyhow::Error) -> Self {
        Self { error, may_pass: false, is_absent: false, not_before: None }
    }

    /// What is not there, and will not be.
    pub(super) fn absent(error: anyhow::Error) -> Self {
        Self { is_absent: true, ..Self::for_good(error) }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { may_pass: http::may_pass(&error), error, is_absent: false, not_before: None }
    }
}

/// Whoever wants the image: is told of every wait, and may have lost interest.
pub(super) struct PullObserver<'a> {
    pub(super) tell: &'a dyn Fn(PullEvent),
    pub(super) is_cancelled: &'a AtomicBool,
}

/// How much failure is put up with.
pub(super) struct RetryPolicy {
    tries: u32,
    tried: u32,
    wait: Duration,
    /// When nothing is tried again any more.
    until: Instant,
}

impl RetryPolicy {
    /// For the only one who has something.
    pub(super) fn usual() -> Self {
        Self { tries: TRIES, tried: 0, wait: FIRST_WAIT, until: Instant::now() + TOTAL }
    }

    /// For one of several.
    pub(super) fn none() -> Self {
        Self { tries: 1, ..Self::usual() }
    }

    /// Tries until it succeeds, cannot succeed, or was tried often enough.
    pub(super) fn until_done<T>(
        mut self,
        observer: &PullObserver<'_>,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> anyhow::Result<T> {
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(failure) => self.wait_out(failure, observer)?,
            }
        }
    }

    /// Waits before the next try, or says that there is none.
    pub(super) fn wait_out(&mut self, failure: Failure, observer: &PullObserver<'_>) -> anyhow::Result<()> {
        self.tried += 1;
        if !failure.may_pass || self.tried >= self.tries {
            return Err(failure.error);
        }
        if let Some(wanted) = failure.not_before.filter(|wanted| *wanted > LONGEST_WAIT) {
            let hint = format!(
                "it wants to be asked again in {} s, longer than the {} s that are waited for: \
                 try later, log in, or use a mirror",
                wanted.as_secs(),
                LONGEST_WAIT.as_secs()
            );
            return Err(failure.error.context("the registry puts us off")).hint(hint);
        }
        let wait = failure.not_before.unwrap_or_default().max(apart(self.wait));
        if Instant::now() + wait >= self.until {
            let message =
                format!("given up after {} of {} tries, in {} s", self.tried, self.tries, TOTAL.as_secs());
            return Err(failure.error.context(message));
        }
        self.wait *= 2;
        let (tried, tries) = (self.tried, self.tries);
        (observer.tell)(PullEvent::Waiting { why: format!("{:#}", failure.error), wait, tried, tries });
        if observer.sits_out(wait) { Ok(()) } else { Err(failure.error) }
    }
}

impl PullObserver<'_> {
    /// Does something for one who is told by `watch` and stays to the end.
    pub(super) fn staying<T>(
        watch: &mut dyn FnMut(PullEvent),
        act: impl FnOnce(&PullObserver<'_>) -> T,
    ) -> T {
        let watch = RefCell::new(watch);
        let tell = |event| (watch.borrow_mut())(event);
        act(&PullObserver { tell: &tell, is_cancelled: &AtomicBool::new(false) })
    }

    /// Waits; false when nobody waits any more.
    fn sits_out(&self, wait: Duration) -> bool {
        let end = Instant::now() + wait;
        while !self.is_cancelled.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(LOOK_UP_EVERY));
        }
        false
    }
}

/// Between three quarters of the time and all of it, so that a thousand machines do not come back at once.
fn apart(wait: Duration) -> Duration {
    let chance = RandomState::new().hash_one(()) % 1024;
    wait * 3 / 4 + wait / 4 * u32::try_from(chance).unwrap_or_default() / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn failure(not_before: u64) -> Failure {
        let not_before = Some(Duration::from_millis(not_before));
        Failure { error: anyhow::anyhow!("out of order"), may_pass: true, is_absent: false, not_before }
    }

    fn tried(
        retry: RetryPolicy,
        attempt: impl Fn(usize) -> Result<(), Failure>,
    ) -> (anyhow::Result<()>, usize, usize) {
        let told = RefCell::new(0);
        let mut tries = 0;
        let tell = |_| *told.borrow_mut() += 1;
        let observer = PullObserver { tell: &tell, is_cancelled: &AtomicBool::new(false) };
        let quick = RetryPolicy { wait: Duration::from_millis(1), ..retry };
        let outcome = quick.until_done(&observer, || {
            tries += 1;
            attempt(tries)
        });
        let told = *told.borrow();
        (outcome, tries, told)
    }

    #[test]
    fn what_passes_is_waited_out_and_told() {
        let third = |tries| if tries < 3 { Err(failure(1)) } else { Ok(()) };
        let (outcome, tries, told) = tried(RetryPolicy::usual(), third);
        assert!(outcome.is_ok());
        assert_eq!((tries, told), (3, 2));
    }

    #[test]
    fn tries_end() {
        let (outcome, tries, told) = tried(RetryPolicy::usual(), |_| Err(failure(1)));
        assert_eq!(outcome.unwrap_err().to_string(), "out of order");
        assert_eq!((tries, told), (TRIES as usize, TRIES as usize - 1));
        let (_, tries, _) = tried(RetryPolicy::none(), |_| Err(failure(1)));
        assert_eq!(tries, 1);
        let for_good = |_| Err(Failure::for_good(anyhow::anyhow!("no such image")));
        assert_eq!(tried(RetryPolicy::usual(), for_good).1, 1);
    }

    #[test]
    fn who_puts_us_off_for_long_is_given_up() {
        let (outcome, tries, _) = tried(RetryPolicy::usual(), |_| Err(failure(61_000)));
        let error = outcome.unwrap_err();
        assert!(hint::of(&error).unwrap().contains("61 s"), "{error:#}");
        assert!(format!("{error:#}").contains("out of order"));
        assert_eq!(tries, 1);
    }

    #[test]
    fn nothing_is_tried_again_after_the_total() {
        for (left, tries_made, told) in
            [(TOTAL, 5, "out of order"), (Duration::ZERO, 1, "given up after 1 of 5 tries")]
        {
            let retry = RetryPolicy {
                until: Instant::now() + left,
                wait: Duration::from_millis(1),
                ..RetryPolicy::usual()
            };
            let (outcome, tries, _) = tried(retry, |_| Err(failure(0)));
            let error = format!("{:#}", outcome.unwrap_err());
            assert!(tries == tries_made && error.contains(told), "{tries}: {error}");
        }
    }

    #[test]
    fn nobody_waits_for_a_pull_that_has_failed() {
        let observer = PullObserver { tell: &|_| (), is_cancelled: &AtomicBool::new(true) };
        let start = Instant::now();
        assert!(RetryPolicy::usual().until_done(&observer, || Err::<(), _>(failure(30_000))).is_err());
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn waits_are_never_longer_than_said() {
        for _ in 0..100 {
            let wait = apart(Duration::from_secs(8));
            assert!((Duration::from_secs(6)..=Duration::from_secs(8)).contains(&wait), "{wait:?}");
        }
    }
}
