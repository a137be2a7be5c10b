//! What Iguana leaves in the new system: the machine's identity, and the log.

use super::system::new_root;
use super::{DISK_LIMIT, silent_disk};
use crate::bounded;
use crate::report::{EVENTS, LOG, Report};
use anyhow::Context as _;
use rustix::fs::fstat;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use untrusted_fs::{Directory, Links};

/// The identity is kept where the new system finds it, too.
const KEPT: &str = "/run/iguana";
const IDENTITY: &str = "machine-id";
/// Of the new system.
const ITS_IDENTITY: &str = "etc/machine-id";
/// Bytes of such a file; one has 33 (machine-id(5)).
const IDENTITY_LIMIT: u64 = 4096;
/// Bytes of the log, twice what it has at most.
const LOG_LIMIT: u64 = 8 << 20;
/// What is moved to `/run` has this name there meanwhile.
const MOVED: &str = ".iguana";
/// What systemd reads at its first boot (systemd.system-credentials(7), `system.machine_id`): an initrd hands
/// credentials over in the directory `/run/credentials/@initrd`.
const RUN: &str = "/run";
const CREDENTIALS: &[&str] = &["credentials", "@initrd"];
const CREDENTIAL: &str = "system.machine_id";
/// Where the new system keeps logs, and the directory for ours there, with its mode, and the logs'.
const LOGS: &str = "var/log";
const OUR_LOGS: (&str, u32) = ("iguana", 0o750);
const LOG_MODE: u32 = 0o640;
/// Ours, and what they are called there: in words, and as events.
const COPIES: &[(&str, &str)] = &[(LOG, "boot.log"), (EVENTS, "boot.jsonl")];

/// Keeps the identity where the new system finds it: before any job, while there is room for it.
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

/// Leaves all of it. What cannot be left is told: it is no reason to stay.
pub(super) fn leave(identity: Option<&str>, report: &Report) {
    if let Err(error) = identity.map_or(Ok(()), leave_identity) {
        report.warn(format_args!("the machine-id is not handed over: {error:#}"));
    }
    let left = bounded::within(DISK_LIMIT, leave_log).unwrap_or_else(|| Err(silent_disk()));
    if let Err(error) = left {
        report.detail(format_args!("handover: the log stays in `{LOG}` only: {error:#}"));
    }
}

/// Moves what the new system finds in `/run/iguana` from its file system to `/run`, and lets go of the file system. Where
/// `/run` has no room, it stays with all that is in it.
///
/// # Errors
/// When it stays.
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
    // What it was mounted at is an empty directory, which rename(2) replaces.
    Ok(run.move_to(MOVED, &run, Path::new(KEPT).file_name().unwrap_or_default())?)
}

/// The identity first: it needs the least, and matters most.
fn copy_kept(kept: &Directory, new: &Directory) -> anyhow::Result<()> {
    let log = |path| (Path::new(path).file_name().unwrap_or_default(), 0o644, LOG_LIMIT);
    for (name, mode, limit) in [(IDENTITY.as_ref(), 0o644, IDENTITY_LIMIT), log(LOG), log(EVENTS)] {
        if kept.stat(name, Links::Refuse)?.is_some() {
            new.replace(name, mode, &kept.read(name, Links::Refuse, limit)?)?;
        }
    }
    Ok(())
}

/// Gives the identity to a system that has none, as machine-id(5) divides the cases ("First Boot Semantics").
/// `identity` is what Iguana made and told the containers, not what they have made of it.
fn leave_identity(identity: &str) -> anyhow::Result<()> {
    keep_identity(identity)?;
    let root = new_root()?;
    match root.read_to_string(ITS_IDENTITY, Links::Inside, IDENTITY_LIMIT).ok() {
        // It has one already, or has an empty file for one: what is mounted over it is written down by
        // systemd-machine-id-commit.service(8) as soon as it can.
        Some(own) if own.trim().is_empty() => cover(&root, ITS_IDENTITY, &format!("{KEPT}/{IDENTITY}")),
        Some(own) if own.trim() != "uninitialized" => Ok(()),
        // Its first boot: a file would tell systemd that there has been one already.
        _ => {
            let mut directory = Directory::open(RUN)?;
            for name in CREDENTIALS {
                directory = directory.directory_or_new(name, 0o755)?;
            }
            Ok(directory.replace(CREDENTIAL, 0o600, identity.as_bytes())?)
        }
    }
}

/// Mounts a file over one of the new system.
fn cover(root: &Directory, path: &str, with: &str) -> anyhow::Result<()> {
    let file = root.file(path, Links::Inside)?;
    mount_bind(with, format!("/proc/self/fd/{}", file.as_raw_fd()))
        .with_context(|| format!("cannot cover `/{path}`"))
}

/// Copies the logs to where the new system keeps its own, if it has such a place and it can be written.
fn leave_log() -> anyhow::Result<()> {
    let root = new_root()?;
    COPIES.iter().try_for_each(|(ours, name)| put_log(&root, name, &fs::read(ours)?))
}

fn put_log(root: &Directory, name: &str, log: &[u8]) -> anyhow::Result<()> {
    let logs = root.directory(LOGS, Links::Inside).context("there is no `/var/log`")?;
    Ok(logs.directory_or_new(OUR_LOGS.0, OUR_LOGS.1)?.replace(name, LOG_MODE, log)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::symlink;

    #[test]
    fn the_identity_is_whole_and_what_jobs_made_of_it_is_replaced() {
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
    fn what_is_kept_is_copied_whole() {
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
    fn the_log_goes_into_the_new_system_and_through_nothing_that_lies_there() {
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
