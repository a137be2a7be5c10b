//! Documents that lie in a registry as an OCI artifact (OCI image-spec, manifest.md, "Guidelines for Artifact Usage"): a
//! layer each, known by its media type.

use super::manifest::Kind;
use super::{Finder, PullEvent};
use crate::image::digest::Digest;
use crate::image::patience::{Listener, Patience};
use crate::image::reference::Reference;
use crate::trust::policy::Approval;
use anyhow::ensure;
use std::collections::HashMap;
use std::str::FromStr as _;

/// More documents than any artifact of ours has; a bound for what a hostile registry can cost.
const MOST_DOCUMENTS: usize = 16;

/// An artifact that the policy accepts, and whose every byte had its digest.
#[derive(Debug)]
pub struct Artifact {
    /// Why the policy accepts it.
    pub approval: Approval,
    /// By their media types.
    pub documents: HashMap<String, Vec<u8>>,
}

impl Finder {
    /// Fetches an artifact of this type. Of its layers only those with these media types are fetched, which are small.
    ///
    /// # Errors
    /// When the policy rejects it, it cannot be had, or does not have its digests.
    pub fn artifact(
        &self,
        reference: &Reference,
        kind: &'static str,
        media_types: &[&str],
        watch: &mut dyn FnMut(PullEvent),
    ) -> anyhow::Result<Artifact> {
        Listener::staying(watch, |listener| self.documents(reference, kind, media_types, listener))
    }

    fn documents(
        &self,
        reference: &Reference,
        kind: &'static str,
        media_types: &[&str],
        listener: &Listener<'_>,
    ) -> anyhow::Result<Artifact> {
        let found = self.look_up(reference, None, Kind::Artifact(kind), listener)?;
        let layers = found.manifest.layers().iter();
        let layers: Vec<_> =
            layers.filter(|layer| media_types.contains(&layer.media_type().to_string().as_str())).collect();
        ensure!(layers.len() <= MOST_DOCUMENTS, "it has more than {MOST_DOCUMENTS} documents");
        let mut documents = HashMap::new();
        for layer in layers {
            let digest = Digest::from_str(layer.digest().as_ref())?;
            let bytes = Patience::usual().until_done(listener, || found.source.document(digest))?;
            documents.insert(layer.media_type().to_string(), bytes);
        }
        Ok(Artifact { approval: found.approval, documents })
    }
}
