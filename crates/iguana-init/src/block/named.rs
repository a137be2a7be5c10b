//! Resolves a device name of a mount list or of the command line, and waits until the device exists.

use super::duplicates;
use super::duplicates::Tag;
use super::encoded;
use hint::hinted;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a device may take to appear: partitions appear at once, disks behind USB within seconds.
const LIMIT: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const REPORT_INTERVAL: Duration = Duration::from_secs(3);
/// The directory of links for each tag of fstab(5), as udev keeps them. With a `Tag`, the value is under the control of
/// anyone who can write to a disk, and is checked for duplicates.
const DIRECTORIES: &[(&str, &str, Option<Tag>)] = &[
    ("UUID", "/dev/disk/by-uuid", Some(Tag::Uuid)),
    ("LABEL", "/dev/disk/by-label", Some(Tag::Label)),
    ("PARTUUID", "/dev/disk/by-partuuid", Some(Tag::PartitionUuid)),
    ("PARTLABEL", "/dev/disk/by-partlabel", Some(Tag::PartitionLabel)),
    ("ID", "/dev/disk/by-id", None),
];

/// Waits for the device that `name` means: a path, or `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=`. Gives its path.
///
/// # Errors
/// When the device does not appear in time, or when several devices have that name.
pub(crate) fn wait_for(name: &str, waiting: &mut dyn FnMut(&str)) -> anyhow::Result<PathBuf> {
    let start = Instant::now();
    let mut told = start;
    loop {
        if let Some(path) = find(name)? {
            return Ok(path);
        }
        if start.elapsed() > LIMIT {
            return Err(hinted(
                format!("there is no device `{name}`"),
                format!("the disks and partitions of this machine are {}", all_names()),
            ));
        }
        if told.elapsed() > REPORT_INTERVAL {
            told = Instant::now();
            waiting(&format!(
                "the device `{name}` ({} s of {} s)",
                start.elapsed().as_secs(),
                LIMIT.as_secs()
            ));
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// The path of a device; `None` if it does not exist yet.
///
/// # Errors
/// When several devices have that name.
pub(crate) fn find(name: &str) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = path_of(name).filter(|path| is_block_device(path)) else { return Ok(None) };
    if let Some((tag, value)) = tag_of(&path) {
        duplicates::refuse(tag, value)?;
    }
    Ok(Some(plain(path)))
}

fn path_of(name: &str) -> Option<PathBuf> {
    let Some((tag, value)) = name.split_once('=').filter(|_| !name.starts_with('/')) else {
        return Some(PathBuf::from(name));
    };
    let (_, directory, _) = DIRECTORIES.iter().find(|(known, ..)| *known == tag)?;
    link(Path::new(directory), value.trim_matches('"'))
}

/// The tag and the value that a link's path contains.
fn tag_of(link: &Path) -> Option<(Tag, &str)> {
    let (_, _, tag) =
        DIRECTORIES.iter().find(|(_, directory, _)| link.parent() == Some(Path::new(directory)))?;
    Some(((*tag)?, link.file_name()?.to_str()?))
}

/// The link for a value. UUIDs are compared regardless of case, labels are not.
fn link(directory: &Path, value: &str) -> Option<PathBuf> {
    let name = encoded(value);
    let exact = directory.join(&name);
    if exact.is_symlink() || directory.ends_with("by-label") || directory.ends_with("by-partlabel") {
        return Some(exact);
    }
    let entries = fs::read_dir(directory).ok()?.flatten();
    entries.map(|entry| entry.path()).find(|path| {
        path.file_name().and_then(|it| it.to_str()).is_some_and(|it| it.eq_ignore_ascii_case(&name))
    })
}

fn is_block_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

/// The path of the device's node. The new system sees it in `/proc/mounts`, where a link's path would mean nothing to
/// its tools. A device-mapper device keeps its name in `/dev/mapper`.
fn plain(path: PathBuf) -> PathBuf {
    let Ok(node) = fs::canonicalize(&path) else { return path };
    let kernel_name = node.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mapped = fs::read_to_string(format!("/sys/class/block/{kernel_name}/dm/name"));
    let mapped = mapped.map(|name| Path::new("/dev/mapper").join(name.trim_end()));
    mapped.ok().filter(|mapped| is_block_device(mapped)).unwrap_or(node)
}

/// Block devices in memory, among them the image with the kernel's modules. They are not disks, and are not listed.
const IN_MEMORY: &[&str] = &["loop", "ram", "zram"];

fn all_names() -> String {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| !IN_MEMORY.iter().any(|kind| name.starts_with(kind)));
    let names = names.filter(|name| {
        let size = fs::read_to_string(format!("/sys/class/block/{name}/size"));
        size.is_ok_and(|size| size.trim() != "0")
    });
    let mut names: Vec<String> = names.map(|name| format!("`/dev/{name}`")).collect();
    names.sort();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tag_means_a_link() {
        let directory = |name: &str| {
            let directory =
                std::env::temp_dir().join(format!("iguana-tags-{}", std::process::id())).join(name);
            fs::create_dir_all(&directory).unwrap();
            directory
        };
        let (uuids, labels) = (directory("by-uuid"), directory("by-label"));
        symlink("../../vda1", uuids.join("1A2B-3C4D")).unwrap();
        symlink("../../vda1", labels.join(r"my\x20root")).unwrap();
        assert_eq!(link(&uuids, "1a2b-3c4d"), Some(uuids.join("1A2B-3C4D")));
        assert_eq!(link(&uuids, "1a2b"), None);
        assert_eq!(link(&labels, "my root"), Some(labels.join(r"my\x20root")));
        assert!(!link(&labels, "MY ROOT").unwrap().is_symlink());
        fs::remove_dir_all(uuids.parent().unwrap()).unwrap();
    }

    #[test]
    fn an_unknown_tag_means_nothing() {
        assert_eq!(find("NAME=x").unwrap(), None);
        assert_eq!(find("/dev/null").unwrap(), None, "no block device");
    }

    #[test]
    fn a_link_by_a_tag_is_the_tag() {
        let tag = |path| tag_of(Path::new(path)).map(|(tag, value)| (tag, value.to_owned()));
        assert_eq!(tag("/dev/disk/by-partuuid/1-2"), Some((Tag::PartitionUuid, "1-2".into())));
        assert_eq!(tag("/dev//disk/by-label/a"), Some((Tag::Label, "a".into())));
        assert_eq!(tag("/dev/disk/by-id/virtio-1"), None);
        assert_eq!(tag("/dev/vda1"), None);
    }
}
