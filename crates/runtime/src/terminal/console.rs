//! One console of the machine.

use super::{DRAIN_LIMIT, POLL_INTERVAL, RESET, RESET_SCREEN, open_unhindered};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    Action, OptionalActions, QueueSelector, Termios, Winsize, tcflow, tcflush, tcgetattr, tcgetwinsize,
    tcsetattr,
};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The size of a terminal that reports none, such as a serial line: a VT100's, which every terminal can show.
pub(super) const USUAL_SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
/// How long the sequences of a reset may wait for a console that takes nothing.
const RESET_LIMIT: Duration = Duration::from_secs(1);
/// A terminal has answered when nothing has come for this time: it may be at the other end of a network.
pub(super) const ANSWERS_QUIET: Duration = Duration::from_millis(500);
/// How long answers are waited for: a terminal may answer as slowly as its line is, or somebody may type.
const ANSWERS_LIMIT: Duration = Duration::from_secs(5);

/// A console, with its settings before the first job.
#[derive(Clone)]
pub(super) struct Console {
    path: PathBuf,
    settings: Termios,
}

/// A console that is open. It never makes anyone wait: descriptors are non-blocking.
pub(super) struct OpenConsole {
    console: Console,
    device: File,
}

impl Console {
    /// # Errors
    /// When it is not a terminal.
    pub(super) fn find(path: &Path) -> io::Result<Self> {
        Ok(Self { settings: tcgetattr(open_unhindered(path)?)?, path: path.into() })
    }

    /// # Errors
    /// When it is gone.
    pub(super) fn open(&self) -> io::Result<OpenConsole> {
        Ok(OpenConsole { device: open_unhindered(&self.path)?, console: self.clone() })
    }

    /// Whether it is a virtual console of the machine, and not a line to somewhere else.
    pub(super) fn is_screen(&self) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("tty").is_some_and(|rest| rest.bytes().all(|letter| letter.is_ascii_digit()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl OpenConsole {
    /// Its device, to wait for keys.
    pub(super) fn device(&self) -> &File {
        &self.device
    }

    /// Its size, or the usual one.
    pub(super) fn size(&self) -> Winsize {
        tcgetwinsize(&self.device)
            .ok()
            .filter(|size| size.ws_row > 0 && size.ws_col > 0)
            .unwrap_or(USUAL_SIZE)
    }

    /// Leaves everything to the pseudo-terminal of the program.
    pub(super) fn make_raw(&self) {
        let mut raw = self.console.settings.clone();
        raw.make_raw();
        // Ignored: the console may be gone.
        let _ = tcsetattr(&self.device, OptionalActions::Now, &raw);
    }

    /// Restores the settings from before the first job, and removes what a full-screen program has left. On a line,
    /// whose output may go to a log, the sequences would be garbage: they are written only if `needs_reset`.
    pub(super) fn restore(&self, needs_reset: bool) {
        // Errors are ignored: the console may be gone.
        let _ = go_on(&self.device);
        self.restore_settings();
        if self.console.is_screen() {
            let _ = sys::show_text(&self.device);
            self.write(RESET_SCREEN.as_bytes(), RESET_LIMIT);
        } else if !needs_reset {
            return;
        }
        self.write(RESET.as_bytes(), RESET_LIMIT);
    }

    fn restore_settings(&self) {
        // Ignored: the console may be gone.
        let _ = tcsetattr(&self.device, OptionalActions::Now, &self.console.settings);
    }

    /// Forgets what was typed and not read.
    pub(super) fn forget_input(&self) {
        // Ignored: the console may be gone.
        let _ = tcflush(&self.device, QueueSelector::IFlush);
    }

    /// Whether its settings are not those from before the first job.
    pub(super) fn is_left_otherwise(&self) -> bool {
        tcgetattr(&self.device).is_ok_and(|now| !are_equal(&now, &self.console.settings))
    }

    /// Reads what was typed, if anything was.
    pub(super) fn read(&self, block: &mut [u8]) -> usize {
        // Fails when nothing was typed, or the console is gone.
        (&self.device).read(block).unwrap_or(0)
    }

    /// Writes, and waits up to `limit` whenever the console takes nothing; then the rest is lost.
    pub(super) fn write(&self, mut bytes: &[u8], limit: Duration) {
        while !bytes.is_empty() {
            match (&self.device).write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.takes_more(limit) => {}
                Err(_) => return,
            }
        }
    }

    fn takes_more(&self, limit: Duration) -> bool {
        let mut waited_for = [PollFd::new(&self.device, PollFlags::OUT)];
        poll(&mut waited_for, Some(&timespec(limit))).is_ok_and(|count| count > 0)
    }
}

pub(super) fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() }
}

/// Forgets what the terminals answer to sequences of programs that have ended. First they must have received all of them,
/// then the answers come. Returns whether they came to an end within the limits, [`DRAIN_LIMIT`] and [`ANSWERS_LIMIT`].
pub(super) fn discard_answers(consoles: &[OpenConsole]) -> bool {
    // Otherwise an answer, which has no line break, would not be seen, and echoed.
    consoles.iter().for_each(OpenConsole::make_raw);
    let is_quiet = are_drained(consoles) & is_quiet_soon(consoles);
    consoles.iter().for_each(OpenConsole::restore_settings);
    is_quiet
}

fn are_drained(consoles: &[OpenConsole]) -> bool {
    let start = Instant::now();
    let has_unsent = |console: &OpenConsole| sys::unsent_bytes(&console.device).is_ok_and(|count| count > 0);
    while consoles.iter().any(has_unsent) {
        if start.elapsed() >= DRAIN_LIMIT {
            return false;
        }
        thread::sleep(POLL_INTERVAL);
    }
    true
}

/// Forgets input until there was none for [`ANSWERS_QUIET`]; `false` at the limit.
fn is_quiet_soon(consoles: &[OpenConsole]) -> bool {
    let start = Instant::now();
    let mut present: Vec<_> = consoles.iter().collect();
    while start.elapsed() < ANSWERS_LIMIT {
        let mut waited_for: Vec<_> =
            present.iter().map(|console| PollFd::new(&console.device, PollFlags::IN)).collect();
        match rustix::io::retry_on_intr(|| poll(&mut waited_for, Some(&timespec(ANSWERS_QUIET)))) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
        let is_gone = waited_for.iter().map(|one| one.revents().intersects(PollFlags::HUP | PollFlags::ERR));
        let with_gone = present.iter().zip(is_gone.collect::<Vec<_>>());
        present = with_gone.filter(|(_, is_gone)| !is_gone).map(|(console, _)| *console).collect();
        present.iter().for_each(|console| console.forget_input());
    }
    false
}

/// Restarts the output of a terminal: a Ctrl-S was meant for a program that has ended.
pub(super) fn go_on(terminal: &File) -> io::Result<()> {
    // The second call undoes the first, and also a Ctrl-S (n_tty_ioctl_helper in the kernel).
    tcflow(terminal, Action::OOff)?;
    Ok(tcflow(terminal, Action::OOn)?)
}

pub(super) fn are_equal(one: &Termios, other: &Termios) -> bool {
    let modes = |settings: &Termios| {
        (settings.input_modes, settings.output_modes, settings.control_modes, settings.local_modes)
    };
    modes(one) == modes(other)
}
