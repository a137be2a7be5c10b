//! Names of the links to a device, following udev's rules: 60-persistent-storage, 60-cdrom_id, 55-dm,
//! 60-persistent-storage-dm, 11-dm-lvm, 63-md-raid-arrays.

use crate::block::device::Mapped;
use crate::block::{Array, Partition, Superblock, Usage, encoded};

/// The attributes from which the links are made.
#[derive(Debug, Clone, Default)]
pub(super) struct LinkAttributes {
    /// The kernel's name.
    pub(super) name: String,
    /// The number of a partition; `None` for a disk.
    pub(super) number: Option<u32>,
    /// Whether a disk has partitions.
    pub(super) is_divided: bool,
    /// The disk's names in `by-id`, without those that `names` makes from other attributes.
    pub(super) ids: Vec<String>,
    /// The disk's names in `by-path`.
    pub(super) places: Vec<String>,
    /// The disk's sequence number since boot (`diskseq`).
    pub(super) sequence: Option<String>,
    pub(super) mapped: Option<Mapped>,
    pub(super) array: Option<Array>,
    /// The entry in the partition table, for a partition.
    pub(super) partition: Option<Partition>,
    pub(super) content: Option<Superblock>,
}

/// If several devices claim a link, the highest priority gets it (udev's `link_priority`).
pub(super) type Priority = i32;

/// A device built from others has the same content as each of them, and is the one that is wanted (63-md-raid-arrays).
const ASSEMBLED: Priority = 100;
const PLAIN: Priority = 0;
/// The content of a whole disk that has partitions is usually left over from before it was partitioned.
const DIVIDED: Priority = -50;
/// As in 60-cdrom_id.
const CDROM: Priority = -100;

impl LinkAttributes {
    pub(super) fn priority(&self) -> Priority {
        match self {
            _ if self.mapped.is_some() || self.array.is_some() => ASSEMBLED,
            _ if self.is_cdrom() => CDROM,
            _ if self.is_divided => DIVIDED,
            _ => PLAIN,
        }
    }

    /// Whether it is the drive with the link `cdrom`.
    fn is_cdrom(&self) -> bool {
        self.name == "sr0"
    }

    /// The links to the device, relative to `/dev`.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = self.names_of_disk();
        names.extend(self.mapped.iter().flat_map(Mapped::names));
        names.extend(self.array.iter().flat_map(|array| self.names_of_array(array)));
        names.extend(self.partition.iter().flat_map(names_of_partition));
        if !self.mapped.as_ref().is_some_and(Mapped::is_inner) {
            names.extend(self.content.iter().flat_map(names_of_content));
        }
        names.retain(|name| is_name(name));
        names
    }

    fn names_of_disk(&self) -> Vec<String> {
        let suffix = self.number.map(|number| format!("-part{number}")).unwrap_or_default();
        let in_directory = |directory: &str, names: &[String]| -> Vec<String> {
            names.iter().map(|name| format!("disk/{directory}/{name}{suffix}")).collect()
        };
        let mut names = in_directory("by-id", &self.ids);
        names.extend(in_directory("by-path", &self.places));
        names.extend(self.sequence.as_ref().map(|number| format!("disk/by-diskseq/{number}{suffix}")));
        names.extend(self.is_cdrom().then(|| "cdrom".to_owned()));
        names
    }

    fn names_of_array(&self, array: &Array) -> Vec<String> {
        let id_suffix = self.number.map(|number| format!("-part{number}")).unwrap_or_default();
        let mut names = vec![format!("disk/by-id/md-uuid-{}{id_suffix}", array.uuid)];
        if array.name.is_empty() {
            return names;
        }
        // The name may begin with the host that created the array (`HOST:NAME`). That host is taken to be this machine,
        // as no other is known.
        let own = array.name.rsplit(':').next().unwrap_or_default();
        let between = if own.ends_with(|letter: char| letter.is_ascii_digit()) { "p" } else { "" };
        let suffix = self.number.map(|number| format!("{between}{number}")).unwrap_or_default();
        names.push(format!("disk/by-id/md-name-{}{id_suffix}", replaced(&array.name)));
        names.push(format!("md/{}{suffix}", replaced(own)));
        names
    }
}

fn names_of_partition(partition: &Partition) -> Vec<String> {
    let Partition { uuid, label, .. } = partition;
    [("by-partuuid", uuid), ("by-partlabel", label)].into_iter().filter_map(in_disk_directory).collect()
}

fn names_of_content(content: &Superblock) -> Vec<String> {
    let Superblock { kind, usage, uuid, label, .. } = content;
    if *usage == Usage::Member {
        let is_volume = *kind == "LVM2_member" && !uuid.is_empty();
        return is_volume.then(|| format!("disk/by-id/lvm-pv-uuid-{uuid}")).into_iter().collect();
    }
    [("by-uuid", uuid), ("by-label", label)].into_iter().filter_map(in_disk_directory).collect()
}

fn in_disk_directory((directory, value): (&str, &String)) -> Option<String> {
    (!value.is_empty()).then(|| format!("disk/{directory}/{}", encoded(value)))
}

/// Whether a text is a valid path below `/dev`: a label may be `..`, or too long.
fn is_name(path: &str) -> bool {
    /// Bytes (linux/limits.h).
    const NAME_MAX: usize = 255;
    path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= NAME_MAX)
}

/// Replaces unusual characters by `_`, as `string_escape=replace` does in udev's rules.
pub(super) fn replaced(text: &str) -> String {
    let is_usual = |letter: char| letter.is_alphanumeric() || "#+-.:=@_".contains(letter);
    text.chars().map(|letter| if is_usual(letter) { letter } else { '_' }).collect()
}

/// Name parts that LVM reserves for internal volumes (lvm(8), reserved names).
const INNER: &[&str] = &[
    "_cdata", "_cmeta", "_corig", "_iorig", "_imeta", "_mimage", "_mlog", "_pmspare", "_rimage", "_rmeta",
    "_tdata", "_tmeta", "_vdata", "_vorigin",
];
/// Prefix and length of an LVM volume's UUID: the prefix, 32 characters of its group's UUID, 32 of its own. Internal
/// volumes have a suffix.
const LVM: &str = "LVM-";
const LVM_UUID_LENGTH: usize = 4 + 32 + 32;

impl Mapped {
    fn names(&self) -> Vec<String> {
        let Self { name, uuid } = self;
        let mut names = vec![format!("mapper/{name}"), format!("disk/by-id/dm-name-{name}")];
        names.extend((!uuid.is_empty()).then(|| format!("disk/by-id/dm-uuid-{}", replaced(uuid))));
        names.extend(self.volume());
        names
    }

    /// `VG/LV`
    fn volume(&self) -> Option<String> {
        if !self.uuid.starts_with(LVM) || self.is_inner() {
            return None;
        }
        let (group, volume) = split_lvm_name(&self.name)?;
        Some(format!("{group}/{volume}"))
    }

    /// Whether it is an internal volume, from which another volume is built.
    fn is_inner(&self) -> bool {
        self.uuid.starts_with(LVM)
            && (self.uuid.len() > LVM_UUID_LENGTH || INNER.iter().any(|part| self.name.contains(part)))
    }
}

/// Splits a device-mapper name into group and volume: `my--group-root` is `root` of `my-group`. A hyphen in either name
/// is doubled; a single hyphen separates them.
fn split_lvm_name(name: &str) -> Option<(String, String)> {
    let marked = name.replace("--", "\0");
    let (group, volume) = marked.split_once('-')?;
    Some((group.replace('\0', "-"), volume.replace('\0', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str) -> LinkAttributes {
        LinkAttributes {
            name: name.into(),
            ids: vec!["virtio-root".into()],
            places: vec!["pci-0000:00:04.0".into(), "virtio-pci-0000:00:04.0".into()],
            sequence: Some("9".into()),
            ..LinkAttributes::default()
        }
    }

    fn content(usage: Usage, label: &str) -> Option<Superblock> {
        Some(Superblock { kind: "ext4", usage, uuid: "1-2".into(), label: label.into(), btrfs: None })
    }

    fn mapped(name: &str, uuid: &str) -> LinkAttributes {
        let mapped = Mapped { name: name.into(), uuid: uuid.into() };
        LinkAttributes { name: "dm-0".into(), mapped: Some(mapped), ..LinkAttributes::default() }
    }

    #[test]
    fn a_partition_is_found_by_each_of_its_identifiers() {
        let partition = Partition {
            number: 2,
            start: 0,
            uuid: "ab-cd".into(),
            label: "my root".into(),
            kind: String::new(),
            attributes: 0,
        };
        let facts = LinkAttributes {
            number: Some(2),
            partition: Some(partition),
            content: content(Usage::FileSystem, "A/B"),
            ..disk("vda2")
        };
        let expected = [
            "disk/by-id/virtio-root-part2",
            "disk/by-path/pci-0000:00:04.0-part2",
            "disk/by-path/virtio-pci-0000:00:04.0-part2",
            "disk/by-diskseq/9-part2",
            "disk/by-partuuid/ab-cd",
            r"disk/by-partlabel/my\x20root",
            "disk/by-uuid/1-2",
            r"disk/by-label/A\x2fB",
        ];
        assert_eq!(facts.names(), expected);
    }

    #[test]
    fn the_content_of_an_array_does_not_name_its_members() {
        let member = LinkAttributes { content: content(Usage::Member, "host:sys"), ..disk("vda") };
        assert!(!member.names().iter().any(|name| name.contains("by-uuid") || name.contains("by-label")));
        let kind = "LVM2_member";
        let volume =
            Superblock { kind, usage: Usage::Member, uuid: "a-b".into(), label: String::new(), btrfs: None };
        assert_eq!(names_of_content(&volume), ["disk/by-id/lvm-pv-uuid-a-b"]);
    }

    #[test]
    fn a_label_cannot_leave_its_directory() {
        let named = |label: &str| {
            LinkAttributes { content: content(Usage::FileSystem, label), ..LinkAttributes::default() }.names()
        };
        assert_eq!(named(".."), ["disk/by-uuid/1-2"]);
        assert_eq!(named("../../vda"), ["disk/by-uuid/1-2", r"disk/by-label/..\x2f..\x2fvda"]);
        assert_eq!(named(&"ä".repeat(128)), ["disk/by-uuid/1-2"], "too long for a file's name");
    }

    #[test]
    fn mapped_devices_have_names() {
        let opened = mapped("root", "CRYPT-LUKS2-0123-root");
        let expected = ["mapper/root", "disk/by-id/dm-name-root", "disk/by-id/dm-uuid-CRYPT-LUKS2-0123-root"];
        assert_eq!(opened.names(), expected);
        assert_eq!(mapped("plain", "").names(), ["mapper/plain", "disk/by-id/dm-name-plain"]);
    }

    #[test]
    fn logical_volumes_are_in_the_directory_of_their_group() {
        let uuid = format!("LVM-{}", "x".repeat(64));
        let volume = mapped("my--group-my--root", &uuid);
        assert_eq!(volume.names().last().unwrap(), "my-group/my-root");
        let parts = [mapped("group-root_rimage_0", &uuid), mapped("group-pool", &format!("{uuid}-tpool"))];
        for part in parts {
            let part = LinkAttributes { content: content(Usage::FileSystem, "ROOT"), ..part };
            assert!(
                !part.names().iter().any(|name| name.contains("group/") || name.contains("ROOT")),
                "{part:?}"
            );
        }
    }

    #[test]
    fn arrays_have_names() {
        let array = Array { uuid: "0:1:2:3".into(), name: "host:sys1".into() };
        let whole = LinkAttributes { name: "md127".into(), array: Some(array), ..LinkAttributes::default() };
        let expected = ["disk/by-id/md-uuid-0:1:2:3", "disk/by-id/md-name-host:sys1", "md/sys1"];
        assert_eq!(whole.names(), expected);
        let partition = LinkAttributes { number: Some(2), ..whole };
        let expected =
            ["disk/by-id/md-uuid-0:1:2:3-part2", "disk/by-id/md-name-host:sys1-part2", "md/sys1p2"];
        assert_eq!(partition.names(), expected);
    }

    #[test]
    fn likely_devices_have_priority() {
        let divided = LinkAttributes { is_divided: true, ..disk("vda") };
        let ranked = [mapped("root", ""), disk("vdb"), divided, disk("sr0")].map(|facts| facts.priority());
        assert!(ranked.is_sorted_by(|a, b| a > b), "{ranked:?}");
        assert!(disk("sr0").names().contains(&"cdrom".to_owned()));
    }
}
