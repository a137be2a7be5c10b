//! From a name to manifests: the one for this machine, and all that the name leads to; through indexes within indexes.
//!
//! OCI image-spec, image-index.md: "While the use of an image index is OPTIONAL for image providers, image consumers SHOULD
//! be prepared to process them"; its entries may be indexes in turn ("implementations SHOULD support the following media
//! types: application/vnd.oci.image.index.v1+json (nested index)").

use super::manifest::{ManifestDocument, ManifestKind, descriptor_digest};
use crate::ambiguity;
use crate::document;
use crate::retry::Failure;
use crate::source::ImageSource;
use anyhow::Context as _;
use fetch::http::{DOCUMENT_TIME_LIMIT, Deadline};
use hint::hinted;
use oci_reference::digest::Digest;
use oci_reference::platform::{Machine, is_linux, offered};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, Platform};
use oci_trust::pins::Locked;
use std::collections::BTreeMap;

/// Indexes on the way from a name to a manifest. Makers nest one in another, and a layout's `index.json` may be around both.
pub(crate) const INDEX_DEPTH_LIMIT: usize = 4;

/// Documents that are read of the indexes of one image: more than there are platforms.
const DOCUMENTS_LIMIT: usize = 64;

/// The media types of indexes (image-index.md; Docker's manifest list).
const INDEXES: &[&str] =
    &["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// The manifest of the wanted kind behind a name.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) digest: Digest,
    pub(super) manifest: ImageManifest,
    /// The documents that lead to it, from that of the name on; the last one is the manifest itself.
    pub(super) documents: Vec<Vec<u8>>,
}

/// The manifest of the wanted kind, from whatever document the name refers to.
pub(super) fn resolve(
    source: &dyn ImageSource,
    identifier: &str,
    digest: Option<Digest>,
    kind: ManifestKind,
    machine: &Machine,
    deadline: Deadline,
) -> Result<Resolved, Failure> {
    let bytes = source.manifest(identifier, deadline)?;
    if let Some(digest) = digest {
        digest.verify("the manifest", &bytes)?;
    }
    if let ManifestDocument::Manifest(manifest) = ManifestDocument::parse(&bytes, kind)? {
        return Ok(Resolved { digest: Digest::of(&bytes), manifest: *manifest, documents: vec![bytes] });
    }
    let mut search = Search { source, kind, machine, deadline, read: 0, offered: Vec::new() };
    match search.within(&bytes, 1)? {
        Some(found) => Ok(found.behind(bytes)),
        None => Err(Failure::permanent(search.unavailable())),
    }
}

impl Resolved {
    /// The same manifest, with the index that leads to it.
    fn behind(mut self, index: Vec<u8>) -> Self {
        self.documents.insert(0, index);
        self
    }
}

/// The search for one manifest in the indexes behind a name.
struct Search<'a> {
    source: &'a dyn ImageSource,
    kind: ManifestKind,
    machine: &'a Machine,
    deadline: Deadline,
    /// Documents that were read.
    read: usize,
    /// The platforms that were found.
    offered: Vec<String>,
}

impl Search<'_> {
    /// The best manifest in an index; `None` if there is none for this machine.
    fn within(&mut self, bytes: &[u8], depth: usize) -> Result<Option<Resolved>, Failure> {
        let mut index = parse_index(bytes)?;
        let is_here =
            |entry: &&Descriptor| descriptor_digest(entry).is_ok_and(|digest| self.source.has(digest));
        index.set_manifests(index.manifests().iter().filter(is_here).cloned().collect());
        self.offered.extend(offered(&index));
        let ranked = self.kind.ranked(&index, self.machine);
        for entry in &ranked {
            let is_only = ranked.len() == 1;
            if let Some(found) = self.entry(entry, is_only, depth)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The manifest behind an entry of an index.
    fn entry(
        &mut self,
        entry: &Descriptor,
        is_only: bool,
        depth: usize,
    ) -> Result<Option<Resolved>, Failure> {
        self.read += 1;
        if self.read > DOCUMENTS_LIMIT {
            let message = format!("the image's indexes list more than {DOCUMENTS_LIMIT} documents to try");
            return Err(Failure::permanent(hinted(
                message,
                "push the image with one index of its platforms",
            )));
        }
        let (digest, bytes) = listed_document(self.source, entry, self.deadline)?;
        match ManifestDocument::parse(&bytes, self.kind)? {
            ManifestDocument::Manifest(manifest) => {
                let is_meant = is_only || self.is_for_machine(entry, &manifest)?;
                Ok(is_meant.then(|| Resolved { digest, manifest: *manifest, documents: vec![bytes] }))
            }
            ManifestDocument::Index if depth == INDEX_DEPTH_LIMIT => Err(Failure::permanent(hinted(
                format!("the image's indexes are nested more than {INDEX_DEPTH_LIMIT} deep"),
                "push the image with a single index that lists the manifests",
            ))),
            ManifestDocument::Index => Ok(self.within(&bytes, depth + 1)?.map(|found| found.behind(bytes))),
        }
    }

    /// Whether one of several images is for this machine: if its entry does not say, its config does.
    fn is_for_machine(&self, entry: &Descriptor, manifest: &ImageManifest) -> Result<bool, Failure> {
        let states_it = |platform: &Platform| !platform.architecture().to_string().is_empty();
        if self.kind != ManifestKind::Image || entry.platform().as_ref().is_some_and(states_it) {
            return Ok(true);
        }
        let bytes = self.source.document(descriptor_digest(manifest.config())?, self.deadline)?;
        let configuration = document::configuration(&bytes, self.machine)?;
        let (architecture, variant) = (configuration.architecture(), configuration.variant().as_deref());
        Ok(is_linux(configuration.os()) && self.machine.rank(architecture, variant).is_some())
    }

    fn unavailable(&self) -> anyhow::Error {
        match self.kind {
            ManifestKind::Image => self.machine.unavailable(&self.offered),
            ManifestKind::Artifact(wanted) => {
                anyhow::anyhow!("its index has no entry of the type `{wanted}`")
            }
        }
    }
}

fn parse_index(bytes: &[u8]) -> anyhow::Result<ImageIndex> {
    ambiguity::index(bytes).context("the image's index is malformed")
}

/// The verified document of an entry of an index.
fn listed_document(
    source: &dyn ImageSource,
    entry: &Descriptor,
    deadline: Deadline,
) -> Result<(Digest, Vec<u8>), Failure> {
    let digest = descriptor_digest(entry)?;
    let bytes = source.manifest(&digest.to_string(), deadline)?;
    digest.verify("the manifest", &bytes)?;
    document::check_size(entry, "the index", &bytes)?;
    ambiguity::refuse(&bytes, "the index", Some(entry.media_type().as_ref()))?;
    Ok((digest, bytes))
}

/// A manifest that an index lists, or an index within it.
struct Listed {
    entry: Descriptor,
    /// Its own platform, or that of the index it is in.
    platform: Option<Platform>,
}

/// All manifests of an index that the source has, with those of indexes within it; these are read, the manifests are not.
fn all_listed(source: &dyn ImageSource, bytes: &[u8], deadline: Deadline) -> Result<Vec<Listed>, Failure> {
    let (mut all, mut documents) = (Vec::new(), vec![(bytes.to_vec(), None, 1)]);
    let mut read = 0;
    while let Some((bytes, outer, depth)) = documents.pop() {
        for entry in parse_index(&bytes)?.manifests() {
            if !descriptor_digest(entry).is_ok_and(|digest| source.has(digest)) {
                continue;
            }
            let platform = entry.platform().clone().or_else(|| outer.clone());
            let is_index = INDEXES.contains(&entry.media_type().as_ref());
            if is_index && depth < INDEX_DEPTH_LIMIT && read < DOCUMENTS_LIMIT {
                read += 1;
                let (_, bytes) = listed_document(source, entry, deadline)?;
                documents.push((bytes, platform, depth + 1));
            } else {
                all.push(Listed { entry: entry.clone(), platform });
            }
        }
    }
    Ok(all)
}

/// The manifests behind a name that a source has, for every platform that its index tells of, if it has one.
pub(super) fn taken_along(
    source: &dyn ImageSource,
    identifier: &str,
    digest: Option<Digest>,
) -> anyhow::Result<Vec<(Digest, Option<Machine>)>> {
    let deadline = Deadline::within(DOCUMENT_TIME_LIMIT);
    let bytes = source.manifest(identifier, deadline).map_err(|failure| failure.error)?;
    digest.map_or(Ok(()), |digest| digest.verify("the manifest", &bytes))?;
    if let ManifestDocument::Manifest(_) = ManifestDocument::parse(&bytes, ManifestKind::Image)? {
        return Ok(vec![(Digest::of(&bytes), None)]);
    }
    let listed = all_listed(source, &bytes, deadline).map_err(|failure| failure.error)?;
    let mut found = Vec::new();
    for Listed { entry, platform } in listed {
        let (digest, _) = listed_document(source, &entry, deadline).map_err(|failure| failure.error)?;
        found.push((digest, platform.as_ref().map(Machine::of_platform).transpose()?));
    }
    Ok(found)
}

/// The digests behind a name; `judged` is the manifest for `machine`, which must be part of it.
pub(super) fn locked(
    source: &dyn ImageSource,
    bytes: &[u8],
    judged: Digest,
    machine: &Machine,
    deadline: Deadline,
) -> Result<Locked, Failure> {
    let digest = Digest::of(bytes);
    let mut platforms = BTreeMap::new();
    let mut is_part = digest == judged;
    match ManifestDocument::parse(bytes, ManifestKind::Image)? {
        ManifestDocument::Manifest(_) => drop(platforms.insert(machine.to_string(), digest)),
        ManifestDocument::Index => {
            for Listed { entry, platform } in all_listed(source, bytes, deadline)? {
                let digest = descriptor_digest(&entry)?;
                is_part |= digest == judged;
                match platform.filter(|platform| is_linux(platform.os())) {
                    Some(platform) => {
                        let variant = platform.variant().iter().map(|variant| format!("/{variant}"));
                        let variant: String = variant.collect();
                        // Of equal ones the first is pulled.
                        platforms
                            .entry(format!("linux/{}{variant}", platform.architecture()))
                            .or_insert(digest);
                    }
                    None if digest == judged => drop(platforms.insert(machine.to_string(), digest)),
                    None => {}
                }
            }
        }
    }
    if !is_part {
        return Err(Failure::permanent(hinted("the tag was moved during the check", "try again")));
    }
    Ok(Locked { digest, platforms })
}

#[cfg(test)]
mod tests;
