//! Bounded waits. Operations that the kernel may never finish (a disk or a server that does not answer) run in a thread
//! of their own, and the caller waits with a limit. docs/internals/waits.md lists every wait.
//!
//! A thread that is left behind keeps waiting, so its process may be unable to exit. PID 1 does not rely on that: see
//! [`crate::supervise`].

use std::io::{self, ErrorKind};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often to check whether a thread or process has ended.
const END_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How often to check how many bytes are still to be written.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long the disks may make no progress. The kernel gives up a request after 30 s, and retries a few times
/// (`/sys/block/*/device/timeout`).
const STALL_LIMIT: Duration = Duration::from_secs(90);
/// How long syncing may take in all: 16 GiB, half the memory of a server, at the 10 MB/s of an old USB stick.
const SYNC_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Runs a function that may never return; `None` if it takes longer than `limit`, or if no thread can be started.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    act: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    begin(act)?.recv_timeout(limit).ok()
}

fn begin<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Option<Receiver<T>> {
    let (done, result) = channel();
    // Sending fails when the caller has given up waiting, which is fine.
    thread::Builder::new().spawn(move || drop(done.send(act()))).ok()?;
    Some(result)
}

/// Joins a thread. `None` if it does not end within `limit` (then it is left behind), or if it panicked.
pub(crate) fn join<T>(thread: JoinHandle<T>, limit: Duration) -> Option<T> {
    let start = Instant::now();
    while !thread.is_finished() {
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(END_POLL_INTERVAL);
    }
    thread.join().ok()
}

/// Runs a program to its end, and kills it after `limit`.
///
/// # Errors
/// When it cannot be run, or was killed.
pub(crate) fn run(command: &mut Command, limit: Duration) -> io::Result<ExitStatus> {
    let start = Instant::now();
    let mut program = command.spawn()?;
    loop {
        if let Some(status) = program.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > limit {
            program.kill()?;
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                format!("it did not end within {} s", limit.as_secs()),
            ));
        }
        thread::sleep(END_POLL_INTERVAL);
    }
}

/// Writes all cached data to the disks (sync(2)); `false` if that did not finish. Each check calls `tell` with the
/// bytes that are left.
pub(crate) fn sync_disks(tell: impl FnMut(u64)) -> bool {
    let limits = Limits { look: POLL_INTERVAL, stall: STALL_LIMIT, total: SYNC_LIMIT };
    begin(rustix::fs::sync).is_some_and(|written| ends_while_less(&written, limits, unwritten, tell))
}

struct Limits {
    look: Duration,
    stall: Duration,
    total: Duration,
}

/// Waits for `end`, as long as `left` keeps getting smaller.
fn ends_while_less(
    end: &Receiver<()>,
    limits: Limits,
    left: impl Fn() -> u64,
    mut tell: impl FnMut(u64),
) -> bool {
    let start = Instant::now();
    let (mut least, mut since) = (u64::MAX, start);
    loop {
        match end.recv_timeout(limits.look) {
            Ok(()) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let left = left();
        if left < least {
            (least, since) = (left, Instant::now());
        }
        if since.elapsed() >= limits.stall || start.elapsed() >= limits.total {
            return false;
        }
        tell(left);
    }
}

/// Bytes still to be written to disks (proc(5), `/proc/meminfo`).
fn unwritten() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = |key: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(key))?;
        value.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    ["Dirty:", "Writeback:"].iter().filter_map(|key| kibibytes(key)).sum::<u64>() << 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn work_that_never_ends_is_abandoned_at_its_limit() {
        let start = Instant::now();
        let ended = within(Duration::from_millis(100), || thread::sleep(Duration::from_secs(3600)));
        assert!(ended.is_none() && start.elapsed() < Duration::from_secs(10));
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
    }

    #[test]
    fn waiting_for_a_thread_or_a_program_has_a_limit() {
        let limit = Duration::from_millis(100);
        assert!(join(thread::spawn(|| thread::sleep(Duration::from_secs(3600))), limit).is_none());
        assert_eq!(join(thread::spawn(|| 7), Duration::from_secs(60)), Some(7));
        let error = run(Command::new("sleep").arg("1000"), limit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(run(&mut Command::new("true"), Duration::from_secs(60)).unwrap().success());
    }

    #[test]
    fn a_slow_disk_is_waited_for_while_it_makes_progress() {
        let limits = || Limits {
            look: Duration::from_millis(10),
            stall: Duration::from_millis(200),
            total: SYNC_LIMIT,
        };
        let (done, end) = channel();
        let left = Cell::new(50);
        let look = || {
            left.set(left.get() - 1);
            if left.get() == 0 {
                done.send(()).unwrap();
            }
            left.get()
        };
        assert!(ends_while_less(&end, limits(), look, |_| ()));
        let start = Instant::now();
        assert!(!ends_while_less(&end, limits(), || 7, |_| ()));
        assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < Duration::from_secs(20));
        let total = Limits { total: Duration::from_millis(50), ..limits() };
        let left = Cell::new(1 << 20);
        assert!(!ends_while_less(&end, total, || left.replace(left.get() - 1), |_| ()));
    }

    #[test]
    fn the_disks_of_this_machine_are_written() {
        assert!(sync_disks(|_| ()));
    }
}
