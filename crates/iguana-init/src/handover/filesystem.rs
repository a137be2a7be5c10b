//! What is on a block device: the file system's kind, UUID and label, from its superblock.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// What a superblock says. An empty label is one that was never set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probed {
    /// The kernel's name of the file system.
    pub(super) kind: &'static str,
    pub(super) uuid: String,
    pub(super) label: String,
}

/// Reads the superblock of a device; `None` when it is of no kind that is known here.
pub(super) fn probe(device: &Path) -> io::Result<Option<Probed>> {
    let mut file = File::open(device)?;
    // btrfs has its superblock farthest from the beginning: 64 KiB, 4 KiB long.
    let mut start = vec![0; (64 << 10) + (4 << 10)];
    let length = read_up_to(&mut file, &mut start)?;
    start.truncate(length);
    Ok(identify(&start))
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    file.seek(SeekFrom::Start(0))?;
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

/// Offsets and magic numbers are those of the kernel: fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h,
/// include/uapi/linux/btrfs_tree.h, include/uapi/linux/msdos_fs.h, include/linux/f2fs_fs.h,
/// fs/squashfs/squashfs_fs.h, fs/erofs/erofs_fs.h, ECMA-119.
fn identify(start: &[u8]) -> Option<Probed> {
    let at = |offset: usize, length: usize| start.get(offset..offset + length).unwrap_or_default();
    let found =
        |kind, uuid: &[u8], label: &[u8]| Some(Probed { kind, uuid: uuid_text(uuid), label: text(label) });
    if at(0x438, 2) == [0x53, 0xef] {
        return found("ext4", at(0x468, 16), at(0x478, 16));
    }
    if at(0, 4) == b"XFSB" {
        return found("xfs", at(32, 16), at(108, 12));
    }
    if at(0x1_0040, 8) == b"_BHRfS_M" {
        return found("btrfs", at(0x1_0020, 16), at(0x1_012b, 256));
    }
    if at(0x400, 4) == [0x10, 0x20, 0xf5, 0xf2] {
        return found("f2fs", at(0x46c, 16), b"");
    }
    if at(0, 4) == b"hsqs" {
        return found("squashfs", b"", b"");
    }
    if at(0x400, 4) == [0xe2, 0xe1, 0xf5, 0xe0] {
        return found("erofs", at(0x430, 16), at(0x440, 16));
    }
    if at(0x8001, 5) == b"CD001" {
        return found("iso9660", b"", at(0x8028, 32));
    }
    if at(82, 5) == b"FAT32" {
        return Some(Probed { kind: "vfat", uuid: fat_serial(at(67, 4)), label: text(at(71, 11)) });
    }
    if at(54, 3) == b"FAT" {
        return Some(Probed { kind: "vfat", uuid: fat_serial(at(39, 4)), label: text(at(43, 11)) });
    }
    None
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

/// RFC 9562's text form.
pub(super) fn uuid_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (number, byte) in bytes.iter().enumerate() {
        if matches!(number, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}

/// As blkid(8) and `/dev/disk/by-uuid` show it: `1A2B-3C4D`.
fn fat_serial(bytes: &[u8]) -> String {
    match bytes {
        [a, b, c, d] => format!("{d:02X}{c:02X}-{b:02X}{a:02X}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superblocks_are_told_apart() {
        let mut ext4 = vec![0; 4096];
        ext4[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        ext4[0x468..0x478].copy_from_slice(&(0..16).collect::<Vec<u8>>());
        ext4[0x478..0x47c].copy_from_slice(b"root");
        let expected = Probed {
            kind: "ext4",
            uuid: "00010203-0405-0607-0809-0a0b0c0d0e0f".into(),
            label: "root".into(),
        };
        assert_eq!(identify(&ext4), Some(expected));
        let mut fat = vec![0; 512];
        fat[82..87].copy_from_slice(b"FAT32");
        fat[67..71].copy_from_slice(&[0x4d, 0x3c, 0x2b, 0x1a]);
        fat[71..82].copy_from_slice(b"ESP        ");
        assert_eq!(
            identify(&fat),
            Some(Probed { kind: "vfat", uuid: "1A2B-3C4D".into(), label: "ESP".into() })
        );
        assert_eq!(identify(&[]), None);
        assert_eq!(identify(&[0; 70_000]), None);
    }
}
