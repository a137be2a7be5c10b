//! Reads a tar archive: one entry after the other, whose content is borrowed from the reader's buffer.
//!
//! The formats are those of POSIX.1-2017 (pax, "ustar Interchange Format"), of GNU tar's manual ("Basic Tar Format"),
//! and of Unix Version 7.

use super::pax;
use super::sparse;
use super::sparse::{MapInContent, Piece};
use super::work::{BYTES_OF_STEP, Work};
use anyhow::{Context as _, bail, ensure};
use rustix::fs::Timespec;
use std::io::{self, BufRead};

/// Bytes of a header; content is padded to a multiple of it (ustar Interchange Format).
pub(super) const BLOCK: usize = 512;
/// Bytes of one extension: long names, attributes, maps of sparse files. The same limit as in Go's archive/tar, with
/// which other engines read layers.
pub(super) const EXTENSION_LIMIT: u64 = 1 << 20;

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// Sockets, volume labels and unknown kinds.
    Other,
}

/// An entry, without its content.
#[derive(Debug)]
pub(super) struct ArchiveEntry {
    pub(super) kind: EntryKind,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) owner: u32,
    pub(super) group: u32,
    /// Only the bits that chmod(2) accepts.
    pub(super) mode: u32,
    pub(super) mtime: Timespec,
    /// Major and minor number.
    pub(super) device: (u32, u32),
    /// The size of the file, holes included.
    pub(super) size: u64,
    /// The positions of the content in the file, if it has holes.
    pub(super) pieces: Option<Vec<Piece>>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive that is being read.
pub(super) struct Archive<'a> {
    inner: &'a mut dyn BufRead,
    /// Bytes read so far.
    position: u64,
    /// The most bytes that may be read.
    limit: u64,
    /// Counts the bytes with those of the whole image.
    work: &'a Work,
    /// Bytes that are not counted there yet.
    uncounted: u64,
    /// Bytes of the current entry's content that are unread.
    left: u64,
    /// Bytes of padding after that content.
    padding: u64,
}

impl<'a> Archive<'a> {
    /// An archive of at most `limit` bytes.
    pub(super) fn new(inner: &'a mut dyn BufRead, limit: u64, work: &'a Work) -> Self {
        Self { inner, position: 0, limit, work, uncounted: 0, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end-of-archive mark, or at the end of an archive without one.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<ArchiveEntry>> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.next_header()? else {
                ensure!(
                    extensions.is_empty(),
                    "the archive ends after an extension header, before its entry"
                );
                return Ok(None);
            };
            match header.kind() {
                b'L' => extensions.name = Some(terminated(&self.extension(&header)?).to_vec()),
                b'K' => extensions.link = Some(terminated(&self.extension(&header)?).to_vec()),
                b'x' | b'X' => extensions.pax = self.extension(&header)?,
                // A global header, for all entries that follow. It is ignored: other engines use nothing from it.
                b'g' => drop(self.extension(&header)?),
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    /// The unread content of the current entry, as much as is in the buffer; empty at its end.
    pub(super) fn content(&mut self) -> anyhow::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let bytes = fill(self.inner)?;
        ensure!(!bytes.is_empty(), "the archive ends in the middle of it");
        Ok(&bytes[..bytes.len().min(left)])
    }

    /// Advances by `count` bytes of the current entry's content.
    pub(super) fn consume(&mut self, count: usize) -> anyhow::Result<()> {
        self.left -= count as u64;
        self.advance(count)
    }

    /// Reads the rest of the archive, so that a digest covers it.
    pub(super) fn drain(&mut self) -> anyhow::Result<()> {
        loop {
            let count = fill(self.inner)?.len();
            if count == 0 {
                return Ok(());
            }
            self.advance(count)?;
        }
    }

    fn advance(&mut self, count: usize) -> anyhow::Result<()> {
        self.inner.consume(count);
        self.position += count as u64;
        ensure!(
            self.position <= self.limit,
            "the unpacked archive exceeds the {} bytes that fit into the file system",
            self.limit
        );
        self.uncounted += count as u64;
        if self.uncounted >= BYTES_OF_STEP {
            self.work.take(self.uncounted / BYTES_OF_STEP)?;
            self.uncounted %= BYTES_OF_STEP;
        }
        Ok(())
    }

    fn next_header(&mut self) -> anyhow::Result<Option<Header>> {
        // umoci omits the padding of the last block; GNU tar and podman accept that.
        self.skip_content()?;
        let start = self.position;
        let mut block = [0; BLOCK];
        match self.read(&mut block)? {
            0 => return Ok(None),
            BLOCK => {}
            _ => bail!("the archive is truncated in the header at byte {start}"),
        }
        if block == [0; BLOCK] {
            // "At the end of the archive file there shall be two 512-octet logical records filled with binary zeros" (pax,
            // ustar Interchange Format); some makers write one, and nothing behind it.
            let mut next = [0; BLOCK];
            let count = self.read(&mut next)?;
            ensure!(
                next[..count].iter().all(|byte| *byte == 0),
                "a block of zeros at byte {start} is not the end of the archive"
            );
            return Ok(None);
        }
        let header = Header(block);
        ensure!(header.is_intact(), "there is no tar header at byte {start}");
        Ok(Some(header))
    }

    fn skip_content(&mut self) -> anyhow::Result<()> {
        loop {
            let count = self.content()?.len();
            if count == 0 {
                break;
            }
            self.consume(count)?;
        }
        while self.padding > 0 {
            let count = fill(self.inner)?.len().min(self.padding as usize);
            self.padding = if count == 0 { 0 } else { self.padding - count as u64 };
            self.advance(count)?;
        }
        Ok(())
    }

    /// Fills `target` as far as there is data; returns the number of bytes.
    fn read(&mut self, target: &mut [u8]) -> anyhow::Result<usize> {
        let mut filled = 0;
        while filled < target.len() {
            let bytes = fill(self.inner)?;
            let count = bytes.len().min(target.len() - filled);
            if count == 0 {
                break;
            }
            target[filled..filled + count].copy_from_slice(&bytes[..count]);
            filled += count;
            self.advance(count)?;
        }
        Ok(filled)
    }

    fn begin_content(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn extension(&mut self, header: &Header) -> anyhow::Result<Vec<u8>> {
        let size = header.size()?;
        ensure!(
            size <= EXTENSION_LIMIT,
            "an extension header of {size} bytes exceeds the limit of \
                                          {EXTENSION_LIMIT}"
        );
        self.begin_content(size);
        let mut bytes = vec![0; size as usize];
        let count = self.read(&mut bytes)?;
        ensure!(count == bytes.len(), "the archive is truncated in an extension header");
        self.left = 0;
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> anyhow::Result<ArchiveEntry> {
        let mut records = pax::Records::read(&extensions.pax)?;
        let name = records.sparse.name.take().or(records.path.take()).or(extensions.name);
        let name = name.unwrap_or_else(|| header.name());
        let link = records.link.take().or(extensions.link).unwrap_or_else(|| header.link());
        let described = self.describe(header, records, header.kind_of(&name));
        let entry = described
            .with_context(|| format!("the entry `{}` is damaged", String::from_utf8_lossy(&name)))?;
        Ok(ArchiveEntry { name, link, ..entry })
    }

    /// All properties of an entry except its names.
    fn describe(
        &mut self,
        header: &Header,
        records: pax::Records,
        kind: EntryKind,
    ) -> anyhow::Result<ArchiveEntry> {
        let stored = match kind {
            EntryKind::File | EntryKind::Other => records.size.map_or_else(|| header.size(), Ok)?,
            // Old archives give the size of a link's target, but no content follows.
            _ => 0,
        };
        self.begin_content(stored);
        let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
        let device = |field| if is_device { id(header.number(field)?) } else { Ok(0) };
        let mut entry = ArchiveEntry {
            kind,
            name: Vec::new(),
            link: Vec::new(),
            owner: id(records.owner.map_or_else(|| header.number(OWNER), Ok)?).context("its owner")?,
            group: id(records.group.map_or_else(|| header.number(GROUP), Ok)?).context("its group")?,
            mode: u32::try_from(header.number(MODE)? & 0o7777)?,
            mtime: records.mtime.map_or_else(|| header.mtime(), Ok)?,
            device: (device(MAJOR)?, device(MINOR)?),
            size: stored,
            pieces: None,
            xattrs: records.xattrs,
        };
        if kind == EntryKind::File {
            self.lay_out(header, &records.sparse, &mut entry).context("its sparse map")?;
        }
        Ok(entry)
    }

    /// Reads the map of a sparse file.
    fn lay_out(
        &mut self,
        header: &Header,
        sparse: &sparse::Records,
        entry: &mut ArchiveEntry,
    ) -> anyhow::Result<()> {
        let map = match (header.kind(), sparse.version()) {
            (b'S', _) => Some((self.old_map(header)?, header.number(REAL_SIZE)?.try_into()?)),
            (_, Some(sparse::Version::InContent)) => Some((self.map_in_content()?, sparse.size()?)),
            (_, Some(sparse::Version::InRecords)) => Some((sparse.map()?, sparse.size()?)),
            (_, None) => None,
        };
        if let Some((pieces, size)) = map {
            sparse::check(&pieces, size, self.left)?;
            (entry.pieces, entry.size) = (Some(pieces), size);
        }
        Ok(())
    }

    /// GNU tar's old format: four pieces in the header, further ones in blocks after it.
    fn old_map(&mut self, header: &Header) -> anyhow::Result<Vec<Piece>> {
        let mut pieces = sparse::pieces(&header.0[386..482])?;
        let mut goes_on = header.0[482] != 0;
        let mut read = 0;
        while goes_on {
            let mut block = [0; BLOCK];
            read += self.read(&mut block)? as u64;
            ensure!(read % BLOCK as u64 == 0 && read > 0, "the archive is truncated in it");
            ensure!(read <= EXTENSION_LIMIT, "it is longer than {EXTENSION_LIMIT} bytes");
            pieces.extend(sparse::pieces(&block[..504])?);
            goes_on = block[504] != 0;
        }
        Ok(pieces)
    }

    /// PAX format 1.0: decimal numbers, one per line, in whole blocks before the content.
    fn map_in_content(&mut self) -> anyhow::Result<Vec<Piece>> {
        let mut map = MapInContent::default();
        loop {
            let mut block = [0; BLOCK];
            ensure!(self.left >= BLOCK as u64, "it is longer than the file's content");
            ensure!(self.read(&mut block)? == BLOCK, "the archive is truncated in it");
            self.left -= BLOCK as u64;
            if let Some(pieces) = map.push(&block)? {
                return Ok(pieces);
            }
            ensure!(map.len() as u64 <= EXTENSION_LIMIT, "it is longer than {EXTENSION_LIMIT} bytes");
        }
    }
}

/// Extension headers that precede the header of their entry.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Vec<u8>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.pax.is_empty()
    }
}

/// Offset, length and name of a numeric field.
type Field = (usize, usize, &'static str);
const MODE: Field = (100, 8, "mode");
const OWNER: Field = (108, 8, "owner");
const GROUP: Field = (116, 8, "group");
const SIZE: Field = (124, 12, "size");
const MTIME: Field = (136, 12, "time");
const MAJOR: Field = (329, 8, "major number");
const MINOR: Field = (337, 8, "minor number");
const REAL_SIZE: Field = (483, 12, "real size");

struct Header([u8; BLOCK]);

impl Header {
    /// Verifies the checksum: the sum of all bytes, with those of the checksum itself taken as spaces. Old programs
    /// added signed bytes.
    fn is_intact(&self) -> bool {
        let Ok(said) = number(&self.0[148..156]) else { return false };
        let bytes = || {
            self.0.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte })
        };
        let unsigned: i128 = bytes().map(i128::from).sum();
        said == unsigned || said == bytes().map(|byte| i128::from(byte.cast_signed())).sum::<i128>()
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn kind_of(&self, name: &[u8]) -> EntryKind {
        match self.kind() {
            // Unix Version 7 marks directories only by the slash.
            0 | b'0' if name.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharacterDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            _ => EntryKind::Other,
        }
    }

    fn name(&self) -> Vec<u8> {
        let name = terminated(&self.0[..100]);
        // GNU tar has the magic `ustar ` and stores other data in place of the prefix.
        let prefix = if &self.0[257..263] == b"ustar\0" { terminated(&self.0[345..500]) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, name].join(&b'/') }
    }

    fn link(&self) -> Vec<u8> {
        terminated(&self.0[157..257]).to_vec()
    }

    fn size(&self) -> anyhow::Result<u64> {
        let size = self.number(SIZE)?;
        let size = i64::try_from(size).ok().and_then(|size| u64::try_from(size).ok());
        size.context("its size is impossible")
    }

    fn mtime(&self) -> anyhow::Result<Timespec> {
        let seconds = i64::try_from(self.number(MTIME)?).context("its time exceeds 64 bits")?;
        Ok(Timespec { tv_sec: seconds, tv_nsec: 0 })
    }

    fn number(&self, (start, length, name): Field) -> anyhow::Result<i128> {
        number(&self.0[start..start + length]).with_context(|| format!("its {name}"))
    }
}

/// Octal digits between spaces or NULs. If the first bit is set, the rest is a binary number in two's complement.
pub(super) fn number(field: &[u8]) -> anyhow::Result<i128> {
    if field[0] & 0x80 != 0 {
        let sign = if field[0] & 0x40 == 0 { 0 } else { -1 };
        let first = (sign << 7) | i128::from(field[0] & 0x7f);
        return Ok(field[1..].iter().fold(first, |value, byte| (value << 8) | i128::from(*byte)));
    }
    let text = terminated(field).trim_ascii();
    ensure!(
        text.iter().all(|byte| (b'0'..=b'7').contains(byte)),
        "`{}` is not an octal number",
        text.escape_ascii()
    );
    Ok(text.iter().fold(0, |value, digit| (value << 3) | i128::from(digit - b'0')))
}

/// User and group IDs, and device numbers. -1 is refused: it means "no change" to chown(2).
fn id(number: i128) -> anyhow::Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id != u32::MAX)
        .with_context(|| format!("{number} exceeds 32 bits"))
}

fn terminated(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn fill(reader: &mut dyn BufRead) -> anyhow::Result<&[u8]> {
    // In two steps, because a slice from inside the loop would stay borrowed for all of it.
    while let Err(error) = reader.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error).context("cannot read the archive");
        }
    }
    reader.fill_buf().context("cannot read the archive")
}
