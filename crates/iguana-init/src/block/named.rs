//! Which block device a name means, in a mount list or on the command line, and waiting until it is there.

use super::encoded;
use iguana_core::hint::hinted;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a device may take to appear: partitions come at once, disks behind USB within seconds.
const LIMIT: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TELL_EVERY: Duration = Duration::from_secs(3);
/// Where there is a link for each value of a tag of fstab(5), as udev keeps them.
const FOLDERS: &[(&str, &str)] = &[
    ("UUID", "/dev/disk/by-uuid"),
    ("LABEL", "/dev/disk/by-label"),
    ("PARTUUID", "/dev/disk/by-partuuid"),
    ("PARTLABEL", "/dev/disk/by-partlabel"),
    ("ID", "/dev/disk/by-id"),
];

/// The path of the device that `name` means: a path, or `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=`.
pub(crate) fn wait_for(name: &str, waiting: &mut dyn FnMut(&str)) -> anyhow::Result<PathBuf> {
    let start = Instant::now();
    let mut told = start;
    loop {
        if let Some(path) = find(name) {
            return Ok(path);
        }
        if start.elapsed() > LIMIT {
            return Err(hinted(
                format!("there is no device `{name}`"),
                format!("the disks and partitions of this machine are {}", all_names()),
            ));
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            waiting(&format!(
                "the device `{name}` ({} s of {} s)",
                start.elapsed().as_secs(),
                LIMIT.as_secs()
            ));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The path of a device that is there already.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = match name.split_once('=') {
        None => PathBuf::from(name),
        Some((tag, value)) => {
            let (_, folder) = FOLDERS.iter().find(|(known, _)| *known == tag)?;
            link(Path::new(folder), value.trim_matches('"'))?
        }
    };
    is_block_device(&path).then(|| plain(path))
}

/// The link for a value. UUIDs are the same in capitals; a label that is the same but for them is another one.
fn link(folder: &Path, value: &str) -> Option<PathBuf> {
    let name = encoded(value);
    let exact = folder.join(&name);
    if exact.is_symlink() || folder.ends_with("by-label") || folder.ends_with("by-partlabel") {
        return Some(exact);
    }
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries.map(|entry| entry.path()).find(|path| {
        path.file_name().and_then(|it| it.to_str()).is_some_and(|it| it.eq_ignore_ascii_case(&name))
    })
}

fn is_block_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

/// The new system's `/proc/mounts` shows the device as it is mounted; there nobody knows it by its link. What
/// device-mapper has made is known by its name.
fn plain(path: PathBuf) -> PathBuf {
    let Ok(node) = fs::canonicalize(&path) else { return path };
    let kernel_name = node.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mapped = fs::read_to_string(format!("/sys/class/block/{kernel_name}/dm/name"));
    let mapped = mapped.map(|name| Path::new("/dev/mapper").join(name.trim_end()));
    mapped.ok().filter(|mapped| is_block_device(mapped)).unwrap_or(node)
}

/// Block devices in memory, the one with the kernel's modules among them: nobody's disks.
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
        let folder = |name: &str| {
            let folder = std::env::temp_dir().join(format!("iguana-tags-{}", std::process::id())).join(name);
            fs::create_dir_all(&folder).unwrap();
            folder
        };
        let (uuids, labels) = (folder("by-uuid"), folder("by-label"));
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
        assert_eq!(find("NAME=x"), None);
        assert_eq!(find("/dev/null"), None, "no block device");
    }
}
