//! The RAM area in which unpacked layers live.

use super::digest::Digest;
use super::layer::Ties;
use anyhow::Context as _;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Holds layers, each once however many images have it, and frees a layer when no image holds it any more.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// By their diff-ids, or ChainIDs.
    layers: Mutex<HashMap<Digest, Weak<Layer>>>,
    next: AtomicU64,
}

/// A verified, unpacked layer. Its folder goes away with the last owner.
#[derive(Debug)]
pub struct Layer {
    folder: PathBuf,
    ties: Ties,
}

impl Layer {
    /// The layer's tree, with overlayfs' whiteouts in it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What of it depends on the layers below.
    pub(super) fn ties(&self) -> &Ties {
        &self.ties
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        // Nobody can be told, and nothing depends on it: the store as a whole is dropped at the handover.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Store {
    /// A store in a folder, which is made if need be.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot make the store `{}`", root.display()))?;
        Ok(Self { root: root.into(), layers: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// The layer with this diff-id, if an image holds it.
    pub(super) fn find(&self, diff_id: &Digest) -> Option<Arc<Layer>> {
        self.layers.lock().ok()?.get(diff_id)?.upgrade()
    }

    /// An empty folder to unpack into. It stays unreachable until [`Store::admit`] takes it in.
    pub(super) fn incoming(&self) -> anyhow::Result<Layer> {
        // Short names, because overlayfs takes at most a page of them.
        let folder = self.root.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        Ok(Layer { folder, ties: Ties::default() })
    }

    /// Takes in a layer that was unpacked and verified; or, under its ChainID, one that was fitted to those below it
    /// (OCI image-spec, config.md, "Layer ChainID").
    pub(super) fn admit(&self, diff_id: Digest, mut layer: Layer, ties: Ties) -> Arc<Layer> {
        layer.ties = ties;
        let layer = Arc::new(layer);
        if let Ok(mut layers) = self.layers.lock() {
            layers.retain(|_, known| known.strong_count() > 0);
            layers.insert(diff_id, Arc::downgrade(&layer));
        }
        layer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_lives_as_long_as_somebody_holds_it() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let digest = Digest::of(b"layer");
        let incoming = store.incoming().unwrap();
        fs::write(incoming.folder().join("file"), "x").unwrap();
        assert!(store.find(&digest).is_none());
        let first = store.admit(digest, incoming, Ties::default());
        let second = store.find(&digest).unwrap();
        let folder = first.folder().to_owned();
        drop(first);
        assert!(folder.join("file").exists());
        drop(second);
        assert!(!folder.exists());
        assert!(store.find(&digest).is_none());
    }
}
