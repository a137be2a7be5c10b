//! What images are pulled from: a repository of a registry, or files of this machine.

use super::digest::Digest;
use super::patience::Failure;
use std::io::Read;

/// A place that has manifests and blobs. Nobody believes it: what it gives is compared with its digest by whoever asks.
pub(super) trait Source: Send + Sync {
    /// What people call the place.
    fn name(&self) -> String;

    /// The manifest or index with a digest, or that of a name; not verified.
    fn manifest(&self, identifier: &str) -> Result<Vec<u8>, Failure>;

    /// A small blob, whole and verified.
    fn document(&self, digest: Digest) -> Result<Vec<u8>, Failure>;

    /// A blob of `size` bytes as a stream from one of its bytes on; not verified.
    fn blob(&self, digest: Digest, size: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure>;
}
