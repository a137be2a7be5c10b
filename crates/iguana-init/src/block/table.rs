//! Partition tables: the GPT (UEFI specification, section 5.3) and the MBR.

use super::{Bytes, text};

/// Bytes of the MBR, the first sector.
pub(super) const MBR_LENGTH: usize = 512;
/// Bytes of the GPT header that are read.
pub(super) const GPT_HEADER_LENGTH: usize = 92;
/// Bytes of a sector as the kernel counts them, independent of the disk's own block size.
const SECTOR: u64 = 512;
/// The most entries, and the bytes per entry, that are read. Every tool writes 128 entries of 128 bytes.
const AT_MOST: usize = 1024;
const ENTRY_LENGTH: usize = 128;
/// Offsets of the four entries of 16 bytes in the MBR, and of its signature.
const MBR_ENTRIES: usize = 446;
const MBR_SIGNATURE: (usize, [u8; 2]) = (510, [0x55, 0xaa]);
/// The type of the MBR entry that covers a disk with a GPT ("protective MBR").
const PROTECTED: u8 = 0xee;

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// The partitions in the table itself; the chain of an MBR's logical partitions is not followed.
    pub(crate) partitions: Vec<Partition>,
    /// The disk signature of an MBR, from which the kernel makes the UUIDs of the partitions.
    disk_id: Option<u32>,
}

/// One partition's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Counted from 1.
    pub(crate) number: u32,
    /// In sectors of 512 bytes.
    pub(crate) start: u64,
    pub(crate) uuid: String,
    /// Empty if it has none; an MBR has no labels.
    pub(crate) label: String,
    /// The partition type of a GPT, as text; empty in an MBR, whose types do not identify a root.
    pub(crate) kind: String,
    /// The attributes of a GPT entry (UEFI specification, section 5.3.3). The partition type defines the upper 16 bits.
    pub(crate) attributes: u64,
}

impl Table {
    /// The entry for a partition with this number and start (in sectors of 512 bytes). `None` if it starts elsewhere:
    /// the table was written after the kernel had read it.
    pub(crate) fn partition(&self, number: u32, start: u64) -> Option<Partition> {
        let found = self.partitions.iter().find(|it| (it.number, it.start) == (number, start));
        found.cloned().or_else(|| self.logical(number, start))
    }

    fn logical(&self, number: u32, start: u64) -> Option<Partition> {
        let disk_id = self.disk_id.filter(|_| number > 4)?;
        Some(Partition::of_mbr(disk_id, number, start))
    }

    /// Whether the table differs from the partitions (number, start) that the kernel knows.
    pub(crate) fn differs_from(&self, known: &[(u32, u64)]) -> bool {
        let is_primary = |number: u32| self.disk_id.is_none() || number <= 4;
        let mut known: Vec<_> = known.iter().copied().filter(|(number, _)| is_primary(*number)).collect();
        let mut written: Vec<_> = self.partitions.iter().map(|it| (it.number, it.start)).collect();
        known.sort_unstable();
        written.sort_unstable();
        known != written
    }
}

/// Whether the first sector is a protective MBR, so that the disk has a GPT.
pub(super) fn is_protected(first: &[u8]) -> bool {
    is_mbr(first) && mbr_entries(first).any(|(_, entry)| entry[4] == PROTECTED)
}

fn is_mbr(first: &[u8]) -> bool {
    Bytes(first).at(MBR_SIGNATURE.0, 2) == MBR_SIGNATURE.1
}

fn mbr_entries(first: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    (1..).zip(Bytes(first).at(MBR_ENTRIES, 64).chunks_exact(16))
}

/// The position of the GPT's entry array, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryArray {
    pub(super) start: u64,
    pub(super) length: usize,
    pub(super) entry_length: usize,
}

/// The position of the entry array, from a GPT header.
pub(super) fn place_of_entries(header: &[u8], block_size: u64) -> Option<EntryArray> {
    let header = Bytes(header);
    if header.at(0, 8) != b"EFI PART" {
        return None;
    }
    let start = header.u64(72)?.checked_mul(block_size)?;
    let count = usize::try_from(header.u32(80)?).ok()?.min(AT_MOST);
    let entry_length = usize::try_from(header.u32(84)?).ok()?;
    let is_sound = (ENTRY_LENGTH..=AT_MOST).contains(&entry_length);
    is_sound.then_some(EntryArray { start, length: count * entry_length, entry_length })
}

/// The partitions of a GPT, from its entry array.
pub(super) fn gpt(entries: &[u8], entry_length: usize, block_size: u64) -> Table {
    let entries = (1..).zip(entries.chunks_exact(entry_length));
    let partitions = entries.filter_map(|(number, entry)| {
        let entry = Bytes(entry);
        let is_used = entry.at(0, 16).iter().any(|byte| *byte != 0);
        let start = entry.u64(32)?.checked_mul(block_size)? / SECTOR;
        let attributes = entry.u64(48)?;
        let [kind, uuid] = [0, 16].map(|offset| text::guid(entry.at(offset, 16)));
        let label = text::wide_label(entry.at(56, 72));
        is_used.then_some(Partition { number, start, uuid, label, kind, attributes })
    });
    Table { partitions: partitions.collect(), disk_id: None }
}

/// The primary partitions of an MBR.
pub(super) fn mbr(first: &[u8]) -> Option<Table> {
    if !is_mbr(first) {
        return None;
    }
    let disk_id = Bytes(first).u32(440)?;
    let partitions = mbr_entries(first).filter_map(|(number, entry)| {
        let (start, length) = (Bytes(entry).u32(8)?, Bytes(entry).u32(12)?);
        (length > 0).then(|| Partition::of_mbr(disk_id, number, start.into()))
    });
    Some(Table { partitions: partitions.collect(), disk_id: Some(disk_id) })
}

impl Partition {
    fn of_mbr(disk_id: u32, number: u32, start: u64) -> Self {
        let uuid = mbr_uuid(disk_id, number);
        Self { number, start, uuid, label: String::new(), kind: String::new(), attributes: 0 }
    }
}

/// The UUID that the kernel makes (block/partitions/msdos.c); empty if the disk has no signature.
fn mbr_uuid(disk_id: u32, number: u32) -> String {
    if disk_id == 0 { String::new() } else { format!("{disk_id:08x}-{number:02x}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_sector(kind: u8) -> Vec<u8> {
        let mut first = vec![0; MBR_LENGTH];
        first[440..444].copy_from_slice(&0x1234_abcd_u32.to_le_bytes());
        first[446 + 4] = kind;
        first[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
        first[446 + 12] = 8;
        first[510..].copy_from_slice(&MBR_SIGNATURE.1);
        first
    }

    fn gpt_of_one() -> Table {
        let mut entries = vec![0; 4 * ENTRY_LENGTH];
        let entry = &mut entries[ENTRY_LENGTH..];
        entry[0] = 1;
        entry[55] = 0x80;
        entry[16..32].copy_from_slice(&(0..16).collect::<Vec<u8>>());
        entry[32] = 40;
        entry[56..60].copy_from_slice(&[b'o', 0, b's', 0]);
        gpt(&entries, ENTRY_LENGTH, 4096)
    }

    #[test]
    fn a_gpt_names_its_partitions() {
        let found = gpt_of_one().partition(2, 320).unwrap();
        assert_eq!(found.uuid, "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(found.label, "os");
        assert_eq!(found.kind, "00000001-0000-0000-0000-000000000000");
        assert_eq!(found.attributes, 1 << 63);
        assert_eq!(gpt_of_one().partition(2, 40), None, "counted in sectors of 512 bytes");
        assert_eq!(gpt_of_one().partition(1, 0), None, "not in use");
    }

    #[test]
    fn the_entries_are_found_by_the_header() {
        let mut header = vec![0; GPT_HEADER_LENGTH];
        header[..8].copy_from_slice(b"EFI PART");
        (header[72], header[80], header[84]) = (2, 128, 128);
        let place = EntryArray { start: 8192, length: 128 * 128, entry_length: 128 };
        assert_eq!(place_of_entries(&header, 4096), Some(place));
        header[84] = 0;
        assert_eq!(place_of_entries(&header, 512), None);
        assert_eq!(place_of_entries(b"EFI PART", 512), None);
        assert_eq!(place_of_entries(&[0; 92], 512), None);
    }

    #[test]
    fn an_mbr_is_distinguished_from_a_protective_mbr() {
        assert!(is_protected(&first_sector(PROTECTED)));
        assert!(!is_protected(&first_sector(0x83)));
        let table = mbr(&first_sector(0x83)).unwrap();
        assert_eq!(table.partition(1, 2048).unwrap().uuid, "1234abcd-01");
        assert_eq!(table.partition(5, 4096).unwrap().uuid, "1234abcd-05");
        assert_eq!(mbr(&[0; 512]), None);
        assert_eq!(mbr(&[]), None);
    }

    #[test]
    fn the_kernel_may_know_an_older_table() {
        let gpt = gpt_of_one();
        assert!(!gpt.differs_from(&[(2, 320)]));
        assert!(
            gpt.differs_from(&[(2, 2048)]) && gpt.differs_from(&[]) && gpt.differs_from(&[(2, 320), (3, 9)])
        );
        let mbr = mbr(&first_sector(0x83)).unwrap();
        assert!(!mbr.differs_from(&[(1, 2048), (5, 4096)]));
    }
}
