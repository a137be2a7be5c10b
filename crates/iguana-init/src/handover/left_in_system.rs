//! What Iguana leaves in the new system: the machine-id and the log.

use super::system::new_root;
use super::{DISK_LIMIT, silent_disk};
use crate::bounded;
use crate::report::{EVENTS, LOG, Report};
use anyhow::Context as _;
use rustix::fs::fstat;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use untrusted_fs::{Directory, Links};

/// The directory and file in which the machine-id of this boot is kept, also for the new system.
const KEPT: &str = "/run/iguana";
const IDENTITY: &str = "machine-id";
/// The new system's own file.
const ITS_IDENTITY: &str = "etc/machine-id";
/// Bytes of a machine-id file that are read; one has 33 (machine-id(5)).
const IDENTITY_LIMIT: u64 = 4096;
/// Bytes of the log that are copied: twice its limit.
const LOG_LIMIT: u64 = 8 << 20;
/// The temporary name in `/run` of what is moved there.
const MOVED: &str = ".iguana";
/// A system credential that systemd reads at its first boot (systemd.system-credentials(7), `system.machine_id`). An
/// initrd passes credentials in the directory `/run/credentials/@initrd`.
const RUN: &str = "/run";
const CREDENTIALS: &[&str] = &["credentials", "@initrd"];
const CREDENTIAL: &str = "system.machine_id";
/// The log directory of the new system, Iguana's directory in it with its mode, and the mode of the files.
const LOGS: &str = "var/log";
const OUR_LOGS: (&str, u32) = ("iguana", 0o750);
const LOG_MODE: u32 = 0o640;
/// The logs, as text and as events, and their names in the new system.
const COPIES: &[(&str, &str)] = &[(LOG, "boot.log"), (EVENTS, "boot.jsonl")];

/// Keeps the machine-id where the new system finds it. Called before the first job, while there is certainly room.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn keep_identity(identity: &str) -> anyhow::Result<()> {
    keep_in(&Directory::open(KEPT)?, identity)
}

fn keep_in(kept: &Directory, identity: &str) -> anyhow::Result<()> {
    let text = format!("{identity}\n");
    if kept.read_to_string(IDENTITY, Links::Refuse, IDENTITY_LIMIT).is_ok_and(|own| own == text) {
        return Ok(());
    }
    kept.replace(IDENTITY, 0o644, text.as_bytes())
        .with_context(|| format!("cannot write `{KEPT}/{IDENTITY}`"))
}

/// Leaves machine-id and log. A failure is only reported: it is no reason not to enter the new system.
pub(super) fn leave(identity: Option<&str>, report: &Report) {
    if let Err(error) = identity.map_or(Ok(()), leave_identity) {
        report.warn(format_args!("cannot hand over the machine-id: {error:#}"));
    }
    let left = bounded::within(DISK_LIMIT, leave_log).unwrap_or_else(|| Err(silent_disk()));
    if let Err(error) = left {
        report.detail(format_args!("handover: cannot copy the log, it remains in `{LOG}`: {error:#}"));
    }
}

/// Moves the files for the new system from the file system `/run/iguana` to the directory of the same name in `/run`,
/// and unmounts the file system. If `/run` is full, the file system stays.
///
/// # Errors
/// When the file system stays.
pub(crate) fn move_to_run() -> anyhow::Result<()> {
    let (run, kept) = (Directory::open(RUN)?, Directory::open(KEPT)?);
    if fstat(&run)?.st_dev == fstat(&kept)?.st_dev {
        return Ok(());
    }
    run.remove(MOVED)?;
    let copied = copy_kept(&kept, &run.create_directory(MOVED, 0o755)?);
    if let Err(error) = copied {
        run.remove(MOVED)?;
        return Err(error);
    }
    drop(kept);
    unmount(KEPT, UnmountFlags::DETACH).with_context(|| format!("cannot unmount `{KEPT}`"))?;
    // The mount point is an empty directory, which rename(2) replaces.
    Ok(run.move_to(MOVED, &run, Path::new(KEPT).file_name().unwrap_or_default())?)
}

/// The machine-id first: it is the smallest and the most important.
fn copy_kept(kept: &Directory, new: &Directory) -> anyhow::Result<()> {
    let log = |path| (Path::new(path).file_name().unwrap_or_default(), 0o644, LOG_LIMIT);
    for (name, mode, limit) in [(IDENTITY.as_ref(), 0o644, IDENTITY_LIMIT), log(LOG), log(EVENTS)] {
        if kept.stat(name, Links::Refuse)?.is_some() {
            new.replace(name, mode, &kept.read(name, Links::Refuse, limit)?)?;
        }
    }
    Ok(())
}

/// Gives the machine-id to a system that has none, following the cases of machine-id(5), "First Boot Semantics".
/// `identity` is the value that Iguana made, whatever containers did to the file.
fn leave_identity(identity: &str) -> anyhow::Result<()> {
    keep_identity(identity)?;
    let root = new_root()?;
    match root.read_to_string(ITS_IDENTITY, Links::Inside, IDENTITY_LIMIT).ok() {
        // It has its own; or its file is empty: then systemd-machine-id-commit.service(8) writes what is mounted over
        // the file to the disk.
        Some(own) if own.trim().is_empty() => cover(&root, ITS_IDENTITY, &format!("{KEPT}/{IDENTITY}")),
        Some(own) if own.trim() != "uninitialized" => Ok(()),
        // First boot: with a file, systemd would assume that the first boot has already happened.
        _ => {
            let mut directory = Directory::open(RUN)?;
            for name in CREDENTIALS {
                directory = directory.directory_or_new(name, 0o755)?;
            }
            Ok(directory.replace(CREDENTIAL, 0o600, identity.as_bytes())?)
        }
    }
}

/// Bind-mounts a file over a file of the new system.
fn cover(root: &Directory, path: &str, with: &str) -> anyhow::Result<()> {
    let file = root.file(path, Links::Inside)?;
    mount_bind(with, format!("/proc/self/fd/{}", file.as_raw_fd()))
        .with_context(|| format!("cannot mount over `/{path}`"))
}

/// Copies the logs to the new system's log directory, if it has one that can be written.
fn leave_log() -> anyhow::Result<()> {
    let (kept, root) = (Directory::open(KEPT)?, new_root()?);
    COPIES.iter().try_for_each(|(ours, name)| {
        // A container may have been given the file to write.
        let log = kept.read(Path::new(ours).file_name().unwrap_or_default(), Links::Refuse, LOG_LIMIT)?;
        put_log(&root, name, &log)
    })
}

fn put_log(root: &Directory, name: &str, log: &[u8]) -> anyhow::Result<()> {
    let logs = root.directory(LOGS, Links::Inside).context("it has no `/var/log`")?;
    Ok(logs.directory_or_new(OUR_LOGS.0, OUR_LOGS.1)?.replace(name, LOG_MODE, log)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_damaged_machine_identity_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let (kept, path) = (Directory::open(home.path()).unwrap(), home.path().join(IDENTITY));
        keep_in(&kept, "0123").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "0123\n");
        for spoilt in ["", "0123", "4567\n"] {
            fs::write(&path, spoilt).unwrap();
            keep_in(&kept, "0123").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "0123\n");
        }
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn kept_files_are_copied_completely() {
        let (home, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |directory: &tempfile::TempDir| Directory::open(directory.path()).unwrap();
        copy_kept(&open(&home), &open(&new)).unwrap();
        assert_eq!(fs::read_dir(new.path()).unwrap().count(), 0);
        fs::write(home.path().join("machine-id"), "0123\n").unwrap();
        fs::write(home.path().join("log"), "said\n").unwrap();
        fs::write(home.path().join("log.jsonl"), "{}\n").unwrap();
        fs::create_dir(home.path().join("services")).unwrap();
        copy_kept(&open(&home), &open(&new)).unwrap();
        assert_eq!(fs::read_to_string(new.path().join("machine-id")).unwrap(), "0123\n");
        assert_eq!(fs::read_to_string(new.path().join("log")).unwrap(), "said\n");
        assert_eq!(fs::read_to_string(new.path().join("log.jsonl")).unwrap(), "{}\n");
        assert_eq!(fs::read_dir(new.path()).unwrap().count(), 3);
    }

    #[test]
    fn the_log_is_copied_into_the_new_system_without_following_links() {
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let logs = home.path().join("data/log");
        fs::create_dir_all(logs.join("iguana")).unwrap();
        fs::create_dir(home.path().join("var")).unwrap();
        symlink("/data/log", home.path().join("var/log")).unwrap();
        mknodat(CWD, logs.join("iguana/boot.log"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let root = Directory::open(home.path()).unwrap();
        put_log(&root, "boot.log", b"log").unwrap();
        assert_eq!(fs::read(logs.join("iguana/boot.log")).unwrap(), b"log");
        fs::remove_dir_all(logs.join("iguana")).unwrap();
        symlink(outside.path(), logs.join("iguana")).unwrap();
        assert!(put_log(&root, "boot.log", b"log").is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
