//! Documents in a registry as an OCI artifact (OCI image-spec, manifest.md, "Guidelines for Artifact Usage"): one per
//! layer, identified by media type.

use super::find::FoundImage;
use super::manifest::ManifestKind;
use super::{Finder, PullEvent};
use crate::artifact::TYPE;
use crate::bundle;
use crate::bundle::Opened;
use crate::retry::{PullObserver, RetryPolicy};
use oci_reference::reference::Reference;
use oci_trust::policy::Approval;

/// An artifact that the policy approves, and whose documents match their digests.
#[derive(Debug)]
pub struct Artifact {
    /// Why the policy approves it.
    pub approval: Approval,
    /// Its content; the images in it are verified only when they are pulled.
    pub opened: Opened,
}

impl Finder {
    /// Fetches the documents of a workflow artifact; its images stay in the registry until they are pulled.
    ///
    /// # Errors
    /// When the policy rejects it, it cannot be fetched, or it does not match its digests.
    pub fn artifact(
        &self,
        reference: &Reference,
        watch: &mut dyn FnMut(PullEvent),
    ) -> anyhow::Result<Artifact> {
        PullObserver::staying(watch, |observer| {
            let FoundImage { source, others, manifest, approval, .. } =
                self.look_up(reference, None, ManifestKind::Artifact(TYPE), observer)?;
            let read = |digest| {
                RetryPolicy::usual().until_done(observer, |deadline| source.document(digest, deadline))
            };
            let documents = bundle::documents(&manifest, |digest| Ok(read(digest)?));
            let documents = documents.map_err(|failure| failure.error)?;
            let places = [source].into_iter().chain(others).collect();
            Ok(Artifact { approval, opened: Opened::new(places, &manifest, documents)? })
        })
    }
}
