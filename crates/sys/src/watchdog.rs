//! The machine's watchdog (Documentation/watchdog/watchdog-api.rst).

use super::check;
use rustix::fd::{AsFd, AsRawFd as _};
use std::ffi::c_int;
use std::io;

/// linux/watchdog.h, `WDIOC_SETTIMEOUT`: `_IOWR('W', 6, int)`.
const WDIOC_SETTIMEOUT: libc::Ioctl = 0xC004_5706_u32 as libc::Ioctl;

/// Has the watchdog reset the machine when it is not fed for `seconds`. Returns the timeout that the device has set,
/// which may differ.
///
/// # Errors
/// When the device does not support the setting.
pub fn set_watchdog_timeout(device: impl AsFd, seconds: u16) -> io::Result<u16> {
    let mut seconds = c_int::from(seconds);
    // SAFETY: the kernel reads and writes one number, which is alive.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut seconds) })?;
    u16::try_from(seconds).map_err(io::Error::other)
}
