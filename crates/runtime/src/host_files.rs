//! `/etc/resolv.conf`, `/etc/hosts` and `/etc/hostname` of a container: copies of the host's files.
//!
//! A copy follows the host's file, for example after a DHCP renewal, until the container writes to it. What the
//! container writes is kept. A copy is bind-mounted and must stay the same file, so it is overwritten in place instead
//! of replaced.

use super::plan::Mount;
use anyhow::Context as _;
use rustix::fs::{Stat, fstat};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use untrusted_fs::{Directory, Links};

const NAMES: &[&str] = &["resolv.conf", "hosts", "hostname"];
/// Bytes of one file: more than the block lists that people put into `/etc/hosts`.
const LIMIT: u64 = 16 << 20;
/// Readable for everybody, like the host's files.
const MODE: u32 = 0o644;
/// The interval at which the host's files are checked. Each check costs three stat(2).
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The copies of one container. Dropping them stops the refreshing.
pub(super) struct HostFiles {
    copies: Arc<Mutex<Vec<HostFile>>>,
    follower: Option<(Sender<()>, JoinHandle<()>)>,
}

struct HostFile {
    directory: Arc<Directory>,
    host: Arc<Directory>,
    name: &'static str,
    /// The last copied content, and the version of the host's file. `None` when the container has written its own.
    copied: Option<Copied>,
}

#[derive(Default)]
struct Copied {
    content: Vec<u8>,
    version: Option<Version>,
}

/// Changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

/// The mounts of the copies in `directory`.
pub(super) fn mounts(directory: &Path) -> impl Iterator<Item = Mount> {
    NAMES.iter().map(move |name| Mount::bind(directory.join(name), Path::new("/etc").join(name)))
}

impl HostFiles {
    /// Creates the copies in `directory`, which must be empty and invisible to the container, and follows the host's
    /// files.
    ///
    /// # Errors
    /// When a file of the host cannot be read, or is larger than 16 MiB; or a copy cannot be created.
    pub(super) fn make(directory: &Path) -> anyhow::Result<Self> {
        Self::of(Path::new("/"), directory)
    }

    fn of(host: &Path, directory: &Path) -> anyhow::Result<Self> {
        let (host, directory) = (Arc::new(Directory::open(host)?), Arc::new(Directory::open(directory)?));
        let make = |name| HostFile::make(&host, &directory, name);
        let copies = NAMES.iter().copied().map(make).collect::<anyhow::Result<Vec<_>>>()?;
        let copies = Arc::new(Mutex::new(copies));
        let follower = follow(Arc::clone(&copies));
        Ok(Self { copies, follower })
    }

    /// Copies the changes of the host's files.
    pub(super) fn refresh(&self) {
        refresh(&self.copies);
    }
}

impl Drop for HostFiles {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.follower.take() {
            drop(stop);
            // Ignored: the thread has no result, even if it panicked.
            let _ = thread.join();
        }
    }
}

/// Without a thread, the copies are still refreshed before each program.
fn follow(copies: Arc<Mutex<Vec<HostFile>>>) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel();
    let life = move || {
        while stopped.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            refresh(&copies);
        }
    };
    let thread = thread::Builder::new().name("host-files".into()).spawn(life).ok()?;
    Some((stop, thread))
}

fn refresh(copies: &Mutex<Vec<HostFile>>) {
    let mut copies: MutexGuard<'_, Vec<HostFile>> = copies.lock().unwrap_or_else(PoisonError::into_inner);
    copies.iter_mut().for_each(HostFile::refresh);
}

impl HostFile {
    fn make(host: &Arc<Directory>, directory: &Arc<Directory>, name: &'static str) -> anyhow::Result<Self> {
        let mut copy = Self { directory: Arc::clone(directory), host: Arc::clone(host), name, copied: None };
        // The host may lack a file; the container must not see the image's file instead.
        let copied = copy
            .read_host()
            .with_context(|| format!("cannot copy `/etc/{name}` for the container"))?
            .unwrap_or_default();
        directory.replace(name, MODE, &copied.content)?;
        copy.copied = Some(copied);
        Ok(copy)
    }

    /// A file that cannot be read or written now is tried again the next time.
    fn refresh(&mut self) {
        let Some(old) = &self.copied else { return };
        if self.version() == old.version {
            return;
        }
        let Ok(Some(new)) = self.read_host() else { return };
        match self.directory.read(self.name, Links::Refuse, LIMIT) {
            Ok(own) if own == old.content => {}
            _ => return self.copied = None,
        }
        if new.content == old.content || self.directory.overwrite(self.name, &new.content).is_ok() {
            self.copied = Some(new);
        }
    }

    fn read_host(&self) -> Result<Option<Copied>, untrusted_fs::Error> {
        let version = self.version();
        match self.host.read(self.path(), Links::Inside, LIMIT) {
            Err(error) if error.is_not_found() => Ok(None),
            content => Ok(Some(Copied { content: content?, version })),
        }
    }

    /// The host's file may be a link, for example to `/run/systemd/resolve/stub-resolv.conf`.
    fn version(&self) -> Option<Version> {
        let found = self.host.locate(self.path(), Links::Inside).ok()?;
        fstat(found).ok().map(|stat| Version::of(&stat))
    }

    fn path(&self) -> String {
        format!("etc/{}", self.name)
    }
}

impl Version {
    fn of(stat: &Stat) -> Self {
        let changed = (stat.st_ctime, stat.st_ctime_nsec as i64);
        Self { device: stat.st_dev, inode: stat.st_ino, changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    struct Lab {
        host: TempDir,
        container: TempDir,
        files: HostFiles,
    }

    impl Lab {
        fn new() -> Self {
            let (host, container) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            fs::create_dir(host.path().join("etc")).unwrap();
            fs::write(host.path().join("etc/hosts"), "hosts of the host").unwrap();
            fs::write(host.path().join("lease"), "old").unwrap();
            symlink("/lease", host.path().join("etc/resolv.conf")).unwrap();
            let files = HostFiles::of(host.path(), container.path()).unwrap();
            Self { host, container, files }
        }

        fn host_says(&self, path: &str, text: &str) {
            fs::write(self.host.path().join(path), text).unwrap();
            // The kernel's clock for files ticks every 1 to 10 ms.
            thread::sleep(Duration::from_millis(20));
        }

        fn copy(&self, name: &str) -> String {
            fs::read_to_string(self.container.path().join(name)).unwrap()
        }
    }

    #[test]
    fn copies_follow_the_host_until_the_container_writes_its_own() {
        let lab = Lab::new();
        assert_eq!(
            (lab.copy("hosts").as_str(), lab.copy("resolv.conf").as_str()),
            ("hosts of the host", "old")
        );
        assert_eq!(lab.copy("hostname"), "");
        thread::sleep(Duration::from_millis(20));
        lab.host_says("lease", "new, and longer");
        lab.files.refresh();
        assert_eq!(lab.copy("resolv.conf"), "new, and longer");
        lab.host_says("lease", "new");
        lab.files.refresh();
        assert_eq!(lab.copy("resolv.conf"), "new");
        fs::write(lab.container.path().join("resolv.conf"), "its own").unwrap();
        lab.host_says("lease", "newer");
        lab.files.refresh();
        lab.host_says("lease", "newest");
        lab.files.refresh();
        assert_eq!(lab.copy("resolv.conf"), "its own");
        assert_eq!(fs::read_to_string(lab.host.path().join("lease")).unwrap(), "newest");
        lab.host_says("etc/hosts", "more hosts");
        lab.files.refresh();
        assert_eq!(lab.copy("hosts"), "more hosts");
    }

    #[test]
    fn a_copy_is_refreshed_automatically_and_stays_the_same_file() {
        use std::os::unix::fs::MetadataExt as _;
        let lab = Lab::new();
        let inode = || fs::metadata(lab.container.path().join("resolv.conf")).unwrap().ino();
        let before = inode();
        thread::sleep(Duration::from_millis(20));
        lab.host_says("lease", "renewed");
        let start = std::time::Instant::now();
        while lab.copy("resolv.conf") != "renewed" {
            assert!(start.elapsed() < 10 * POLL_INTERVAL);
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(inode(), before);
    }
}
