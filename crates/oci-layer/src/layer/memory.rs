//! What is remembered of a layer while it is unpacked.

use hint::hinted;

/// Bytes of paths and attributes of directories, and of hard links that wait for their targets. The layers of usual images
/// take some hundred kilobytes; a hostile one makes 256 directories with an entry of 4 KiB.
pub(super) const MEMORY_LIMIT: usize = 32 << 20;
/// What a path or an attribute costs besides its bytes, about: the maps that it is in, and the allocations.
pub(super) const OF_EACH: usize = 128;

/// Bytes remembered so far.
#[derive(Debug, Default)]
pub(super) struct Memory(usize);

impl Memory {
    /// Counts something of `bytes` more.
    pub(super) fn take(&mut self, bytes: usize) -> anyhow::Result<()> {
        self.0 += bytes + OF_EACH;
        if self.0 <= MEMORY_LIMIT {
            return Ok(());
        }
        Err(hinted(
            format!(
                "the names and attributes of the layer's directories take more than {} MiB",
                MEMORY_LIMIT >> 20
            ),
            "build the image with fewer directories, or with shorter paths",
        ))
    }
}
