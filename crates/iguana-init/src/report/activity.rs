//! Whether the boot goes on: what it says is the sign of it.
//!
//! Nothing waits in silence, so who says nothing for long is stuck: in a system call that does not come back, or by a
//! mistake of ours. A timer alone would not notice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing may be said while nothing is waited for with a longer limit. The longest silent work is one system
/// call on a slow disk: the replay of a journal by a mount, the last data before an unmount.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(600);

/// What is known about it. Copies are of the same.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

struct State {
    /// Until then nothing needs to be said.
    quiet_until: Instant,
    /// How many run that have no limit.
    attended: usize,
}

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { quiet_until: Instant::now() + SILENCE_LIMIT, attended: 0 })))
    }
}

impl Activity {
    /// Something has happened.
    pub(super) fn note(&self) {
        self.expect_within(Duration::ZERO);
    }

    /// Something is waited for that has this limit.
    pub(super) fn expect_within(&self, limit: Duration) {
        // A limit of years is that of somebody who wants none.
        let until = Instant::now().checked_add(limit).and_then(|end| end.checked_add(SILENCE_LIMIT));
        let mut state = self.state();
        state.quiet_until = until.map_or(state.quiet_until, |until| state.quiet_until.max(until));
    }

    pub(super) fn attend(&self) -> Attended {
        self.state().attended += 1;
        Attended(self.clone())
    }

    pub(super) fn is_recent(&self) -> bool {
        let state = self.state();
        state.attended > 0 || Instant::now() < state.quiet_until
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something runs that may take as long as it likes: a job's program, while it does not say anything either.
pub(crate) struct Attended(Activity);

impl Drop for Attended {
    fn drop(&mut self) {
        self.0.state().attended -= 1;
        self.0.note();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent_for(activity: &Activity, time: Duration) {
        activity.state().quiet_until -= time;
    }

    #[test]
    fn who_says_nothing_is_stuck_unless_a_limit_or_a_job_is_known() {
        let activity = Activity::default();
        assert!(activity.is_recent());
        silent_for(&activity, SILENCE_LIMIT);
        assert!(!activity.is_recent());
        activity.note();
        assert!(activity.is_recent());
        activity.expect_within(Duration::from_secs(5));
        silent_for(&activity, SILENCE_LIMIT);
        assert!(activity.is_recent(), "the limit has not passed yet");
        silent_for(&activity, Duration::from_secs(5));
        assert!(!activity.is_recent());
        let attended = activity.attend();
        assert!(activity.is_recent());
        drop(attended);
        silent_for(&activity, SILENCE_LIMIT);
        assert!(!activity.is_recent());
        activity.expect_within(Duration::MAX);
        assert!(!activity.is_recent(), "no end is no limit");
    }
}
