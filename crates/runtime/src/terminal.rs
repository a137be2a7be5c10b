//! The terminal of the person at the machine.

use anyhow::Context as _;
use rustix::termios::{
    Action, InputModes, OptionalActions, Termios, Winsize, tcflow, tcgetattr, tcgetwinsize, tcsetattr,
    tcsetwinsize,
};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use sys::{self, Identity, Session};

/// The consoles of the kernel, the main one last (Documentation/ABI/testing/sysfs-tty).
const ACTIVE: &str = "/sys/class/tty/console/active";

/// Time limit for a terminal to send its output: 4 KiB at 9600 Bd. A terminal that was stopped with Ctrl-S must not
/// block the machine.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The size for a terminal that reports none, such as a serial line: a VT100's, which every terminal can show.
const USUAL_SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

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

/// A terminal, with its original settings.
pub struct Terminal {
    path: PathBuf,
    settings: Termios,
    /// The settings for a job.
    for_job: Termios,
}

impl Terminal {
    /// The main console, if it is a terminal, with its settings now.
    pub fn find() -> Option<Self> {
        let path = path()?;
        let terminal = open(&path).ok()?;
        let settings = tcgetattr(&terminal).ok()?;
        Some(Self { path, for_job: pausable(&settings), settings })
    }

    /// Prepares it for a program.
    pub fn lend(&self) {
        // Errors are ignored: the program reports that it cannot be opened.
        let Ok(terminal) = open(&self.path) else { return };
        give_size(&terminal);
        let _ = tcsetattr(&terminal, OptionalActions::Now, &self.for_job);
    }

    /// The path of its device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Restores the original settings, within 10 s: a killed full-screen program leaves the terminal in raw mode, with its
    /// output on the screen, and one with all rights need not have been given it. The keys and the font stay: a workflow may
    /// choose them.
    pub fn restore(&self) {
        // Opened again: the end of the session that it controlled has hung up all older descriptors.
        if let Ok(terminal) = open(&self.path) {
            // Non-blocking, as a background program may stop the terminal again at any moment. Errors are ignored: the
            // terminal may be gone.
            let _ = rustix::io::ioctl_fionbio(&terminal, true);
            let _ = self.restore_through(&terminal);
        }
    }

    fn restore_through(&self, terminal: &File) -> io::Result<()> {
        let left = tcgetattr(terminal)?;
        let is_left_otherwise = !are_equal(&left, &self.for_job) && !are_equal(&left, &self.settings);
        go_on(terminal)?;
        drain_in_time(terminal)?;
        tcsetattr(terminal, OptionalActions::Now, &self.settings)?;
        // The output may go to a log, where the sequence is garbage. It is needed only after a full-screen program was
        // killed; one that ends by itself restores the settings.
        if is_screen(&self.path) {
            sys::show_text(terminal)?;
            (&*terminal).write_all(RESET_SCREEN.as_bytes())?;
        } else if !is_left_otherwise {
            return Ok(());
        }
        (&*terminal).write_all(RESET.as_bytes())
    }
}

/// Restarts the output of a terminal: a Ctrl-S was meant for a program that has ended.
fn go_on(terminal: &File) -> io::Result<()> {
    // The second call undoes the first, and also a Ctrl-S (n_tty_ioctl_helper in the kernel).
    tcflow(terminal, Action::OOff)?;
    Ok(tcflow(terminal, Action::OOn)?)
}

/// Enables Ctrl-S, so that a person can pause the output of a job. It is disabled otherwise: nothing pauses Iguana's
/// own output.
fn pausable(settings: &Termios) -> Termios {
    let mut settings = settings.clone();
    settings.input_modes.insert(InputModes::IXON);
    settings
}

fn are_equal(one: &Termios, other: &Termios) -> bool {
    let modes = |settings: &Termios| {
        (settings.input_modes, settings.output_modes, settings.control_modes, settings.local_modes)
    };
    modes(one) == modes(other)
}

/// Runs a command on the main console, in a session of its own with the console as controlling terminal.
///
/// # Errors
/// When there is no terminal.
pub fn attach(command: &mut Command) -> anyhow::Result<()> {
    let path = path().context("this machine has no console that is a terminal")?;
    let terminal = open(&path).with_context(|| format!("cannot open `{}`", path.display()))?;
    give_size(&terminal);
    command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal);
    sys::set_up_process(command, Identity { user: 0, group: 0, groups: vec![0] }, Session::Own, None);
    Ok(())
}

/// Sets a size if there is none: full-screen programs draw nothing on a terminal of no lines.
fn give_size(terminal: &File) {
    if tcgetwinsize(terminal).is_ok_and(|size| size.ws_row == 0 || size.ws_col == 0) {
        // Ignored: without a size, programs can still write lines.
        let _ = tcsetwinsize(terminal, USUAL_SIZE);
    }
}

/// Whether a terminal is a virtual console of the machine, and not a line to somewhere else.
pub(super) fn is_screen(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("tty").is_some_and(|rest| rest.bytes().all(|letter| letter.is_ascii_digit()))
}

/// Waits until a terminal has sent its output: the end of its session discards the rest. The limit is [`DRAIN_LIMIT`],
/// 5 s, for a stopped terminal.
pub(super) fn drain(terminal: &File) {
    let start = Instant::now();
    while sys::unsent_bytes(terminal).is_ok_and(|count| count > 0) {
        if start.elapsed() > DRAIN_LIMIT {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
    // Only the small buffer of the device is left.
    let _ = rustix::termios::tcdrain(terminal);
}

/// Like [`drain`], in a thread: a terminal that is stopped again meanwhile blocks only that.
fn drain_in_time(terminal: &File) -> io::Result<()> {
    let terminal = terminal.try_clone()?;
    let (sent, is_sent) = channel();
    thread::Builder::new().spawn(move || {
        drain(&terminal);
        // Ignored: the receiver may have given up.
        let _ = sent.send(());
    })?;
    // What is not sent by then is lost.
    let _ = is_sent.recv_timeout(DRAIN_LIMIT);
    Ok(())
}

/// Opens a terminal without making it the controlling one.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)
}

fn path() -> Option<PathBuf> {
    main_console(&std::fs::read_to_string(ACTIVE).ok()?)
}

fn main_console(active: &str) -> Option<PathBuf> {
    let name = active.split_whitespace().last()?;
    // `tty0` means the virtual console that is shown; a session needs a fixed one.
    let name = if name == "tty0" { "tty1" } else { name };
    Some(Path::new("/dev").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::LocalModes;
    use std::io::Read as _;
    use std::os::unix::ffi::OsStringExt as _;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::sync::mpsc::channel;

    /// A serial line: the person's end, the terminal, and an open descriptor of it.
    fn line() -> (File, Terminal, File) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = std::ffi::OsString::from_vec(ptsname(&person, Vec::new()).unwrap().into_bytes());
        let user = open(Path::new(&path)).unwrap();
        let mut settings = tcgetattr(&user).unwrap();
        settings.input_modes.remove(InputModes::IXON);
        tcsetattr(&user, OptionalActions::Now, &settings).unwrap();
        (person.into(), Terminal { path: path.into(), for_job: pausable(&settings), settings }, user)
    }

    /// What the person sees up to a mark.
    fn seen(person: &File, mut user: &File) -> String {
        user.write_all(b"#").unwrap();
        seen_to_mark(person)
    }

    fn seen_to_mark(mut person: &File) -> String {
        let mut seen = String::new();
        while !seen.ends_with('#') {
            let mut block = [0; 1024];
            let count = person.read(&mut block).unwrap();
            seen += std::str::from_utf8(&block[..count]).unwrap();
        }
        seen
    }

    #[test]
    fn the_last_console_is_the_main_one() {
        assert_eq!(main_console("tty0 ttyS0\n"), Some("/dev/ttyS0".into()));
        assert_eq!(main_console("ttyS0 tty0\n"), Some("/dev/tty1".into()));
        assert_eq!(main_console(""), None);
    }

    #[test]
    fn a_line_sees_no_sequences_of_ours_after_an_ordinary_program() {
        let (person, terminal, mut user) = line();
        for is_lent in [true, false] {
            if is_lent {
                terminal.lend();
                assert!(tcgetattr(&user).unwrap().input_modes.contains(InputModes::IXON));
            }
            user.write_all(b"a line\n").unwrap();
            terminal.restore();
            assert_eq!(seen(&person, &user), "a line\r\n#");
            assert!(are_equal(&tcgetattr(&user).unwrap(), &terminal.settings));
        }
    }

    #[test]
    fn what_a_killed_program_left_is_undone_whether_or_not_it_was_given_the_terminal() {
        let (person, terminal, user) = line();
        for is_lent in [true, false] {
            if is_lent {
                terminal.lend();
            }
            let mut raw = terminal.settings.clone();
            raw.make_raw();
            tcsetattr(&user, OptionalActions::Now, &raw).unwrap();
            terminal.restore();
            assert!(tcgetattr(&user).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO));
            assert_eq!(seen(&person, &user), format!("{RESET}#"));
        }
    }

    #[test]
    fn whoever_stops_the_terminal_again_and_again_does_not_keep_it_from_being_restored() {
        let (person, terminal, user) = line();
        let mut raw = terminal.settings.clone();
        raw.make_raw();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    tcflow(&user, Action::OOff).unwrap();
                }
            });
            let reader = scope.spawn(|| while !seen_to_mark(&person).ends_with("shown#") {});
            let (restored, is_restored) = channel();
            let (terminal, user, start) = (&terminal, &user, Instant::now());
            scope.spawn(move || {
                while start.elapsed() < Duration::from_millis(300) {
                    tcsetattr(user, OptionalActions::Now, &raw).unwrap();
                    terminal.restore();
                }
                restored.send(())
            });
            let in_time = is_restored.recv_timeout(Duration::from_secs(10));
            stop.store(true, SeqCst);
            // Resumes the terminal until the thread that stops it has ended.
            while !reader.is_finished() {
                open(&terminal.path).and_then(|terminal| go_on(&terminal)).unwrap();
                (&*user).write_all(b"shown#").unwrap();
            }
            assert!(in_time.is_ok());
        });
        assert!(tcgetattr(&user).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO));
    }

    #[test]
    fn a_line_without_a_size_gets_the_usual_one_and_others_keep_theirs() {
        let (_person, _terminal, user) = line();
        give_size(&user);
        assert_eq!(tcgetwinsize(&user).unwrap(), USUAL_SIZE);
        let large = Winsize { ws_row: 50, ws_col: 132, ..USUAL_SIZE };
        tcsetwinsize(&user, large).unwrap();
        give_size(&user);
        assert_eq!(tcgetwinsize(&user).unwrap(), large);
    }

    #[test]
    fn screens_are_told_from_lines() {
        assert!(is_screen(Path::new("/dev/tty1")));
        assert!(!is_screen(Path::new("/dev/ttyS0")) && !is_screen(Path::new("/dev/pts/0")));
    }
}
