//! Finds the signatures of an image in its repository: by the tag `sha256-….sig` as cosign writes them, and by the
//! referrers of the manifest (OCI distribution-spec, "Listing Referrers" and "Referrers Tag Schema").
//!
//! Registries answer a question for signatures that they do not have in many ways. An image has no referrers unless there
//! is a valid index of them, and what is not a signature is passed over: it is the policy that demands one. A signature
//! that is listed and cannot be had is remembered, to explain why the policy found none.

use crate::ambiguity;
use crate::document;
use crate::retry::{Failure, PullObserver, RetryPolicy};
use crate::source::ImageSource;
use anyhow::ensure;
use fetch::http::Deadline;
use hint::hinted;
use oci_reference::digest::Digest;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use oci_trust::{PAYLOAD_TYPE, Signature};
use std::cell::RefCell;
use std::collections::HashMap;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

/// Signatures of one image: more than anybody makes. It limits the cost of a hostile registry.
const MOST_SIGNATURES: usize = 64;
/// Bytes of a signed payload: a digest and a name, some hundred bytes.
const PAYLOAD_LIMIT: u64 = 64 << 10;
/// Time limit for all signatures of one image: each takes a registry some ms, and may take as long as a document.
const SIGNATURES_TIME_LIMIT: Duration = Duration::from_secs(300);
/// What the names of cosign's annotations begin with.
const ANNOTATIONS: &[&str] = &["dev.cosignproject.cosign/", "dev.sigstore.cosign/"];
/// The artifact type of cosign's signature manifests among the referrers.
const SIGNATURE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// The signatures beside images in a repository.
pub(super) struct Attached<'a> {
    repository: &'a dyn ImageSource,
    observer: &'a PullObserver<'a>,
    /// No request begins after this.
    until: Instant,
    /// Why something that may be a signature could not be had.
    obstacles: RefCell<Vec<anyhow::Error>>,
}

/// A manifest of signatures.
pub(super) struct SignatureManifest {
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: ImageManifest,
}

/// The list of what refers to an image, with the signatures in it.
pub(super) struct Referrers {
    pub(super) list: Vec<u8>,
    pub(super) signatures: Vec<SignatureManifest>,
}

impl SignatureManifest {
    /// `None` for every other document.
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let manifest = document::manifest(&bytes).ok()?;
        let kind = manifest.media_type().as_ref().unwrap_or(&MediaType::ImageManifest);
        (*kind == MediaType::ImageManifest).then_some(Self { bytes, manifest })
    }

    /// The descriptors of the signed payloads, one per signature.
    ///
    /// # Errors
    /// When there are more than anybody makes, or larger ones.
    pub(super) fn payloads(&self) -> anyhow::Result<Vec<&Descriptor>> {
        let is_payload = |layer: &&Descriptor| layer.media_type().as_ref() == PAYLOAD_TYPE;
        let payloads: Vec<_> = self.manifest.layers().iter().filter(is_payload).collect();
        check_bounds(&payloads)?;
        Ok(payloads)
    }
}

/// Refuses more signatures than anybody makes, and larger ones.
pub(super) fn check_bounds(signatures: &[&Descriptor]) -> anyhow::Result<()> {
    if signatures.len() > MOST_SIGNATURES {
        let hint = "sign the image again in another repository, or remove unneeded signatures";
        return Err(hinted(
            format!("it has {} signatures, more than {MOST_SIGNATURES}", signatures.len()),
            hint,
        ));
    }
    let largest = signatures.iter().map(|layer| layer.size()).max().unwrap_or_default();
    ensure!(
        largest <= PAYLOAD_LIMIT,
        "a signature payload of {largest} bytes exceeds the limit of {PAYLOAD_LIMIT}"
    );
    Ok(())
}

/// The tag of cosign's signatures of a manifest.
pub(super) fn signature_tag(manifest: Digest) -> String {
    format!("{}.sig", as_tag(manifest))
}

/// A digest as a tag, which must not contain a colon: the tag of a list of referrers.
pub(super) fn as_tag(digest: Digest) -> String {
    digest.to_string().replace(':', "-")
}

impl<'a> Attached<'a> {
    pub(super) fn new(repository: &'a dyn ImageSource, observer: &'a PullObserver<'a>) -> Self {
        let until = Instant::now() + SIGNATURES_TIME_LIMIT;
        Self { repository, observer, until, obstacles: RefCell::default() }
    }

    /// The same when its time is over.
    #[cfg(test)]
    pub(super) fn over(self) -> Self {
        Self { until: Instant::now(), ..self }
    }

    /// The manifest under cosign's tag.
    pub(super) fn by_tag(&self, manifest: Digest) -> anyhow::Result<Option<SignatureManifest>> {
        let tag = signature_tag(manifest);
        let found =
            self.if_there(&format!("`{tag}`"), |deadline| self.repository.manifest(&tag, deadline))?;
        Ok(found.and_then(SignatureManifest::parse))
    }

    /// The signatures among the referrers.
    pub(super) fn by_referrers(&self, manifest: Digest) -> anyhow::Result<Option<Referrers>> {
        let Some((list, index)) = self.referrers(manifest)? else { return Ok(None) };
        let mut signatures = Vec::new();
        for entry in signature_entries(&index) {
            signatures.extend(self.referrer(entry)?);
        }
        Ok(Some(Referrers { list, signatures }))
    }

    /// The signatures among the referrers, no more than anybody makes.
    pub(super) fn among_referrers(&self, manifest: Digest) -> anyhow::Result<Vec<Signature>> {
        let mut signatures = Vec::new();
        for found in self.by_referrers(manifest)?.into_iter().flat_map(|referrers| referrers.signatures) {
            signatures.extend(self.signatures(&found)?);
            if signatures.len() >= MOST_SIGNATURES {
                break;
            }
        }
        Ok(signatures)
    }

    /// The list by the registry's API, or else by its tag; `None` unless it is a valid index.
    fn referrers(&self, manifest: Digest) -> anyhow::Result<Option<(Vec<u8>, ImageIndex)>> {
        let valid = |bytes: Vec<u8>| ambiguity::index(&bytes).ok().map(|index| (bytes, index));
        let by_api = |deadline| self.repository.referrers(manifest, deadline);
        let listed = self.if_there("the list of its referrers", by_api)?.and_then(valid);
        if listed.is_some() {
            return Ok(listed);
        }
        let tag = as_tag(manifest);
        let by_tag = |deadline| self.repository.manifest(&tag, deadline);
        Ok(self.if_there(&format!("`{tag}`"), by_tag)?.and_then(valid))
    }

    fn referrer(&self, entry: &Descriptor) -> anyhow::Result<Option<SignatureManifest>> {
        let name = entry.digest().to_string();
        let found = self.listed(&format!("the signature `{name}`"), |deadline| {
            let digest = Digest::from_str(&name)?;
            let bytes = self.repository.manifest(&name, deadline)?;
            digest.verify("the manifest of a signature", &bytes)?;
            Ok(bytes)
        })?;
        Ok(found.and_then(SignatureManifest::parse))
    }

    /// The signatures in a manifest. One whose payload cannot be had is passed over.
    pub(super) fn signatures(&self, found: &SignatureManifest) -> anyhow::Result<Vec<Signature>> {
        let mut signatures = Vec::new();
        for layer in found.payloads()? {
            let payload = self.listed(&format!("what is signed, `{}`,", layer.digest()), |deadline| {
                let digest = Digest::from_str(layer.digest().as_ref())?;
                let payload = self.repository.document(digest, deadline)?;
                if payload.len() as u64 != layer.size() {
                    let message = format!("the size of `{digest}` differs from its descriptor");
                    return Err(Failure::permanent(anyhow::Error::msg(message)));
                }
                Ok(payload)
            })?;
            let annotations = annotations(layer)?;
            signatures.extend(payload.map(|payload| Signature { payload, annotations }));
        }
        Ok(signatures)
    }

    /// Adds to the policy's rejection what could not be had.
    pub(super) fn explain(&self, rejection: anyhow::Error) -> anyhow::Error {
        match self.obstacles.take().into_iter().next() {
            Some(obstacle) => obstacle.context(format!("{rejection:#}")),
            None => rejection,
        }
    }

    /// What the registry answers to a question for what need not be there.
    fn if_there<T>(
        &self,
        what: &str,
        ask: impl FnMut(Deadline) -> Result<T, Failure>,
    ) -> anyhow::Result<Option<T>> {
        match self.ask(ask)? {
            Err(failure) if failure.is_absent => Ok(None),
            answered => Ok(self.had(what, answered)),
        }
    }

    /// What the registry answers to a question for what a list says is there.
    fn listed<T>(
        &self,
        what: &str,
        ask: impl FnMut(Deadline) -> Result<T, Failure>,
    ) -> anyhow::Result<Option<T>> {
        Ok(self.had(what, self.ask(ask)?))
    }

    fn had<T>(&self, what: &str, answered: Result<T, Failure>) -> Option<T> {
        answered.map_err(|failure| self.pass_over(what, failure.error)).ok()
    }

    fn pass_over(&self, what: &str, why: anyhow::Error) {
        self.obstacles.borrow_mut().push(why.context(format!("cannot read {what}")));
    }

    /// Asks with retries; the inner failure is permanent.
    fn ask<T>(
        &self,
        mut ask: impl FnMut(Deadline) -> Result<T, Failure>,
    ) -> anyhow::Result<Result<T, Failure>> {
        self.check_time()?;
        let attempt = |deadline| match ask(deadline) {
            Err(failure) if failure.is_transient() => Err(failure),
            answered => Ok(answered),
        };
        RetryPolicy::usual().until_done(self.observer, attempt)
    }

    /// Whether there is time left.
    pub(super) fn check_time(&self) -> anyhow::Result<()> {
        if Instant::now() < self.until {
            return Ok(());
        }
        Err(hinted(
            format!("they did not all arrive within {} s", SIGNATURES_TIME_LIMIT.as_secs()),
            format!("check the registry of `{}`: it responds too slowly", self.repository.name()),
        ))
    }
}

/// The annotations of a signature that are read: cosign's.
fn annotations(layer: &Descriptor) -> anyhow::Result<HashMap<String, String>> {
    let all = layer.annotations().iter().flatten();
    let ours = all.filter(|(name, _)| ANNOTATIONS.iter().any(|prefix| name.starts_with(prefix)));
    let ours: HashMap<String, String> = ours.map(|(name, value)| (name.clone(), value.clone())).collect();
    let bytes: usize = ours.iter().map(|(name, value)| name.len() + value.len()).sum();
    ensure!(
        bytes as u64 <= PAYLOAD_LIMIT,
        "the annotations of a signature have {bytes} bytes, more than {PAYLOAD_LIMIT}"
    );
    Ok(ours)
}

/// The entries of signatures in a list of referrers, no more of them than anybody makes.
fn signature_entries(index: &ImageIndex) -> impl Iterator<Item = &Descriptor> {
    let is_signature = |entry: &&Descriptor| {
        let kind = entry.artifact_type().as_ref().map(AsRef::as_ref);
        kind == Some(SIGNATURE_ARTIFACT) && *entry.media_type() == MediaType::ImageManifest
    };
    index.manifests().iter().filter(is_signature).take(MOST_SIGNATURES)
}

#[cfg(test)]
mod tests;
