//! What programs with fewer rights write, through a pipe.
//!
//! Whoever has a console, a terminal or a file open to write to it can open it anew by `/proc/self/fd/1`: to read what the
//! person types, or to empty it and change its mode. Of a pipe there is nothing else to be had.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are read at once: what a pipe holds (pipe(7)).
const BLOCK: usize = 64 << 10;
/// Bytes that are still handed on when the program has ended. The limit of a pipe's size (pipe(7), `pipe-max-size`).
const REST: usize = 1 << 20;
/// How long a terminal that a person has stopped with Ctrl-S is waited for, as where it is drained.
const WAIT_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Hands on what is written, on a thread of its own, as long as anybody may write.
#[derive(Debug)]
pub(super) struct Relay {
    /// Does not block.
    source: OwnedFd,
    target: Mutex<File>,
}

/// What came of handing a block on.
#[derive(Debug, PartialEq, Eq)]
enum Moved {
    Bytes(usize),
    NothingYet,
    /// Nobody can write any more.
    End,
}

impl Relay {
    /// Begins to hand on to `target` what is written to the descriptor that comes back.
    ///
    /// # Errors
    /// When there can be no more descriptors or threads.
    pub(super) fn begin(target: OwnedFd) -> io::Result<(Arc<Self>, OwnedFd)> {
        let (source, input) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only this end: a program does not expect that it has to wait.
        rustix::io::ioctl_fionbio(&source, true)?;
        let relay = Arc::new(Self { source, target: Mutex::new(target.into()) });
        let working = Arc::clone(&relay);
        thread::Builder::new().name("relay".into()).spawn(move || working.work())?;
        Ok((relay, input))
    }

    fn work(&self) {
        loop {
            let mut waited_for = [PollFd::new(&self.source, PollFlags::IN)];
            if rustix::io::retry_on_intr(|| poll(&mut waited_for, None)).is_err() {
                return;
            }
            let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
            if self.hand_on(&target) == Moved::End {
                return;
            }
        }
    }

    /// Hands on what a program has written before its end.
    pub(super) fn finish(&self) {
        let Some(target) = self.target_within(WAIT_LIMIT) else { return };
        let mut rest = REST;
        while let Moved::Bytes(count) = self.hand_on(&target) {
            rest = rest.saturating_sub(count);
            if rest == 0 {
                // What it has left in the background goes on writing.
                return;
            }
        }
    }

    fn target_within(&self, limit: Duration) -> Option<MutexGuard<'_, File>> {
        let start = Instant::now();
        loop {
            match self.target.try_lock() {
                Ok(target) => return Some(target),
                Err(TryLockError::Poisoned(target)) => return Some(target.into_inner()),
                Err(TryLockError::WouldBlock) if start.elapsed() > limit => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn hand_on(&self, mut target: &File) -> Moved {
        let mut block = vec![0; BLOCK];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.source, &mut block[..])) {
            Ok(0) => Moved::End,
            Ok(count) => {
                // What cannot be written is lost, as at a console that is gone; the program must not wait for it.
                let _ = target.write_all(&block[..count]);
                Moved::Bytes(count)
            }
            Err(Errno::AGAIN) => Moved::NothingYet,
            Err(_) => Moved::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn everything_written_before_the_end_is_handed_on_in_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (relay, input) = Relay::begin(file.reopen().unwrap().into()).unwrap();
        let mut input = File::from(input);
        let text: String = (0..100_000).map(|number| format!("{number}\n")).collect();
        input.write_all(text.as_bytes()).unwrap();
        relay.finish();
        let mut written = String::new();
        file.reopen().unwrap().read_to_string(&mut written).unwrap();
        assert!(written == text);
    }

    #[test]
    fn a_target_that_does_not_take_anything_is_not_waited_for_without_end() {
        let (unread, target) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (relay, input) = Relay::begin(target).unwrap();
        File::from(input).write_all(&vec![0; BLOCK + BLOCK / 2]).unwrap();
        let start = Instant::now();
        relay.finish();
        assert!(start.elapsed() < 2 * WAIT_LIMIT);
        drop(unread);
    }
}
