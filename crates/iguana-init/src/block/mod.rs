//! What a block device contains, from its bytes. Both the links in `/dev/disk` and mounting use this module. The
//! parsers do no I/O, and a read is never longer than a few dozen KiB.

pub(crate) mod device;
mod duplicates;
pub(crate) mod named;
mod raid;
mod superblock;
mod table;
mod text;

pub(crate) use raid::Array;
pub(crate) use superblock::{BtrfsMember, Superblock, Usage};
pub(crate) use table::{Partition, Table};
pub(crate) use text::encoded;

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Opens a block device to probe it. Does not block on a drive without a medium, nor on a FIFO that a container put in
/// the place of a device, and does not close a drive's tray.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    Ok(untrusted_fs::open_block_device(path)?)
}

/// The superblock on a device; `None` if its format is unknown.
pub(crate) fn superblock(device: &File) -> io::Result<Option<Superblock>> {
    let start = read(device, 0, superblock::START)?;
    if let Some(member) = array(device, &start)? {
        return Ok(Some(member.superblock()));
    }
    Ok(superblock::identify(&start))
}

/// The array that a device is a member of.
pub(crate) fn array_of_member(member: &File) -> io::Result<Option<Array>> {
    array(member, &read(member, 0, superblock::START)?)
}

/// The array of a member. Its superblock is at the beginning or at the end of the device.
fn array(mut device: &File, start: &[u8]) -> io::Result<Option<Array>> {
    if let Some(found) = raid::identify_start(start) {
        return Ok(Some(found));
    }
    let size = device.seek(SeekFrom::End(0))?;
    for place in raid::places_at_end(size) {
        if let Some(found) = raid::identify(&read(device, place, raid::LENGTH)?) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The partition table of a disk; `None` if its format is unknown.
pub(crate) fn table(disk: &File, block_size: u64) -> io::Result<Option<Table>> {
    let first = read(disk, 0, table::MBR_LENGTH)?;
    if table::is_protected(&first) {
        let header = read(disk, block_size, table::GPT_HEADER_LENGTH)?;
        if let Some(place) = table::place_of_entries(&header, block_size) {
            let entries = read(disk, place.start, place.length)?;
            return Ok(Some(table::gpt(&entries, place.entry_length, block_size)));
        }
    }
    Ok(table::mbr(&first))
}

/// Reads `length` bytes at an offset; fewer if the device ends before.
fn read(device: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match device.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The bytes of a format, read by offset.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// The bytes of a field; empty if the field is not completely there.
    fn at(self, offset: usize, length: usize) -> &'a [u8] {
        offset.checked_add(length).and_then(|end| self.0.get(offset..end)).unwrap_or_default()
    }

    fn u32(self, offset: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.at(offset, 4).try_into().ok()?))
    }

    fn u64(self, offset: usize) -> Option<u64> {
        Some(u64::from_le_bytes(self.at(offset, 8).try_into().ok()?))
    }
}
