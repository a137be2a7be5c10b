//! Waits are reported regularly.

use super::Report;
use events::{Event, Text};
use std::fmt::Display;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often the current wait is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);

/// Reports the wait and its duration until it is dropped.
pub(crate) struct Waiting {
    _end: Sender<()>,
}

impl Waiting {
    /// Starts reporting the wait for `what` (`network: waiting for a carrier on eth0`), which takes at most `limit`.
    pub(crate) fn start(report: &Report, what: String, limit: Duration) -> Self {
        let (end, ended) = channel::<()>();
        report.activity.expect_within(limit);
        let report = report.clone();
        let start = Instant::now();
        thread::spawn(move || {
            while ended.recv_timeout(REPORT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                report.remind(waiting(&what, start.elapsed(), limit));
            }
        });
        Self { _end: end }
    }
}

/// The event of a wait that continues, in whole seconds, which is precise enough.
pub(crate) fn waiting(what: impl Display, waited: Duration, limit: Duration) -> Event {
    let whole = |time: Duration| Duration::from_secs(time.as_secs()).into();
    Event::Waiting { text: Text::of(what), seconds: whole(waited), limit: whole(limit) }
}
