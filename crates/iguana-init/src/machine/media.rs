//! Files on a disk, a stick or a disc of this machine: `hd:DEVICE:PATH`. The file system stays mounted, read-only, until the
//! handover: images are read where they lie.

use crate::block::device::{Device, block_devices};
use crate::block::{self, Usage, named};
use crate::report::Report;
use anyhow::{Context as _, ensure};
use iguana_core::hint::{WithHint as _, hinted};
use iguana_core::http::DOCUMENT_LIMIT;
use rustix::mount::{MountFlags, mount};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

/// Begins such a name.
pub(crate) const SCHEME: &str = "hd:";
/// Where the file system is mounted.
pub(crate) const MOUNTPOINT: &str = "/run/iguana/media";
const LABEL: &str = "LABEL=";

/// The path, in this initrd, of what `place` names: `DEVICE:PATH`, the device as in a mount list.
///
/// # Errors
/// When the device does not come, is not the only one of its label, cannot be mounted, or has no such path.
pub(crate) fn open(place: &str, report: &Report) -> anyhow::Result<PathBuf> {
    let (device, path) = place
        .rsplit_once(':')
        .filter(|(device, path)| !device.is_empty() && !path.is_empty())
        .ok_or_else(|| {
            hinted(
                format!("`{SCHEME}{place}` is not a place on a disk"),
                "write `hd:DEVICE:PATH`, such as `hd:LABEL=IGUANA:/bundle.tar`",
            )
        })?;
    let path = below(path)?;
    let node = named::wait_for(device, &mut |what| report.say(format_args!("workflow: waiting for {what}")))?;
    refuse_doubles(device)?;
    let found = block::superblock(&block::open(&node)?)
        .with_context(|| format!("cannot read `{}`", node.display()))?
        .filter(|found| found.usage == Usage::FileSystem)
        .with_context(|| format!("`{}` has no file system that is known here", node.display()))?;
    fs::create_dir_all(MOUNTPOINT)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(&node, MOUNTPOINT, found.kind, flags, None)
        .with_context(|| format!("cannot mount `{}` ({})", node.display(), found.kind))?;
    report.say(format_args!("workflow: `{device}` is {} ({})", node.display(), found.kind));
    let path = Path::new(MOUNTPOINT).join(path);
    let is_inside = path.canonicalize().map_or(true, |found| found.starts_with(MOUNTPOINT));
    ensure!(is_inside, "`{}` on `{device}` is a link that leads out of its file system", path.display());
    ensure!(
        path.exists(),
        "`{device}` has no `{}`",
        path.strip_prefix(MOUNTPOINT).unwrap_or(&path).display()
    );
    Ok(path)
}

/// Where a path of the mounted file system is.
pub(crate) fn place(path: &str) -> PathBuf {
    Path::new(MOUNTPOINT).join(below(path).unwrap_or_default())
}

/// The path without what would lead out of the file system.
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

/// Of two sticks with the same label nobody knows which is meant. A disc that was written to a stick is there as the
/// whole disk and as a partition of it.
fn refuse_doubles(device: &str) -> anyhow::Result<()> {
    let Some(label) = device.strip_prefix(LABEL) else { return Ok(()) };
    let mut disks = BTreeMap::new();
    for device in block_devices().iter().filter_map(|name| Device::block(name)) {
        let node = format!("/dev/{}", device.name());
        let found = block::open(Path::new(&node)).and_then(|file| block::superblock(&file));
        if found.ok().flatten().is_some_and(|found| found.label == label) {
            disks.entry(device.disk().name().to_owned()).or_insert(node);
        }
    }
    if disks.len() < 2 {
        return Ok(());
    }
    let nodes: Vec<_> = disks.values().map(|node| format!("`{node}`")).collect();
    let message = format!("the label `{label}` is on more than one disk: {}", nodes.join(", "));
    Err(hinted(message, "remove the other one, or name the device by `UUID=`"))
}

/// Whether nothing of the network is needed to find what `url` names.
pub(crate) fn is_here(url: &str) -> bool {
    url.starts_with('/') || url.starts_with(SCHEME)
}

/// A hint where the media has no such file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = || {
        let mut bytes = Vec::new();
        let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        ensure!(file.metadata()?.is_file(), "it is not a file");
        file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= DOCUMENT_LIMIT, "it has more than {DOCUMENT_LIMIT} bytes");
        Ok(bytes)
    };
    read()
        .with_context(|| format!("cannot read the workflow `{}`", path.display()))
        .hint("a path is looked for in the initrd itself, and `hd:DEVICE:PATH` on a disk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_on_its_disk() {
        assert_eq!(below("/a/./b").unwrap(), Path::new("a/b"));
        assert!(below("/a/../../b").unwrap_err().to_string().contains("leads out"));
    }
}
