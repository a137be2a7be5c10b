//! A clock that is not absurd: machines without a battery start in 1970, before every certificate.

use crate::report::Report;
use anyhow::Context as _;
use rustix::time::{ClockId, Timespec, clock_settime};
use std::time::SystemTime;

/// Sets the clock forward to `earliest` if it is behind.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn set_not_before(earliest: SystemTime, report: &Report) -> anyhow::Result<()> {
    if SystemTime::now() >= earliest {
        return Ok(());
    }
    let since_1970 = earliest.duration_since(SystemTime::UNIX_EPOCH)?;
    let time = Timespec { tv_sec: since_1970.as_secs().try_into()?, tv_nsec: 0 };
    clock_settime(ClockId::Realtime, time).context("cannot set the clock")?;
    report.say("clock: it was before the build of this initrd and is set to that date");
    Ok(())
}
