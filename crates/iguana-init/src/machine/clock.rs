//! A clock that is not absurd: machines without a battery start in 1970, before every certificate.

use crate::report::Report;
use anyhow::Context as _;
use rustix::time::{ClockId, Timespec, clock_settime};
use std::time::SystemTime;
use timestamp::Timestamp;

/// What the clock said before anybody helped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Nothing speaks against it.
    Plausible,
    /// A time before the initrd was built. Its battery is empty, or it has none.
    Behind,
}

impl Clock {
    /// Compares the clock with a time that is over.
    pub(crate) fn read(earliest: SystemTime) -> Self {
        if SystemTime::now() >= earliest { Self::Plausible } else { Self::Behind }
    }

    /// The time, if it is known.
    pub(crate) fn now(self) -> Option<Timestamp> {
        (self == Self::Plausible).then(|| Timestamp::of(SystemTime::now()))
    }
}

/// Sets the clock forward to `earliest` if it is behind; what it was before.
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
    report.say("clock: it was before the build of this initrd and is set to that date");
    Ok(clock)
}
