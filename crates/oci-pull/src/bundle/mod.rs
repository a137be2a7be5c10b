//! Bundles: an OCI artifact ([`crate::artifact`]) with one workflow, all its images and their signatures. It is in an
//! OCI layout (OCI image-spec, image-layout.md), a directory or a tar, or in a registry. It lists every blob of its
//! images, so that tools copy it as a whole, and no registry asks for the platforms of an image that were left out.
//! Each image has the name that the workflow uses, in full, as its `ref.name`; signatures have the tags that cosign
//! gives them. A layout has the same names, so other tools can read it.

mod repository_view;
mod verify;
mod writer;

pub(crate) use repository_view::RepositoryView;
pub use verify::Inventory;
pub use writer::Writer;

use super::ambiguity;
use super::document;
use super::local::{Files, Layout, Packed, name_of};
use super::retry::Failure;
use super::source::ImageSource;
use crate::artifact;
use crate::artifact::{IMAGES, WORKFLOW};
use anyhow::Context as _;
use fetch::http::{DOCUMENT_TIME_LIMIT, Deadline};
use hint::{WithHint as _, hinted};
use oci_reference::digest::Digest;
use oci_spec::image::{Descriptor, ImageManifest};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use untrusted_fs::{Directory, Links};

/// The name of the workflow in a layout.
pub const NAME: &str = "workflow";

/// The images and signatures that came with a workflow.
#[derive(Clone)]
pub struct Bundle(Arc<BundleContent>);

/// An opened bundle: a workflow with the files that belong to it, by their media types, and its images.
#[derive(Debug)]
pub struct Opened {
    /// The documents; one has the type [`WORKFLOW`].
    pub documents: HashMap<String, Vec<u8>>,
    /// The images.
    pub bundle: Bundle,
}

struct BundleContent {
    /// The locations that have it, in the order in which they are tried.
    places: Vec<Box<dyn ImageSource>>,
    /// All images and signatures, each with its name.
    images: Vec<Descriptor>,
    /// All blobs that its artifact lists, with their sizes in bytes.
    blobs: HashMap<Digest, u64>,
}

impl Bundle {
    /// Whether there is a bundle: a directory with the marker file of a layout, or a tar.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        path.join("oci-layout").is_file() || (path.is_file() && is_tar(path))
    }

    /// Opens the bundle in a directory or a tar, as it was created, or as another tool has copied it from a registry.
    ///
    /// # Errors
    /// When it is not a bundle, or its documents are missing or do not match their digests.
    pub fn open(path: &Path) -> anyhow::Result<Opened> {
        let files = if path.is_dir() { Files::directory(path)? } else { Files::Packed(Packed::open(path)?) };
        Self::read(files, path)
    }

    /// Finds the bundle at a path of an untrusted file system: a directory with the marker file of a layout, or a tar.
    /// Links on the path are refused.
    ///
    /// # Errors
    /// When it is a tar that cannot be read, or an incomplete directory.
    pub fn find(top: &Directory, path: &Path) -> anyhow::Result<Option<Opened>> {
        let shown = top.path().join(path);
        if let Ok(directory) = top.directory(path, Links::Refuse) {
            let is_layout = directory.file("oci-layout", Links::Inside).is_ok();
            return is_layout.then(|| Self::read(Files::Directory(directory), &shown)).transpose();
        }
        if !is_tar(path) {
            return Ok(None);
        }
        let file = top.file(path, Links::Refuse);
        let packed = Packed::of(file.hint("use a path without symbolic links, of a regular file")?, &shown)?;
        Self::read(Files::Packed(packed), &shown).map(Some)
    }

    fn read(files: Files, path: &Path) -> anyhow::Result<Opened> {
        let cannot = || format!("`{}` is not a bundle", path.display());
        let layout = Layout::open(files).with_context(cannot);
        let layout = layout.hint("create one with `iguana bundle WORKFLOW --output FILE`")?;
        let entry = entry(layout.entries()).with_context(cannot)?;
        let read = || -> Result<_, Failure> {
            let deadline = Deadline::within(DOCUMENT_TIME_LIMIT);
            let manifest = document::manifest(&layout.manifest(entry.digest().as_ref(), deadline)?)
                .context("the workflow's manifest is malformed")?;
            let documents = documents(&manifest, |digest| layout.document(digest, deadline))?;
            Ok((manifest, documents))
        };
        let (manifest, documents) = read().map_err(|failure| failure.error).with_context(cannot)?;
        Opened::new(vec![Box::new(layout)], &manifest, documents).with_context(cannot)
    }

    /// Whether it has any image.
    #[must_use]
    pub fn has_images(&self) -> bool {
        !self.0.images.is_empty()
    }

    fn has(&self, digest: Digest) -> bool {
        self.0.blobs.contains_key(&digest)
    }

    /// All names, with their digests.
    fn names(&self) -> impl Iterator<Item = (&str, Digest)> {
        let named =
            self.0.images.iter().map(|image| Some((name_of(image)?, image.digest().as_ref().parse().ok()?)));
        named.flatten()
    }
}

impl Opened {
    /// The bundle with this manifest and these documents; each location has all of its blobs.
    pub(super) fn new(
        places: Vec<Box<dyn ImageSource>>,
        manifest: &ImageManifest,
        mut documents: HashMap<String, Vec<u8>>,
    ) -> anyhow::Result<Self> {
        let images = documents.remove(IMAGES).map(|index| ambiguity::index(&index)).transpose();
        let images = images.context("its list of images is malformed")?;
        let images = images.map_or(Vec::new(), |index| index.manifests().clone());
        let blobs = manifest.layers().iter().chain([manifest.config()]);
        let blobs = blobs.map(|blob| Ok((Digest::from_str(blob.digest().as_ref())?, blob.size())));
        let blobs = blobs.collect::<anyhow::Result<_>>()?;
        Ok(Self { documents, bundle: Bundle(Arc::new(BundleContent { places, images, blobs })) })
    }
}

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|it| it.eq_ignore_ascii_case("tar"))
}

impl fmt::Debug for Bundle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Bundle({})", self.0.places[0].name())
    }
}

/// The bundle's entry in a layout: by name, else by type, else the only one.
fn entry(entries: &[Descriptor]) -> anyhow::Result<&Descriptor> {
    let named = entries.iter().find(|entry| name_of(entry) == Some(NAME));
    let found = named.or_else(|| artifact::entry(entries));
    found.or_else(|| entries.first().filter(|_| entries.len() == 1)).ok_or_else(|| {
        hinted("it contains no workflow", "create one with `iguana bundle WORKFLOW --output FILE`")
    })
}

/// The documents of an artifact, by their media types; `read` returns a verified document by its digest.
pub(super) fn documents(
    manifest: &ImageManifest,
    mut read: impl FnMut(Digest) -> Result<Vec<u8>, Failure>,
) -> Result<HashMap<String, Vec<u8>>, Failure> {
    let types = manifest.layers().iter().map(Descriptor::media_type).chain(manifest.artifact_type());
    types.map(AsRef::as_ref).try_for_each(artifact::check_version)?;
    let known = artifact::media_types();
    let mut documents = HashMap::new();
    for layer in manifest.layers() {
        let kind = layer.media_type().to_string();
        if known.contains(&kind.as_str()) {
            let bytes = read(Digest::from_str(layer.digest().as_ref())?)?;
            if documents.insert(kind, bytes).is_some() {
                let message = format!("it has two layers of the type `{}`", layer.media_type());
                return Err(Failure::permanent(anyhow::anyhow!(message)));
            }
        }
    }
    if !documents.contains_key(WORKFLOW) {
        let hint = format!("one of its layers must have the media type `{WORKFLOW}`");
        return Err(Failure::permanent(hinted("it contains no workflow", hint)));
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::TYPE;
    use serde_json::{Value, json};

    fn entries(all: Value) -> Vec<Descriptor> {
        serde_json::from_value(all).unwrap()
    }

    fn descriptor(number: u8, more: Value) -> Value {
        let mut entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": number,
            "digest": Digest::of(&[number]).to_string()});
        more.as_object().unwrap().iter().for_each(|(key, value)| entry[key] = value.clone());
        entry
    }

    #[test]
    fn a_bundle_is_found_however_it_was_copied() {
        let called = |name: &str| json!({"annotations": {"org.opencontainers.image.ref.name": name}});
        let ours = descriptor(1, json!({}));
        for (all, found) in [
            (json!([descriptor(2, called("a:1")), descriptor(1, called(NAME))]), true),
            (json!([descriptor(2, json!({})), descriptor(1, json!({"artifactType": TYPE}))]), true),
            (json!([descriptor(1, called("1"))]), true),
            (json!([ours, descriptor(2, json!({}))]), false),
        ] {
            let all = entries(all);
            assert_eq!(entry(&all).ok().map(Descriptor::size), found.then_some(1));
        }
    }

    #[test]
    fn a_newer_bundle_is_refused_by_its_version() {
        let newer = TYPE.replace("v1", "v2");
        let layers = |kind: &str| json!([layer(1, WORKFLOW), layer(2, kind)]);
        let mut artifact = manifest(layers("text/plain"));
        artifact.set_artifact_type(Some(newer.as_str().into()));
        // A lock file in a newer version: ignoring it would mean to run other images.
        for manifest in [artifact, manifest(layers("application/vnd.iguana.lock.v2+json"))] {
            let refused = documents(&manifest, |_| Ok(b"text".to_vec())).err().unwrap();
            let error = format!("{:#}", refused.error);
            assert!(error.contains("the bundle needs version `2` of its format"), "{error}");
            assert!(hint::of(&refused.error).unwrap().contains("a newer initrd"));
        }
        let entries =
            entries(json!([descriptor(2, json!({})), descriptor(1, json!({"artifactType": newer}))]));
        assert_eq!(entry(&entries).unwrap().size(), 1);
    }

    fn layer(number: u8, kind: &str) -> Value {
        descriptor(number, json!({"mediaType": kind}))
    }

    fn manifest(layers: Value) -> ImageManifest {
        let config = descriptor(0, json!({}));
        serde_json::from_value(json!({"schemaVersion": 2, "config": config, "layers": layers})).unwrap()
    }

    #[test]
    fn documents_are_stored_once() {
        let read = |layers| documents(&manifest(layers), |_| Ok(b"text".to_vec()));
        assert_eq!(read(json!([layer(1, WORKFLOW), layer(2, "text/plain")])).ok().unwrap().len(), 1);
        for (layers, why) in [
            (json!([layer(1, "text/plain")]), "it contains no workflow"),
            (json!([layer(1, WORKFLOW), layer(2, WORKFLOW)]), "it has two layers of the type"),
        ] {
            let said = read(layers).err().unwrap().error.to_string();
            assert!(said.starts_with(why), "{said}");
        }
    }
}
