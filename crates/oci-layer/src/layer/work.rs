//! Limits the work of unpacking all layers of an image: a few hundred kilobytes of compressed headers could occupy a
//! machine for hours.

use hint::hinted;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of about 10 us, so some minutes. Usual images take less than a million; an image of a million files, four.
const STEPS_LIMIT: u64 = 20_000_000;
/// Bytes of an archive that are one step: decompressing, hashing and writing them takes about as long as a system call
/// for a path.
pub(super) const BYTES_OF_STEP: u64 = 16 << 10;
/// Bytes of a path or of the target of a link that are one step more.
const PATH_OF_STEP: usize = 256;

/// The steps that unpacking the layers of one image may still take.
#[derive(Debug)]
pub struct Work {
    left: AtomicU64,
    limit: u64,
}

impl Work {
    /// For all layers of an image, which may be unpacked in parallel.
    #[must_use]
    pub fn of_image() -> Self {
        Self::within(STEPS_LIMIT)
    }

    pub(super) fn within(limit: u64) -> Self {
        Self { left: AtomicU64::new(limit), limit }
    }

    /// Counts steps.
    ///
    /// # Errors
    /// When there are more than the limit, together with all before them.
    pub(super) fn take(&self, steps: u64) -> anyhow::Result<()> {
        let less = |left: u64| left.checked_sub(steps);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return Ok(());
        }
        Err(hinted(
            format!("unpacking the image's layers takes more than {} steps", self.limit),
            "build the image with fewer files, and with links that lead to their targets directly",
        ))
    }
}

/// The steps that reading a path takes, besides those for its names.
pub(super) fn steps_of_path(bytes: usize) -> u64 {
    (bytes / PATH_OF_STEP) as u64
}
