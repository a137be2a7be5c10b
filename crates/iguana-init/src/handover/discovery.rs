//! Root discovery: finds the new system by the types of partitions, as systemd-gpt-auto-generator(8) does.

use super::NEW_ROOT;
use super::mount_list::MountEntry;
use super::partitions::{Disk, TYPES, Typed};
use anyhow::bail;
use hint::hinted;

/// The system that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DiscoveredRoot {
    pub(super) entries: Vec<MountEntry>,
    /// The disk, and why it was chosen.
    pub(super) reason: String,
}

/// A condition on disks, and its text for the report.
type Preference = (fn(&Disk) -> bool, &'static str);

/// Preferred disks, in order: those that a container has written to, then the one that the machine was started from.
const PREFERENCES: &[Preference] = &[
    (|disk| disk.is_written, "the disk that a job wrote to"),
    (|disk| disk.is_boot, "the boot disk"),
    (|_| true, "the only disk with a root partition"),
];

/// Chooses the root on one of the disks, and its `/usr`.
///
/// # Errors
/// When there is no root, more than one, or one that needs dm-verity.
pub(super) fn choose(disks: &[Disk]) -> anyhow::Result<DiscoveredRoot> {
    for (is_preferred, reason) in PREFERENCES {
        let preferred: Vec<&Disk> = disks.iter().filter(|disk| is_preferred(disk)).collect();
        let roots = preferred
            .iter()
            .flat_map(|disk| disk.automatic(TYPES.root).into_iter().map(move |it| (disk, it)));
        match *roots.collect::<Vec<_>>() {
            [] => {}
            [(disk, root)] => return on(disk, root, reason),
            ref several => return Err(ambiguous(several.iter().map(|(_, root)| *root), reason)),
        }
    }
    bail!("no disk has a partition of a root type: {}", overview(disks))
}

fn on(disk: &Disk, root: &Typed, reason: &str) -> anyhow::Result<DiscoveredRoot> {
    if let Some(hashes) = disk.partitions.iter().find(|it| TYPES.verity.iter().any(|kind| it.is(kind))) {
        return Err(hinted(
            format!(
                "the root `{}` is protected by dm-verity (`{}`), which Iguana cannot set up",
                root.node.display(),
                hashes.node.display()
            ),
            format!(
                "have a job open it with `veritysetup` and write `/dev/mapper/NAME {NEW_ROOT}` to the mount list"
            ),
        ));
    }
    let usr = disk.automatic(TYPES.usr);
    if usr.len() > 1 {
        return Err(ambiguous(usr.into_iter(), "for `/usr`"));
    }
    let entries = [entry(root, NEW_ROOT)]
        .into_iter()
        .chain(usr.iter().map(|usr| entry(usr, &format!("{NEW_ROOT}/usr"))));
    Ok(DiscoveredRoot { entries: entries.collect(), reason: format!("`{}`, {reason}", disk.node.display()) })
}

fn entry(partition: &Typed, mountpoint: &str) -> MountEntry {
    let options = if partition.is_read_only() { "ro" } else { "defaults" };
    MountEntry::new(&partition.node.display().to_string(), mountpoint, options)
}

fn ambiguous<'a>(found: impl Iterator<Item = &'a Typed>, where_: &str) -> anyhow::Error {
    let list: Vec<String> = found.map(|it| format!("`{}`", it.node.display())).collect();
    hinted(
        format!("there are {} candidates for the new root ({where_}): {}", list.len(), list.join(", ")),
        format!(
            "have a job write `DEVICE {NEW_ROOT}` to `/iguana/mountlist`, or set the flag `no-auto` on the \
             others"
        ),
    )
}

/// Says for each disk why no root was found on it.
fn overview(disks: &[Disk]) -> String {
    let why = |disk: &Disk| {
        let why = match disk.partitions.as_slice() {
            [] => "no GPT, and an MBR has no partition type for a root".into(),
            parts if parts.iter().any(|it| it.is(TYPES.root)) => {
                "its root partition has the flag `no-auto`".into()
            }
            parts => {
                format!("none of its {} partitions is a root for `{}`", parts.len(), std::env::consts::ARCH)
            }
        };
        format!("`{}` ({why})", disk.node.display())
    };
    let disks: Vec<String> = disks.iter().map(why).collect();
    if disks.is_empty() { "there is no disk".into() } else { disks.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::partitions::with_unique_boot_disk;
    use super::*;
    use crate::block::Partition;

    const OTHER: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

    fn disk(name: &str, kinds: &[(&str, u64)]) -> Disk {
        let partition = |(number, (kind, attributes)): (u32, &(&str, u64))| Typed {
            node: format!("/dev/{name}{number}").into(),
            partition: Partition {
                number,
                start: 0,
                uuid: String::new(),
                label: String::new(),
                kind: (*kind).into(),
                attributes: *attributes,
            },
        };
        let partitions = (1..).zip(kinds).map(partition).collect();
        Disk { node: format!("/dev/{name}").into(), partitions, ..Disk::default() }
    }

    fn error(disks: &[Disk]) -> String {
        choose(disks).unwrap_err().to_string()
    }

    #[test]
    fn the_only_root_is_mounted_with_its_usr() {
        let disks =
            [disk("vda", &[(OTHER, 0)]), disk("vdb", &[(OTHER, 0), (TYPES.root, 0), (TYPES.usr, 1 << 60)])];
        let found = choose(&disks).unwrap();
        let expected = [
            MountEntry::new("/dev/vdb2", "/sysroot", "defaults"),
            MountEntry::new("/dev/vdb3", "/sysroot/usr", "ro"),
        ];
        assert_eq!(found.entries, expected);
        assert_eq!(found.reason, "`/dev/vdb`, the only disk with a root partition");
    }

    #[test]
    fn the_disk_that_was_written_to_goes_first_and_then_the_one_of_the_boot() {
        let plain = || disk("vda", &[(TYPES.root, 0)]);
        let boot = || Disk { is_boot: true, ..disk("vdb", &[(TYPES.root, 0)]) };
        let written = Disk { is_written: true, ..disk("vdc", &[(TYPES.root, 0)]) };
        let root_of = |disks: &[Disk]| choose(disks).unwrap().entries[0].device.clone();
        assert_eq!(root_of(&[plain(), boot(), written.clone()]), "/dev/vdc1");
        assert_eq!(root_of(&[plain(), boot()]), "/dev/vdb1");
        let data = Disk { is_written: true, ..disk("vdc", &[(OTHER, 0)]) };
        assert_eq!(root_of(&[data, plain()]), "/dev/vda1", "the disk written to has no root");
    }

    #[test]
    fn a_disk_with_the_uuid_of_the_boot_partition_is_not_preferred() {
        let boot = |name, kinds: &[(&str, u64)]| Disk { is_boot: true, ..disk(name, kinds) };
        let own = disk("vda", &[(TYPES.root, 0)]);
        let disks = vec![own, boot("vdb", &[(OTHER, 0)]), boot("vdc", &[(OTHER, 0), (TYPES.root, 0)])];
        let found = error(&with_unique_boot_disk(disks));
        assert!(found.contains("`/dev/vda1`, `/dev/vdc2`"), "{found}");
    }

    #[test]
    fn several_are_listed() {
        let found = error(&[disk("vda", &[(TYPES.root, 0)]), disk("vdb", &[(TYPES.root, 0)])]);
        assert!(found.contains("`/dev/vda1`, `/dev/vdb1`"), "{found}");
        let usr = error(&[disk("vda", &[(TYPES.root, 0), (TYPES.usr, 0), (TYPES.usr, 0)])]);
        assert!(usr.contains("`/dev/vda2`, `/dev/vda3`"), "{usr}");
        let marked = [disk("vda", &[(TYPES.root, 1 << 63), (TYPES.root, 0)])];
        assert_eq!(choose(&marked).unwrap().entries[0].device, "/dev/vda2");
    }

    #[test]
    fn rejected_partitions_are_listed_with_the_reason() {
        assert!(error(&[]).contains("there is no disk"));
        let none =
            error(&[disk("vda", &[]), disk("vdb", &[(OTHER, 0)]), disk("vdc", &[(TYPES.root, 1 << 63)])]);
        for part in [
            "`/dev/vda` (no GPT",
            "`/dev/vdb` (none of its 1 partitions",
            "`/dev/vdc` (its root partition has the flag",
        ] {
            assert!(none.contains(part), "{none}");
        }
        let verity = error(&[disk("vda", &[(TYPES.root, 0), (TYPES.verity[0], 0)])]);
        assert!(verity.contains("protected by dm-verity (`/dev/vda2`)"), "{verity}");
    }
}
