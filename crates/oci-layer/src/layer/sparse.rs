//! Sparse files (GNU tar's manual, "Storing Sparse Files"): the positions in the file of the bytes in the archive.

use super::archive::number;
use super::pax::decimal;
use anyhow::{Context as _, ensure};

/// Bytes of one piece in a map of GNU tar's old format: two numbers.
const OLD_PIECE: usize = 24;

/// Content between two holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The place of the map, by the version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// PAX 0.0 and 0.1.
    InRecords,
    /// PAX 1.0.
    InContent,
}

/// The records of extended headers that begin with `GNU.sparse.`.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) name: Option<Vec<u8>>,
    major: Option<i64>,
    size: Option<i64>,
    /// Offsets and lengths, alternating.
    numbers: Vec<i64>,
}

impl Records {
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.major = Some(decimal(value)?),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"offset" | b"numbytes" => self.numbers.push(decimal(value)?),
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').filter(|number| !number.is_empty());
                self.numbers = numbers.map(decimal).collect::<anyhow::Result<_>>()?;
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn version(&self) -> Option<Version> {
        match self.major {
            Some(1..) => Some(Version::InContent),
            _ => self.size.map(|_| Version::InRecords),
        }
    }

    /// The size of the file, holes included.
    pub(super) fn size(&self) -> anyhow::Result<u64> {
        Ok(self.size.context("it lacks the file's size")?.try_into()?)
    }

    pub(super) fn map(&self) -> anyhow::Result<Vec<Piece>> {
        in_pairs(&self.numbers)
    }
}

/// The pieces of a map in GNU tar's old format; unused ones are empty.
pub(super) fn pieces(map: &[u8]) -> anyhow::Result<Vec<Piece>> {
    let used = map.chunks_exact(OLD_PIECE).take_while(|piece| piece[0] != 0);
    used.map(|piece| {
        Ok(Piece { offset: number(&piece[..12])?.try_into()?, length: number(&piece[12..])?.try_into()? })
    })
    .collect()
}

/// The map before the content, as far as it was read: the number of pieces, then offsets and lengths, one number per
/// line.
#[derive(Default)]
pub(super) struct MapInContent {
    text: Vec<u8>,
    /// Line breaks so far.
    lines: usize,
    /// The number of pieces, once the first line is complete. Parsed only once, as the line may be long.
    count: Option<usize>,
}

impl MapInContent {
    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Adds a block; returns the pieces when they are complete.
    pub(super) fn push(&mut self, block: &[u8]) -> anyhow::Result<Option<Vec<Piece>>> {
        self.lines += block.iter().filter(|byte| **byte == b'\n').count();
        self.text.extend_from_slice(block);
        if self.lines == 0 {
            return Ok(None);
        }
        let mut lines = self.text.split(|byte| *byte == b'\n');
        let count = match self.count {
            Some(count) => count,
            None => decimal(lines.next().unwrap_or_default())?.try_into()?,
        };
        self.count = Some(count);
        if (self.lines - 1) / 2 < count {
            return Ok(None);
        }
        let lines = self.text.split(|byte| *byte == b'\n').skip(1).take(2 * count);
        in_pairs(&lines.map(decimal).collect::<anyhow::Result<Vec<_>>>()?).map(Some)
    }
}

fn in_pairs(numbers: &[i64]) -> anyhow::Result<Vec<Piece>> {
    ensure!(numbers.len().is_multiple_of(2), "it ends after an offset");
    let piece = |pair: &[i64]| Ok(Piece { offset: pair[0].try_into()?, length: pair[1].try_into()? });
    numbers.chunks_exact(2).map(piece).collect()
}

/// Checks that the pieces are in order, inside the file, and cover all of the stored content.
pub(super) fn check(pieces: &[Piece], size: u64, stored: u64) -> anyhow::Result<()> {
    ensure!(i64::try_from(size).is_ok(), "the file's size is impossible");
    let (mut end, mut content) = (0, 0_u64);
    for piece in pieces {
        ensure!(piece.offset >= end, "its regions overlap");
        end = piece
            .offset
            .checked_add(piece.length)
            .filter(|end| *end <= size)
            .context("it extends beyond the file")?;
        content += piece.length;
    }
    ensure!(content == stored, "it describes {content} bytes, but the archive has {stored}");
    Ok(())
}
