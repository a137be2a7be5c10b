//! The terminal of the person at the machine: its consoles, shared with the programs of containers.

mod console;
mod filter;
mod output_lines;
mod sequences;
mod shared;

pub use filter::Shown;
pub(crate) use output_lines::OutputLines;
pub(super) use shared::SharedTerminal;

use super::relay::Output;
use anyhow::Context as _;
use console::{Console, OpenConsole, USUAL_SIZE, discard_answers};
use filter::{Filter, Rules};
use output_lines::marked_line;
use printable::Secrets;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use sys::{self, Identity, Session};

/// The consoles of the kernel, the main one last (Documentation/ABI/testing/sysfs-tty).
const ACTIVE: &str = "/sys/class/tty/console/active";

/// The kernel's main console, which need not be a terminal.
const MAIN: &str = "/dev/console";

/// Time limit for a terminal to send its output: 4 KiB at 9600 Bd.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Resets a terminal after a full-screen program (xterm's ctlseqs, console_codes(4)). Terminals ignore sequences that
/// they do not support. The screen is kept, except for what such a program drew below the cursor.
const RESET: &str = concat!(
    "\x1b[!p",                           // soft reset, where there is one
    "\x1b[0m\x1b(B\x0f",                 // no colours, no line drawing
    "\x1b[4l\x1b[?7h\x1b[?25h",          // no inserting, lines wrap, the cursor is seen
    "\x1b[?1l\x1b>",                     // keys as they are labelled
    "\x1b[?1000l\x1b[?1006l\x1b[?2004l", // no mouse, no marks around what is pasted
    "\x1b7\x1b[?6l\x1b[r\x1b8",          // all lines scroll; this alone would move the cursor
    "\x1b7\x1b[?1049l",                  // the ordinary screen; on it already, the cursor stays
    "\x1b[J",
);

/// The same for a screen of the kernel only, as other terminals take the first one for the beginning of a text: the palette,
/// and UTF-8.
const RESET_SCREEN: &str = "\x1b]R\x1b%G";

/// Called with each line that a program writes.
type LineListener = Arc<dyn Fn(&str) + Send + Sync>;

/// The consoles of the machine, as the terminal of a container's programs. They see a pseudo-terminal. A person works
/// at one of the consoles; who presses a key at another one continues there. The others show finished lines.
#[derive(Clone)]
pub struct Terminal {
    /// The main one is the last.
    consoles: Vec<Console>,
    on_line: LineListener,
    rules: Rules,
    /// A program has written what a terminal may answer; its answers may still come.
    may_be_answered: Arc<AtomicBool>,
}

impl Terminal {
    /// The machine's consoles that are terminals, with their settings now.
    pub fn of_machine() -> Self {
        Self::of(&consoles(&std::fs::read_to_string(ACTIVE).unwrap_or_default()))
    }

    /// These consoles, the main one last.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let consoles = paths.iter().filter_map(|path| Console::find(path).ok()).collect();
        Self { consoles, on_line: Arc::new(|_| {}), rules: Rules::default(), may_be_answered: Arc::default() }
    }

    /// The same consoles; `on_line` is called with each line that a program writes.
    #[must_use]
    pub fn heard_by(&self, on_line: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { on_line: Arc::new(on_line), ..self.clone() }
    }

    /// The same consoles; `on_command` decides what is shown in place of a line that looks like a workflow command, and
    /// `secrets` are hidden. The listener of lines gets what is shown.
    #[must_use]
    pub fn filtered_by(
        &self,
        on_command: impl Fn(&str) -> Shown + Send + Sync + 'static,
        secrets: Secrets,
    ) -> Self {
        Self { rules: Rules { on_command: Arc::new(on_command), secrets }, ..self.clone() }
    }

    /// Whether one of them is a terminal. Otherwise programs can only write to the kernel's main console.
    pub fn is_present(&self) -> bool {
        !self.consoles.is_empty()
    }

    /// Restores the consoles after a job: one with all rights may have opened them, whether it had the terminal or not.
    /// The keys and the font stay: a workflow may choose them. What was typed until now is forgotten: it may be the answer of
    /// a terminal to a sequence of a program. If a program wrote such sequences, this waits for the answers, up to 10 s.
    pub fn restore(&self) {
        let consoles = self.open();
        for console in &consoles {
            console.restore(console.is_left_otherwise());
        }
        self.forget_input(&consoles);
    }

    /// Forgets what was typed, and what the terminals answer to programs that have ended. Returns whether no more answers
    /// come.
    fn forget_input(&self, consoles: &[OpenConsole]) -> bool {
        consoles.iter().for_each(OpenConsole::forget_input);
        if self.may_be_answered.load(SeqCst) {
            self.may_be_answered.store(!discard_answers(consoles), SeqCst);
        }
        !self.may_be_answered.load(SeqCst)
    }

    /// A function that shows what a program without a terminal writes.
    ///
    /// # Errors
    /// When the main console cannot be opened.
    pub(super) fn printer(&self) -> io::Result<impl FnMut(Output) + Send + 'static> {
        Ok(self.printer_to(OpenOptions::new().write(true).custom_flags(libc::O_NOCTTY).open(MAIN)?))
    }

    /// Shows whole lines only, on the main console, too: a line of Iguana's own would end half a line, and the other half
    /// would have no mark. After a pause, half a line is shown as a whole one.
    fn printer_to(&self, main: File) -> impl FnMut(Output) + Send + 'static {
        let mut others = self.open();
        others.pop();
        let show = move |line: &str| {
            let text = marked_line(line, "\n");
            // Output that cannot be written is lost, as on a console that is gone; the program must not block.
            let _ = (&main).write_all(text.as_bytes());
            // A console that takes nothing delays nothing.
            others.iter().for_each(|console| console.write(text.as_bytes(), Duration::ZERO));
        };
        let (on_line, rules) = (Arc::clone(&self.on_line), self.rules.clone());
        let (mut filter, mut heard, mut shown) =
            (Filter::default(), OutputLines::default(), OutputLines::default());
        move |output| {
            let bytes = match output {
                Output::Bytes(bytes) => filter.take(bytes, &rules),
                Output::Pause => filter.pause(&rules),
                Output::End => filter.finish(&rules),
            };
            heard.add(&bytes, |line| on_line(line));
            shown.add(&bytes, &show);
            match output {
                Output::Bytes(_) => {}
                Output::Pause => shown.split(&show),
                Output::End => {
                    heard.finish(|line| on_line(line));
                    shown.finish(&show);
                }
            }
        }
    }

    /// systemd's rule for `TERM`: `linux` on a virtual console, `vt220` on a line whose other end may be remote.
    pub(super) fn kind(&self) -> &'static str {
        if self.consoles.last().is_some_and(Console::is_screen) { "linux" } else { "vt220" }
    }

    /// Opens those that are still there.
    fn open(&self) -> Vec<OpenConsole> {
        self.consoles.iter().filter_map(|console| console.open().ok()).collect()
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.consoles.iter().map(Console::path)).finish()
    }
}

/// Runs a command on the main console, in a session of its own with the console as controlling terminal. What was typed
/// before is forgotten: this waits up to 10 s, usually 0.5 s, for the terminal's answers to earlier programs.
///
/// # Errors
/// When there is no terminal.
pub fn attach_to_main_console(command: &mut Command) -> anyhow::Result<()> {
    attach_to(&main_console().context("this machine has no console that is a terminal")?, command)
}

/// The same on the terminal with this path.
///
/// # Errors
/// When it is not a terminal.
pub fn attach_to(path: &Path, command: &mut Command) -> anyhow::Result<()> {
    let terminal = open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
    give_size(&terminal);
    // After the limit the shell starts all the same: a person needs it.
    discard_answers(&[Console::find(path)?.open()?]);
    make_cooked(&terminal)?;
    command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal);
    sys::set_up_process(command, Identity { user: 0, group: 0, groups: vec![0] }, Session::Own, None);
    Ok(())
}

/// Sets the modes in which a shell expects its terminal. A job may have ended without restoring them.
fn make_cooked(terminal: &File) -> io::Result<()> {
    let mut settings = tcgetattr(terminal)?;
    settings.input_modes |= InputModes::ICRNL | InputModes::BRKINT;
    settings.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    settings.local_modes |= LocalModes::ISIG
        | LocalModes::ICANON
        | LocalModes::IEXTEN
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK;
    Ok(tcsetattr(terminal, OptionalActions::Now, &settings)?)
}

/// Sets a size if there is none: full-screen programs draw nothing on a terminal of no lines.
fn give_size(terminal: &File) {
    if tcgetwinsize(terminal).is_ok_and(|size| size.ws_row == 0 || size.ws_col == 0) {
        // Ignored: without a size, programs can still write lines.
        let _ = tcsetwinsize(terminal, USUAL_SIZE);
    }
}

/// Waits until a terminal has sent its output: the end of its session discards the rest. The limit is [`DRAIN_LIMIT`],
/// 5 s, for a stopped terminal.
pub(super) fn drain(terminal: &File) {
    let start = Instant::now();
    while sys::unsent_bytes(terminal).is_ok_and(|count| count > 0) && start.elapsed() < DRAIN_LIMIT {
        thread::sleep(POLL_INTERVAL);
    }
}

/// Opens a terminal without making it the controlling one.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)
}

/// Opens a console without waiting for a carrier; writing to it does not wait either.
fn open_unhindered(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

fn main_console() -> Option<PathBuf> {
    consoles(&std::fs::read_to_string(ACTIVE).ok()?).pop()
}

fn consoles(active: &str) -> Vec<PathBuf> {
    // `tty0` means the virtual console that is shown; a session needs a fixed one.
    let device = |name| if name == "tty0" { "tty1" } else { name };
    active.split_whitespace().map(|name| Path::new("/dev").join(device(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::relay::Relay;
    use super::*;

    #[test]
    fn the_main_console_is_the_last_one() {
        assert_eq!(consoles("tty0 ttyS0\n"), [Path::new("/dev/tty1"), Path::new("/dev/ttyS0")]);
        assert_eq!(consoles("ttyS0 tty0\n").pop(), Some("/dev/tty1".into()));
        assert!(consoles("\n").is_empty());
    }

    /// A program's half line, a line of Iguana's own, and the other half.
    #[test]
    fn a_line_of_ours_between_two_halves_takes_the_mark_from_neither() {
        for is_shown_first in [false, true] {
            let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
            let console = || OpenOptions::new().append(true).open(&path).unwrap();
            let (relay, input) = Relay::begin(Terminal::of(&[]).printer_to(console())).unwrap();
            let mut input = File::from(input);
            input.write_all(b"x").unwrap();
            let start = Instant::now();
            while is_shown_first && std::fs::read(&path).unwrap() != b"| x\n" {
                assert!(start.elapsed() < DRAIN_LIMIT);
                thread::sleep(POLL_INTERVAL);
            }
            console().write_all(b"[   20.000] iguana: progress: half\n").unwrap();
            input.write_all(b"::error::y ##vso[task]z\n[   20.001] iguana: workflow: signed").unwrap();
            drop(input);
            relay.finish();
            let shown = std::fs::read_to_string(&path).unwrap();
            let is_ours = |line: &&str| line.starts_with("[   20.000] iguana: ");
            assert_eq!(shown.lines().filter(is_ours).count(), 1, "{shown}");
            assert!(
                shown.lines().filter(|line| !is_ours(line)).all(|line| line.starts_with("| ")),
                "{shown}"
            );
            assert!(shown.ends_with("\n| [   20.001] iguana: workflow: signed\n"), "{shown}");
            assert!(!shown.contains("##vso[") && !shown.contains("| ::"), "{shown}");
        }
    }
}
