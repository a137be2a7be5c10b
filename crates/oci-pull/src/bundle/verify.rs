//! Verifies that a bundle is complete: every blob is there and matches its digest.

use super::Bundle;
use crate::ambiguity;
use crate::document;
use crate::pull::INDEX_DEPTH_LIMIT;
use crate::source::ImageSource;
use anyhow::{Context as _, bail, ensure};
use fetch::http::{DOCUMENT_TIME_LIMIT, Deadline};
use hint::WithHint as _;
use oci_reference::digest::{Digest, Hasher};
use oci_spec::image::Descriptor;
use serde::Deserialize;
use std::collections::HashSet;
use std::io::Read as _;
use std::str::FromStr as _;

/// Bytes per read.
const BLOCK: usize = 256 << 10;

/// The content of a complete bundle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The number of names: images and lists of signatures.
    pub names: usize,
    /// The number of blobs.
    pub blobs: usize,
    /// The bytes of all blobs.
    pub bytes: u64,
}

impl Bundle {
    /// Reads every blob: those that the names lead to, and the rest.
    ///
    /// # Errors
    /// For the first blob that is missing, truncated or altered, or that no machine could run.
    pub fn verify(&self) -> anyhow::Result<Inventory> {
        let mut walk = Walk { bundle: self, seen: HashSet::new() };
        let mut read = || {
            self.0.images.iter().try_for_each(|image| walk.document(image, 0))?;
            self.0.blobs.iter().try_for_each(|(digest, size)| walk.blob(*digest, *size))
        };
        read().with_context(|| format!("`{}` is incomplete", self.source().name()))?;
        let bytes = self.0.blobs.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
        Ok(Inventory { names: self.0.images.len(), blobs: self.0.blobs.len(), bytes })
    }

    fn source(&self) -> &dyn ImageSource {
        &*self.0.places[0]
    }
}

struct Walk<'a> {
    bundle: &'a Bundle,
    seen: HashSet<Digest>,
}

impl Walk<'_> {
    /// Verifies a manifest with everything it refers to, or an index with those of its manifests that the bundle has; `depth`
    /// is the number of indexes that it is in.
    fn document(&mut self, entry: &Descriptor, depth: usize) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Shape {
            manifests: Option<serde::de::IgnoredAny>,
        }
        let digest = Digest::from_str(entry.digest().as_ref())?;
        if !self.mark_seen(digest, entry.size())? {
            return Ok(());
        }
        let bytes = self
            .bundle
            .source()
            .document(digest, Deadline::within(DOCUMENT_TIME_LIMIT))
            .map_err(|failure| failure.error)?;
        let shape: Shape = serde_json::from_slice(&bytes).context("a manifest is malformed")?;
        if shape.manifests.is_none() {
            let manifest = document::manifest(&bytes).context("a manifest is malformed")?;
            let blobs = manifest.layers().iter().chain([manifest.config()]);
            return blobs
                .map(|blob| (blob.digest(), blob.size()))
                .try_for_each(|(digest, size)| self.blob(Digest::from_str(digest.as_ref())?, size));
        }
        ensure!(depth < INDEX_DEPTH_LIMIT, "its indexes are nested more than {INDEX_DEPTH_LIMIT} deep");
        let index = ambiguity::index(&bytes).context("an index is malformed")?;
        let mut taken = 0;
        for entry in index.manifests() {
            if self.bundle.has(Digest::from_str(entry.digest().as_ref())?) {
                self.document(entry, depth + 1)?;
                taken += 1;
            }
        }
        ensure!(
            taken > 0 || index.manifests().is_empty(),
            "the bundle contains none of the manifests of \
                                                            `{digest}`"
        );
        Ok(())
    }

    fn blob(&mut self, digest: Digest, size: u64) -> anyhow::Result<()> {
        if !self.mark_seen(digest, size)? {
            return Ok(());
        }
        let mut stream = self.bundle.source().blob(digest, size, 0).map_err(|failure| failure.error)?;
        let (mut hasher, mut block) = (Hasher::new(), vec![0; BLOCK]);
        loop {
            match stream.read(&mut block).with_context(|| format!("cannot read `{digest}`"))? {
                0 => break,
                count => hasher.update(&block[..count]),
            }
        }
        digest.expect("a blob", hasher.finish()).hint("it was modified or damaged: create the bundle again")
    }

    /// Marks a blob as seen; returns whether it is new. A blob that the artifact does not list is an error, as copying
    /// the bundle would lose it.
    fn mark_seen(&mut self, digest: Digest, size: u64) -> anyhow::Result<bool> {
        match self.bundle.0.blobs.get(&digest) {
            None => bail!("its artifact does not list `{digest}`"),
            Some(listed) => {
                ensure!(*listed == size, "`{digest}` is listed with two sizes, {listed} and {size}")
            }
        }
        Ok(self.seen.insert(digest))
    }
}
