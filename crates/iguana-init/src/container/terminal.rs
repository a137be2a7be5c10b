//! The terminal of the person at the machine.

use crate::sys::{self, Identity, Session};
use anyhow::Context as _;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// The consoles of the kernel, the main one last (Documentation/ABI/testing/sysfs-tty).
const ACTIVE: &str = "/sys/class/tty/console/active";

/// How long a terminal may take to send what was written to it: 4 KiB at 9600 Bd. One that a person has
/// stopped with Ctrl-S must not stop the machine.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A terminal, and how it was set when it was found.
pub(crate) struct Terminal {
    path: PathBuf,
    settings: Termios,
}

impl Terminal {
    /// The main console, if it is a terminal.
    pub(crate) fn find() -> Option<Self> {
        let path = path()?;
        let settings = tcgetattr(open(&path).ok()?).ok()?;
        Some(Self { path, settings })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the terminal as it was found: a killed full-screen program leaves it raw.
    pub(crate) fn restore(&self) {
        // Opened anew: the end of the session that it controlled has hung up all that was open before.
        if let Ok(terminal) = open(&self.path) {
            // Nothing can be done about a terminal that is gone.
            let _ = tcsetattr(&terminal, OptionalActions::Drain, &self.settings);
        }
    }
}

/// Has a command run on the main console, in a session of its own that the terminal controls.
///
/// # Errors
/// When there is no terminal.
pub(crate) fn attach(command: &mut Command) -> anyhow::Result<()> {
    let path = path().context("this machine has no console that is a terminal")?;
    let terminal = open(&path).with_context(|| format!("cannot open `{}`", path.display()))?;
    command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal);
    sys::set_up_process(command, Identity { user: 0, group: 0, groups: vec![0] }, Session::Own, None);
    Ok(())
}

/// Waits until a terminal has sent what was written to it: the end of its session throws the rest away.
pub(super) fn drain(terminal: &File) {
    let start = Instant::now();
    while sys::unsent_bytes(terminal).is_ok_and(|count| count > 0) {
        if start.elapsed() > DRAIN_LIMIT {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
    // Only what the line's own small buffer holds is left.
    let _ = rustix::termios::tcdrain(terminal);
}

/// Opens a terminal without being controlled by it.
pub(super) fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)
}

fn path() -> Option<PathBuf> {
    main_console(&std::fs::read_to_string(ACTIVE).ok()?)
}

fn main_console(active: &str) -> Option<PathBuf> {
    let name = active.split_whitespace().last()?;
    // `tty0` means whichever screen is shown; a session needs one of them.
    let name = if name == "tty0" { "tty1" } else { name };
    Some(Path::new("/dev").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_console_is_the_main_one() {
        assert_eq!(main_console("tty0 ttyS0\n"), Some("/dev/ttyS0".into()));
        assert_eq!(main_console("ttyS0 tty0\n"), Some("/dev/tty1".into()));
        assert_eq!(main_console(""), None);
    }
}
