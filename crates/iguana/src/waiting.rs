//! Tells the user that a wait goes on.

use crate::output;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often a wait is told.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Tells the wait and its duration until it is dropped.
pub(crate) struct Waiting {
    _end: Sender<()>,
}

impl Waiting {
    /// Starts to tell the wait for `what` (`tool:1: waiting for the registry`), which takes at most `limit`.
    pub(crate) fn start(what: String, limit: Duration) -> Self {
        let limit = limit.as_secs();
        Self::tell(move |seconds| output::note(format_args!("{what}, {seconds} s of {limit} s")))
    }

    /// Starts to tell work whose limit is not a time.
    pub(crate) fn for_work(what: String) -> Self {
        Self::tell(move |seconds| output::note(format_args!("{what}, {seconds} s")))
    }

    fn tell(told: impl Fn(u64) + Send + 'static) -> Self {
        let (end, ended) = channel::<()>();
        let start = Instant::now();
        thread::spawn(move || {
            while ended.recv_timeout(REPORT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                told(start.elapsed().as_secs());
            }
        });
        Self { _end: end }
    }
}
