//! Finds the md array that a device is a member of (linux/raid/md_p.h).

use super::superblock::{Superblock, Usage};
use super::{Bytes, text};

/// `MD_SB_MAGIC`, little-endian.
const MAGIC: [u8; 4] = [0xfc, 0x4e, 0x2b, 0xa9];
/// Bytes of a superblock that are read.
pub(super) const LENGTH: usize = 4096;
/// Offsets of the superblock in versions 1.1 and 1.2.
const PLACES_AT_START: [usize; 2] = [0, 4096];
/// `MD_RESERVED_BYTES`: in version 0.90 the superblock begins the last complete block of this size.
const OLD_RESERVED: u64 = 64 << 10;
/// In version 1.0 the superblock is 8 KiB before the end, aligned to 4 KiB (drivers/md/md.c, `super_1_load`).
const NEW_RESERVED: u64 = 8 << 10;
const NEW_ALIGNMENT: u64 = 4 << 10;

/// An array, as the superblocks of its members describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Array {
    /// In mdadm's format: `01234567:89abcdef:01234567:89abcdef`.
    pub(crate) uuid: String,
    /// `HOST:NAME` or `NAME`; empty in version 0.90, which has no names.
    pub(crate) name: String,
}

impl Array {
    /// The superblock of a member, in the form in which blkid(8) reports it.
    pub(super) fn superblock(&self) -> Superblock {
        let digits: Vec<u8> = self.uuid.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digits = String::from_utf8_lossy(&digits);
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default());
        let (kind, uuid, label) = ("linux_raid_member", parts.join("-"), self.name.clone());
        Superblock { kind, usage: Usage::Member, uuid, label, btrfs: None }
    }
}

/// The array whose superblock is at the beginning of a member.
pub(super) fn identify_start(start: &[u8]) -> Option<Array> {
    PLACES_AT_START.into_iter().find_map(|place| identify(Bytes(start).at(place, LENGTH)))
}

/// The offsets at which the superblock may be at the end of a device of `size` bytes.
pub(super) fn places_at_end(size: u64) -> Vec<u64> {
    let old = (size / OLD_RESERVED * OLD_RESERVED).checked_sub(OLD_RESERVED);
    let new = size.checked_sub(NEW_RESERVED).map(|place| place / NEW_ALIGNMENT * NEW_ALIGNMENT);
    [old, new].into_iter().flatten().collect()
}

/// Parses a superblock of version 1, or of version 0.90 in little-endian byte order.
pub(super) fn identify(bytes: &[u8]) -> Option<Array> {
    let bytes = Bytes(bytes);
    if bytes.at(0, 4) != MAGIC {
        return None;
    }
    match bytes.u32(4)? {
        1 => {
            let words = bytes.at(16, 16).chunks_exact(4).map(|word| format_word(word, false));
            Some(Array { uuid: join(words), name: text::label(bytes.at(32, 32)) })
        }
        0 => {
            let words = [20, 52, 56, 60].into_iter().map(|place| format_word(bytes.at(place, 4), true));
            Some(Array { uuid: join(words), name: String::new() })
        }
        _ => None,
    }
}

/// Formats one word of a UUID. mdadm swaps the bytes of each word in version 0.90.
fn format_word(word: &[u8], swapped: bool) -> String {
    let hex = |bytes: &mut dyn Iterator<Item = &u8>| bytes.map(|byte| format!("{byte:02x}")).collect();
    if swapped { hex(&mut word.iter().rev()) } else { hex(&mut word.iter()) }
}

fn join(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_named_by_its_members() {
        let mut member = vec![0; 8192];
        member[4096..4100].copy_from_slice(&MAGIC);
        member[4100] = 1;
        member[4112..4128].copy_from_slice(&(0..16).collect::<Vec<u8>>());
        member[4128..4136].copy_from_slice(b"host:sys");
        let array = identify_start(&member).unwrap();
        assert_eq!(array.uuid, "00010203:04050607:08090a0b:0c0d0e0f");
        assert_eq!(array.name, "host:sys");
        assert_eq!(array.superblock().uuid, "00010203-0405-0607-0809-0a0b0c0d0e0f");
        member[4100] = 7;
        assert_eq!(identify_start(&member), None);
    }

    #[test]
    fn old_versions_of_the_superblock_are_at_the_end() {
        assert_eq!(places_at_end((1 << 20) + 512), [(1 << 20) - (64 << 10), (1 << 20) - (8 << 10)]);
        assert!(places_at_end(4096).is_empty());
    }
}
