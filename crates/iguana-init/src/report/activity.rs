//! Detects a boot that is stuck, by the absence of reported events.
//!
//! Every wait reports regularly, so a worker that reports nothing for long is stuck: in a system call that does not
//! return, or because of a bug. A thread that only sends a heartbeat would not notice that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest time without a report while no wait with a longer limit is in progress. The longest silent operation is
/// one system call on a slow disk: the journal replay of a mount, or the writeback of an unmount.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(600);

/// The observed activity. Clones share the state.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

struct State {
    /// Silence is allowed until then.
    quiet_until: Instant,
    /// The number of running operations without a limit.
    attended: usize,
}

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { quiet_until: Instant::now() + SILENCE_LIMIT, attended: 0 })))
    }
}

impl Activity {
    /// Records an event.
    pub(super) fn note(&self) {
        self.expect_within(Duration::ZERO);
    }

    /// Records a wait with this limit.
    pub(super) fn expect_within(&self, limit: Duration) {
        // A limit of years overflows; it means that there is no limit.
        let until = Instant::now().checked_add(limit).and_then(|end| end.checked_add(SILENCE_LIMIT));
        let mut state = self.state();
        state.quiet_until = until.map_or(state.quiet_until, |until| state.quiet_until.max(until));
    }

    pub(super) fn begin_silent_operation(&self) -> SilentOperation {
        self.state().attended += 1;
        SilentOperation(self.clone())
    }

    pub(super) fn is_recent(&self) -> bool {
        let state = self.state();
        state.attended > 0 || Instant::now() < state.quiet_until
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic leaves no partial change, so the state stays valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation without a limit that may stay silent, such as a job's program; ends on drop.
pub(crate) struct SilentOperation(Activity);

impl Drop for SilentOperation {
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
    fn silence_means_stuck_unless_a_wait_or_a_job_is_known() {
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
        let attended = activity.begin_silent_operation();
        assert!(activity.is_recent());
        drop(attended);
        silent_for(&activity, SILENCE_LIMIT);
        assert!(!activity.is_recent());
        activity.expect_within(Duration::MAX);
        assert!(!activity.is_recent(), "no end is no limit");
    }
}
