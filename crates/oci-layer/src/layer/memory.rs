//! Limits the memory that unpacking a layer takes.

use hint::hinted;

/// Bytes of paths and attributes of directories, and of hard links that wait for their targets. Usual layers take some
/// hundred kilobytes; a hostile one has 256 directories with an entry of 4 KiB each.
pub(super) const MEMORY_LIMIT: usize = 32 << 20;
/// The approximate overhead of a path or an attribute in bytes: map nodes and allocations.
pub(super) const OF_EACH: usize = 128;

/// Bytes counted so far.
#[derive(Debug, Default)]
pub(super) struct Memory(usize);

impl Memory {
    /// Counts another item of `bytes` bytes.
    pub(super) fn take(&mut self, bytes: usize) -> anyhow::Result<()> {
        self.0 += bytes + OF_EACH;
        if self.0 <= MEMORY_LIMIT {
            return Ok(());
        }
        Err(hinted(
            format!("the names and attributes of the layer's directories exceed {} MiB", MEMORY_LIMIT >> 20),
            "build the image with fewer directories, or with shorter paths",
        ))
    }
}
