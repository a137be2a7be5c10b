//! The RAM area in which unpacked layers live.

use super::layer::LowerDependencies;
use super::layer::root::is_opaque;
use anyhow::Context as _;
use oci_reference::digest::Digest;
use rustix::fd::AsFd as _;
use rustix::fs::Stat;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use untrusted_fs::{Directory, Links};

/// Nobody else enters a layer's directory by the store; it gets the image's own mode, that of its root.
const MODE_MEANWHILE: u32 = 0o700;

/// Holds layers, each once however many images have it, and frees a layer when no image holds it any more.
#[derive(Debug)]
pub struct Store {
    root: Arc<Directory>,
    /// By their diff-ids, or ChainIDs.
    layers: Mutex<HashMap<Digest, Weak<Layer>>>,
    next: AtomicU64,
}

/// A verified, unpacked layer. Its directory goes away with the last owner.
///
/// Whoever made the image named all that is in it: paths are resolved below the store's directory, and never through a
/// link.
#[derive(Debug)]
pub struct Layer {
    store: Arc<Directory>,
    /// In the store.
    name: String,
    /// For overlayfs, which takes paths.
    directory: PathBuf,
    lower_dependencies: LowerDependencies,
}

impl Layer {
    /// The layer's tree, with overlayfs' whiteouts in it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// What of it depends on the layers below.
    pub(super) fn lower_dependencies(&self) -> &LowerDependencies {
        &self.lower_dependencies
    }

    /// A directory of the layer; with an empty path its root.
    pub fn directory(&self, path: &Path) -> Result<Directory, untrusted_fs::Error> {
        self.store.directory(self.at(path), Links::Refuse)
    }

    /// What the layer has at a path, a link itself.
    pub(super) fn stat(&self, path: &Path) -> Result<Option<Stat>, untrusted_fs::Error> {
        self.store.stat(self.at(path), Links::Refuse)
    }

    /// Where a link of the layer leads.
    pub(super) fn read_link(&self, path: &Path) -> Result<PathBuf, untrusted_fs::Error> {
        self.store.read_link(self.at(path), Links::Refuse)
    }

    /// Whether a directory of the layer hides what those below have in it.
    pub(super) fn is_opaque(&self, path: &Path) -> anyhow::Result<bool> {
        Ok(is_opaque(self.directory(path)?.as_fd())?)
    }

    fn at(&self, path: &Path) -> PathBuf {
        Path::new(&self.name).join(path)
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        // Nobody can be told, and nothing depends on it: the store as a whole is dropped at the handover.
        let _ = self.store.remove(&self.name);
    }
}

impl Store {
    /// A store in a directory, which is made if need be.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot make the store `{}`", root.display()))?;
        Ok(Self::within(Directory::open(root)?))
    }

    /// A store in an empty directory.
    #[must_use]
    pub fn within(root: Directory) -> Self {
        Self { root: Arc::new(root), layers: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// The layer with this diff-id, if an image holds it.
    pub fn find(&self, diff_id: &Digest) -> Option<Arc<Layer>> {
        self.layers.lock().ok()?.get(diff_id)?.upgrade()
    }

    /// An empty directory to unpack into. It stays unreachable until [`Store::admit`] takes it in.
    pub fn incoming(&self) -> anyhow::Result<Layer> {
        // Short names, because overlayfs takes at most a page of them.
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        self.root.create_directory(&name, MODE_MEANWHILE).context("cannot make a layer's directory")?;
        let directory = self.root.path().join(&name);
        Ok(Layer {
            store: Arc::clone(&self.root),
            name,
            directory,
            lower_dependencies: LowerDependencies::default(),
        })
    }

    /// Takes in a layer that was unpacked and verified; or, under its ChainID, one that was fitted to those below it
    /// (OCI image-spec, config.md, "Layer ChainID").
    pub fn admit(
        &self,
        diff_id: Digest,
        mut layer: Layer,
        lower_dependencies: LowerDependencies,
    ) -> Arc<Layer> {
        layer.lower_dependencies = lower_dependencies;
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
        fs::write(incoming.path().join("file"), "x").unwrap();
        assert!(store.find(&digest).is_none());
        let first = store.admit(digest, incoming, LowerDependencies::default());
        let second = store.find(&digest).unwrap();
        let directory = first.path().to_owned();
        drop(first);
        assert!(directory.join("file").exists());
        drop(second);
        assert!(!directory.exists());
        assert!(store.find(&digest).is_none());
    }
}
