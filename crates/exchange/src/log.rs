//! The logs of services. The beginning and the end of each output are kept, in memory and in a file; the bytes in
//! between are only counted.
//!
//! Services write to a pipe. A process with a writable descriptor of a file could fill its file system before any check
//! notices; a pipe gives access to nothing else.

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use untrusted_fs::Directory;

/// The directory of the logs.
const DIRECTORY: &str = "services";
/// Only root may read the output of a service.
const MODE: u32 = 0o600;
/// Bytes from the end of the output that are shown at most: a screen has no room for more.
const SHOWN: usize = 64 << 10;
/// Bytes that are kept of the beginning: how the service was called, and what it found.
const HEAD: usize = 64 << 10;
/// Bytes that are kept of the end.
const TAIL: usize = 256 << 10;
/// Bytes per read: the capacity of a pipe (pipe(7)).
const BLOCK: usize = 64 << 10;
/// How often the file is rewritten, once something was cut out.
const WRITE_INTERVAL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Time limit for reading the rest of the pipe.
const READ_LIMIT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The log of one service.
#[derive(Debug)]
pub struct ServiceLog {
    /// The end of the pipe that the service writes to.
    input: OwnedFd,
    reader: Arc<Reader>,
}

/// The end of the pipe that is read, and the bytes that were kept.
#[derive(Debug)]
struct Reader {
    /// Non-blocking.
    source: OwnedFd,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    logs: Directory,
    name: String,
    /// `None` after the log was removed.
    file: Option<File>,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes that were cut out between the head and the tail, and how many of them the file accounts for.
    cut: u64,
    cut_in_file: u64,
}

impl ServiceLog {
    /// Creates the log, and replaces one of an earlier service of that name.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        Self::create_in(&Directory::open(super::OWN)?, name)
    }

    fn create_in(own: &Directory, name: &str) -> anyhow::Result<Self> {
        let logs = own.directory_or_new(DIRECTORY, 0o700)?;
        logs.remove(name)?;
        let file = Some(logs.create(name, MODE)?);
        let (source, input) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only this end is non-blocking: programs do not expect that of their standard output.
        rustix::io::ioctl_fionbio(&source, true)?;
        let (head, tail) = (Vec::new(), VecDeque::new());
        let kept = Kept { logs, name: name.into(), file, head, tail, cut: 0, cut_in_file: 0 };
        let reader = Arc::new(Reader { source, kept: kept.into() });
        let working = Arc::clone(&reader);
        thread::Builder::new().name("service-log".into()).spawn(move || working.work())?;
        Ok(Self { input, reader })
    }

    /// A descriptor that a program writes to.
    ///
    /// # Errors
    /// When this process has no descriptor left.
    pub fn writer(&self) -> anyhow::Result<OwnedFd> {
        self.input.try_clone().context("cannot write the log")
    }

    /// The end of the output.
    pub fn end(&self) -> String {
        self.reader.catch_up();
        let kept = self.reader.kept();
        let all = kept
            .head
            .iter()
            .chain(&kept.tail)
            .skip((kept.head.len() + kept.tail.len()).saturating_sub(SHOWN));
        String::from_utf8_lossy(&all.copied().collect::<Vec<u8>>()).into_owned()
    }

    /// Removes the file, which frees its memory.
    pub fn remove(&self) {
        let mut kept = self.reader.kept();
        kept.file = None;
        // The directory is Iguana's own, and a file that cannot be removed still has a limit.
        let _ = kept.logs.remove(&kept.name);
    }
}

impl Reader {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A poisoned lock is safe to use: each change is complete.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until no writer is left.
    fn work(&self) {
        let mut block = vec![0; BLOCK];
        loop {
            let every = self.kept().is_file_old().then_some(&WRITE_INTERVAL);
            let mut waited_for = [PollFd::new(&self.source, PollFlags::IN)];
            if rustix::io::retry_on_intr(|| poll(&mut waited_for, every)).is_err() {
                return;
            }
            let start = Instant::now();
            let is_open = self.read_all(&mut block, start);
            self.kept().write_anew();
            if !is_open {
                return;
            }
        }
    }

    /// Reads what the pipe holds, for at most a second; `false` when no writer is left.
    fn read_all(&self, block: &mut [u8], start: Instant) -> bool {
        while start.elapsed() < Duration::from_secs(1) {
            // The lock is held while reading: otherwise [`Self::catch_up`] could see an empty pipe before the bytes are
            // in `kept`.
            let mut kept = self.kept();
            match rustix::io::retry_on_intr(|| rustix::io::read(&self.source, &mut *block)) {
                Ok(0) => return false,
                Ok(count) => kept.add(&block[..count]),
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits, with a limit, until everything written so far has been read.
    fn catch_up(&self) {
        let start = Instant::now();
        while rustix::io::ioctl_fionread(&self.source).unwrap_or(0) > 0 && start.elapsed() < READ_LIMIT {
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Kept {
    fn add(&mut self, block: &[u8]) {
        let (first, rest) = block.split_at(block.len().min(HEAD - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        self.cut += surplus as u64;
        if self.cut == 0 {
            // When the file system is full, the file ends here; messages are shown from memory.
            let _ = self.file.as_mut().map(|file| file.write_all(block));
        }
    }

    fn is_file_old(&self) -> bool {
        self.file.is_some() && self.cut > self.cut_in_file
    }

    /// Rewrites the file after something was cut out, as appending does not suffice then.
    fn write_anew(&mut self) {
        if !self.is_file_old() {
            return;
        }
        self.cut_in_file = self.cut;
        let notice = format!("\n[… {} bytes removed here …]\n", self.cut);
        let (one, other) = self.tail.as_slices();
        let text = [&self.head, notice.as_bytes(), one, other].concat();
        // When the file system is full, the file stays as it was.
        let _ = self.logs.replace(&self.name, MODE, &text);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these tests play the container")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_the_beginning_and_the_end_of_a_log_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let log = ServiceLog::create_in(&Directory::open(home.path()).unwrap(), "job.noisy.log").unwrap();
        let path = home.path().join("services/job.noisy.log");
        let mut writer = File::from(log.writer().unwrap());
        for number in 0..640 {
            writer.write_all(&[b'x'; 100_000]).unwrap();
            writeln!(writer, "\nline {number}").unwrap();
            assert!(std::fs::metadata(&path).unwrap().len() <= (HEAD + TAIL + 100) as u64);
        }
        assert!(log.end().ends_with("\nline 639\n") && log.end().len() == SHOWN);
        drop((writer, log));
        let start = Instant::now();
        let text = loop {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.ends_with("\nline 639\n") || start.elapsed() > Duration::from_secs(60) {
                break text;
            }
            thread::sleep(POLL_INTERVAL);
        };
        let written: usize = (0..640).map(|number| 100_000 + format!("\nline {number}\n").len()).sum();
        let cut = format!("\n[… {} bytes removed here …]\n", written - HEAD - TAIL);
        assert_eq!((text.find(&cut), text.len()), (Some(HEAD), HEAD + cut.len() + TAIL));
    }

    #[test]
    fn a_log_grows_while_written_and_is_removed_when_not_kept() {
        let home = tempfile::tempdir().unwrap();
        let log = ServiceLog::create_in(&Directory::open(home.path()).unwrap(), "a.log").unwrap();
        let path = home.path().join("services/a.log");
        let mut writer = File::from(log.writer().unwrap());
        writer.write_all(b"said").unwrap();
        assert_eq!((log.end().as_str(), std::fs::read_to_string(&path).unwrap().as_str()), ("said", "said"));
        log.remove();
        writer.write_all(&[b'x'; 2 * (HEAD + TAIL)]).unwrap();
        assert_eq!(log.end().len(), SHOWN);
        assert!(!path.exists());
    }

    #[test]
    fn a_planted_link_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        std::fs::write(&victim, "victim").unwrap();
        std::fs::create_dir(home.path().join(DIRECTORY)).unwrap();
        symlink(&victim, home.path().join(DIRECTORY).join("a.log")).unwrap();
        let log = ServiceLog::create_in(&Directory::open(home.path()).unwrap(), "a.log").unwrap();
        File::from(log.writer().unwrap()).write_all(b"said").unwrap();
        assert_eq!(
            (log.end().as_str(), std::fs::read_to_string(&victim).unwrap().as_str()),
            ("said", "victim")
        );
    }
}
