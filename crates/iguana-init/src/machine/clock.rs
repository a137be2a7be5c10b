//! Corrects a clock that is behind: machines without a battery start in 1970, before any certificate is valid.

use crate::report::Report;
use anyhow::Context as _;
use rustix::time::{ClockId, Timespec, clock_settime};
use std::time::SystemTime;
use timestamp::Timestamp;

/// The state of the clock before it was corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// It is not before the date of the initrd.
    Plausible,
    /// It is before the date of the initrd: the battery is empty or missing.
    Behind,
}

impl Clock {
    /// Compares the clock with a time that is certainly in the past.
    pub(crate) fn read(earliest: SystemTime) -> Self {
        if SystemTime::now() >= earliest { Self::Plausible } else { Self::Behind }
    }

    /// The time; `None` if the clock is wrong.
    pub(crate) fn now(self) -> Option<Timestamp> {
        (self == Self::Plausible).then(|| Timestamp::of(SystemTime::now()))
    }
}

/// Sets the clock forward to `earliest` if it is behind. Returns its state before.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn set_not_before(earliest: SystemTime, report: &Report) -> anyhow::Result<Clock> {
    let clock = Clock::read(earliest);
    if clock == Clock::Plausible {
        return Ok(clock);
    }
    let since_1970 = earliest.duration_since(SystemTime::UNIX_EPOCH)?;
    let time = Timespec { tv_sec: since_1970.as_secs().try_into()?, tv_nsec: 0 };
    clock_settime(ClockId::Realtime, time).context("cannot set the clock")?;
    report.say("clock: it was earlier than the build of this initrd; set it to that date");
    Ok(clock)
}
