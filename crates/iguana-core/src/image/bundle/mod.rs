//! Bundles: an OCI image layout (OCI image-spec, image-layout.md), a folder or a tar, with one workflow, all its images and
//! their signatures. Each image has the name in it that the workflow calls it by, in full, as `ref.name`; so have
//! signatures, by the tags that cosign gives them. The workflow is an artifact ([`crate::workflow::artifact`]).

mod verify;
mod writer;

pub use verify::Inventory;
pub use writer::Writer;

use super::digest::Digest;
use super::local::{Files, Layout, Packed};
use super::patience::Failure;
use super::reference::Named;
use super::source::Source;
use crate::hint::WithHint as _;
use crate::workflow::artifact::{self, WORKFLOW};
use anyhow::Context as _;
use oci_spec::image::ImageManifest;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

/// The name of the workflow in a bundle.
pub const NAME: &str = "workflow";

/// An open bundle.
#[derive(Debug, Clone)]
pub struct Bundle(Arc<Layout>);

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
        Ok(Self(Arc::new(Layout::open(files)?)))
    }

    /// The workflow and what belongs to it, by their media types.
    ///
    /// # Errors
    /// When there is none, or it does not have its digests.
    pub fn documents(&self) -> anyhow::Result<HashMap<String, Vec<u8>>> {
        let read = || -> Result<_, Failure> {
            let manifest = ImageManifest::from_reader(&self.0.manifest(NAME)?[..])
                .context("the workflow's manifest is not understood")?;
            let mut documents = HashMap::new();
            for layer in manifest.layers() {
                let kind = layer.media_type().to_string();
                if artifact::media_types().contains(&kind.as_str()) {
                    let digest = Digest::from_str(layer.digest().as_ref())?;
                    documents.insert(kind, self.0.document(digest)?);
                }
            }
            documents
                .contains_key(WORKFLOW)
                .then_some(documents)
                .with_context(|| format!("it has no layer of the type `{WORKFLOW}`"))
                .map_err(Failure::from)
        };
        read()
            .map_err(|failure| failure.error)
            .with_context(|| format!("`{}` is not a bundle", self.0.name()))
            .hint("`iguana bundle WORKFLOW --output FILE` makes one")
    }

    /// All names in it, and what they stand for.
    ///
    /// # Errors
    /// When an entry has no digest.
    pub fn names(&self) -> anyhow::Result<Vec<(String, Digest)>> {
        let named = self.0.entries().iter().zip(self.0.names());
        named.map(|(entry, name)| Ok((name.to_owned(), Digest::from_str(entry.digest().as_ref())?))).collect()
    }

    /// What it has of the repository of an image, if it has the image.
    pub(super) fn shelf(&self, image: &Named) -> Option<Shelf> {
        let shelf = Shelf { layout: Arc::clone(&self.0), repository: image.name() };
        let has = match image.digest() {
            Some(digest) => self.0.has(digest),
            None => self.0.is_named(&shelf.name_of(&image.identifier())),
        };
        has.then_some(shelf)
    }
}

/// The part of a bundle that is of one repository.
pub(super) struct Shelf {
    layout: Arc<Layout>,
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
        if Digest::from_str(identifier).is_ok() {
            return self.layout.manifest(identifier);
        }
        let name = self.name_of(identifier);
        if !self.layout.is_named(&name) {
            return Err(Failure::absent(anyhow::anyhow!("the bundle has no `{name}`")));
        }
        self.layout.manifest(&name)
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, Failure> {
        self.layout.document(digest)
    }

    fn blob(&self, digest: Digest, size: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure> {
        self.layout.blob(digest, size, start)
    }
}
