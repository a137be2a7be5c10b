//! The switch to the new system's root (switch_root(8)).

use super::system::Mountpoint;
use super::{DISK_LIMIT, NEW_ROOT, silent_disk};
use crate::bounded;
use crate::machine::{media, memory};
use crate::report::Report;
use anyhow::Context as _;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_move, unmount};
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

/// What goes on living in the new system.
const MOVED: &[&str] = &["/dev", "/proc", "/sys", "/run"];
/// How long killed processes may take to go.
const END_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Ends the initrd and goes on as the new system's first program. Only PID 1 can do this.
///
/// # Errors
/// Only when it fails.
pub(crate) fn switch_root(init: &str, report: &Report) -> anyhow::Result<Infallible> {
    end_other_processes();
    release_resources()?;
    if let Err(error) = super::move_to_run() {
        report.warn(format_args!("`/run/iguana` stays a file system of its own: {error:#}"));
    }
    let old_root = open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for (path, target) in targets()? {
        mount_move(path, &target.path).with_context(|| format!("cannot move `{path}` to the new system"))?;
    }
    rustix::process::chdir(NEW_ROOT)?;
    if is_memory(&old_root)? {
        empty_aside(&old_root)?;
    }
    mount_move(".", "/").context("cannot move the new system's root to `/`")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    // The kernel gave the words behind `--` to us for the new system's first program.
    let error = Command::new(init).args(std::env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("cannot execute `{init}`"))
}

/// Where in the new system they go, all found while `/proc` is still here: `/run` may be a link there.
fn targets() -> anyhow::Result<Vec<(&'static str, Mountpoint)>> {
    let target = |path: &&'static str| {
        let found = Mountpoint::open(Path::new(&format!("{NEW_ROOT}{path}")));
        Ok((*path, found.with_context(|| format!("cannot make `{NEW_ROOT}{path}`"))?))
    };
    MOVED.iter().map(target).collect()
}

/// Makes where they go, and has what is needed for it read from the new system's disk.
///
/// # Errors
/// When something cannot be made.
pub(super) fn make_mountpoints() -> anyhow::Result<()> {
    targets().map(drop)
}

/// Lets go of what holds memory. Not of the disk that the workflow came from, which may not answer: the boot has, and if it
/// could not, the mount goes on with `/run`.
fn release_resources() -> anyhow::Result<()> {
    exchange::release()?;
    release_store()?;
    memory::stop_swapping();
    release_modules();
    Ok(())
}

/// Lets go of the images.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn release_store() -> anyhow::Result<()> {
    release(memory::STORE)
}

/// Lets go of the disk that the workflow came from.
///
/// # Errors
/// When the kernel refuses, or the disk does not answer.
pub(crate) fn release_media() -> anyhow::Result<()> {
    bounded::within(DISK_LIMIT, || release(media::MOUNTPOINT)).unwrap_or_else(|| Err(silent_disk()))
}

/// Nothing of ours runs any more; whatever does was left by a container.
pub(crate) fn end_other_processes() {
    sys::kill_all_others();
    let start = Instant::now();
    // One that waits for a broken disk cannot be killed; the new system has to live with it.
    while rustix::process::wait(WaitOptions::NOHANG).is_ok() && start.elapsed() < END_LIMIT {
        thread::sleep(LOOK_EVERY);
    }
}

fn release(path: &str) -> anyhow::Result<()> {
    match unmount(path, UnmountFlags::DETACH) {
        // It was never mounted.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot unmount `{path}`")),
    }
}

/// The modules' image: its loop device ends with the mount.
fn release_modules() {
    for entry in fs::read_dir("/lib/modules").into_iter().flatten().flatten() {
        // A directory that nothing is mounted at is emptied with the rest.
        let _ = unmount(entry.path(), UnmountFlags::DETACH);
    }
}

/// Whether a file system is ramfs or tmpfs (linux/magic.h): nothing else is ever emptied.
fn is_memory(root: &OwnedFd) -> anyhow::Result<bool> {
    let kind = rustix::fs::fstatfs(root)?.f_type;
    Ok([0x8584_58f6, 0x0102_1994].contains(&(kind as u64)))
}

/// Removes everything on the initrd's own file system while the new system begins, as util-linux' switch_root does it.
/// Without a second process it takes its time here.
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

/// Removes everything on the initrd's own file system, which is memory.
fn empty(directory: BorrowedFd<'_>, device: u64) {
    let Ok(entries) = Dir::read_from(directory) else { return };
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
        if let Ok(inner) = openat(directory, name, flags, Mode::empty()) {
            empty(inner.as_fd(), device);
        }
        // A mountpoint cannot be removed, and must not be.
        let _ = unlinkat(directory, name, AtFlags::REMOVEDIR);
    }
}
