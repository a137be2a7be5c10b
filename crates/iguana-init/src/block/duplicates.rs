//! Checks that a tag of fstab(5) names exactly one device. Anyone who can plug in a disk, or write to one, can give it
//! the UUID or label of another disk; which of the two is meant cannot be decided then.

use super::device::{Device, block_devices};
use super::{BtrfsMember, Partition, encoded};
use hint::hinted;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What a tag refers to: a property of the content, or of the partition in its partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Uuid,
    Label,
    PartitionUuid,
    PartitionLabel,
}

/// A device with the value that a tag asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Carrier {
    /// The kernel's name.
    name: String,
    /// The kernel's names of all devices that it is built on, directly or not.
    parts: Vec<String>,
    btrfs: Option<BtrfsMember>,
    /// The world-wide name of its disk, and its partition number on that disk.
    world_wide: Option<(String, Option<u32>)>,
}

/// Prefixes of world-wide names (IEEE). Other identifiers are built from a vendor's strings and need not be unique.
const WORLD_WIDE: &[&str] = &["naa.", "eui."];

impl Tag {
    fn word(self) -> &'static str {
        match self {
            Self::Uuid => "UUID",
            Self::Label => "label",
            Self::PartitionUuid => "partition UUID",
            Self::PartitionLabel => "partition label",
        }
    }
}

/// Refuses a value that is on more than one device. `value` is encoded as in the name of a link.
///
/// # Errors
/// When several devices have it, and none of them is built on the others.
pub(super) fn refuse(tag: Tag, value: &str) -> anyhow::Result<()> {
    let carriers: Vec<Carrier> = devices().filter_map(|device| carrier(&device, tag, value)).collect();
    let several = ambiguous(&carriers);
    if several.is_empty() {
        return Ok(());
    }
    let nodes: Vec<_> = several.iter().map(|name| format!("`/dev/{name}`")).collect();
    let message = format!("the {} `{value}` is on more than one device: {}", tag.word(), nodes.join(", "));
    Err(hinted(message, "remove the other disk, or name the device by its `/dev/disk/by-id/…`"))
}

/// Devices that can be read. Loop devices are left out: their content is a file of this system, not a disk.
fn devices() -> impl Iterator<Item = Device> {
    let devices = block_devices().into_iter().filter(|name| !name.starts_with("loop"));
    let devices = devices.filter_map(|name| Device::block(&name));
    devices.filter(|it| !it.is_empty() && !it.is_suspended() && !it.lacks_medium())
}

fn carrier(device: &Device, tag: Tag, value: &str) -> Option<Carrier> {
    let is_it = |text: &str| match tag {
        Tag::Uuid | Tag::PartitionUuid => encoded(text).eq_ignore_ascii_case(value),
        Tag::Label | Tag::PartitionLabel => encoded(text) == value,
    };
    let mut btrfs = None;
    let is_carrier = match tag {
        Tag::Uuid | Tag::Label => {
            let content = super::superblock(&super::open(&node(device)).ok()?).ok()??;
            btrfs = content.btrfs;
            is_it(if tag == Tag::Uuid { &content.uuid } else { &content.label })
                && content.usage != super::Usage::Member
        }
        Tag::PartitionUuid => is_it(&partition(device)?.uuid),
        Tag::PartitionLabel => is_it(&partition(device)?.label),
    };
    is_carrier.then(|| Carrier {
        name: device.node(),
        parts: parts(device),
        btrfs,
        world_wide: world_wide(&device.disk()).map(|disk| (disk, device.partition_number())),
    })
}

/// The partition's entry in the partition table of its disk.
fn partition(device: &Device) -> Option<Partition> {
    let disk = device.disk();
    let table = super::table(&super::open(&node(&disk)).ok()?, disk.block_size()).ok()??;
    table.partition(device.partition_number()?, device.start())
}

/// The world-wide name of a disk. Without multipath, a disk with two paths appears as two devices with the same name.
fn world_wide(disk: &Device) -> Option<String> {
    let number = disk.attribute("device/wwid").or_else(|| disk.attribute("wwid"))?;
    WORLD_WIDE.iter().any(|start| number.starts_with(start)).then_some(number)
}

fn node(device: &Device) -> PathBuf {
    Path::new("/dev").join(device.node())
}

/// The kernel's names of all devices that a device is built on, directly or not.
fn parts(device: &Device) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = device.parts();
    while let Some(part) = rest.pop() {
        if !found.contains(&part.node()) {
            found.push(part.node());
            rest.extend(part.parts());
        }
    }
    found
}

/// The names of the devices between which the choice is ambiguous; empty if one device is meant. Not ambiguous are
/// devices built on each other (the image of a disc on a USB stick is both the whole disk and a partition of it; a
/// mirror has the content of its halves) and several paths to the same disk.
fn ambiguous(carriers: &[Carrier]) -> Vec<&str> {
    let is_part = |name: &String| carriers.iter().any(|other| other.parts.contains(name));
    let mut tops: Vec<&Carrier> = carriers.iter().filter(|carrier| !is_part(&carrier.name)).collect();
    let mut seen = HashSet::new();
    tops.retain(|carrier| carrier.world_wide.as_ref().is_none_or(|number| seen.insert(number)));
    if tops.len() < 2 || are_one_btrfs(&tops) {
        return Vec::new();
    }
    tops.iter().map(|carrier| carrier.name.as_str()).collect()
}

/// Whether all are members of one btrfs: they share UUID and label, and each records how many members there are.
fn are_one_btrfs(carriers: &[&Carrier]) -> bool {
    let members: Option<Vec<BtrfsMember>> = carriers.iter().map(|carrier| carrier.btrfs).collect();
    let Some(mut members) = members else { return false };
    let count = members.len();
    members.sort_by_key(|member| member.id);
    members.dedup_by_key(|member| member.id);
    members.len() == count && members.iter().all(|member| member.of >= count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrier(name: &str, parts: &[&str]) -> Carrier {
        let parts = parts.iter().map(|it| (*it).into()).collect();
        Carrier { name: name.into(), parts, btrfs: None, world_wide: None }
    }

    fn btrfs(name: &str, id: u64, of: u64) -> Carrier {
        Carrier { btrfs: Some(BtrfsMember { id, of }), ..carrier(name, &[]) }
    }

    #[test]
    fn two_disks_with_the_same_tag_are_refused() {
        assert_eq!(ambiguous(&[carrier("vda1", &["vda"]), carrier("vdb1", &["vdb"])]), ["vda1", "vdb1"]);
        assert_eq!(ambiguous(&[carrier("vda1", &["vda"]), carrier("vda2", &["vda"])]), ["vda1", "vda2"]);
        assert!(ambiguous(&[carrier("vda1", &["vda"])]).is_empty() && ambiguous(&[]).is_empty());
    }

    #[test]
    fn a_device_built_on_another_is_not_a_duplicate() {
        for carriers in [
            vec![carrier("sda", &[]), carrier("sda1", &["sda"])],
            vec![carrier("sda1", &["sda"]), carrier("sdb1", &["sdb"]), carrier("md0", &["sda1", "sdb1"])],
            vec![carrier("sda", &[]), carrier("sdb", &[]), carrier("dm-0", &["sda", "sdb"])],
        ] {
            assert!(ambiguous(&carriers).is_empty(), "{carriers:?}");
        }
        let snapshot = [carrier("dm-1", &["dm-0", "sda"]), carrier("dm-2", &["dm-0", "sda"])];
        assert_eq!(ambiguous(&snapshot), ["dm-1", "dm-2"]);
    }

    #[test]
    fn a_disk_reached_by_two_paths_is_one_disk() {
        let way = |name: &str, number: &str, partition| Carrier {
            world_wide: Some((number.into(), partition)),
            ..carrier(name, &[])
        };
        assert!(ambiguous(&[way("sda1", "naa.5", Some(1)), way("sdb1", "naa.5", Some(1))]).is_empty());
        for second in [way("sdb1", "naa.6", Some(1)), way("sdb2", "naa.5", Some(2)), carrier("sdb1", &[])] {
            assert_eq!(ambiguous(&[way("sda1", "naa.5", Some(1)), second]).len(), 2);
        }
    }

    #[test]
    fn a_btrfs_on_several_devices_is_one_and_a_copy_of_it_is_not() {
        assert!(ambiguous(&[btrfs("sda", 1, 2), btrfs("sdb", 2, 2)]).is_empty());
        assert!(ambiguous(&[btrfs("sda", 1, 3), btrfs("sdb", 2, 3)]).is_empty(), "one is missing");
        for duplicates in [
            [btrfs("sda", 1, 1), btrfs("sdb", 1, 1)],
            [btrfs("sda", 1, 1), btrfs("sdb", 2, 2)],
            [btrfs("sda", 1, 2), btrfs("sdb", 1, 2)],
            [btrfs("sda", 1, 2), carrier("sdb", &[])],
        ] {
            assert_eq!(ambiguous(&duplicates), ["sda", "sdb"], "{duplicates:?}");
        }
    }
}
