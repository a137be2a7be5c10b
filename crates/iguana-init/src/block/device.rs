//! Disks and partitions as sysfs describes them.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes per sector in sysfs, independent of the disk's own block size.
const SECTOR: u64 = 512;
/// Kinds of devices that get no links and are never searched: RAM disks, and devices that are slow to probe and hold
/// nothing that we look for (floppies, raw flash).
const LEFT_OUT: &[&str] = &["ram", "zram", "fd", "mtdblock"];
/// The field of `stat` with the number of sectors written, counted from 0 (Documentation/block/stat.rst).
const SECTORS_WRITTEN: usize = 6;

/// The size that an optical drive without a medium reports, in sectors (drivers/scsi/sr.c). With a medium the size is a
/// multiple of four, so this value is unambiguous.
const UNKNOWN_SIZE: u64 = 0x1f_ffff;

/// A device-mapper device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) name: String,
    pub(crate) uuid: String,
}

/// A device's directory in sysfs.
#[derive(Debug, Clone)]
pub(crate) struct Device(PathBuf);

/// The kernel's names of all disks and partitions, sorted by length: disks come before their partitions.
pub(crate) fn block_devices() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| is_of_interest(name)).collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names
}

/// Whether a device of this name gets links.
pub(crate) fn is_of_interest(name: &str) -> bool {
    let kind = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    !LEFT_OUT.contains(&kind)
}

impl Device {
    /// The disk or partition with the kernel's name `name`; `None` if it does not exist (any more).
    pub(crate) fn block(name: &str) -> Option<Self> {
        fs::canonicalize(Path::new("/sys/class/block").join(name)).ok().map(Self)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn name(&self) -> &str {
        self.0.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    pub(crate) fn has(&self, attribute: &str) -> bool {
        self.0.join(attribute).exists()
    }

    /// The value of an attribute; `None` if it is missing or empty.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.0.join(name)).ok()?;
        let text = text.trim_end_matches(['\n', ' ', '\0']);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The attribute of this device, or of its nearest ancestor that has it.
    pub(crate) fn attribute_above(&self, name: &str) -> Option<String> {
        std::iter::once(self.clone()).chain(self.ancestors()).find_map(|device| device.attribute(name))
    }

    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.0.join(name)).ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.attribute(name)?.parse().ok()
    }

    /// The parent directories in sysfs, nearest first: parent devices, and the plain directories between them.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = Device> {
        let directories: Vec<_> =
            self.0.ancestors().skip(1).map(|directory| Device(directory.to_owned())).collect();
        directories.into_iter()
    }

    /// Names of all entries in the parent directory, including this device's own.
    pub(crate) fn siblings(&self) -> impl Iterator<Item = String> {
        let directory = self.0.parent().and_then(|directory| fs::read_dir(directory).ok());
        directory.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
    }

    pub(crate) fn subsystem(&self) -> Option<String> {
        let target = fs::read_link(self.0.join("subsystem")).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Host, channel, target and LUN, if the device's name is a SCSI address (`0:0:0:0`).
    pub(crate) fn scsi_address(&self) -> Option<[String; 4]> {
        let parts: Vec<String> = self.name().split(':').map(str::to_owned).collect();
        let is_number = |part: &String| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
        parts.iter().all(is_number).then(|| parts.try_into().ok())?
    }

    /// The node's path relative to `/dev`: sysfs writes `!` for `/`.
    pub(crate) fn node(&self) -> String {
        self.name().replace('!', "/")
    }

    pub(crate) fn partition_number(&self) -> Option<u32> {
        self.attribute("partition")?.parse().ok()
    }

    /// The disk of a partition; the device itself if it is not a partition.
    pub(crate) fn disk(&self) -> Self {
        let disk = self.0.parent().filter(|_| self.has("partition"));
        disk.map_or_else(|| self.clone(), |disk| Self(disk.to_owned()))
    }

    /// The partitions of a disk.
    pub(crate) fn partitions(&self) -> Vec<Self> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.map(|entry| Self(entry.path())).filter(|device| device.has("partition")).collect()
    }

    /// The first sector, in sectors of 512 bytes.
    pub(crate) fn start(&self) -> u64 {
        self.number("start").unwrap_or_default()
    }

    /// Whether the device has size 0, so that nothing can be read from it.
    pub(crate) fn is_empty(&self) -> bool {
        self.number("size").unwrap_or_default() == 0
    }

    /// Whether it is an optical drive without a medium. Reading from one only makes the kernel log errors.
    pub(crate) fn lacks_medium(&self) -> bool {
        self.name().starts_with("sr") && self.number("size") == Some(UNKNOWN_SIZE)
    }

    /// Bytes of a logical block of the disk.
    pub(crate) fn block_size(&self) -> u64 {
        self.number("queue/logical_block_size").unwrap_or(SECTOR)
    }

    pub(crate) fn mapped(&self) -> Option<Mapped> {
        let name = self.attribute("dm/name")?;
        Some(Mapped { name, uuid: self.attribute("dm/uuid").unwrap_or_default() })
    }

    /// Whether it is a suspended device-mapper device. A read from one blocks until it is resumed.
    pub(crate) fn is_suspended(&self) -> bool {
        self.attribute("dm/suspended").is_some_and(|suspended| suspended != "0")
    }

    /// The first member of an md array; `None` unless the array is started.
    pub(crate) fn first_member(&self) -> Option<Self> {
        let state = self.attribute("md/array_state")?;
        if matches!(state.as_str(), "clear" | "inactive") {
            return None;
        }
        self.first_part()
    }

    /// The devices that this device is built on: the disk of a partition, the members of an array.
    pub(crate) fn parts(&self) -> Vec<Self> {
        let members = fs::read_dir(self.0.join("slaves")).into_iter().flatten().flatten();
        let members = members.filter_map(|entry| Self::block(entry.file_name().to_str()?));
        members.chain(self.has("partition").then(|| self.disk())).collect()
    }

    /// The first of the devices that this device is built on.
    pub(crate) fn first_part(&self) -> Option<Self> {
        let mut parts: Vec<_> = fs::read_dir(self.0.join("slaves")).ok()?.flatten().collect();
        parts.sort_by_key(fs::DirEntry::file_name);
        Self::block(parts.first()?.file_name().to_str()?)
    }

    /// Sectors of 512 bytes written to the disk since the kernel has known it.
    pub(crate) fn sectors_written(&self) -> u64 {
        let stat = self.disk().attribute("stat").unwrap_or_default();
        let written = stat.split_ascii_whitespace().nth(SECTORS_WRITTEN);
        written.and_then(|written| written.parse().ok()).unwrap_or_default()
    }

    /// A text that changes whenever the content may have changed, above all the count of sectors written to the disk.
    pub(crate) fn fingerprint(&self) -> String {
        let written = self.sectors_written();
        let rest = ["size", "start", "dm/name", "dm/uuid", "dm/suspended", "md/array_state"];
        let rest = rest.map(|name| self.attribute(name).unwrap_or_default());
        format!("{written} {}", rest.join(" "))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A directory tree like `/sys/devices`, removed on drop.
    pub(crate) struct Tree(PathBuf);

    impl Tree {
        pub(crate) fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("iguana-sysfs-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&directory);
            Self(directory)
        }

        pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            self
        }

        pub(crate) fn link(self, path: &str, target: &str) -> Self {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
            self
        }

        pub(crate) fn subsystem(self, path: &str, name: &str) -> Self {
            self.link(&format!("{path}/subsystem"), &format!("/sys/bus/{name}"))
        }

        pub(crate) fn device(&self, path: &str) -> Device {
            let path = self.0.join(path);
            fs::create_dir_all(&path).unwrap();
            Device(path)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn memory_is_not_a_disk() {
        assert!(
            ["vda", "vda1", "loop0", "dm-0", "md127", "sr0", "nvme0n1p2"].iter().all(|it| is_of_interest(it))
        );
        assert!(["ram0", "zram1", "fd0", "mtdblock3"].iter().all(|it| !is_of_interest(it)));
    }

    #[test]
    fn a_fingerprint_changes_with_what_is_written_to_the_disk() {
        let stat = |written: u32| format!("1 2 3 4 5 6 {written} 8 9 10 11\n");
        let print = |written, size: &str| {
            let tree = Tree::new(&format!("fingerprint-{written}-{size}"))
                .file("block/vda/stat", stat(written))
                .file("block/vda/vda1/partition", "1\n")
                .file("block/vda/vda1/size", size);
            tree.device("block/vda/vda1").fingerprint()
        };
        assert_eq!(print(7, "8"), print(7, "8"));
        assert_ne!(print(7, "8"), print(8, "8"));
        assert_ne!(print(7, "8"), print(7, "16"));
    }

    #[test]
    fn a_partition_belongs_to_a_disk() {
        let tree = Tree::new("parts").file("block/vda/vda2/partition", "2\n").file("block/vda/size", "9\n");
        let disk = tree.device("block/vda");
        assert_eq!(disk.partitions()[0].name(), "vda2");
        assert_eq!(disk.partitions()[0].disk().name(), "vda");
        assert_eq!(disk.disk().name(), "vda");
        assert_eq!((disk.partition_number(), disk.partitions()[0].partition_number()), (None, Some(2)));
        assert!(!disk.is_empty() && disk.partitions()[0].is_empty());
    }
}
