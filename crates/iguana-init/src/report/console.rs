//! A console that keeps nobody: a thread of its own writes to it, and whoever speaks waits for that thread for a moment only.
//!
//! A console can stop taking anything: an XOFF on a serial line (Ctrl-S, or noise), flow control by a line that lost its
//! other end, a container that holds the terminal. Lines then wait in a queue with a limit. When it overflows the oldest
//! are dropped, and the loss is told as soon as the console goes on.

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::termios::{Action, InputModes, OptionalActions, tcflow, tcgetattr, tcsetattr};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes that wait for the console. All that a usual boot says has a fifth of it; a failure block always has room.
const QUEUE_LIMIT: usize = 64 << 10;
/// How long who speaks waits for the line to be written, so that it stands before what a container writes next. A serial
/// line whose buffer of 4 KiB is full needs 0.1 s for the room of a line, at 9600 Bd.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// What one thread says and another one writes.
pub(super) struct Console(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<String>,
    /// Of the lines in it.
    bytes: usize,
    /// Lines that were dropped, and of which nothing was told yet.
    dropped: usize,
    /// Lines that were ever said, and that were written or dropped.
    said: u64,
    done: u64,
    /// A line was not written in time: nobody waits until the console has taken all that is queued.
    is_late: bool,
    /// How often it was asked that all be sent, and how often that was done.
    drains_wanted: u64,
    drains_done: u64,
    /// Nobody speaks any more.
    is_closed: bool,
}

impl Console {
    /// Opens a terminal to write to it. From now on an XOFF that comes by its line stops nothing.
    ///
    /// # Errors
    /// When there is none, or no thread can be started.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // A serial line may have the opening wait for a carrier.
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        let terminal = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        // Its writer waits: beside a container that writes without a pause, whoever only tries never gets its turn.
        fcntl_setfl(&terminal, OFlags::empty())?;
        // Other devices have no flow control.
        let _ = ignore_flow_control(&terminal);
        Self::start(terminal)
    }

    /// Writes to `target` from now on.
    pub(super) fn start(target: File) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_writer = Arc::clone(&shared);
        thread::Builder::new().name("console".into()).spawn(move || of_writer.work(target))?;
        Ok(Self(shared))
    }

    /// Says a line, which ends with its line break.
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

    /// Waits, at most for `limit`, until all that was said is written and sent; whether it was.
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
    /// Queues a line, and drops the oldest ones beyond the limit; the line's number.
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

    /// The next line to write, the notice of a loss before it.
    fn pop(&mut self) -> Option<String> {
        let line = self.queue.pop_front()?;
        self.bytes -= line.len();
        Some(match std::mem::take(&mut self.dropped) {
            0 => line,
            count => super::timed(super::uptime(), &loss(count)) + &line,
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the thread that writes, and may wait as long as the console likes.
    fn work(&self, mut target: File) {
        let mut state = self.state();
        loop {
            if let Some(line) = state.pop() {
                drop(state);
                // A console that is gone takes nothing; nobody is left to be told.
                let _ = target.write_all(line.as_bytes());
                state = self.state();
                state.done += 1;
                state.is_late &= !state.queue.is_empty();
            } else if state.drains_done < state.drains_wanted {
                let wanted = state.drains_wanted;
                drop(state);
                // What is no terminal has nothing to send.
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

fn loss(count: usize) -> String {
    format!(
        "warning: the console took nothing for a while: {count} lines before this one are in the log only"
    )
}

/// Lets a console go on that an XOFF or somebody's tcflow(3) has stopped.
pub(super) fn resume(path: &Path) {
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let terminal = OpenOptions::new().write(true).custom_flags(flags).open(path);
    // One that is no terminal, or gone, is not stopped.
    let _ = terminal.and_then(|terminal| ignore_flow_control(&terminal));
}

/// Has the terminal send also after an XOFF, and after tcflow(3) stopped it.
fn ignore_flow_control(terminal: &File) -> io::Result<()> {
    let mut settings = tcgetattr(terminal)?;
    settings.input_modes.remove(InputModes::IXON | InputModes::IXANY);
    // The kernel lets a line go on that an XOFF had stopped (n_tty_set_termios).
    tcsetattr(terminal, OptionalActions::Now, &settings)?;
    // The second undoes the first, and whoever else has stopped it (n_tty_ioctl_helper).
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

    /// A line to somewhere: who is there, and its terminal here, as a serial console has it.
    fn line() -> (File, PathBuf) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = std::ffi::OsString::from_vec(ptsname(&person, Vec::new()).unwrap().into_bytes());
        (person.into(), path.into())
    }

    /// What is read until `end` comes.
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
        // Before and after the console is opened.
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
    fn a_console_that_takes_nothing_keeps_nobody_and_the_loss_is_told() {
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
        let told = text.lines().position(|line| line.contains("the console took nothing")).unwrap();
        // The first ones were in the pipe, the last ones in the queue.
        let number = |line: usize| -> usize {
            let line = text.lines().nth(line).unwrap();
            line.trim_end_matches('#').trim().strip_prefix("line ").unwrap().parse().unwrap()
        };
        let lost = number(told + 1) - number(told - 1) - 1;
        assert!(text.lines().nth(told).unwrap().contains(&format!(": {lost} lines before")), "{lost}");
        // It is waited for again.
        assert!(console.drain(10 * WRITE_LIMIT));
        console.say("again\n".into());
        let state = console.0.state();
        assert_eq!((state.done, state.is_late), (state.said, false));
    }

    #[test]
    fn a_stopped_console_keeps_nobody_and_goes_on_with_whole_lines() {
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
    fn a_line_is_written_when_it_was_said() {
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
