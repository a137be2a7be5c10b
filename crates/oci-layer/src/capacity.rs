//! How much a store can take.

/// Who knows how many bytes a store can still take.
pub trait Capacity: Sync {
    /// Bytes that can be unpacked from now on.
    fn left(&self) -> u64;

    /// Does what can be done to take more.
    fn stretch(&self);
}

/// A store on a disk, whose file system tells itself when it is full.
#[derive(Debug, Clone, Copy)]
pub struct Unlimited;

impl Capacity for Unlimited {
    fn left(&self) -> u64 {
        u64::MAX
    }

    fn stretch(&self) {}
}
