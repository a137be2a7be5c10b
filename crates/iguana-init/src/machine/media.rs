//! Files on a local disk, USB stick or optical disc: `hd:DEVICE:PATH`. The file system stays mounted, read-only, until
//! the handover, because images are read directly from it.

use crate::block;
use crate::block::{Usage, named};
use crate::report::Report;
use anyhow::{Context as _, ensure};
use fetch::http::DOCUMENT_LIMIT;
use hint::{WithHint as _, hinted};
use rustix::mount::{MountFlags, mount};
use std::fs;
use std::path::{Component, Path, PathBuf};
use untrusted_fs::{Directory, Links};

/// The prefix of such a URL.
pub(crate) const SCHEME: &str = "hd:";
/// Where the file system is mounted.
pub(crate) const MOUNTPOINT: &str = "/run/iguana/media";
/// Only regular files are read there, and links are not followed.
const FLAGS: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NOSYMFOLLOW);
const WITHOUT_LINKS: &str = "use the path of the file itself: symbolic links on a disk are not followed";

/// The file that an `hd:` URL names. The file system is untrusted: anyone with access to the disk may have written it.
#[derive(Debug)]
pub(crate) struct Media {
    pub(crate) top: Directory,
    /// Relative to `top`.
    pub(crate) path: PathBuf,
}

/// Mounts the device of `place` (`DEVICE:PATH`; the device as in a mount list).
///
/// # Errors
/// When the device does not appear, its name is ambiguous, it cannot be mounted, or the path is invalid.
pub(crate) fn open(place: &str, report: &Report) -> anyhow::Result<Media> {
    let (device, path) = split(place).ok_or_else(|| {
        hinted(
            format!("`{SCHEME}{place}` does not name a file on a disk"),
            "write `hd:DEVICE:PATH`, such as `hd:LABEL=IGUANA:/bundle.tar`",
        )
    })?;
    let path = below(path)?;
    let node = named::wait_for(device, &mut |what| report.say(format_args!("workflow: waiting for {what}")))?;
    let found = block::superblock(&block::open(&node)?)
        .with_context(|| format!("cannot read `{}`", node.display()))?
        .filter(|found| found.usage == Usage::FileSystem)
        .with_context(|| format!("`{}` has no known file system", node.display()))?;
    fs::create_dir_all(MOUNTPOINT)?;
    mount(&node, MOUNTPOINT, found.kind, FLAGS, None)
        .with_context(|| format!("cannot mount `{}` ({})", node.display(), found.kind))?;
    report.say(format_args!("workflow: `{device}` is {} ({})", node.display(), found.kind));
    let media = Media { top: Directory::open(MOUNTPOINT)?, path };
    let found = media.top.stat(&media.path, Links::Refuse).hint(WITHOUT_LINKS)?;
    ensure!(found.is_some(), "`{device}` has no `{}`", media.path.display());
    Ok(media)
}

impl Media {
    /// The file that `hd:DEVICE:PATH` names on the device that is already mounted.
    ///
    /// # Errors
    /// When nothing is mounted.
    pub(crate) fn mounted(url: &str) -> anyhow::Result<Self> {
        let path = url.strip_prefix(SCHEME).and_then(split).map_or("", |(_, path)| path);
        Ok(Self { top: Directory::open(MOUNTPOINT)?, path: below(path)? })
    }

    /// Reads the whole file, at most of the size of a workflow.
    ///
    /// # Errors
    /// When it is not a file, is larger, or there is a link in the path.
    pub(crate) fn read(&self) -> anyhow::Result<Vec<u8>> {
        self.top.read(&self.path, Links::Refuse, DOCUMENT_LIMIT).hint(WITHOUT_LINKS)
    }
}

/// Splits device and path. Both may contain colons (`/dev/disk/by-path/…`, a MAC address), so the path begins at the
/// first `:/`; without one, after the last colon.
fn split(place: &str) -> Option<(&str, &str)> {
    let absolute = place.find(":/").map(|at| (&place[..at], &place[at + 1..]));
    let parts = absolute.or_else(|| place.rsplit_once(':'));
    parts.filter(|(device, path)| !device.is_empty() && !path.is_empty())
}

/// The path relative to the file system's root. Refuses parts that lead out of it.
fn below(path: &str) -> anyhow::Result<PathBuf> {
    let parts =
        Path::new(path).components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    parts
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(hinted(format!("`{path}` leads out of its file system"), "write it without `..`")),
        })
        .collect()
}

/// Whether `url` can be read without the network.
pub(crate) fn is_here(url: &str) -> bool {
    url.starts_with('/') || url.starts_with(SCHEME)
}

/// Reads a workflow at a path in the initrd.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    untrusted_fs::read_file(path, DOCUMENT_LIMIT)
        .with_context(|| format!("cannot read the workflow `{}`", path.display()))
        .hint("a path refers to the initrd itself; for a file on a disk, write `hd:DEVICE:PATH`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_and_path_may_have_colons() {
        let mac = "LABEL=IGUANA:/hosts/52:54:00:12:34:56.yaml";
        assert_eq!(split(mac), Some(("LABEL=IGUANA", "/hosts/52:54:00:12:34:56.yaml")));
        let by_path = "/dev/disk/by-path/pci-0000:00:1f.2-ata-1:/install.yaml";
        assert_eq!(split(by_path), Some(("/dev/disk/by-path/pci-0000:00:1f.2-ata-1", "/install.yaml")));
        assert_eq!(split("LABEL=X:install.yaml"), Some(("LABEL=X", "install.yaml")));
        assert!([":/x", "LABEL=X:", "LABEL=X"].iter().all(|place| split(place).is_none()));
    }

    #[test]
    fn a_path_stays_on_its_disk() {
        assert_eq!(below("/a/./b").unwrap(), Path::new("a/b"));
        assert!(below("/a/../../b").unwrap_err().to_string().contains("leads out"));
    }
}
