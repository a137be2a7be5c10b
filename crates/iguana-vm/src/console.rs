//! A running machine and its serial console.

use crate::process::cpu_seconds;
use crate::transcript::{Found, Line, Moment, Position, Transcript};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines of the console in the error of a failed wait.
const LINES_SHOWN: usize = 30;

/// Words of a kernel that found its timer dead, before it had started anything: an emulated machine loses the ticks that
/// it waits for when its host is overloaded (Linux, `arch/x86/kernel/apic/io_apic.c`, `check_timer`).
const STALLED_AT_START: &str = "IO-APIC + timer doesn't work";

/// Why a wait failed.
const ENDED: &str = "the machine ended before its console showed";

/// Said in the console of a machine that was started again.
const STARTED_AGAIN: &str =
    "(the kernel of the last start found no timer, because this host is overloaded; started once more)\n";

/// Whether the console is also shown to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// Every byte is also written to standard output.
    Shown,
    /// The log only.
    Silent,
}

/// A running machine whose serial console is read and written here. Dropping it ends the machine.
///
/// A machine whose kernel ends at once because it gets no timer interrupts is started once more: nothing has run
/// in it. Its console then begins with a line that says so.
pub struct Console {
    command: Command,
    echo: Echo,
    was_started_again: bool,
    machine: Child,
    keys: ChildStdin,
    heard: Arc<SharedTranscript>,
    /// Start of the next search.
    place: Position,
    log: PathBuf,
}

/// State shared between the reading threads and the waiting one.
struct SharedTranscript {
    state: Mutex<ConsoleState>,
    changed: Condvar,
}

struct ConsoleState {
    transcript: Transcript,
    /// Number of threads that have reached the end: one for the console, one for QEMU's own messages.
    ended: usize,
}

impl ConsoleState {
    fn is_complete(&self) -> bool {
        self.ended == 2
    }
}

impl Console {
    /// Runs `command`, whose standard input and output are a serial line. Every line is written to `log`.
    pub(crate) fn start(mut command: Command, log: &Path, echo: Echo) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (machine, keys, heard) = spawn(&mut command, file, echo, Transcript::default())?;
        let (place, log) = (Position::default(), log.to_owned());
        Ok(Self { command, echo, was_started_again: false, machine, keys, heard, place, log })
    }

    /// Whether the machine, which has ended, stalled at its start and was started once more.
    fn starts_again(&mut self) -> Result<bool> {
        let has_stalled = self.lines().iter().any(|line| line.text.contains(STALLED_AT_START));
        if self.was_started_again || !has_stalled {
            return Ok(false);
        }
        self.machine.wait().context("cannot wait for QEMU")?;
        let mut file = File::options().append(true).open(&self.log)?;
        write!(file, "{STARTED_AGAIN}")?;
        let mut transcript = Transcript::default();
        transcript.push(STARTED_AGAIN.as_bytes(), Moment::default());
        (self.machine, self.keys, self.heard) = spawn(&mut self.command, file, self.echo, transcript)?;
        (self.place, self.was_started_again) = (Position::default(), true);
        Ok(true)
    }

    /// Waits at most `timeout` until the console prints `pattern` after the last match. The line need not be
    /// complete, so prompts match too.
    pub fn expect(&mut self, pattern: &str, timeout: Duration) -> Result<Line> {
        self.expect_any(&[pattern], timeout).map(|(_, line)| line)
    }

    /// Waits for any of several patterns; returns which one it was.
    pub fn expect_any(&mut self, patterns: &[&str], timeout: Duration) -> Result<(usize, Line)> {
        let found = match self.wait_for(patterns, Instant::now() + timeout) {
            Ok(found) => found,
            Err(ENDED) if self.starts_again()? => return self.expect_any(patterns, timeout),
            Err(why) => bail!(self.report(&format!(
                "{why} `{}` within {} s",
                patterns.join("` or `"),
                timeout.as_secs_f32()
            ))),
        };
        self.place = found.after;
        Ok((found.pattern, found.line))
    }

    fn wait_for(&self, patterns: &[&str], deadline: Instant) -> Result<Found, &'static str> {
        let mut place = self.place;
        let mut state = self.state();
        loop {
            if let Some(found) = state.transcript.find(place, patterns) {
                return Ok(found);
            }
            place = state.transcript.searched(place);
            if state.is_complete() {
                return Err(ENDED);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the console did not show");
            }
            let (changed, _) =
                self.heard.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = changed;
        }
    }

    /// Types `keys`.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        let sent = self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush());
        sent.with_context(|| self.report(&format!("cannot type `{}`", keys.escape_debug())))
    }

    /// Waits at most `timeout` for the machine to end.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        while !state.is_complete() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                bail!(self.report(&format!("the machine did not end within {} s", timeout.as_secs_f32())));
            }
            let waited = self.heard.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        if self.starts_again()? {
            return self.wait_exit(timeout);
        }
        self.machine.wait().context("cannot wait for QEMU")
    }

    /// All lines so far, including the incomplete last one.
    pub fn lines(&self) -> Vec<Line> {
        self.state().transcript.lines()
    }

    /// The file with all lines.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The process ID of QEMU.
    pub fn pid(&self) -> u32 {
        self.machine.id()
    }

    /// CPU seconds that QEMU has used; `None` after its exit status was collected.
    pub fn cpu_seconds(&self) -> Option<f64> {
        cpu_seconds(self.machine.id())
    }

    /// `what`, followed by the last lines and the path of the log.
    fn report(&self, what: &str) -> String {
        let lines = self.lines();
        let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
        let shown: String = last.iter().map(|line| format!("  | {line}\n")).collect();
        format!("{what}; the last {} lines:\n{shown}the whole log: {}", last.len(), self.log.display())
    }

    fn state(&self) -> MutexGuard<'_, ConsoleState> {
        self.heard.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The machine may have ended already, so an error does not matter.
        self.machine.kill().ok();
        self.machine.wait().ok();
    }
}

/// Starts the machine, and the threads that add to `transcript` and `log` what it says.
fn spawn(
    command: &mut Command,
    log: File,
    echo: Echo,
    transcript: Transcript,
) -> Result<(Child, ChildStdin, Arc<SharedTranscript>)> {
    let errors = log.try_clone().context("cannot duplicate the log's descriptor")?;
    let start = Instant::now();
    let program = command.get_program().to_owned();
    let mut machine = command.spawn().with_context(|| format!("cannot run `{}`", program.display()))?;
    let keys = machine.stdin.take().context("QEMU has no standard input")?;
    let said = machine.stdout.take().context("QEMU has no standard output")?;
    let complaints = machine.stderr.take().context("QEMU has no standard error")?;
    let state = Mutex::new(ConsoleState { transcript, ended: 0 });
    let heard = Arc::new(SharedTranscript { state, changed: Condvar::new() });
    let clock = Clock { start, pid: machine.id() };
    listen(said, Arc::clone(&heard), clock, log, echo);
    listen(complaints, Arc::clone(&heard), clock, errors, echo);
    Ok((machine, keys, heard))
}

/// Determines the time of each line.
#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    pid: u32,
}

impl Clock {
    fn now(self) -> Moment {
        Moment { at: self.start.elapsed().as_secs_f64(), cpu: cpu_seconds(self.pid).unwrap_or_default() }
    }
}

/// Starts a thread that reads `source` until its end.
fn listen(
    source: impl Read + Send + 'static,
    heard: Arc<SharedTranscript>,
    clock: Clock,
    mut log: File,
    echo: Echo,
) {
    thread::spawn(move || {
        hear(source, &heard, clock, &mut log, echo);
        let mut state = heard.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = state.transcript.end_line() {
            writeln!(log, "{line}").ok();
        }
        state.ended += 1;
        heard.changed.notify_all();
    });
}

fn hear(mut source: impl Read, heard: &SharedTranscript, clock: Clock, log: &mut File, echo: Echo) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = source.read(&mut buffer) {
        let bytes = &buffer[..length];
        let moment = clock.now();
        let mut state = heard.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ended: String =
            state.transcript.push(bytes, moment).iter().map(|line| format!("{line}\n")).collect();
        // A full disk or a closed terminal must not stop the reading.
        log.write_all(ended.as_bytes()).ok();
        if echo == Echo::Shown {
            let mut terminal = io::stdout().lock();
            terminal.write_all(bytes).and_then(|()| terminal.flush()).ok();
        }
        heard.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn console(script: &str) -> (Console, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let console = Console::start(command, &directory.path().join("log"), Echo::Silent).unwrap();
        (console, directory)
    }

    #[test]
    fn a_prompt_without_line_end_is_answered() {
        let (mut console, _directory) =
            console("printf 'boot\\nlogin: '; read name; echo hello $name; exit 3");
        console.expect("boot", SOON).unwrap();
        let prompt = console.expect("login: ", SOON).unwrap();
        assert_eq!(prompt.text, "login: ");
        console.send("root\n").unwrap();
        assert!(console.expect("hello root", SOON).unwrap().at >= prompt.at);
        assert_eq!(console.wait_exit(SOON).unwrap().code(), Some(3));
    }

    #[test]
    fn silence_is_an_error_with_the_last_lines_and_the_log() {
        let (mut console, directory) = console("for n in $(seq 40); do echo line $n; done; exec sleep 60");
        console.expect("line 40", SOON).unwrap();
        let error = console.expect("never", Duration::from_millis(100)).unwrap_err().to_string();
        assert!(error.starts_with("the console did not show `never` within 0.1 s"), "{error}");
        assert!(error.contains("line 11\n") && !error.contains("line 10\n"), "{error}");
        assert!(error.contains(directory.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn an_early_exit_is_reported_at_once_with_the_messages_of_qemu() {
        let (mut console, _directory) = console("echo no such disk >&2; exit 1");
        let start = Instant::now();
        let error = console.expect_any(&["a", "b"], Duration::from_secs(60)).unwrap_err().to_string();
        assert!(start.elapsed() < Duration::from_secs(30));
        assert!(error.starts_with("the machine ended before its console showed `a` or `b`"), "{error}");
        assert!(error.contains("no such disk"), "{error}");
    }

    #[test]
    fn a_machine_that_stalls_at_its_start_is_started_once_more() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("stalled");
        let (mut console, _directory) = console(&format!(
            "echo \"Kernel panic: IO-APIC + timer doesn't work!\"; [ -e {0} ] && echo up; : > {0}; exit 1",
            mark.display()
        ));
        console.expect("up", SOON).unwrap();
        assert_eq!(console.wait_exit(SOON).unwrap().code(), Some(1));
        assert!(console.lines()[0].text.contains("started once more"), "{:?}", console.lines());
        let log = std::fs::read_to_string(console.log()).unwrap();
        assert_eq!(log.matches("Kernel panic").count(), 2, "{log}");
    }

    #[test]
    fn every_line_is_in_the_log_with_its_time() {
        let (mut console, _directory) = console("echo one; printf two");
        console.wait_exit(SOON).unwrap();
        let log = std::fs::read_to_string(console.log()).unwrap();
        let texts: Vec<_> = log.lines().map(|line| &line[12..]).collect();
        assert_eq!(texts, ["one", "two"]);
        assert!(log.starts_with("[    0."), "{log}");
    }

    #[test]
    fn dropping_a_machine_ends_it() {
        let (console, _directory) = console("exec sleep 60");
        let process = PathBuf::from(format!("/proc/{}", console.pid()));
        assert!(process.exists());
        drop(console);
        assert!(!process.exists());
    }

    #[test]
    fn a_machine_that_does_not_end_is_an_error() {
        let (mut console, _directory) = console("exec sleep 60");
        let error = console.wait_exit(Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.starts_with("the machine did not end within 0.05 s"), "{error}");
    }
}
