//! Into the new system: its first program, and the switch of the root (switch_root(8)).

use super::NEW_ROOT;
use crate::sys;
use anyhow::Context as _;
use iguana_core::hint::hinted;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, open, openat, openat2, statat, unlinkat,
};
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

/// Where a system has its first program, in the kernel's own order (init/main.c) with systemd's place before.
const INITS: &[&str] =
    &["/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/etc/init", "/bin/init"];
/// What goes on living in the new system.
const MOVED: &[&str] = &["/dev", "/proc", "/sys", "/run"];
/// How long killed processes may take to go.
const END_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What holds memory and must not outlive the initrd; the inner ones first.
const LEFT_BEHIND: &[&str] = &["/run/iguana/store"];

/// The new system's first program, as a path in it.
pub(super) fn find_init(root: &Path, wanted: Option<&str>) -> anyhow::Result<String> {
    let folder = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let is_program = |path: &str| {
        let file =
            openat2(&folder, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT);
        let stat = file.and_then(|file| rustix::fs::fstat(&file));
        stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0
        })
    };
    let candidates = wanted.map_or(INITS.to_vec(), |path| vec![path]);
    candidates.iter().find(|path| is_program(path)).map(|path| (*path).to_owned()).ok_or_else(|| {
        hinted(
            format!("the new system has no program at `{}`", candidates.join("`, `")),
            match wanted {
                Some(_) => "correct `init=` on the kernel command line",
                None => "check that the installation is complete, or name its first program with `init=`",
            },
        )
    })
}

/// Ends the initrd and goes on as the new system's first program. Only process 1 can do this.
///
/// # Errors
/// Only when it fails.
pub(crate) fn switch_root(init: &str) -> anyhow::Result<Infallible> {
    end_other_processes();
    for path in LEFT_BEHIND {
        release(path)?;
    }
    release_modules();
    let old_root = open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for path in MOVED {
        let target = format!("{NEW_ROOT}{path}");
        fs::create_dir_all(&target).with_context(|| format!("cannot make `{target}`"))?;
        mount_move(*path, &target).with_context(|| format!("cannot move `{path}` to the new system"))?;
    }
    rustix::process::chdir(NEW_ROOT)?;
    if is_memory(&old_root)? {
        empty(old_root.as_fd(), statat(&old_root, "", AtFlags::EMPTY_PATH)?.st_dev);
    }
    mount_move(".", "/").context("cannot move the new system's root to `/`")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    // The kernel gave the words behind `--` to us for the new system's first program.
    let error = Command::new(init).args(std::env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("cannot execute `{init}`"))
}

/// Nothing of ours runs any more; whatever does was left by a container.
fn end_other_processes() {
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
        // A folder that nothing is mounted at is emptied with the rest.
        let _ = unmount(entry.path(), UnmountFlags::DETACH);
    }
}

/// Whether a file system is ramfs or tmpfs (linux/magic.h): nothing else is ever emptied.
fn is_memory(root: &OwnedFd) -> anyhow::Result<bool> {
    let kind = rustix::fs::fstatfs(root)?.f_type;
    Ok([0x8584_58f6, 0x0102_1994].contains(&(kind as u64)))
}

/// Removes everything on the initrd's own file system, which is memory.
fn empty(folder: BorrowedFd<'_>, device: u64) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != device {
            continue;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let _ = unlinkat(folder, name, AtFlags::empty());
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(inner) = openat(folder, name, flags, Mode::empty()) {
            empty(inner.as_fd(), device);
        }
        // A mountpoint cannot be removed, and must not be.
        let _ = unlinkat(folder, name, AtFlags::REMOVEDIR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn the_first_program_is_found_inside_the_new_root() {
        let root = std::env::temp_dir().join(format!("iguana-root-{}", std::process::id()));
        fs::create_dir_all(root.join("usr/lib/systemd")).unwrap();
        fs::create_dir_all(root.join("sbin")).unwrap();
        symlink("/usr/lib/systemd/systemd", root.join("sbin/init")).unwrap();
        assert!(find_init(&root, None).is_err());
        let program = root.join("usr/lib/systemd/systemd");
        fs::write(&program, "").unwrap();
        assert!(find_init(&root, None).is_err(), "it is not executable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_init(&root, None).unwrap(), "/sbin/init");
        let error = find_init(&root, Some("/bin/none")).unwrap_err();
        assert!(error.to_string().contains("`/bin/none`"));
        fs::remove_dir_all(&root).unwrap();
    }
}
