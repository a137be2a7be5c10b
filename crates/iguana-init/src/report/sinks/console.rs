//! A console that cannot block the boot: a thread of its own writes to it, and the caller waits only briefly for that
//! thread.
//!
//! A console can stop accepting output: after an XOFF on a serial line (Ctrl-S, or noise), by flow control of a line
//! that lost its other end, or because a container holds the terminal. Then lines wait in a bounded queue. When it
//! overflows, the oldest lines are dropped, and the loss is reported as soon as the console continues.

use super::text_log::timed;
use crate::report::uptime;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::termios::{Action, InputModes, OptionalActions, OutputModes, tcflow, tcgetattr, tcsetattr};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes that wait for the console. A usual boot prints a fifth of it in all; a failure block always fits.
const QUEUE_LIMIT: usize = 64 << 10;
/// How long the caller waits until its line is written, so that the line comes before later output of containers. A
/// serial line with a full buffer of 4 KiB makes room for a line in 0.1 s at 9600 Bd.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// A console; one thread queues lines, another one writes them.
pub(super) struct Console(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<String>,
    /// Bytes of the lines in the queue.
    bytes: usize,
    /// Lines that were dropped and not yet reported.
    dropped: usize,
    /// Lines queued so far, and lines written or dropped so far.
    said: u64,
    done: u64,
    /// A line was not written in time. Callers do not wait again until the queue is empty.
    is_late: bool,
    /// Drain requests so far, and those completed.
    drains_wanted: u64,
    drains_done: u64,
    /// The console was dropped: the thread ends when the queue is empty.
    is_closed: bool,
}

impl Console {
    /// Opens a terminal for writing, and makes it ignore XOFF.
    ///
    /// # Errors
    /// When it cannot be opened, or no thread can be started.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Without O_NONBLOCK, opening a serial line may wait for a carrier.
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        let terminal = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        // Blocking writes: with non-blocking ones, the writer would starve while a container writes without a pause.
        fcntl_setfl(&terminal, OFlags::empty())?;
        // Fails for devices that are not terminals, and have no flow control.
        let _ = ignore_flow_control(&terminal);
        Self::start(terminal)
    }

    /// Starts the thread that writes to `target`.
    pub(super) fn start(target: File) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_writer = Arc::clone(&shared);
        thread::Builder::new().name("console".into()).spawn(move || of_writer.work(target))?;
        Ok(Self(shared))
    }

    /// Queues a line (with its line break).
    pub(super) fn queue(&self, line: String) {
        self.0.state().push(line);
        self.0.changed.notify_all();
    }

    /// Queues a line (with its line break), and waits briefly until it is written.
    pub(super) fn say(&self, line: String) {
        let mut state = self.0.state();
        let number = state.push(line);
        self.0.changed.notify_all();
        if state.is_late {
            return;
        }
        let waited = self.0.changed.wait_timeout_while(state, WRITE_LIMIT, |state| state.done < number);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_late = state.done < number;
    }

    /// Waits up to `limit` until everything queued is written and sent; `false` on timeout.
    pub(super) fn drain(&self, limit: Duration) -> bool {
        let mut state = self.0.state();
        state.drains_wanted += 1;
        let number = state.drains_wanted;
        self.0.changed.notify_all();
        let waited = self.0.changed.wait_timeout_while(state, limit, |state| state.drains_done < number);
        waited.unwrap_or_else(PoisonError::into_inner).0.drains_done >= number
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl State {
    /// Queues a line, and drops the oldest ones beyond the limit. Returns the line's number.
    fn push(&mut self, line: String) -> u64 {
        self.said += 1;
        self.bytes += line.len();
        self.queue.push_back(line);
        while self.bytes > QUEUE_LIMIT {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.bytes -= oldest.len();
            self.done += 1;
            self.dropped += 1;
        }
        self.said
    }

    /// The next line to write, preceded by the notice of a loss if there was one.
    fn pop(&mut self) -> Option<String> {
        let line = self.queue.pop_front()?;
        self.bytes -= line.len();
        Some(match std::mem::take(&mut self.dropped) {
            0 => line,
            count => timed(uptime(), &loss(count)) + &line,
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic leaves no partial change, so the state stays valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main function of the writing thread, which may block on the console.
    fn work(&self, mut target: File) {
        let mut state = self.state();
        loop {
            if let Some(line) = state.pop() {
                drop(state);
                // Fails when the console is gone; there is nowhere to report that.
                let _ = target.write_all(for_terminal(&target, line).as_bytes());
                state = self.state();
                state.done += 1;
                state.is_late &= !state.queue.is_empty();
            } else if state.drains_done < state.drains_wanted {
                let wanted = state.drains_wanted;
                drop(state);
                // Fails for anything but a terminal; that has nothing to drain.
                let _ = rustix::termios::tcdrain(&target);
                state = self.state();
                state.drains_done = wanted;
            } else if state.is_closed {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            self.changed.notify_all();
        }
    }
}

/// The line as this terminal needs it: while a job has it, it is raw, and moves to the first column only at a `\r`.
fn for_terminal(target: &File, line: String) -> String {
    let is_raw = tcgetattr(target).is_ok_and(|now| !now.output_modes.contains(OutputModes::OPOST));
    if is_raw { line.replace('\n', "\r\n") } else { line }
}

fn loss(count: usize) -> String {
    format!("warning: the console was blocked: {count} lines before this one are only in the log")
}

/// Resumes a console that was stopped by XOFF or tcflow(3).
pub(super) fn resume(path: &Path) {
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let terminal = OpenOptions::new().write(true).custom_flags(flags).open(path);
    // Anything but a terminal cannot be stopped.
    let _ = terminal.and_then(|terminal| ignore_flow_control(&terminal));
}

/// Makes the terminal send, even if an XOFF or tcflow(3) has stopped it, and ignore later XOFFs.
fn ignore_flow_control(terminal: &File) -> io::Result<()> {
    let mut settings = tcgetattr(terminal)?;
    settings.input_modes.remove(InputModes::IXON | InputModes::IXANY);
    // This also resumes a terminal that an XOFF had stopped (n_tty_set_termios in the kernel).
    tcsetattr(terminal, OptionalActions::Now, &settings)?;
    // TCOON only has an effect after TCOOFF, so do both. This also undoes a TCOOFF of another process
    // (n_tty_ioctl_helper in the kernel).
    tcflow(terminal, Action::OOff)?;
    Ok(tcflow(terminal, Action::OOn)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::Read as _;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::PathBuf;
    use std::time::Instant;

    /// Ctrl-S.
    const XOFF: &[u8] = b"\x13";

    /// A pseudo-terminal: the user's side, and the path of the console's side.
    fn line() -> (File, PathBuf) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = std::ffi::OsString::from_vec(ptsname(&person, Vec::new()).unwrap().into_bytes());
        (person.into(), path.into())
    }

    /// Reads until `end` appears.
    fn heard(mut person: &File, end: &str) -> String {
        let mut heard = String::new();
        while !heard.contains(end) {
            let mut block = [0; 4096];
            let count = person.read(&mut block).unwrap();
            heard += std::str::from_utf8(&block[..count]).unwrap();
        }
        heard
    }

    #[test]
    fn an_xoff_does_not_stop_our_lines() {
        let (mut person, path) = line();
        let user =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path).unwrap();
        // Send XOFF before and after the console is opened.
        person.write_all(XOFF).unwrap();
        let console = Console::open(&path).unwrap();
        person.write_all(XOFF).unwrap();
        let start = Instant::now();
        console.say("the first line\n".into());
        console.say("the last line\n".into());
        assert!(start.elapsed() < WRITE_LIMIT);
        assert!(heard(&person, "the last line").contains("the first line"));
        assert!(console.drain(WRITE_LIMIT));
        drop(user);
    }

    #[test]
    fn a_blocked_console_blocks_nobody_and_lost_lines_are_reported() {
        let (unread, target) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let console = Console::start(target.into()).unwrap();
        let start = Instant::now();
        for number in 0..10_000 {
            console.say(format!("{:<100}#\n", format!("line {number}")));
        }
        assert!(!console.drain(Duration::from_millis(100)));
        assert!(start.elapsed() < 3 * WRITE_LIMIT, "{:?}", start.elapsed());
        assert!(console.0.state().bytes <= QUEUE_LIMIT);
        let text = heard(&unread.into(), "line 9999");
        let told = text.lines().position(|line| line.contains("the console was blocked")).unwrap();
        // The first lines were in the pipe, the last ones in the queue.
        let number = |line: usize| -> usize {
            let line = text.lines().nth(line).unwrap();
            line.trim_end_matches('#').trim().strip_prefix("line ").unwrap().parse().unwrap()
        };
        let lost = number(told + 1) - number(told - 1) - 1;
        assert!(text.lines().nth(told).unwrap().contains(&format!(": {lost} lines before")), "{lost}");
        // Callers wait for it again.
        assert!(console.drain(10 * WRITE_LIMIT));
        console.say("again\n".into());
        let state = console.0.state();
        assert_eq!((state.done, state.is_late), (state.said, false));
    }

    #[test]
    fn a_stopped_console_blocks_nobody_and_resumes_with_whole_lines() {
        let (person, path) = line();
        let terminal =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path).unwrap();
        let console = Console::open(&path).unwrap();
        console.say("one\n".into());
        tcflow(&terminal, Action::OOff).unwrap();
        let start = Instant::now();
        (0..1000).for_each(|number| console.say(format!("line {number}\n")));
        assert!(start.elapsed() < 3 * WRITE_LIMIT, "{:?}", start.elapsed());
        resume(&path);
        console.say("last\n".into());
        let lines: String = (0..1000).map(|number| format!("line {number}\r\n")).collect();
        assert_eq!(heard(&person, "last\r\n"), format!("one\r\n{lines}last\r\n"));
    }

    #[test]
    fn lines_begin_in_the_first_column_of_a_raw_terminal() {
        let (person, path) = line();
        let terminal =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path).unwrap();
        let console = Console::open(&path).unwrap();
        console.say("cooked\n".into());
        let mut raw = tcgetattr(&terminal).unwrap();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).unwrap();
        console.say("raw\n".into());
        assert_eq!(heard(&person, "raw\r\n"), "cooked\r\nraw\r\n");
    }

    #[test]
    fn a_line_is_written_at_once() {
        let mut file = tempfile::tempfile().unwrap();
        let console = Console::start(file.try_clone().unwrap()).unwrap();
        for number in 0..100 {
            console.say(format!("{number}\n"));
            assert!(console.0.state().done == number + 1);
        }
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 100);
    }
}
