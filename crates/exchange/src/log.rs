//! What a service writes: a file of which the end is kept.

use anyhow::Context as _;
use rustix::fd::OwnedFd;
use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_setfl};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use untrusted_fs::Directory;

/// Where the services' output is kept.
const DIRECTORY: &str = "services";
/// Only root reads what a service says.
const MODE: u32 = 0o600;
/// How much of a service's output is ever shown, in bytes from its end: a screen can take no more.
const SHOWN: u64 = 64 << 10;
/// How much of it is kept in memory, in bytes from its end.
const KEPT: u64 = 1 << 20;
/// How often the beginning of a long log is let go of.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The unit in which memory is let go of; the largest page that a kernel has.
const PAGE: u64 = 64 << 10;

/// The log of one service, which its programs append to.
#[derive(Debug)]
pub struct ServiceLog(Arc<File>);

impl ServiceLog {
    /// Makes it, in place of one of an earlier service of that name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        Self::create_in(&Directory::open(super::OWN)?, name)
    }

    fn create_in(own: &Directory, name: &str) -> anyhow::Result<Self> {
        let logs = own.directory_or_new(DIRECTORY, 0o700)?;
        logs.remove(name)?;
        let log = logs.create(name, MODE)?;
        fcntl_setfl(&log, OFlags::APPEND)?;
        let log = Arc::new(log);
        let watched = Arc::downgrade(&log);
        thread::spawn(move || {
            while let Some(log) = watched.upgrade() {
                // Where the file system cannot do it, the log grows.
                let _ = forget_beginning(&log);
                drop(log);
                thread::sleep(LOOK_EVERY);
            }
        });
        Ok(Self(log))
    }

    /// For a program to write to.
    ///
    /// # Errors
    /// When this process has no descriptor left.
    pub fn writer(&self) -> anyhow::Result<OwnedFd> {
        Ok(self.0.try_clone().context("cannot write the log")?.into())
    }

    /// The end of what was written.
    pub fn end(&self) -> String {
        let length = self.0.metadata().map_or(0, |found| found.len());
        let first = length.saturating_sub(SHOWN);
        let mut bytes = vec![0; (length - first) as usize];
        // A log that cannot be read has nothing to show.
        let read = self.0.read_at(&mut bytes, first).unwrap_or_default();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }
}

/// Gives back the memory of all but the end.
fn forget_beginning(log: &File) -> std::io::Result<()> {
    let length = log.metadata()?.len();
    let forgotten = length.saturating_sub(KEPT) / PAGE * PAGE;
    if forgotten == 0 {
        return Ok(());
    }
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(log, how, 0, forgotten)?)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these tests play the container")]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    #[test]
    fn the_end_of_a_log_is_kept_and_no_more() {
        let home = tempfile::tempdir_in("/dev/shm").unwrap();
        let log = ServiceLog::create_in(&Directory::open(home.path()).unwrap(), "job.noisy.log").unwrap();
        let mut writer = File::from(log.writer().unwrap());
        for number in 0..64 {
            writer.write_all(&[b'x'; 100_000]).unwrap();
            writeln!(writer, "\nline {number}").unwrap();
        }
        forget_beginning(&log.0).unwrap();
        assert!(log.0.metadata().unwrap().blocks() * 512 <= KEPT + 2 * PAGE);
        assert!(log.end().ends_with("\nline 63\n") && log.end().len() as u64 == SHOWN);
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
