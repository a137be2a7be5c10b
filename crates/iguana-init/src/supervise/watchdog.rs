//! The machine's watchdog: a device that restarts the machine unless it is fed (linux/watchdog.h). PID 1 feeds it
//! during the boot, and at the end leaves it running or stops it by the rule in docs/handover.md.

use crate::report::Report;
use config::cmdline::Watchdog as Setting;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The first watchdog of the machine.
const DEVICE: &str = "/dev/watchdog";
/// `1` if the kernel never stops a watchdog once started (Documentation/ABI/testing/sysfs-class-watchdog).
const NO_WAY_OUT: &str = "/sys/class/watchdog/watchdog0/nowayout";
/// Written before closing, this stops the watchdog (watchdog-api.rst, "Magic Close feature").
const STOP: &[u8] = b"V";
/// Any other byte feeds it.
const FEED: &[u8] = b"\0";
/// How often it is fed, and searched for. The minimum of `rd.iguana.watchdog=` is ten times as long.
const FEED_INTERVAL: Duration = Duration::from_secs(1);

/// What happens after the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Another system starts, which may not feed the watchdog.
    System,
    /// The kernel restarts the machine.
    Restart,
    /// The machine stays off or halted.
    Rest,
}

/// The watchdog as PID 1 uses it.
pub(crate) struct Watchdog {
    setting: Setting,
    path: PathBuf,
    device: Option<File>,
    last: Option<Instant>,
}

impl Watchdog {
    /// Does not start the watchdog; the first [`Watchdog::feed`] does.
    pub(crate) fn new(setting: Setting) -> Self {
        Self { setting, path: DEVICE.into(), device: None, last: None }
    }

    /// A watchdog that another program manages: systemd in dracut's initrd.
    pub(crate) fn of_others() -> Self {
        Self::new(Setting { seconds: None, is_handed_over: false })
    }

    /// Feeds the watchdog. Starts it first, as soon as its driver is loaded.
    pub(crate) fn feed(&mut self, report: &Report) {
        if self.setting.seconds.is_none() || self.last.is_some_and(|last| last.elapsed() < FEED_INTERVAL) {
            return;
        }
        self.last = Some(Instant::now());
        match &mut self.device {
            // If feeding fails, the watchdog restarts the machine, and there is nothing better to do.
            Some(device) => drop(device.write_all(FEED)),
            None => self.start(report),
        }
    }

    fn start(&mut self, report: &Report) {
        let Some(seconds) = self.setting.seconds else { return };
        match OpenOptions::new().write(true).open(&self.path) {
            Ok(device) => {
                let taken = sys::set_watchdog_timeout(&device, seconds);
                let time = taken.map_or_else(|_| "its default time".into(), |taken| format!("{taken} s"));
                report.say(format_args!("watchdog: restarts the machine if Iguana hangs for {time}"));
                self.device = Some(device);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                report.warn(format_args!("watchdog: cannot use `{}`: {error}", self.path.display()));
                self.setting.seconds = None;
            }
        }
    }

    /// Stops the watchdog or leaves it running, as the next system needs it, and reports that.
    pub(crate) fn leave(&mut self, after: After, report: &Report) {
        let Some(mut device) = self.device.take() else { return };
        self.setting.seconds = None;
        let stays = match after {
            After::System => self.setting.is_handed_over,
            After::Restart => true,
            After::Rest => false,
        };
        if stays {
            let _ = device.write_all(FEED);
            if after == After::System {
                report.say("watchdog: still active: the new system must feed it");
            }
            return;
        }
        let cannot = std::fs::read_to_string(NO_WAY_OUT).is_ok_and(|text| text.trim() == "1");
        match device.write_all(STOP) {
            Ok(()) if !cannot => report.detail("watchdog: stopped"),
            _ => report.warn("watchdog: cannot be stopped: the new system must feed it"),
        }
    }

    #[cfg(test)]
    fn at(path: &std::path::Path, setting: Setting) -> Self {
        Self { path: path.into(), ..Self::new(setting) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Level;

    const ON: Setting = Setting { seconds: Some(60), is_handed_over: false };

    /// The bytes written to a device from the first feed to the end.
    fn told(setting: Setting, after: After) -> Vec<u8> {
        let report = Report::to_caller(Level::Error);
        let device = tempfile::NamedTempFile::new().unwrap();
        let mut watchdog = Watchdog::at(device.path(), setting);
        for _ in 0..3 {
            watchdog.feed(&report);
            watchdog.last = None;
        }
        watchdog.leave(after, &report);
        watchdog.feed(&report);
        std::fs::read(device.path()).unwrap()
    }

    #[test]
    fn the_watchdog_is_stopped_or_left_running_as_configured() {
        assert_eq!(told(ON, After::System), b"\0\0V");
        assert_eq!(told(Setting { is_handed_over: true, ..ON }, After::System), b"\0\0\0");
        assert_eq!(told(ON, After::Restart), b"\0\0\0");
        assert_eq!(told(ON, After::Rest), b"\0\0V");
        assert_eq!(told(Setting { seconds: None, ..ON }, After::System), b"");
    }

    #[test]
    fn the_watchdog_is_fed_at_its_interval_and_may_appear_late() {
        let report = Report::to_caller(Level::Error);
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("watchdog");
        let mut watchdog = Watchdog::at(&path, ON);
        watchdog.feed(&report);
        assert!(watchdog.device.is_none());
        std::fs::write(&path, "").unwrap();
        watchdog.last = None;
        (0..1000).for_each(|_| watchdog.feed(&report));
        watchdog.last = None;
        (0..1000).for_each(|_| watchdog.feed(&report));
        assert_eq!(std::fs::read(&path).unwrap(), b"\0");
    }
}
