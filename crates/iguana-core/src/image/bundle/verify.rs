//! Whether a bundle is whole: every blob is there and has its digest.

use super::Bundle;
use crate::hint::WithHint as _;
use crate::image::digest::{Digest, Hasher};
use anyhow::{Context as _, ensure};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;
use std::collections::HashSet;
use std::io::Read as _;
use std::str::FromStr as _;

/// Bytes read at once.
const BLOCK: usize = 256 << 10;

/// What a whole bundle holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Names in it: images and lists of signatures.
    pub names: usize,
    /// Blobs of these.
    pub blobs: usize,
    /// Bytes of them.
    pub bytes: u64,
}

impl Bundle {
    /// Reads every blob that a name leads to.
    ///
    /// # Errors
    /// For the first that is not there, is cut or was changed.
    pub fn verify(&self) -> anyhow::Result<Inventory> {
        let mut walk = Walk { bundle: self, seen: HashSet::new(), inventory: Inventory::default() };
        for image in &self.0.images {
            walk.inventory.names += 1;
            walk.document(image).with_context(|| format!("`{}` is not whole", self.0.source.name()))?;
        }
        Ok(walk.inventory)
    }
}

struct Walk<'a> {
    bundle: &'a Bundle,
    seen: HashSet<Digest>,
    inventory: Inventory,
}

impl Walk<'_> {
    /// A manifest with all that it names, or an index with those of its manifests that were taken along.
    fn document(&mut self, entry: &Descriptor) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Shape {
            manifests: Option<serde::de::IgnoredAny>,
        }
        let digest = Digest::from_str(entry.digest().as_ref())?;
        if !self.count(digest, entry.size())? {
            return Ok(());
        }
        let bytes = self.bundle.0.source.document(digest).map_err(|failure| failure.error)?;
        if serde_json::from_slice::<Shape>(&bytes)
            .context("a manifest is not understood")?
            .manifests
            .is_none()
        {
            let manifest = ImageManifest::from_reader(&bytes[..]).context("a manifest is not understood")?;
            return manifest.layers().iter().chain([manifest.config()]).try_for_each(|blob| self.blob(blob));
        }
        let index = ImageIndex::from_reader(&bytes[..]).context("an index is not understood")?;
        let mut taken = 0;
        for entry in index.manifests() {
            if self.bundle.has(Digest::from_str(entry.digest().as_ref())?) {
                self.document(entry)?;
                taken += 1;
            }
        }
        ensure!(taken > 0 || index.manifests().is_empty(), "`{digest}` has none of its manifests in it");
        Ok(())
    }

    fn blob(&mut self, blob: &Descriptor) -> anyhow::Result<()> {
        let (digest, size) = (Digest::from_str(blob.digest().as_ref())?, blob.size());
        if !self.count(digest, size)? {
            return Ok(());
        }
        let mut stream = self.bundle.0.source.blob(digest, size, 0).map_err(|failure| failure.error)?;
        let (mut hasher, mut block) = (Hasher::new(), vec![0; BLOCK]);
        loop {
            match stream.read(&mut block).with_context(|| format!("cannot read `{digest}`"))? {
                0 => break,
                count => hasher.update(&block[..count]),
            }
        }
        digest.expect("a blob", hasher.finish()).hint("it was changed, or copied badly: make the bundle anew")
    }

    /// Whether it was not counted before. What the artifact does not list would stay behind when it is copied.
    fn count(&mut self, digest: Digest, bytes: u64) -> anyhow::Result<bool> {
        ensure!(self.bundle.has(digest), "its artifact does not list `{digest}`");
        let is_new = self.seen.insert(digest);
        if is_new {
            self.inventory.blobs += 1;
            self.inventory.bytes += bytes;
        }
        Ok(is_new)
    }
}
