//! Bundles: an OCI artifact ([`crate::workflow::artifact`]) with one workflow, all its images and their signatures, in an
//! OCI image layout (OCI image-spec, image-layout.md), a folder or a tar, or in a registry. It lists every blob of its
//! images, so that it is copied as one thing, and no registry asks for platforms of an image that were left out. Each image
//! has the name in it that the workflow calls it by, in full, as `ref.name`; so have signatures, by the tags that cosign
//! gives them. A layout has these names, too, for whoever reads it as one.

mod verify;
mod writer;

pub use verify::Inventory;
pub use writer::Writer;

use super::digest::Digest;
use super::local::{Files, Layout, Packed, name_of};
use super::patience::Failure;
use super::reference::Named;
use super::source::Source;
use crate::hint::{WithHint as _, hinted};
use crate::workflow::artifact::{self, IMAGES, WORKFLOW};
use anyhow::Context as _;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

/// The name of the workflow in a layout.
pub const NAME: &str = "workflow";

/// An open bundle.
#[derive(Clone)]
pub struct Bundle(Arc<Content>);

struct Content {
    source: Box<dyn Source>,
    /// What was read already, by media types.
    documents: HashMap<String, Vec<u8>>,
    /// All images and signatures, each with its name.
    images: Vec<Descriptor>,
    /// All that it has.
    blobs: HashSet<Digest>,
}

impl Bundle {
    /// Whether there is one: a folder with the mark of a layout, or a tar.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        path.join("oci-layout").is_file()
            || (path.is_file() && path.extension().is_some_and(|it| it.eq_ignore_ascii_case("tar")))
    }

    /// The bundle in a folder or a tar.
    ///
    /// # Errors
    /// When it is none, or not whole.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let files =
            if path.is_dir() { Files::Folder(path.into()) } else { Files::Packed(Packed::open(path)?) };
        let layout = Layout::open(files)?;
        let read = || -> Result<_, Failure> {
            let manifest = ImageManifest::from_reader(&layout.manifest(NAME)?[..])
                .context("the workflow's manifest is not understood")?;
            let documents = documents(&manifest, |digest| layout.document(digest))?;
            Ok((manifest, documents))
        };
        let (manifest, documents) = read()
            .map_err(|failure| failure.error)
            .with_context(|| format!("`{}` is not a bundle", layout.name()))
            .hint("`iguana bundle WORKFLOW --output FILE` makes one")?;
        Self::new(Box::new(layout), &manifest, documents)
    }

    /// The bundle whose artifact has this manifest and these documents; its blobs are at `source`.
    pub(super) fn new(
        source: Box<dyn Source>,
        manifest: &ImageManifest,
        documents: HashMap<String, Vec<u8>>,
    ) -> anyhow::Result<Self> {
        let cannot = || format!("`{}` is not a bundle", source.name());
        let images = documents.get(IMAGES).map(|index| ImageIndex::from_reader(&index[..])).transpose();
        let images = images.context("the list of its images is not understood").with_context(cannot)?;
        let images = images.map_or(Vec::new(), |index| index.manifests().clone());
        let blobs = manifest.layers().iter().chain([manifest.config()]);
        let blobs = blobs.map(|blob| Digest::from_str(blob.digest().as_ref())).collect::<Result<_, _>>();
        let blobs = blobs.with_context(cannot)?;
        Ok(Self(Arc::new(Content { source, documents, images, blobs })))
    }

    /// The workflow and what belongs to it, by their media types.
    #[must_use]
    pub fn documents(&self) -> HashMap<String, Vec<u8>> {
        self.0.documents.clone()
    }

    /// Whether it has any image.
    #[must_use]
    pub fn has_images(&self) -> bool {
        !self.0.images.is_empty()
    }

    fn has(&self, digest: Digest) -> bool {
        self.0.blobs.contains(&digest)
    }

    /// What a name stands for.
    fn digest_of(&self, name: &str) -> Option<Digest> {
        let image = self.0.images.iter().find(|image| name_of(image) == Some(name))?;
        image.digest().as_ref().parse().ok()
    }

    /// What it has of the repository of an image, if it has the image.
    pub(super) fn shelf(&self, image: &Named) -> Option<Shelf> {
        let shelf = Shelf { bundle: self.clone(), repository: image.name() };
        let has = match image.digest() {
            Some(digest) => self.has(digest),
            None => self.digest_of(&shelf.name_of(&image.identifier())).is_some(),
        };
        has.then_some(shelf)
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Bundle({})", self.0.source.name())
    }
}

/// The documents of an artifact, by their media types; `read` has them by their digests, verified.
pub(super) fn documents(
    manifest: &ImageManifest,
    mut read: impl FnMut(Digest) -> Result<Vec<u8>, Failure>,
) -> Result<HashMap<String, Vec<u8>>, Failure> {
    let known = artifact::media_types();
    let mut documents = HashMap::new();
    for layer in manifest.layers() {
        let kind = layer.media_type().to_string();
        if known.contains(&kind.as_str()) {
            let bytes = read(Digest::from_str(layer.digest().as_ref())?)?;
            if documents.insert(kind, bytes).is_some() {
                let message = format!("it has two layers of the type `{}`", layer.media_type());
                return Err(Failure::for_good(anyhow::anyhow!(message)));
            }
        }
    }
    if !documents.contains_key(WORKFLOW) {
        let hint = format!("one of its layers must have the media type `{WORKFLOW}`");
        return Err(Failure::for_good(hinted("it has no workflow", hint)));
    }
    Ok(documents)
}

/// The part of a bundle that is of one repository.
pub(super) struct Shelf {
    bundle: Bundle,
    repository: String,
}

impl Shelf {
    fn name_of(&self, tag: &str) -> String {
        format!("{}:{tag}", self.repository)
    }
}

impl Source for Shelf {
    fn name(&self) -> String {
        self.repository.clone()
    }

    fn manifest(&self, identifier: &str) -> Result<Vec<u8>, Failure> {
        let digest = identifier.parse().ok().filter(|digest| self.bundle.has(*digest));
        let digest = digest.or_else(|| self.bundle.digest_of(&self.name_of(identifier)));
        let absent = || {
            let hint = "if it was made for other machines, make it anew with `--platform OS/ARCH`";
            Failure::absent(hinted(
                format!("the bundle has no `{identifier}` of `{}`", self.repository),
                hint,
            ))
        };
        self.document(digest.ok_or_else(absent)?)
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, Failure> {
        self.bundle.0.source.document(digest)
    }

    fn blob(&self, digest: Digest, size: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure> {
        self.bundle.0.source.blob(digest, size, start)
    }

    fn part(&self, digest: Digest, size: u64, start: u64, count: u64) -> Result<Option<Vec<u8>>, Failure> {
        self.bundle.0.source.part(digest, size, start, count)
    }
}
