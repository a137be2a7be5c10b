//! The pseudo-terminal of a container, and the thread between it and the consoles.

use super::console::{ANSWERS_QUIET, OpenConsole, are_equal, go_on, timespec};
use super::filter::Filter;
use super::output_lines::marked_line;
use super::{OutputLines, Terminal};
use anyhow::Context as _;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, major, minor, openat2};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The device that makes pseudo-terminals, in a container's root; its numbers (Documentation/admin-guide/devices.txt).
const MULTIPLEXER: &str = "dev/pts/ptmx";
const MULTIPLEXER_NUMBERS: (u32, u32) = (5, 2);
/// The magic number of devpts (statfs(2)).
const DEVPTS: u64 = 0x1cd1;
/// Bytes that are shown before keys are looked for again: a second at 9600 Bd.
const BLOCK: usize = 1024;
/// How long the used console may take nothing before output is lost: 4 KiB at 9600 Bd.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// A program's last output has arrived when nothing has come for this time.
const QUIET: Duration = Duration::from_millis(20);
/// Processes in the background may keep writing.
const QUIET_LIMIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// How long output is held back that may be the beginning of a command or of a secret, as long as a relay waits for the rest
/// of a line: the rest comes from a program that may have to be started, and a person waits for what is held back.
const HOLD_LIMIT: Duration = Duration::from_millis(500);

/// A pseudo-terminal for the programs of one container, shown on the consoles until it is dropped.
pub(crate) struct SharedTerminal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// The end of the person; non-blocking.
    master: File,
    /// The end of the programs.
    slave: File,
    settings: Termios,
    consoles: Vec<OpenConsole>,
    terminal: Terminal,
    shown: Mutex<Shown>,
    /// A program has the terminal, so keys are read. Otherwise they wait for the next one.
    has_program: AtomicBool,
    /// Set from before a block is read until it is shown.
    is_busy: AtomicBool,
    is_closed: AtomicBool,
    /// Readable when one of these has changed.
    wake: File,
}

struct Shown {
    /// The console that the person uses.
    active: usize,
    filter: Filter,
    lines: OutputLines,
}

impl SharedTerminal {
    /// Makes a pseudo-terminal in the container with this root, or in the machine's devpts, which a privileged container
    /// shares, and starts the thread that relays. Programs find its name there.
    ///
    /// # Errors
    /// When none can be made, or no thread started.
    pub(crate) fn begin(terminal: &Terminal, root: Option<&OwnedFd>) -> anyhow::Result<Self> {
        let of_machine = || openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = root.map_or_else(of_machine, multiplexer).context("cannot make a pseudo-terminal")?;
        unlockpt(&master)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = File::from(ioctl_tiocgptpeer(&master, flags).context("cannot open a pseudo-terminal")?);
        let consoles = terminal.open();
        // A terminal may answer a sequence of an earlier container.
        let is_answered = !terminal.forget_input(&consoles);
        let shared = Arc::new(Shared {
            master: master.into(),
            settings: tcgetattr(&slave)?,
            slave,
            shown: Mutex::new(Shown {
                active: consoles.len().saturating_sub(1),
                filter: Filter::default(),
                lines: OutputLines::default(),
            }),
            consoles,
            terminal: terminal.clone(),
            has_program: AtomicBool::new(false),
            is_busy: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?.into(),
        });
        shared.set_size(&shared.shown());
        let of_thread = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("terminal".into()).spawn(move || of_thread.work(is_answered))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Runs a program with the terminal, and reads keys for it until the returned value is told its end.
    ///
    /// # Errors
    /// Those of `run`, and when no descriptor is left.
    pub(crate) fn attach<T>(
        &self,
        run: impl FnOnce(OwnedFd) -> anyhow::Result<T>,
    ) -> anyhow::Result<(T, Attached)> {
        let shared = &self.shared;
        shared.consoles.iter().for_each(OpenConsole::make_raw);
        let running = run(shared.slave.as_fd().try_clone_to_owned()?).inspect_err(|_| {
            // Unless another program has it.
            if !shared.has_program.load(SeqCst) {
                shared.consoles.iter().for_each(|console| console.restore(false));
            }
        })?;
        shared.has_program.store(true, SeqCst);
        shared.wake();
        Ok((running, Attached(Arc::clone(shared))))
    }
}

impl Drop for SharedTerminal {
    /// The thread ends soon: its waits for a console have a limit.
    fn drop(&mut self) {
        self.shared.is_closed.store(true, SeqCst);
        self.shared.wake();
        // Fails after a panic, which was reported.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The terminal, while a program has it.
pub(crate) struct Attached(Arc<Shared>);

impl Attached {
    /// After the program's end: waits, with a limit, until its last output is shown, and removes what a killed
    /// full-screen program has left.
    pub(crate) fn finish(self) {
        let shared = &self.0;
        shared.wait_until_quiet();
        shared.has_program.store(false, SeqCst);
        shared.wake();
        let mut shown = shared.shown();
        let rest = shown.filter.finish(&shared.terminal.rules);
        shared.show_filtered(&mut shown, &rest);
        let (active, has_sequences) = (shown.active, shown.lines.has_sequences());
        shown.lines.finish(|line| shared.add_line(active, line));
        shared.restore(active, has_sequences);
    }
}

impl Shared {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        // A panic in the listener leaves a line half-read at most.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main function of the thread. While terminals still answer earlier programs (`is_answered`), what comes are no
    /// keys.
    fn work(&self, is_answered: bool) {
        let mut last_answer = is_answered.then(Instant::now);
        let mut is_gone = vec![false; self.consoles.len()];
        let mut block = [0; BLOCK];
        let mut last_output = Instant::now();
        while !self.is_closed.load(SeqCst) {
            let limit = match self.shown().filter.holds_back() {
                true => Some(HOLD_LIMIT.saturating_sub(last_output.elapsed())),
                false => last_answer.map(|_| ANSWERS_QUIET),
            };
            let has_program = self.has_program.load(SeqCst);
            let waited = self.wait(&is_gone, has_program, limit);
            let Ok((has_output, with_keys)) = waited else { return };
            if has_output {
                self.is_busy.store(true, SeqCst);
                let count = (&self.master).read(&mut block).unwrap_or(0);
                self.show(&block[..count]);
                self.is_busy.store(false, SeqCst);
                last_output = Instant::now();
            } else if last_output.elapsed() >= HOLD_LIMIT {
                self.show_held_back();
            }
            last_answer = match with_keys.is_empty() && has_program {
                true => last_answer.filter(|last| last.elapsed() < ANSWERS_QUIET),
                // Without a program, nobody has looked for answers.
                false => last_answer.map(|_| Instant::now()),
            };
            for number in with_keys {
                match self.consoles[number].read(&mut block) {
                    0 => is_gone[number] = true,
                    _ if last_answer.is_some() => {}
                    count => self.take_keys(number, &block[..count]),
                }
            }
        }
    }

    /// Waits for output, keys or a change; returns whether there is output, and the consoles where keys were pressed.
    fn wait(
        &self,
        is_gone: &[bool],
        has_program: bool,
        limit: Option<Duration>,
    ) -> rustix::io::Result<(bool, Vec<usize>)> {
        let read = |file| PollFd::new(file, PollFlags::IN);
        let heard: Vec<usize> =
            (0..self.consoles.len()).filter(|number| has_program && !is_gone[*number]).collect();
        let mut waited_for = vec![read(&self.wake), read(&self.master)];
        waited_for.extend(heard.iter().map(|number| read(self.consoles[*number].device())));
        rustix::io::retry_on_intr(|| poll(&mut waited_for, limit.map(timespec).as_ref()))?;
        let is_ready: Vec<bool> = waited_for.iter().map(|waited| !waited.revents().is_empty()).collect();
        if is_ready[0] {
            // Resets the counter; fails only if another thread has done it.
            let _ = (&self.wake).read(&mut [0; 8]);
        }
        let with_keys = heard.into_iter().zip(&is_ready[2..]).filter(|(_, is_ready)| **is_ready);
        Ok((is_ready[1], with_keys.map(|(number, _)| number).collect()))
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then the thread is woken up anyway.
        let _ = (&self.wake).write(&1_u64.to_ne_bytes());
    }

    /// Shows output on the console that is used, and finished lines on the others.
    fn show(&self, output: &[u8]) {
        let mut shown = self.shown();
        let output = shown.filter.take(output, &self.terminal.rules);
        self.show_filtered(&mut shown, &output);
    }

    fn show_held_back(&self) {
        let mut shown = self.shown();
        let output = shown.filter.pause(&self.terminal.rules);
        self.show_filtered(&mut shown, &output);
    }

    fn show_filtered(&self, shown: &mut Shown, output: &[u8]) {
        let active = shown.active;
        if let Some(console) = self.consoles.get(active) {
            console.write(output, WRITE_LIMIT);
        }
        shown.lines.add(output, |line| self.add_line(active, line));
        self.terminal.may_be_answered.fetch_or(shown.lines.may_ask(), SeqCst);
    }

    fn add_line(&self, active: usize, line: &str) {
        (self.terminal.on_line)(line);
        let text = marked_line(line, "\r\n");
        let others = self.consoles.iter().enumerate().filter(|(number, _)| *number != active);
        // A console that takes nothing delays nothing.
        others.for_each(|(_, console)| console.write(text.as_bytes(), Duration::ZERO));
    }

    /// Hands keys to the program. Those of another console than before only change to it: the person there has not
    /// seen yet what they would answer.
    fn take_keys(&self, console: usize, keys: &[u8]) {
        let mut shown = self.shown();
        if shown.active == console {
            // What the program does not read in time is lost, as on any terminal.
            let _ = (&self.master).write(keys);
        } else {
            shown.active = console;
            self.set_size(&shown);
            self.ask_to_redraw();
        }
    }

    fn set_size(&self, shown: &Shown) {
        if let Some(console) = self.consoles.get(shown.active) {
            // Ignored: the program keeps the size that it knows.
            let _ = tcsetwinsize(&self.master, console.size());
        }
    }

    /// The kernel sends this signal only if the size has changed.
    fn ask_to_redraw(&self) {
        if let Ok(group) = rustix::termios::tcgetpgrp(&self.master) {
            // Ignored: the program has ended.
            let _ = sys::signal_group(group, libc::SIGWINCH);
        }
    }

    fn wait_until_quiet(&self) {
        let start = Instant::now();
        let mut quiet_since = start;
        while quiet_since.elapsed() < QUIET && start.elapsed() < QUIET_LIMIT {
            // The bytes are counted first: those that are no longer there have made the thread busy.
            let is_read = rustix::io::ioctl_fionread(&self.master).unwrap_or(0) == 0;
            if !is_read || self.is_busy.load(SeqCst) {
                quiet_since = Instant::now();
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Restores the settings of the pseudo-terminal and of the consoles. Output without sequences, of a program that
    /// has restored the settings itself, leaves nothing else behind.
    fn restore(&self, active: usize, has_sequences: bool) {
        // Ignored, as nothing can be done: the next program has the settings that it finds.
        let _ = go_on(&self.slave);
        let is_left_otherwise = !tcgetattr(&self.slave).is_ok_and(|now| are_equal(&now, &self.settings));
        let _ = tcsetattr(&self.slave, OptionalActions::Now, &self.settings);
        for (number, console) in self.consoles.iter().enumerate() {
            console.restore(number == active && (has_sequences || is_left_otherwise));
            console.forget_input();
        }
    }
}

/// Opens the multiplexer of the container's own devpts.
fn multiplexer(root: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    // Looked at before it is opened: opening a device of the container's choice could do anything.
    let found = openat2(root, MULTIPLEXER, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let status = fstat(&found)?;
    let is_multiplexer = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && (major(status.st_rdev), minor(status.st_rdev)) == MULTIPLEXER_NUMBERS
        && u64::try_from(fstatfs(&found)?.f_type) == Ok(DEVPTS);
    if !is_multiplexer {
        return Err(rustix::io::Errno::NXIO);
    }
    rustix::fs::open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty())
}
