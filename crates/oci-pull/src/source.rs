//! What images are pulled from: a repository of a registry, or files of this machine.

use super::retry::Failure;
use anyhow::Context as _;
use fetch::http::Deadline;
use oci_reference::digest::Digest;
use std::io::Read;

/// A place that has manifests and blobs. Nobody believes it: what it gives is compared with its digest by whoever asks.
pub(super) trait ImageSource: Send + Sync {
    /// What people call the place.
    fn name(&self) -> String;

    /// Whether the same request may have another outcome: files of this machine stay what they are.
    fn is_remote(&self) -> bool {
        false
    }

    /// Where a blob is, for messages.
    fn place_of(&self, digest: Digest) -> String {
        format!("{}: {digest}", self.name())
    }

    /// The manifest or index with a digest, or that of a name; not verified. Sources that wait for others end by `deadline`.
    fn manifest(&self, identifier: &str, deadline: Deadline) -> Result<Vec<u8>, Failure>;

    /// Whether the manifest with a digest may be had here; of a copy that left platforms out, that is known.
    fn has(&self, _manifest: Digest) -> bool {
        true
    }

    /// The index of what refers to a manifest (OCI distribution-spec, "Listing Referrers"); not verified. Absent, where
    /// nobody keeps such lists.
    fn referrers(&self, digest: Digest, _deadline: Deadline) -> Result<Vec<u8>, Failure> {
        Err(Failure::absent(anyhow::anyhow!("there is no list of what refers to `{digest}`")))
    }

    /// A small blob, whole and verified.
    fn document(&self, digest: Digest, deadline: Deadline) -> Result<Vec<u8>, Failure>;

    /// A blob of `size` bytes as a stream from one of its bytes on; not verified.
    fn blob(&self, digest: Digest, size: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure>;

    /// `count` bytes of a blob from one of its bytes on, without the others; not verified. Nothing, where that cannot
    /// be had.
    fn part(&self, digest: Digest, size: u64, start: u64, count: u64) -> Result<Option<Vec<u8>>, Failure> {
        let mut part = Vec::new();
        let read = self.blob(digest, size, start)?.take(count).read_to_end(&mut part);
        read.context("the part cannot be read")?;
        Ok((part.len() as u64 == count).then_some(part))
    }
}
