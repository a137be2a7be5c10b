//! Partitions by type: the Discoverable Partitions Specification (uapi-group.org), "Defined Partition Type UUIDs" and
//! "Partition Flags".

use crate::block::device::{self, Device};
use crate::block::{self, Partition};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The partition types that depend on the architecture.
pub(super) struct Types {
    pub(super) root: &'static str,
    pub(super) usr: &'static str,
    /// dm-verity hashes of root and usr, and their signatures.
    pub(super) verity: [&'static str; 4],
}

#[cfg(target_arch = "x86_64")]
pub(super) const TYPES: Types = Types {
    root: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    usr: "8484680c-9521-48c6-9c11-b0720656f69e",
    verity: [
        "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
        "77ff5f63-e7b6-4633-acf4-1565b864c0e6",
        "41092b05-9fc8-4523-994f-2def0408b176",
        "e7bb33fb-06cf-4e81-8273-e543b413e2e2",
    ],
};

#[cfg(target_arch = "aarch64")]
pub(super) const TYPES: Types = Types {
    root: "b921b045-1df0-41c3-af44-4c6f280d3fae",
    usr: "b0e01050-ee5f-4390-949a-9101b17104e9",
    verity: [
        "df3300ce-d69f-4c92-978c-9bfb0f38d820",
        "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e",
        "6db69de6-29f4-4758-a7a5-962190f00ce3",
        "c23ce4ff-44bd-4b00-b2d4-b41b3419e02a",
    ],
};

/// The EFI system partition.
pub(super) const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// The Extended Boot Loader Partition.
pub(super) const XBOOTLDR: &str = "bc13c2ff-59e6-4262-a352-b275fd6f7172";

/// "This partition is not mounted automatically."
const NO_AUTO: u64 = 1 << 63;
/// "This partition is mounted read-only."
const READ_ONLY: u64 = 1 << 60;

/// The firmware variable in which the boot loader stores the UUID of the partition that it was loaded from (Boot Loader
/// Interface, `LoaderDevicePartUUID`).
const LOADER_PARTITION: &str = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const FIRMWARE_VARIABLES: &str = "/sys/firmware/efi/efivars";
/// Bytes of attributes before a variable's value (Linux, Documentation/filesystems/efivarfs.rst).
const VARIABLE_ATTRIBUTES: usize = 4;

/// A disk that can be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    /// The node in `/dev`.
    pub(super) node: PathBuf,
    /// Whether it was written to since the first job.
    pub(super) is_written: bool,
    /// Whether the machine was started from it.
    pub(super) is_boot: bool,
    /// The partitions of its GPT.
    pub(super) partitions: Vec<Typed>,
}

/// A partition, with the entry of the partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Typed {
    /// The node in `/dev`.
    pub(super) node: PathBuf,
    pub(super) partition: Partition,
}

impl Typed {
    pub(super) fn is(&self, kind: &str) -> bool {
        self.partition.kind == kind
    }

    pub(super) fn is_automatic(&self) -> bool {
        self.partition.attributes & NO_AUTO == 0
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.partition.attributes & READ_ONLY != 0
    }
}

impl Disk {
    /// The partitions of a type that may be used automatically.
    pub(super) fn automatic(&self, kind: &str) -> Vec<&Typed> {
        self.partitions.iter().filter(|it| it.is(kind) && it.is_automatic()).collect()
    }
}

/// Sectors written to each disk before the first job. The kernel itself also writes, when it mounts a file system that
/// was not cleanly unmounted.
#[derive(Debug, Default)]
pub(crate) struct DiskBaseline(HashMap<PathBuf, u64>);

impl DiskBaseline {
    /// The current counts.
    pub(crate) fn now() -> Self {
        Self(whole_disks().map(|disk| (node(&disk), disk.sectors_written())).collect())
    }

    /// The disks that were written to since.
    pub(super) fn written_since(&self) -> Vec<PathBuf> {
        whole_disks().filter(|disk| self.is_written(disk)).map(|disk| node(&disk)).collect()
    }

    fn is_written(&self, disk: &Device) -> bool {
        disk.sectors_written() > self.0.get(&node(disk)).copied().unwrap_or_default()
    }
}

/// All disks of the machine, in the kernel's order.
pub(super) fn disks(before: &DiskBaseline) -> Vec<Disk> {
    let origin = boot_partition();
    with_unique_boot_disk(whole_disks().map(|disk| look(&disk, origin.as_deref(), before)).collect())
}

/// Unmarks the boot disk if several claim to be it. Anyone who can plug in a disk can give its partition the UUID of
/// the real one, and which of the two the machine was started from cannot be decided then.
pub(super) fn with_unique_boot_disk(mut disks: Vec<Disk>) -> Vec<Disk> {
    if disks.iter().filter(|disk| disk.is_boot).count() > 1 {
        disks.iter_mut().for_each(|disk| disk.is_boot = false);
    }
    disks
}

fn whole_disks() -> impl Iterator<Item = Device> {
    let devices = device::block_devices().into_iter().filter_map(|name| Device::block(&name));
    // Loop devices are not installation targets; the one of the initrd holds the kernel's modules.
    let devices = devices.filter(|it| !it.name().starts_with("loop"));
    devices.filter(|it| it.partition_number().is_none() && !it.is_empty() && !it.lacks_medium())
}

fn node(device: &Device) -> PathBuf {
    Path::new("/dev").join(device.node())
}

/// The disk that a device is on; the first one if it is built on several.
pub(super) fn disk_of(path: &Path) -> Option<PathBuf> {
    let name = fs::canonicalize(path).ok()?.file_name()?.to_str()?.to_owned();
    let mut found = Device::block(&name)?;
    while let Some(part) = found.first_part() {
        found = part;
    }
    Some(node(&found.disk()))
}

fn look(disk: &Device, origin: Option<&str>, before: &DiskBaseline) -> Disk {
    let table = block::open(&node(disk)).and_then(|opened| block::table(&opened, disk.block_size()));
    let table = table.ok().flatten();
    let mut partitions: Vec<_> = disk
        .partitions()
        .iter()
        .filter_map(|known| {
            let found = table.as_ref()?.partition(known.partition_number()?, known.start())?;
            let is_typed = !found.kind.is_empty();
            is_typed.then(|| Typed { node: node(known), partition: found })
        })
        .collect();
    partitions.sort_by_key(|it| it.partition.number);
    let is_boot = partitions.iter().any(|it| Some(it.partition.uuid.as_str()) == origin);
    Disk { node: node(disk), is_written: before.is_written(disk), is_boot, partitions }
}

/// The UUID of the partition that the boot loader came from. Only UEFI loaders that follow the Boot Loader Interface
/// set it.
fn boot_partition() -> Option<String> {
    // Mounted only for this read, so that containers do not find the firmware's variables mounted.
    let is_there = fs::read_dir(FIRMWARE_VARIABLES).is_ok_and(|mut entries| entries.next().is_some());
    if !is_there {
        mount("efivarfs", FIRMWARE_VARIABLES, "efivarfs", MountFlags::RDONLY, None).ok()?;
    }
    let value = fs::read(Path::new(FIRMWARE_VARIABLES).join(LOADER_PARTITION));
    if !is_there {
        let _ = unmount(FIRMWARE_VARIABLES, UnmountFlags::DETACH);
    }
    let text = value.ok()?.get(VARIABLE_ATTRIBUTES..)?.chunks_exact(2).map(|it| it[0]).collect();
    let text = String::from_utf8(text).ok()?;
    Some(text.trim_end_matches('\0').to_ascii_lowercase())
}
