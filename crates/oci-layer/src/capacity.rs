//! The free space of a store.

/// Knows how many more bytes a store can take.
pub trait Capacity: Sync {
    /// Bytes that can still be unpacked.
    fn left(&self) -> u64;

    /// Tries to enlarge the store.
    fn stretch(&self);

    /// What is said when nothing more fits into the store: the failure, and the hint.
    fn full(&self) -> (&'static str, &'static str) {
        ("the memory for images is full", "give the machine more memory, or use a smaller image")
    }
}

/// The capacity of a store on a disk: its file system reports by itself that it is full.
#[derive(Debug, Clone, Copy)]
pub struct Unlimited;

impl Capacity for Unlimited {
    fn left(&self) -> u64 {
        u64::MAX
    }

    fn stretch(&self) {}

    fn full(&self) -> (&'static str, &'static str) {
        ("the disk is full", "make room on it, or name a directory on another one")
    }
}
