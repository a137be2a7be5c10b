//! `/iguana`: two tmpfs, new for each run, each with a limit.
//!
//! The first one is for the containers that may hand over: it is at `/iguana` on the host and in these containers. The
//! second is for all other containers, which see it as their `/iguana`; the host and the first group see it at
//! `/iguana/unprivileged`. So whatever a container without the handover writes, renames or links is in another file
//! system than the result files. It cannot redirect, block or fill that one.

use super::OWN;
use super::progress::{Progress, ProgressSink, Writers};
use super::results;
use super::results::Results;
use anyhow::Context as _;
use hint::{WithHint as _, hinted};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, fstat, open, readlink, stat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount as mount_at, move_mount, open_tree,
    unmount,
};
use std::ffi::CString;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use untrusted_fs::{Directory, Links};

/// The path of the shared directory in every container.
pub const PATH: &str = "/iguana";
/// The path of the second file system on the host and in containers that may hand over.
const OF_OTHERS: &str = "/iguana/unprivileged";
const OF_OTHERS_NAME: &str = "unprivileged";
/// The source of the mounts, as `/proc/self/mounts` shows it; it identifies mounts of an earlier run.
const SOURCE: &str = "iguana";
/// What a run locks, in Iguana's own directory.
const LOCK: &str = "lock";
/// Mounts of earlier runs that are let go of; each run lets go of all of them, so there is one.
const EARLIER_LIMIT: usize = 16;
/// Bytes of the file system for each inode that it may hold: an inode takes about 1 KiB of kernel memory, which the
/// size of a tmpfs does not include.
const BYTES_PER_FILE: u64 = 16 << 10;
/// The least number of inodes, for small file systems.
const FILES_AT_LEAST: u64 = 1024;

/// The most that the two file systems may hold, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    shared: u64,
    of_others: u64,
}

impl Limits {
    /// Both get what the workflow asks for. Without that they get a quarter and a sixteenth of the machine's memory,
    /// but at least 64 and 16 MiB. `memory` is in bytes.
    pub fn new(asked_for: Option<u64>, memory: u64) -> Self {
        match asked_for {
            Some(size) => Self { shared: size, of_others: size },
            None => Self { shared: (memory / 4).max(64 << 20), of_others: (memory / 16).max(16 << 20) },
        }
    }
}

/// Both file systems, mounted and empty.
pub struct Mounted {
    shared: Arc<Directory>,
    of_others: Arc<Directory>,
}

/// Both file systems with the files that every container expects. What is written to their progress files is shown.
pub struct Shared {
    shared: Arc<Directory>,
    of_others: Arc<Directory>,
    progress: [Progress; 2],
}

/// Mounts both, in place of those of an earlier run.
///
/// # Errors
/// When the kernel refuses.
pub fn mount(limits: Limits) -> anyhow::Result<Mounted> {
    mount_both(limits).context("cannot mount `/iguana`").hint("run it as root")
}

fn mount_both(limits: Limits) -> anyhow::Result<Mounted> {
    release()?;
    let root = Directory::open("/")?;
    let name = PATH.trim_start_matches('/');
    // Fails if a link is in its place.
    root.directory_or_new(name, 0o755)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_at(SOURCE, PATH, "tmpfs", flags, options(limits.shared)?.as_c_str())?;
    let shared = root.directory(name, Links::Refuse)?;
    shared.create_directory(OF_OTHERS_NAME, 0o755)?;
    // Kernels before 5.10 ignore this flag.
    let flags = flags | MountFlags::NOSYMFOLLOW;
    mount_at(SOURCE, OF_OTHERS, "tmpfs", flags, options(limits.of_others)?.as_c_str())?;
    let of_others = shared.directory(OF_OTHERS_NAME, Links::Refuse)?;
    Ok(Mounted { shared: shared.into(), of_others: of_others.into() })
}

/// Options of tmpfs(5).
fn options(size: u64) -> anyhow::Result<CString> {
    // A size of 0 means "no limit" to tmpfs.
    let size = size.max(1);
    let files = (size / BYTES_PER_FILE).max(FILES_AT_LEAST);
    Ok(CString::new(format!("mode=0755,size={size},nr_inodes={files}"))?)
}

impl Mounted {
    /// Creates the files that every container expects, and has `sink` show what `writers` write to the progress files.
    ///
    /// # Errors
    /// When a file cannot be created.
    pub fn begin(
        self,
        machine_id: &str,
        sink: &Arc<dyn ProgressSink>,
        writers: Writers,
    ) -> anyhow::Result<Shared> {
        let begin = |directory: &Arc<Directory>| {
            let mut file = directory.create("machine-id", 0o644)?;
            writeln!(file, "{machine_id}").context("cannot write `/iguana/machine-id`")?;
            Progress::show(directory, sink, writers)
        };
        let progress = [begin(&self.shared)?, begin(&self.of_others)?];
        Ok(Shared { shared: self.shared, of_others: self.of_others, progress })
    }
}

impl Shared {
    /// Shows the remaining progress lines: a container may write its last line and end at once.
    pub fn finish(&self) {
        self.progress.iter().for_each(Progress::finish);
    }

    /// Writes the kernel action, in place of one that a container has written.
    ///
    /// # Errors
    /// When the file cannot be replaced, because containers have filled the file system.
    pub fn ask_for(&self, action: &str) -> anyhow::Result<()> {
        results::ask_for(&self.shared, action)
    }

    /// The result files.
    pub fn results(&self) -> Results {
        Results::new(Arc::clone(&self.shared), Arc::clone(&self.of_others))
    }
}

/// Unmounts both, with their content, and those of earlier runs. Mounts of other programs at the same path stay.
///
/// # Errors
/// When the kernel refuses.
pub fn release() -> anyhow::Result<()> {
    for _ in 0..EARLIER_LIMIT {
        if !is_ours(&mounts()?) {
            return Ok(());
        }
        unmount(PATH, UnmountFlags::DETACH).context("cannot unmount `/iguana`")?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a file of the kernel's")]
fn mounts() -> anyhow::Result<String> {
    Ok(std::fs::read_to_string("/proc/self/mountinfo")?)
}

/// Whether the topmost mount at `/iguana` belongs to a run (proc_pid_mountinfo(5) lists mounts in the order of
/// mounting).
fn is_ours(mounts: &str) -> bool {
    let is_here = |line: &&str| line.split(' ').nth(4) == Some(PATH);
    let kind = |line: &str| line.split_once(" - ").map(|(_, rest)| rest.to_owned());
    let last = mounts.lines().rfind(is_here).and_then(kind);
    last.is_some_and(|kind| kind.starts_with(&format!("tmpfs {SOURCE} ")))
}

/// Replaces `/iguana` by the second file system. Call it in the mount namespace of a container that may not hand over,
/// before any path of the host is used: then a volume that names `/iguana` gets the second one, too.
///
/// # Errors
/// When the kernel refuses.
pub fn show_own_to_container() -> anyhow::Result<()> {
    let own: OwnedFd =
        open_tree(CWD, OF_OTHERS, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    unmount(PATH, UnmountFlags::DETACH)?;
    move_mount(&own, "", CWD, PATH, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// Whether a path is, as it is written, below `/iguana` or `/run/iguana`.
fn is_written_as_ours(path: &Path) -> bool {
    is_written_below(path, &[PATH, OWN])
}

fn is_written_below(path: &Path, directories: &[&str]) -> bool {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    directories.iter().any(|directory| plain.starts_with(directory))
}

/// Opens the target of a volume below `/iguana`, where containers can write. Missing directories are created, and no
/// link is followed. `None` for any other path.
///
/// # Errors
/// When there is a link on the path, or a directory cannot be created.
pub fn volume(path: &Path) -> anyhow::Result<Option<OwnedFd>> {
    let Ok(below) = path.strip_prefix(PATH) else { return Ok(None) };
    let mut directory = Directory::open(PATH)?;
    let mut parts = below.components().peekable();
    while let Some(part) = parts.next() {
        if directory.stat(part, Links::Refuse)?.is_none() {
            directory.create_directory(part, 0o755)?;
        }
        if parts.peek().is_none() {
            return Ok(Some(directory.locate(part, Links::Refuse)?));
        }
        directory = directory.directory(part, Links::Refuse)?;
    }
    Ok(Some(directory.locate("", Links::Refuse)?))
}

/// Whether a path is below `/iguana` or `/run/iguana`, as it is written or after its links are resolved.
#[expect(clippy::disallowed_methods, reason = "only to see where the path leads (`O_PATH`)")]
pub fn is_of_containers(path: &Path) -> bool {
    if is_written_as_ours(path) {
        return true;
    }
    // A path that does not exist cannot be mounted.
    let found = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    found.is_ok_and(|found| is_open_of_containers(&found))
}

/// Whether a path leads below `/run/iguana`, as it is written or after its links are resolved.
pub fn is_own(path: &Path) -> bool {
    is_written_below(path, &[OWN]) || path.canonicalize().is_ok_and(|path| path.starts_with(OWN))
}

/// Like [`is_of_containers`], for an open file.
pub fn is_open_of_containers(found: &OwnedFd) -> bool {
    let handle = format!("/proc/self/fd/{}", found.as_raw_fd());
    let path = readlink(handle, Vec::new()).map(|path| path.to_string_lossy().into_owned());
    if path.is_ok_and(|path| is_written_as_ours(Path::new(&path))) {
        return true;
    }
    // The same file system can also be reached through another mount.
    let device = |path: &str| stat(path).ok().map(|stat| stat.st_dev);
    let Ok(own) = fstat(found) else { return false };
    [PATH, OF_OTHERS].iter().any(|path| device(path) == Some(own.st_dev) && device(path) != device("/"))
}

/// Whether a file system of containers is mounted below a directory: that of `/iguana`, of `/run/iguana`, or another one
/// below these.
///
/// # Errors
/// When the mounts cannot be read.
pub fn is_mounted_below(directory: &Path) -> anyhow::Result<bool> {
    Ok(is_shown_below(&mounts()?, directory))
}

fn is_shown_below(mounts: &str, directory: &Path) -> bool {
    // proc_pid_mountinfo(5): all mounts of a file system have its device.
    let device = |line: &str| line.split(' ').nth(2).map(str::to_owned);
    let is_at_or_below = |line: &str, path: &Path| {
        line.split(' ').nth(4).is_some_and(|place| Path::new(place).starts_with(path))
    };
    let ours = |line: &&str| [PATH, OWN].iter().any(|path| is_at_or_below(line, path.as_ref()));
    let devices: Vec<_> = mounts.lines().filter(ours).map(device).collect();
    mounts.lines().any(|line| is_at_or_below(line, directory) && devices.contains(&device(line)))
}

/// Locks the machine for one run, until the value is dropped.
///
/// # Errors
/// When another run holds the lock.
pub fn lock() -> anyhow::Result<OwnedFd> {
    let own = Directory::open("/run").and_then(|run| run.directory_or_new("iguana", 0o755));
    lock_in(&own.context("cannot open `/run/iguana`").hint("run it as root")?)
}

/// Whoever may open a directory may lock it: this one nobody but root.
fn lock_in(own: &Directory) -> anyhow::Result<OwnedFd> {
    let lock = own.directory_or_new(LOCK, 0o700);
    let lock = lock.context("cannot open `/run/iguana/lock`").hint("run it as root")?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock.as_fd().try_clone_to_owned()?),
        Err(Errno::WOULDBLOCK) => {
            Err(hinted("Iguana is already running on this system", "wait for the other run to end"))
        }
        Err(error) => Err(error).context("cannot lock `/run/iguana/lock`"),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these tests play the container")]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn only_the_mount_of_the_run_is_unmounted() {
        let root = "22 1 254:0 / / rw - ext4 /dev/vda1 rw\n";
        let disk = "40 22 254:16 / /iguana rw,relatime shared:1 - ext4 /dev/vdb rw\n";
        let ours = "41 22 0:40 / /iguana rw,nosuid,nodev shared:2 - tmpfs iguana rw,size=65536k\n";
        let below = "42 41 0:41 / /iguana/unprivileged rw - tmpfs iguana rw,size=16384k\n";
        let other = "43 22 0:42 / /iguana rw - tmpfs tmpfs rw\n";
        let is_ours = |lines: &[&str]| super::is_ours(&lines.concat());
        assert!(is_ours(&[root, ours, below]) && is_ours(&[root, disk, ours]));
        assert!(!is_ours(&[root]) && !is_ours(&[root, ours, disk]) && !is_ours(&[root, other]));
        assert!(!is_ours(&[root, below]));
    }

    #[test]
    fn the_shared_directory_is_found_wherever_it_is_mounted() {
        let shared = "41 22 0:40 / /iguana rw - tmpfs iguana rw\n42 41 0:41 / /iguana/unprivileged rw - tmpfs iguana rw\n\
            43 22 0:42 / /run/iguana rw - tmpfs tmpfs rw\n44 43 0:43 / /run/iguana/store rw - tmpfs tmpfs rw\n";
        let there = |line: &str| is_shown_below(&format!("{shared}{line}"), Path::new("/sysroot"));
        for device in ["0:40", "0:41", "0:42", "0:43"] {
            assert!(there(&format!("50 22 {device} /a /sysroot/x/y rw - tmpfs iguana rw")), "{device}");
            assert!(!there(&format!("50 22 {device} /a /sysroots rw - tmpfs iguana rw")), "{device}");
        }
        assert!(!there("50 22 254:1 / /sysroot rw - ext4 /dev/vda1 rw"));
    }

    #[test]
    fn only_root_can_hold_the_lock_of_the_machine() {
        let home = tempfile::tempdir().unwrap();
        let own = Directory::open(home.path()).unwrap();
        let held = lock_in(&own).unwrap();
        assert_eq!(fstat(&held).unwrap().st_mode & 0o777, 0o700);
        // A lock of the directory itself, which anybody may open.
        let by_others = File::open(home.path()).unwrap();
        flock(&by_others, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(lock_in(&own).unwrap_err().to_string().contains("already running"));
        drop(held);
        lock_in(&own).unwrap();
    }

    #[test]
    fn the_limits_are_the_workflow_s_or_parts_of_the_memory() {
        assert_eq!(Limits::new(Some(5), 1 << 40), Limits { shared: 5, of_others: 5 });
        assert_eq!(Limits::new(None, 8 << 30), Limits { shared: 2 << 30, of_others: 512 << 20 });
        assert_eq!(Limits::new(None, 0), Limits { shared: 64 << 20, of_others: 16 << 20 });
        assert_eq!(options(0).unwrap().to_str().unwrap(), "mode=0755,size=1,nr_inodes=1024");
    }

    #[test]
    fn paths_of_containers_are_recognised_in_every_spelling() {
        for path in ["/iguana", "/iguana/new", "//run/./iguana/x", "/tmp/../iguana", "iguana/x", "/../iguana"]
        {
            assert!(is_of_containers(Path::new(path)), "{path}");
        }
        for path in ["/", "/iguanas", "/run", "/sysroot/iguana", "/iguana/../sysroot", "/dev/null"] {
            assert!(!is_of_containers(Path::new(path)), "{path}");
        }
        let home = tempfile::tempdir().unwrap();
        let link = home.path().join("link");
        std::os::unix::fs::symlink("/proc/self/root/run", &link).unwrap();
        assert!(!is_of_containers(&link.join("nothing")));
    }
}
