//! What Iguana leaves in the new system: the machine's identity, and the log.

use super::NEW_ROOT;
use super::system::open_inside;
use crate::report::{LOG, Report};
use anyhow::Context as _;
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::mount::mount_bind;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// The identity that the containers have seen.
const IDENTITY: &str = "/iguana/machine-id";
/// It is kept where the new system finds it, too.
const KEPT_IDENTITY: &str = "/run/iguana/machine-id";
/// Of the new system.
const ITS_IDENTITY: &str = "etc/machine-id";
/// What systemd reads at its first boot (systemd.system-credentials(7), `system.machine_id`): an initrd hands
/// credentials over in this folder.
const CREDENTIALS: &str = "/run/credentials/@initrd";
const CREDENTIAL: &str = "system.machine_id";
/// Where the new system keeps logs, and the folder for ours there.
const LOGS: &str = "var/log";
const OUR_LOGS: &str = "var/log/iguana";

/// Leaves all of it. What cannot be left is told: it is no reason to stay.
pub(super) fn leave(report: &Report) {
    if let Err(error) = leave_identity() {
        report.warn(format_args!("the machine-id is not handed over: {error:#}"));
    }
    if let Err(error) = leave_log() {
        report.detail(format_args!("handover: the log stays in `{LOG}` only: {error:#}"));
    }
}

/// Gives the identity to a system that has none, as machine-id(5) divides the cases ("First Boot Semantics").
fn leave_identity() -> anyhow::Result<()> {
    let Ok(identity) = fs::read_to_string(IDENTITY) else { return Ok(()) };
    fs::write(KEPT_IDENTITY, &identity)?;
    let its_own = open_inside(Path::new(NEW_ROOT), Path::new(ITS_IDENTITY));
    match its_own.ok().and_then(|file| io::read_to_string(file).ok()) {
        // It has one already, or has an empty file for one: what is mounted over it is written down by
        // systemd-machine-id-commit.service(8) as soon as it can.
        Some(own) if own.trim().is_empty() => cover(ITS_IDENTITY, KEPT_IDENTITY),
        Some(own) if own.trim() != "uninitialized" => Ok(()),
        // Its first boot: a file would tell systemd that there has been one already.
        _ => {
            fs::create_dir_all(CREDENTIALS)?;
            Ok(fs::write(Path::new(CREDENTIALS).join(CREDENTIAL), identity.trim())?)
        }
    }
}

/// Mounts a file over one of the new system.
fn cover(path: &str, with: &str) -> anyhow::Result<()> {
    let file = open_inside(Path::new(NEW_ROOT), Path::new(path))?;
    mount_bind(with, format!("/proc/self/fd/{}", file.as_raw_fd()))
        .with_context(|| format!("cannot cover `/{path}`"))
}

/// Copies the log to where the new system keeps its own, if it has such a place and it can be written.
fn leave_log() -> anyhow::Result<()> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(NEW_ROOT, folder, Mode::empty())?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let logs = openat2(&root, LOGS, folder, Mode::empty(), inside).context("there is no `/var/log`")?;
    match rustix::fs::mkdirat(&logs, "iguana", Mode::from_raw_mode(0o750)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        refused => refused?,
    }
    let ours = openat2(&root, OUR_LOGS, folder, Mode::empty(), inside)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = openat2(&ours, "boot.log", flags, Mode::from_raw_mode(0o640), ResolveFlags::BENEATH)?;
    Ok(File::from(copy).write_all(&fs::read(LOG)?)?)
}
