//! The free space of a store.

/// Knows how many more bytes a store can take.
pub trait Capacity: Sync {
    /// Bytes that can still be unpacked.
    fn left(&self) -> u64;

    /// Tries to enlarge the store.
    fn stretch(&self);
}

/// The capacity of a store on a disk: its file system reports by itself that it is full.
#[derive(Debug, Clone, Copy)]
pub struct Unlimited;

impl Capacity for Unlimited {
    fn left(&self) -> u64 {
        u64::MAX
    }

    fn stretch(&self) {}
}
