//! Superblocks: kind, UUID and label of a device's content.
//!
//! Offsets and magic numbers are those of the kernel (fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h,
//! include/uapi/linux/btrfs_tree.h, include/uapi/linux/msdos_fs.h, fs/exfat/exfat_raw.h, fs/ntfs3/ntfs.h,
//! include/linux/f2fs_fs.h, fs/squashfs/squashfs_fs.h, fs/erofs/erofs_fs.h, include/linux/swap.h), of ECMA-119
//! for CDs, of LVM2 (lib/format_text/layout.h), and of the LUKS1 and LUKS2 on-disk format specifications.

use super::{Bytes, text};

/// Bytes at the beginning of a device that contain everything the probes read. The farthest is the superblock of btrfs,
/// at 64 KiB and 4 KiB long.
pub(super) const START: usize = (64 << 10) + (4 << 10);

/// What was read from a superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// The kernel's name of a file system; blkid's name of anything else.
    pub(crate) kind: &'static str,
    pub(crate) usage: Usage,
    /// Empty if there is none.
    pub(crate) uuid: String,
    /// Empty if it was never set.
    pub(crate) label: String,
    pub(crate) btrfs: Option<BtrfsMember>,
}

/// A device's position among the devices of its btrfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BtrfsMember {
    pub(crate) id: u64,
    /// The number of devices.
    pub(crate) of: u64,
}

/// How the content of a device is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// It is mounted.
    FileSystem,
    /// It is opened with a key.
    Encrypted,
    /// It is swap space.
    Swap,
    /// It is a member of an array or a physical volume. The content is on the device built from it.
    Member,
}

impl Superblock {
    fn file_system(kind: &'static str, uuid: String, label: String) -> Option<Self> {
        Some(Self { kind, usage: Usage::FileSystem, uuid, label, btrfs: None })
    }
}

type Probe = fn(Bytes<'_>) -> Option<Superblock>;

/// Tried in order. Formats that hold other content (LVM, LUKS) come first: that content may begin right behind their
/// header.
const PROBES: &[Probe] =
    &[lvm, luks, swap, ext, xfs, btrfs, f2fs, squashfs, erofs, iso9660, exfat, ntfs, fat];

/// Identifies the content of a device from its first bytes.
pub(super) fn identify(start: &[u8]) -> Option<Superblock> {
    PROBES.iter().find_map(|probe| probe(Bytes(start)))
}

fn lvm(bytes: Bytes<'_>) -> Option<Superblock> {
    /// The label is in one of the first four sectors.
    const SECTORS: [usize; 4] = [0, 512, 1024, 1536];
    let is_label =
        |sector: &usize| bytes.at(*sector, 8) == b"LABELONE" && bytes.at(sector + 24, 5) == b"LVM2 ";
    let sector = SECTORS.into_iter().find(is_label)?;
    let header = usize::try_from(bytes.u32(sector + 20)?).ok()?;
    let letters = text::label(bytes.at(sector.checked_add(header)?, 32));
    let parts = [0..6, 6..10, 10..14, 14..18, 18..22, 22..26, 26..32];
    let uuid = parts.map(|range| letters.get(range).unwrap_or_default()).join("-");
    Some(Superblock { kind: "LVM2_member", usage: Usage::Member, uuid, label: String::new(), btrfs: None })
}

fn luks(bytes: Bytes<'_>) -> Option<Superblock> {
    if bytes.at(0, 6) != b"LUKS\xba\xbe" {
        return None;
    }
    // Version 1 has the name of its cipher at the offset of version 2's label.
    let label = if bytes.at(6, 2) == [0, 2] { text::label(bytes.at(24, 48)) } else { String::new() };
    let uuid = text::label(bytes.at(168, 40));
    Some(Superblock { kind: "crypto_LUKS", usage: Usage::Encrypted, uuid, label, btrfs: None })
}

fn swap(bytes: Bytes<'_>) -> Option<Superblock> {
    /// Page sizes of all architectures, in bytes. The signature is at the end of the first page.
    const PAGES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
    PAGES.into_iter().find(|page| bytes.at(page - 10, 10) == b"SWAPSPACE2")?;
    let (uuid, label) = (text::uuid(bytes.at(0x40c, 16)), text::label(bytes.at(0x41c, 16)));
    Some(Superblock { kind: "swap", usage: Usage::Swap, uuid, label, btrfs: None })
}

fn ext(bytes: Bytes<'_>) -> Option<Superblock> {
    let (uuid, label) = (text::uuid(bytes.at(0x468, 16)), text::label(bytes.at(0x478, 16)));
    (bytes.at(0x438, 2) == [0x53, 0xef]).then(|| Superblock::file_system("ext4", uuid, label))?
}

fn xfs(bytes: Bytes<'_>) -> Option<Superblock> {
    let (uuid, label) = (text::uuid(bytes.at(32, 16)), text::label(bytes.at(108, 12)));
    (bytes.at(0, 4) == b"XFSB").then(|| Superblock::file_system("xfs", uuid, label))?
}

fn btrfs(bytes: Bytes<'_>) -> Option<Superblock> {
    let (uuid, label) = (text::uuid(bytes.at(0x1_0020, 16)), text::label(bytes.at(0x1_012b, 256)));
    if bytes.at(0x1_0040, 8) != b"_BHRfS_M" {
        return None;
    }
    // `num_devices`, and `devid` of `dev_item`.
    let btrfs = bytes.u64(0x1_00c9).zip(bytes.u64(0x1_0088)).map(|(id, of)| BtrfsMember { id, of });
    Some(Superblock { btrfs, ..Superblock::file_system("btrfs", uuid, label)? })
}

fn f2fs(bytes: Bytes<'_>) -> Option<Superblock> {
    let (uuid, label) = (text::uuid(bytes.at(0x46c, 16)), text::wide_label(bytes.at(0x47c, 1024)));
    (bytes.at(0x400, 4) == [0x10, 0x20, 0xf5, 0xf2]).then(|| Superblock::file_system("f2fs", uuid, label))?
}

fn squashfs(bytes: Bytes<'_>) -> Option<Superblock> {
    (bytes.at(0, 4) == b"hsqs").then(|| Superblock::file_system("squashfs", String::new(), String::new()))?
}

fn erofs(bytes: Bytes<'_>) -> Option<Superblock> {
    let (uuid, label) = (text::uuid(bytes.at(0x430, 16)), text::label(bytes.at(0x440, 16)));
    (bytes.at(0x400, 4) == [0xe2, 0xe1, 0xf5, 0xe0]).then(|| Superblock::file_system("erofs", uuid, label))?
}

/// ECMA-119, section 8.4: the primary descriptor is in block 16 of 2048 bytes.
fn iso9660(bytes: Bytes<'_>) -> Option<Superblock> {
    if bytes.at(0x8001, 5) != b"CD001" {
        return None;
    }
    // Times of modification and creation, 16 digits each; blkid makes the UUID from them.
    let times = [0x8000 + 830, 0x8000 + 813].map(|place| bytes.at(place, 16));
    let is_set =
        |time: &&[u8]| time.iter().all(u8::is_ascii_digit) && time.iter().any(|digit| *digit != b'0');
    let time = times.into_iter().find(is_set).map(text::label).unwrap_or_default();
    let parts = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14, 14..16];
    let uuid = parts.map(|range| time.get(range).unwrap_or_default()).join("-");
    let uuid = if time.is_empty() { String::new() } else { uuid };
    Superblock::file_system("iso9660", uuid, text::label(bytes.at(0x8028, 32)))
}

/// The label is in the root directory, which is not read.
fn exfat(bytes: Bytes<'_>) -> Option<Superblock> {
    let uuid = fat_serial(bytes.at(100, 4));
    (bytes.at(3, 8) == b"EXFAT   ").then(|| Superblock::file_system("exfat", uuid, String::new()))?
}

/// The label is in a file, which is not read.
fn ntfs(bytes: Bytes<'_>) -> Option<Superblock> {
    let uuid = format!("{:016X}", bytes.u64(0x48)?);
    (bytes.at(3, 8) == b"NTFS    ").then(|| Superblock::file_system("ntfs3", uuid, String::new()))?
}

fn fat(bytes: Bytes<'_>) -> Option<Superblock> {
    if bytes.at(510, 2) != [0x55, 0xaa] {
        return None;
    }
    let (serial, label) = match (bytes.at(82, 5), bytes.at(54, 3)) {
        (b"FAT32", _) => (bytes.at(67, 4), bytes.at(71, 11)),
        (_, b"FAT") => (bytes.at(39, 4), bytes.at(43, 11)),
        _ => return None,
    };
    let label = Some(text::label(label)).filter(|label| label != "NO NAME").unwrap_or_default();
    Superblock::file_system("vfat", fat_serial(serial), label)
}

/// The serial number in blkid's format: `1A2B-3C4D`.
fn fat_serial(bytes: &[u8]) -> String {
    match bytes {
        [a, b, c, d] => format!("{d:02X}{c:02X}-{b:02X}{a:02X}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device of zeros with the given bytes at the given offsets.
    fn device(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; START];
        for (offset, part) in parts {
            bytes[*offset..offset + part.len()].copy_from_slice(part);
        }
        bytes
    }

    fn uuid() -> Vec<u8> {
        (0..16).collect()
    }

    /// `KIND UUID LABEL` of a device with the given bytes.
    fn found(parts: &[(usize, &[u8])]) -> String {
        let Superblock { kind, uuid, label, .. } = identify(&device(parts)).unwrap();
        format!("{kind} {uuid} {label}")
    }

    const UUID: &str = "00010203-0405-0607-0809-0a0b0c0d0e0f";

    #[test]
    fn file_systems_are_distinguished() {
        let uuid = &uuid()[..];
        let ext: &[(usize, &[u8])] = &[(0x438, &[0x53, 0xef]), (0x468, uuid), (0x478, b"root")];
        assert_eq!(found(ext), format!("ext4 {UUID} root"));
        assert_eq!(
            found(&[(0, b"XFSB"), (32, uuid), (108, b"twelve bytes")]),
            format!("xfs {UUID} twelve bytes")
        );
        assert_eq!(
            found(&[(0x1_0040, b"_BHRfS_M"), (0x1_0020, uuid), (0x1_012b, b"my root")]),
            format!("btrfs {UUID} my root")
        );
        assert_eq!(
            found(&[(0x400, &[0x10, 0x20, 0xf5, 0xf2]), (0x46c, uuid), (0x47c, b"f\x002\0")]),
            format!("f2fs {UUID} f2")
        );
        assert_eq!(
            found(&[(0x400, &[0xe2, 0xe1, 0xf5, 0xe0]), (0x430, uuid), (0x440, b"ro")]),
            format!("erofs {UUID} ro")
        );
        assert_eq!(found(&[(0, b"hsqs")]), "squashfs  ");
        assert_eq!(found(&[(3, b"EXFAT   "), (100, &[0x4d, 0x3c, 0x2b, 0x1a])]), "exfat 1A2B-3C4D ");
        assert_eq!(found(&[(3, b"NTFS    "), (0x48, &[8, 7, 6, 5, 4, 3, 2, 1])]), "ntfs3 0102030405060708 ");
        assert_eq!(identify(&[]), None);
        assert_eq!(identify(&device(&[])), None);
    }

    #[test]
    fn a_fat_without_a_name_has_none() {
        let fat = |label: &[u8]| {
            found(&[(82, b"FAT32"), (67, &[0x4d, 0x3c, 0x2b, 0x1a]), (71, label), (510, &[0x55, 0xaa])])
        };
        assert_eq!(fat(b"ESP        "), "vfat 1A2B-3C4D ESP");
        assert_eq!(fat(b"NO NAME    "), "vfat 1A2B-3C4D ");
        assert_eq!(identify(&device(&[(82, b"FAT32")])), None, "no signature");
    }

    #[test]
    fn a_cd_is_known_by_its_date() {
        let cd = |made: &[u8], changed: &[u8]| {
            found(&[(0x8001, b"CD001"), (0x8028, b"DISC    "), (0x8000 + 813, made), (0x8000 + 830, changed)])
        };
        let never = b"0000000000000000";
        assert_eq!(cd(b"2026010203040506", b"2027010203040506"), "iso9660 2027-01-02-03-04-05-06 DISC");
        assert_eq!(cd(b"2026010203040506", never), "iso9660 2026-01-02-03-04-05-06 DISC");
        assert_eq!(cd(never, never), "iso9660  DISC");
    }

    #[test]
    fn a_superblock_states_its_usage() {
        let uuid = &uuid()[..];
        let usage = |parts: &[(usize, &[u8])]| identify(&device(parts)).unwrap().usage;
        let swap: &[(usize, &[u8])] = &[(4086, b"SWAPSPACE2"), (0x40c, uuid), (0x41c, b"s")];
        assert_eq!((found(swap), usage(swap)), (format!("swap {UUID} s"), Usage::Swap));
        let luks = |version| [(0, &b"LUKS\xba\xbe"[..]), (7, version), (24, b"aes"), (168, b"0-1")];
        assert_eq!(found(&luks(&[1])), "crypto_LUKS 0-1 ");
        assert_eq!(
            (found(&luks(&[2])), usage(&luks(&[2]))),
            ("crypto_LUKS 0-1 aes".into(), Usage::Encrypted)
        );
        let letters = b"abcdefghijklmnopqrstuvwxyz012345";
        let lvm: &[(usize, &[u8])] =
            &[(512, b"LABELONE"), (512 + 20, &[32]), (512 + 24, b"LVM2 001"), (512 + 32, letters)];
        assert_eq!(found(lvm), "LVM2_member abcdef-ghij-klmn-opqr-stuv-wxyz-012345 ");
        assert_eq!(usage(lvm), Usage::Member);
    }

    #[test]
    fn truncated_superblocks_are_tolerated() {
        let whole = device(&[(512, b"LABELONE"), (512 + 20, &[0xff; 4]), (512 + 24, b"LVM2 001")]);
        (0..whole.len()).step_by(7).for_each(|length| drop(identify(&whole[..length])));
    }
}
