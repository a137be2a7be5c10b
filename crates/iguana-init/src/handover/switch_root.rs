//! Switches to the new system's root, as switch_root(8) does.

use super::system::Mountpoint;
use super::{DISK_LIMIT, NEW_ROOT, silent_disk};
use crate::bounded;
use crate::machine::{media, memory};
use crate::report::Report;
use anyhow::Context as _;
use config::inheritance::Inheritance;
use hint::WithHint as _;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, open, openat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_move, mount_remount, unmount};
use rustix::process::WaitOptions;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use untrusted_fs::Directory;

/// Mounts that are moved into the new system.
const MOVED: &[&str] = &["/dev", "/proc", "/sys", "/run"];
/// The kernel's command line, and the file in `/run` that covers it.
const CMDLINE: &str = "/proc/cmdline";
const COVER: &str = "iguana-cmdline";
const COVER_MODE: u32 = 0o444;
/// How long killed processes may take to exit.
const END_LIMIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Levels of directories that are removed in one pass; each takes two descriptors, of which a process has at least 1024.
const DEPTH_AT_ONCE: usize = 100;

/// Ends the initrd and executes the new system's init program. Only PID 1 can do this.
///
/// # Errors
/// Returns only when it fails.
pub(crate) fn switch_root(
    init: &str,
    inheritance: &Inheritance,
    report: &Report,
) -> anyhow::Result<Infallible> {
    end_other_processes();
    release_resources()?;
    if let Err(error) = super::move_to_run() {
        report.warn(format_args!("cannot move `/run/iguana` out of its file system: {error:#}"));
    }
    if let Some(text) = &inheritance.cmdline {
        let words = inheritance.withheld.join("`, `");
        report.warn(format_args!(
            "the new system does not see these words of the kernel command line: `{words}`: the trust directory of this \
             initrd does not allow them"
        ));
        cover_cmdline(text).with_context(|| format!("cannot hide them in `{CMDLINE}`"))?;
    }
    let old_root = open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    enter_new_root(&targets()?)?;
    if is_memory(&old_root)? {
        empty_aside(&old_root)?;
    }
    let mut command = Command::new(init);
    command.args(&inheritance.arguments).env_clear();
    command.envs(inheritance.environment.iter().map(|(name, value)| (name, value)));
    Err(command.exec()).with_context(|| format!("cannot execute `{init}`"))
}

/// Mounts this text over the kernel's command line. `/proc` and `/run` move into the new system, and the mount with them.
fn cover_cmdline(text: &str) -> anyhow::Result<()> {
    let run = Directory::open("/run")?;
    run.replace(COVER, COVER_MODE, text.as_bytes())?;
    mount_bind(Path::new("/run").join(COVER), CMDLINE)?;
    Ok(mount_remount(CMDLINE, MountFlags::BIND | MountFlags::RDONLY, "")?)
}

/// Moves the mounts of the kernel into the new system, and the new system's root to `/`. If that fails, everything is moved
/// back, so that the initrd's shell has its `/dev`.
fn enter_new_root(targets: &[(&'static str, Mountpoint)]) -> anyhow::Result<()> {
    let mut moved = Vec::new();
    let entered = targets.iter().try_for_each(|(path, target)| {
        mount_move(*path, &target.path).with_context(|| format!("cannot move `{path}` to the new system"))?;
        moved.push((*path, &target.path));
        Ok(())
    });
    let entered = entered.and_then(|()| {
        rustix::process::chdir(NEW_ROOT)?;
        mount_move(".", "/").context("cannot move the new system's root to `/`")
    });
    if let Err(error) = entered {
        // Ignored, as nothing else can be done: the error that is returned is the reason for both.
        let _ = rustix::process::chdir("/");
        for (path, target) in moved.iter().rev() {
            let _ = mount_move(*target, *path);
        }
        return Err(error);
    }
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// The mount points in the new system for [`MOVED`]. All are opened while `/proc` is still mounted here: `/run` may be
/// a link there.
fn targets() -> anyhow::Result<Vec<(&'static str, Mountpoint)>> {
    let target = |path: &&'static str| {
        let found = Mountpoint::open(Path::new(&format!("{NEW_ROOT}{path}")));
        let found = found.with_context(|| format!("cannot create `{NEW_ROOT}{path}`"));
        Ok((
            *path,
            found
                .hint("the new system needs this directory: add it to the image if its root is read-only")?,
        ))
    };
    MOVED.iter().map(target).collect()
}

/// Creates the mount points, which also reads the directories from the new system's disk into the cache.
///
/// # Errors
/// When one cannot be created.
pub(super) fn make_mountpoints() -> anyhow::Result<()> {
    targets().map(drop)
}

/// Frees memory for the new system. Does not unmount the disk that the workflow came from, which may not answer. The
/// boot has tried that; if it failed, the mount moves to the new system with `/run`.
fn release_resources() -> anyhow::Result<()> {
    exchange::release()?;
    release_store()?;
    memory::stop_swapping();
    release_modules();
    Ok(())
}

/// Unmounts the store.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn release_store() -> anyhow::Result<()> {
    release(memory::STORE)
}

/// Unmounts the disk that the workflow came from.
///
/// # Errors
/// When the kernel refuses, or the disk does not answer.
pub(crate) fn release_media() -> anyhow::Result<()> {
    bounded::within(DISK_LIMIT, || release(media::MOUNTPOINT)).unwrap_or_else(|| Err(silent_disk()))
}

/// Kills all other processes. Those of Iguana have ended by now; any others were left by containers.
pub(crate) fn end_other_processes() {
    sys::kill_all_others();
    let start = Instant::now();
    // A process that waits for a broken disk cannot be killed, so stop waiting after a limit.
    while rustix::process::wait(WaitOptions::NOHANG).is_ok() && start.elapsed() < END_LIMIT {
        thread::sleep(POLL_INTERVAL);
    }
}

fn release(path: &str) -> anyhow::Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        // It was never mounted.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot unmount `{path}`")),
    }
}

/// Unmounts the image of the kernel modules, which also frees its loop device.
fn release_modules() {
    for entry in fs::read_dir("/lib/modules").into_iter().flatten().flatten() {
        // Fails for a directory that is not a mount point; that is removed with the rest.
        let _ = unmount(entry.path(), UnmountFlags::DETACH);
    }
}

/// Whether a file system is ramfs or tmpfs (linux/magic.h). Nothing else is ever emptied.
fn is_memory(root: &OwnedFd) -> anyhow::Result<bool> {
    let kind = rustix::fs::fstatfs(root)?.f_type;
    Ok([0x8584_58f6, 0x0102_1994].contains(&(kind as u64)))
}

/// Empties the initrd's file system in a child process while the new system starts, as util-linux' switch_root does. If
/// there is no child, empties it before that.
fn empty_aside(old_root: &OwnedFd) -> anyhow::Result<()> {
    let device = statat(old_root, "", AtFlags::EMPTY_PATH)?.st_dev;
    let copy = sys::copy();
    if !matches!(copy, Ok(Some(_))) {
        empty(old_root.as_fd(), device);
    }
    if let Ok(None) = copy {
        std::process::exit(0);
    }
    Ok(())
}

/// Removes everything on the initrd's file system, which is in memory, however deep it is.
fn empty(root: BorrowedFd<'_>, device: u64) {
    while empty_below(root, root, device, DEPTH_AT_ONCE) {}
}

/// Empties a directory. Directories that are too deep for one pass are moved up into `root`; the result is then `true`, and
/// `root` has to be emptied again.
fn empty_below(directory: BorrowedFd<'_>, root: BorrowedFd<'_>, device: u64, depth: usize) -> bool {
    let Ok(entries) = Dir::read_from(directory) else { return false };
    let mut has_moved = false;
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != device {
            continue;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let _ = unlinkat(directory, name, AtFlags::empty());
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if depth == 0 {
            // The number of the inode makes the name unique.
            let above = format!("removed-{}", stat.st_ino);
            has_moved |= renameat_with(directory, name, root, above, RenameFlags::NOREPLACE).is_ok();
            continue;
        }
        if let Ok(inner) = openat(directory, name, flags, Mode::empty()) {
            has_moved |= empty_below(inner.as_fd(), root, device, depth - 1);
        }
        // Fails for a mount point, which must stay.
        let _ = unlinkat(directory, name, AtFlags::REMOVEDIR);
    }
    has_moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    #[test]
    fn a_very_deep_tree_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let root = open(home.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut deepest = root.try_clone().unwrap();
        for _ in 0..5_000 {
            mkdirat(&deepest, "d", Mode::RWXU).unwrap();
            deepest = openat(&deepest, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        openat(&deepest, "large", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
        empty(root.as_fd(), statat(&root, "", AtFlags::EMPTY_PATH).unwrap().st_dev);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
