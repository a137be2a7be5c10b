//! Relays the output of unprivileged programs through a pipe.
//!
//! A process with a writable descriptor of a console, terminal or file can open it again through `/proc/self/fd/1`. It
//! could then read what the person types, or truncate the file and change its mode. A pipe gives access to nothing
//! else.

use hint::hinted;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes per read: the capacity of a pipe (pipe(7)).
const BLOCK: usize = 64 << 10;
/// Bytes that are still relayed after the end of the program: the largest capacity of a pipe (pipe(7),
/// `pipe-max-size`).
const REST: usize = 1 << 20;
/// How long to wait for a terminal that was stopped with Ctrl-S; the same as for draining it.
const WAIT_LIMIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// How long the rest of a line is waited for: a person waits for a prompt that has no line break.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// Relays of one container at a time, each with two descriptors and a thread of the boot's worker. A step may leave a process
/// in the background that keeps its output open, and a service's `ready` command runs many times.
const RELAYS_LIMIT: usize = 64;

/// What a relay hands on.
#[derive(Debug)]
pub(super) enum Output<'a> {
    /// What was written.
    Bytes(&'a [u8]),
    /// After half a line, nothing was written for [`PAUSE`], 0.5 s.
    Pause,
    /// No writer is left.
    End,
}

/// Relays output in a thread of its own until no writer is left.
///
/// Only that thread writes to the target, and may wait for it forever; every wait for the thread has a limit.
#[derive(Debug)]
pub(super) struct Relay {
    /// Non-blocking.
    source: OwnedFd,
    /// Set from before a block is read until it is written.
    busy: AtomicBool,
    /// The last line is not finished, so the target may keep it back.
    is_in_line: AtomicBool,
    /// Bytes written.
    written: AtomicUsize,
}

/// The relays of a container that still have a writer.
#[derive(Debug, Default)]
pub(super) struct Relays(Mutex<Vec<Weak<Relay>>>);

impl Relays {
    /// # Errors
    /// When there are too many.
    pub(super) fn add(&self, relay: &Arc<Relay>) -> anyhow::Result<()> {
        let mut relays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        relays.retain(|relay| relay.strong_count() > 0);
        if relays.len() >= RELAYS_LIMIT {
            return Err(hinted(
                format!(
                    "{RELAYS_LIMIT} programs of this container have left processes that keep their output open"
                ),
                "redirect the output of what stays in the background, for example to `/dev/null`",
            ));
        }
        relays.push(Arc::downgrade(relay));
        Ok(())
    }
}

/// The result of reading a block.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Bytes(usize),
    NothingYet,
    /// No writer is left.
    End,
}

impl Relay {
    /// Starts to hand on to `target` what is written to the returned descriptor.
    ///
    /// # Errors
    /// When no descriptor or thread is left.
    pub(super) fn begin(mut target: impl FnMut(Output) + Send + 'static) -> io::Result<(Arc<Self>, OwnedFd)> {
        let (source, input) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only this end is non-blocking: programs do not expect that of their standard output.
        rustix::io::ioctl_fionbio(&source, true)?;
        let relay = Arc::new(Self {
            source,
            busy: AtomicBool::new(false),
            is_in_line: AtomicBool::new(false),
            written: AtomicUsize::new(0),
        });
        let working = Arc::clone(&relay);
        thread::Builder::new().name("relay".into()).spawn(move || working.work(&mut target))?;
        Ok((relay, input))
    }

    fn work(&self, target: &mut impl FnMut(Output)) {
        let mut block = vec![0; BLOCK];
        loop {
            let mut waited_for = [PollFd::new(&self.source, PollFlags::IN)];
            let limit = self.is_in_line.load(SeqCst).then_some(&PAUSE);
            match rustix::io::retry_on_intr(|| poll(&mut waited_for, limit)) {
                Ok(0) => {
                    target(Output::Pause);
                    self.is_in_line.store(false, SeqCst);
                    continue;
                }
                Ok(_) => {}
                Err(_) => return,
            }
            self.busy.store(true, SeqCst);
            let read = self.pass_on(&mut block, target);
            if read == Read::End {
                target(Output::End);
                self.is_in_line.store(false, SeqCst);
            }
            self.busy.store(false, SeqCst);
            if read == Read::End {
                return;
            }
        }
    }

    /// Waits, with a limit, until the output of an ended program has been relayed.
    pub(super) fn finish(&self) {
        let start = Instant::now();
        let written_before = self.written.load(SeqCst);
        // Processes that it left in the background keep writing.
        while !self.is_drained()
            && self.written.load(SeqCst) - written_before < REST
            && start.elapsed() < WAIT_LIMIT
        {
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Whether everything is relayed. The pipe is checked first: bytes that are no longer in it have made the thread
    /// busy.
    fn is_drained(&self) -> bool {
        rustix::io::ioctl_fionread(&self.source).unwrap_or(0) == 0
            && !self.busy.load(SeqCst)
            && !self.is_in_line.load(SeqCst)
    }

    fn pass_on(&self, block: &mut [u8], target: &mut impl FnMut(Output)) -> Read {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.source, &mut *block)) {
            Ok(0) => Read::End,
            Ok(count) => {
                target(Output::Bytes(&block[..count]));
                self.is_in_line.store(!block[..count].ends_with(b"\n"), SeqCst);
                self.written.fetch_add(count, SeqCst);
                Read::Bytes(count)
            }
            Err(Errno::AGAIN) => Read::NothingYet,
            Err(_) => Read::End,
        }
    }
}

/// Writes to a file. Output that cannot be written is lost; the program must not block.
pub(super) fn write_to(file: OwnedFd) -> impl FnMut(Output) + Send + 'static {
    let mut file = File::from(file);
    move |output| {
        if let Output::Bytes(bytes) = output {
            drop(file.write_all(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn everything_written_before_the_end_is_forwarded_in_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (relay, input) = Relay::begin(write_to(file.reopen().unwrap().into())).unwrap();
        let mut input = File::from(input);
        let text: String = (0..100_000).map(|number| format!("{number}\n")).collect();
        input.write_all(text.as_bytes()).unwrap();
        relay.finish();
        let mut written = String::new();
        file.reopen().unwrap().read_to_string(&mut written).unwrap();
        assert!(written == text);
    }

    #[test]
    fn a_blocked_target_is_not_waited_for_indefinitely() {
        let (unread, target) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (relay, input) = Relay::begin(write_to(target)).unwrap();
        File::from(input).write_all(&vec![0; BLOCK + BLOCK / 2]).unwrap();
        let start = Instant::now();
        relay.finish();
        assert!(start.elapsed() < 2 * WAIT_LIMIT);
        drop(unread);
    }
}
