//! Sources of images: a repository of a registry, or local files.

use super::retry::Failure;
use anyhow::Context as _;
use fetch::http::Deadline;
use oci_reference::digest::Digest;
use std::io::Read;

/// A source of manifests and blobs. It is not trusted: its callers verify digests.
pub(super) trait ImageSource: Send + Sync {
    /// The name of the source in messages.
    fn name(&self) -> String;

    /// Whether a retry may have another outcome; for local files it has not.
    fn is_remote(&self) -> bool {
        false
    }

    /// The location of a blob, for messages.
    fn place_of(&self, digest: Digest) -> String {
        format!("{}: {digest}", self.name())
    }

    /// The manifest or index for a digest or a tag; not verified. Remote sources return by `deadline`.
    fn manifest(&self, identifier: &str, deadline: Deadline) -> Result<Vec<u8>, Failure>;

    /// Whether the manifest with this digest is available; a copy without some platforms knows that it is not.
    fn has(&self, _manifest: Digest) -> bool {
        true
    }

    /// The index of the referrers of a manifest (OCI distribution-spec, "Listing Referrers"); not verified. Absent for
    /// sources without such lists.
    fn referrers(&self, digest: Digest, _deadline: Deadline) -> Result<Vec<u8>, Failure> {
        Err(Failure::absent(anyhow::anyhow!("there is no list of referrers of `{digest}`")))
    }

    /// A small blob, whole and verified.
    fn document(&self, digest: Digest, deadline: Deadline) -> Result<Vec<u8>, Failure>;

    /// A stream of a blob of `size` bytes from the offset `start` on; not verified.
    fn blob(&self, digest: Digest, size: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure>;

    /// `count` bytes of a blob from the offset `start` on, without the others; not verified. `None` if the source does
    /// not support that.
    fn part(&self, digest: Digest, size: u64, start: u64, count: u64) -> Result<Option<Vec<u8>>, Failure> {
        let mut part = Vec::new();
        let read = self.blob(digest, size, start)?.take(count).read_to_end(&mut part);
        read.context("cannot read the range")?;
        Ok((part.len() as u64 == count).then_some(part))
    }
}
