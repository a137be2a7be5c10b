//! The store: the area in RAM in which unpacked layers live.

use super::layer::LowerDependencies;
use super::layer::root::is_opaque;
use anyhow::Context as _;
use hint::hinted;
use oci_reference::digest::Digest;
use rustix::fd::AsFd as _;
use rustix::fs::Stat;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use untrusted_fs::{Directory, Links};

/// The mode of a layer's directory: no other user enters it through the store. The layer's root has the mode in the
/// image.
const MODE_MEANWHILE: u32 = 0o700;

/// Bytes of the paths that all layers of a store keep in memory ([`LowerDependencies`]). Usual images have less than a
/// megabyte; 500 layers with the limit of one layer would have 16 GB.
const PATHS_LIMIT: usize = 64 << 20;

/// Holds layers, each once however many images have it, and frees a layer when the last image drops it.
#[derive(Debug)]
pub struct Store {
    root: Arc<Directory>,
    /// By diff-ID or ChainID.
    layers: Mutex<HashMap<Digest, Weak<Layer>>>,
    next: AtomicU64,
    paths: Arc<AtomicUsize>,
}

/// Bytes of paths that a layer keeps in memory, counted in its store until it is dropped.
#[derive(Debug)]
struct Paths {
    bytes: usize,
    of_all: Arc<AtomicUsize>,
}

impl Paths {
    fn take(bytes: usize, of_all: &Arc<AtomicUsize>) -> anyhow::Result<Self> {
        let before = of_all.fetch_add(bytes, Ordering::Relaxed);
        let paths = Self { bytes, of_all: Arc::clone(of_all) };
        if before.saturating_add(bytes) <= PATHS_LIMIT {
            return Ok(paths);
        }
        Err(hinted(
            format!(
                "the paths in the layers of all images that depend on lower layers exceed {} MiB",
                PATHS_LIMIT >> 20
            ),
            "build the image with fewer layers, for example with `buildah build --squash-all`, or with shorter paths",
        ))
    }
}

impl Drop for Paths {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A verified, unpacked layer. Its directory is removed with the last owner.
///
/// All names in it come from the image and are untrusted: paths are resolved below the store's directory, and never
/// through a link.
#[derive(Debug)]
pub struct Layer {
    store: Arc<Directory>,
    /// The name of its directory in the store.
    name: String,
    /// The path of the directory, for overlayfs, which takes no descriptors.
    directory: PathBuf,
    lower_dependencies: LowerDependencies,
    /// Held as long as these dependencies.
    paths: Option<Paths>,
}

impl Layer {
    /// The layer's tree, with the whiteouts of overlayfs in it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The parts of it that depend on the layers below.
    pub(super) fn lower_dependencies(&self) -> &LowerDependencies {
        &self.lower_dependencies
    }

    /// A directory of the layer; an empty path is its root.
    pub fn directory(&self, path: &Path) -> Result<Directory, untrusted_fs::Error> {
        self.store.directory(self.at(path), Links::Refuse)
    }

    /// The stat of a path in the layer; a link is not followed.
    pub(super) fn stat(&self, path: &Path) -> Result<Option<Stat>, untrusted_fs::Error> {
        self.store.stat(self.at(path), Links::Refuse)
    }

    /// The target of a link of the layer.
    pub(super) fn read_link(&self, path: &Path) -> Result<PathBuf, untrusted_fs::Error> {
        self.store.read_link(self.at(path), Links::Refuse)
    }

    /// Whether a directory of the layer is opaque.
    pub(super) fn is_opaque(&self, path: &Path) -> anyhow::Result<bool> {
        Ok(is_opaque(self.directory(path)?.as_fd())?)
    }

    fn at(&self, path: &Path) -> PathBuf {
        Path::new(&self.name).join(path)
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        // An error is ignored: it cannot be reported here, and the store as a whole is dropped at the handover.
        let _ = self.store.remove(&self.name);
    }
}

impl Store {
    /// Opens a store in a directory, which is created if it is missing.
    ///
    /// # Errors
    /// When the directory cannot be created.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot create the store `{}`", root.display()))?;
        Ok(Self::within(Directory::open(root)?))
    }

    /// Opens a store in an empty directory.
    #[must_use]
    pub fn within(root: Directory) -> Self {
        Self {
            root: Arc::new(root),
            layers: Mutex::default(),
            next: AtomicU64::new(0),
            paths: Arc::default(),
        }
    }

    /// The layer with this diff-ID, if an image holds it.
    pub fn find(&self, diff_id: &Digest) -> Option<Arc<Layer>> {
        self.layers.lock().ok()?.get(diff_id)?.upgrade()
    }

    /// An empty directory to unpack into. No lookup finds it until [`Store::admit`] adds it.
    pub fn incoming(&self) -> anyhow::Result<Layer> {
        // Short names, because overlayfs takes at most a page of mount options.
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        self.root.create_directory(&name, MODE_MEANWHILE).context("cannot create a layer's directory")?;
        let directory = self.root.path().join(&name);
        Ok(Layer {
            store: Arc::clone(&self.root),
            name,
            directory,
            lower_dependencies: LowerDependencies::default(),
            paths: None,
        })
    }

    /// Adds a layer that was unpacked and verified; or, under its ChainID, one that was fitted to those below it (OCI
    /// image-spec, config.md, "Layer ChainID").
    ///
    /// # Errors
    /// When the layers of the store depend on lower ones in too many paths (`docs/limits.md`).
    pub fn admit(
        &self,
        diff_id: Digest,
        mut layer: Layer,
        lower_dependencies: LowerDependencies,
    ) -> anyhow::Result<Arc<Layer>> {
        layer.paths = Some(Paths::take(lower_dependencies.memory(), &self.paths)?);
        layer.lower_dependencies = lower_dependencies;
        let layer = Arc::new(layer);
        if let Ok(mut layers) = self.layers.lock() {
            layers.retain(|_, known| known.strong_count() > 0);
            layers.insert(diff_id, Arc::downgrade(&layer));
        }
        Ok(layer)
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
        let first = store.admit(digest, incoming, LowerDependencies::default()).unwrap();
        let second = store.find(&digest).unwrap();
        let directory = first.path().to_owned();
        drop(first);
        assert!(directory.join("file").exists());
        drop(second);
        assert!(!directory.exists());
        assert!(store.find(&digest).is_none());
    }

    /// The limit of a layer is for hundreds of layers: 28 kB of image took 385 MB.
    #[test]
    fn the_paths_of_all_layers_are_limited() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let add = |number: u8| {
            let directories = [PathBuf::from("d".repeat(PATHS_LIMIT / 4))].into();
            let lower_dependencies = LowerDependencies { directories, ..LowerDependencies::default() };
            store.admit(Digest::of(&[number]), store.incoming().unwrap(), lower_dependencies)
        };
        let mut held: Vec<_> = (0..3).map(|number| add(number).unwrap()).collect();
        let error = add(3).unwrap_err();
        assert!(
            error.to_string().contains("of all images that depend on lower layers exceed 64 MiB"),
            "{error:#}"
        );
        held.pop();
        add(4).unwrap();
    }
}
