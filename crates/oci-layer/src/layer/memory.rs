//! Limits the memory that a layer takes while it is unpacked, and while it is fitted to the lower ones.

use hint::hinted;

/// Bytes of paths and attributes of directories, and of hard links that wait for their targets. Usual layers take some
/// hundred kilobytes; a hostile one has 256 directories with an entry of 4 KiB each.
pub(super) const MEMORY_LIMIT: usize = 32 << 20;
/// Bytes of the names and paths of a layer that is fitted to lower ones: some 400,000 files. More would have to fit into
/// the memory of a small machine beside the image.
pub(super) const COPY_LIMIT: usize = 64 << 20;
/// The approximate overhead of a path or an attribute in bytes: map nodes and allocations.
pub(super) const OF_EACH: usize = 128;

/// Bytes counted so far.
#[derive(Debug)]
pub(super) struct Memory {
    taken: usize,
    limit: usize,
    message: &'static str,
    hint: &'static str,
}

impl Memory {
    /// For unpacking a layer.
    pub(super) fn for_unpacking() -> Self {
        Self {
            taken: 0,
            limit: MEMORY_LIMIT,
            message: "the names and attributes of the layer's directories",
            hint: "build the image with fewer directories, or with shorter paths",
        }
    }

    /// For the plan of a layer's copy.
    pub(super) fn for_copy() -> Self {
        Self {
            taken: 0,
            limit: COPY_LIMIT,
            message: "the names of the layer's files, which depend on lower layers,",
            hint: "build the image as one layer, for example with `buildah build --squash-all`, or with shorter paths",
        }
    }

    /// Counts another item of `bytes` bytes.
    pub(super) fn take(&mut self, bytes: usize) -> anyhow::Result<()> {
        self.taken = self.taken.saturating_add(bytes).saturating_add(OF_EACH);
        if self.taken <= self.limit { Ok(()) } else { Err(self.exceeded()) }
    }

    /// How many more items there may be at most.
    pub(super) fn items_left(&self) -> usize {
        self.limit.saturating_sub(self.taken) / OF_EACH
    }

    /// The error for more than that.
    pub(super) fn exceeded(&self) -> anyhow::Error {
        hinted(format!("{} exceed {} MiB", self.message, self.limit >> 20), self.hint)
    }
}
