//! The kernel's log, `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg in the kernel's sources): what is in it survives
//! in pstore when the kernel dies, and netconsole sends it away.
//!
//! The kernel shows a message on all of its consoles if the message's level is below the console's level. So that
//! nobody reads a line twice, lines have the lowest level, `debug`, which no console shows by default. Where a
//! netconsole is registered, they have their own levels instead, and the kernel shows them everywhere in our place.

use crate::report::Level;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

const DEVICE: &str = "/dev/kmsg";
/// Which messages of programs the kernel takes; by default it drops all beyond ten in five seconds
/// (Documentation/admin-guide/sysctl/kernel.rst, `printk_devkmsg`). systemd changes it in the same way.
const RATE: &str = "/proc/sys/kernel/printk_devkmsg";
/// Its first number is the level of the consoles (`printk` in the same document).
const CONSOLE_LEVEL: &str = "/proc/sys/kernel/printk";
/// `Y` if the kernel shows all messages whatever their level (`ignore_loglevel` on the command line).
const IGNORES_LEVEL: &str = "/sys/module/printk/parameters/ignore_loglevel";
/// All consoles, also those that are no terminals (proc(5)). netconsoles are `netcon0` and `netcon_ext0`.
const CONSOLES: &str = "/proc/consoles";
const NETCONSOLE: &str = "netcon";
/// The facility `user` of syslog (RFC 5424, 6.2.1), which the kernel's own messages never have.
const FACILITY: u8 = 1;
/// The level `debug` of syslog.
const DEBUG: u8 = 7;
/// Bytes of a line. The kernel refuses records of 1024 bytes (LOG_LINE_MAX in kernel/printk/printk.c of Linux 6.1),
/// which include our prefix.
const LINE_LIMIT: usize = 960;

/// The kernel's log, open for writing.
pub(super) struct KernelLog {
    device: File,
}

impl KernelLog {
    /// Opens the log, if there is one, and makes the kernel take every line.
    pub(super) fn open() -> Option<Self> {
        // Fails if the command line sets it (`printk.devkmsg=`), which takes precedence.
        let _ = fs::write(RATE, "on\n");
        let device = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE).ok()?;
        Some(Self { device })
    }

    /// Adds a line. Returns whether the kernel shows it on the consoles.
    pub(super) fn add(&mut self, line: &str, level: Level) -> bool {
        let (severity, is_shown) = severity(&read(CONSOLES), &read(CONSOLE_LEVEL), level);
        let is_shown = is_shown || read(IGNORES_LEVEL).starts_with('Y');
        let is_added = self.device.write_all(record(severity, line).as_bytes()).is_ok();
        is_added && is_shown
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(path)).unwrap_or_default()
}

/// The level of a line in the kernel's log, and whether the kernel shows it on the consoles.
fn severity(consoles: &str, printk: &str, level: Level) -> (u8, bool) {
    let shown_below: u8 = printk.split_whitespace().next().and_then(|level| level.parse().ok()).unwrap_or(0);
    let has_netconsole = consoles.lines().any(|line| line.starts_with(NETCONSOLE));
    let own = match level {
        Level::Error | Level::Off => 3,
        Level::Warn => 4,
        Level::Info => 5,
        Level::Debug | Level::LogOnly => DEBUG,
    };
    let severity = if has_netconsole { own } else { DEBUG };
    (severity, severity < shown_below)
}

/// A record: the priority, which is facility and level in one number, and the text.
fn record(severity: u8, line: &str) -> String {
    let text = &line[..line.floor_char_boundary(LINE_LIMIT)];
    let cut = if text.len() < line.len() { "…" } else { "" };
    format!("<{}>iguana: {text}{cut}\n", FACILITY << 3 | severity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIAL: &str = "ttyS0                -W- (EC p a)    4:64\n";
    const WITH_NETWORK: &str =
        "ttyS0                -W- (EC p a)    4:64\nnetcon0              -W- (E     )\n";

    #[test]
    fn the_kernel_prints_a_line_only_when_we_cannot() {
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug];
        let of = |consoles, printk| levels.map(|level| severity(consoles, printk, level));
        let hidden = [(7, false); 4];
        assert_eq!(of(SERIAL, "7\t4\t1\t7\n"), hidden);
        assert_eq!(of(SERIAL, "4\t4\t1\t7\n"), hidden);
        assert_eq!(of("", ""), hidden);
        // `debug` on the command line: the kernel shows everything.
        assert_eq!(of(SERIAL, "10\t4\t1\t7\n"), [(7, true); 4]);
        assert_eq!(of(WITH_NETWORK, "7\t4\t1\t7\n"), [(3, true), (4, true), (5, true), (7, false)]);
        // `quiet`: what the kernel does not show, we do.
        assert_eq!(of(WITH_NETWORK, "4\t4\t1\t7\n"), [(3, true), (4, false), (5, false), (7, false)]);
    }

    #[test]
    fn a_record_has_its_priority_and_a_length_that_the_kernel_takes() {
        assert_eq!(record(7, "ready"), "<15>iguana: ready\n");
        let long = record(3, &"ä".repeat(4000));
        assert!(long.starts_with("<11>iguana: ä") && long.ends_with("ä…\n") && long.len() < 1000);
    }
}
