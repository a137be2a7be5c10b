//! What the policy says about an image, and the signatures that it may want to see: beside the image in its registry,
//! by the tag `sha256-….sig` as cosign puts them, or by the referrers of the manifest (OCI distribution-spec,
//! "Listing Referrers").

use super::Finder;
use crate::hint::hinted;
use crate::image::ambiguity;
use crate::image::digest::Digest;
use crate::image::patience::{Failure, Listener, Patience};
use crate::image::reference::{Named, Reference};
use crate::image::source::Source;
use crate::trust::policy::{Approval, Subject};
use crate::trust::{PAYLOAD_TYPE, Signature};
use anyhow::{Context as _, ensure};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use std::str::FromStr as _;

/// More signatures of one image than anybody makes; a bound for what a hostile registry can cost.
const MOST_SIGNATURES: usize = 64;
/// Bytes of a signed payload: a digest and a name, some hundred bytes.
const PAYLOAD_LIMIT: u64 = 64 << 10;
/// What cosign calls its manifests of signatures among the referrers.
const SIGNATURE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

impl Finder {
    /// Leave to run the image that was found as `candidate` in `repository`.
    pub(super) fn approve(
        &self,
        candidate: &Named,
        repository: &dyn Source,
        manifest: Digest,
        listener: &Listener<'_>,
    ) -> anyhow::Result<Approval> {
        let subject = Subject::of_registry(candidate);
        let rule = self.policy.rule(&subject);
        let place = candidate.moved_to(&repository.name())?;
        if !rule.needs_signatures() || !self.attachments.are_used(&place) {
            return rule.judge(&subject, manifest, &[]);
        }
        let mut signatures = by_tag(repository, manifest, listener).context("cannot fetch its signatures")?;
        if let Ok(approval) = rule.judge(&subject, manifest, &signatures) {
            return Ok(approval);
        }
        signatures
            .extend(by_referrers(repository, manifest, listener).context("cannot fetch its signatures")?);
        rule.judge(&subject, manifest, &signatures)
    }

    /// Leave to run an image in files of this machine, which have no signatures beside them.
    pub(super) fn approve_local(&self, reference: &Reference, manifest: Digest) -> anyhow::Result<Approval> {
        let subject = Subject::of(reference)?;
        self.policy.rule(&subject).judge(&subject, manifest, &[])
    }
}

fn by_tag(
    repository: &dyn Source,
    manifest: Digest,
    listener: &Listener<'_>,
) -> anyhow::Result<Vec<Signature>> {
    let tag = format!("{}.sig", as_tag(manifest));
    let found = Patience::usual().until_done(listener, || optional(repository.manifest(&tag)))?;
    let signatures = found.map(|bytes| attached(repository, &bytes, listener));
    signatures.unwrap_or_else(|| Ok(Vec::new())).with_context(|| format!("`{tag}`"))
}

fn by_referrers(
    repository: &dyn Source,
    manifest: Digest,
    listener: &Listener<'_>,
) -> anyhow::Result<Vec<Signature>> {
    let ask = || match optional(repository.referrers(manifest))? {
        Some(bytes) => Ok(Some(bytes)),
        // "Referrers Tag Schema" of the specification: for registries without the API.
        None => optional(repository.manifest(&as_tag(manifest))),
    };
    let Some(bytes) = Patience::usual().until_done(listener, ask)? else { return Ok(Vec::new()) };
    let index = ambiguity::index(&bytes).context("the list of referrers is not understood")?;
    let mut signatures = Vec::new();
    let is_signature = |entry: &&Descriptor| {
        entry.artifact_type().as_ref().is_some_and(|kind| kind.to_string() == SIGNATURE_ARTIFACT)
    };
    for descriptor in index.manifests().iter().filter(is_signature).take(MOST_SIGNATURES) {
        let digest = Digest::from_str(descriptor.digest().as_ref())?;
        let bytes = Patience::usual().until_done(listener, || repository.manifest(&digest.to_string()))?;
        digest.verify("the manifest of a signature", &bytes)?;
        signatures.extend(attached(repository, &bytes, listener)?);
        if signatures.len() >= MOST_SIGNATURES {
            break;
        }
    }
    Ok(signatures)
}

/// The signatures that a manifest of signatures lists, one a layer.
fn attached(
    repository: &dyn Source,
    manifest: &[u8],
    listener: &Listener<'_>,
) -> anyhow::Result<Vec<Signature>> {
    let manifest =
        ImageManifest::from_reader(manifest).context("the manifest of the signatures is not understood")?;
    let kind = manifest.media_type().as_ref().unwrap_or(&MediaType::ImageManifest);
    ensure!(*kind == MediaType::ImageManifest, "the manifest of the signatures is a `{kind}`");
    let layers = manifest.layers().iter().filter(|layer| layer.media_type().to_string() == PAYLOAD_TYPE);
    let layers: Vec<_> = layers.collect();
    if layers.len() > MOST_SIGNATURES {
        let hint = "sign the image anew in another repository, or remove signatures that nobody needs";
        return Err(hinted(format!("it has {} signatures, more than {MOST_SIGNATURES}", layers.len()), hint));
    }
    let largest = layers.iter().map(|layer| layer.size()).max().unwrap_or_default();
    ensure!(
        largest <= PAYLOAD_LIMIT,
        "a signature has {largest} bytes, more than the {PAYLOAD_LIMIT} of what is signed"
    );
    let read = |layer: &&Descriptor| {
        let digest = Digest::from_str(layer.digest().as_ref())?;
        let payload = Patience::usual().until_done(listener, || repository.document(digest))?;
        ensure!(payload.len() as u64 == layer.size(), "`{digest}` has another size than its descriptor says");
        Ok(Signature { payload, annotations: layer.annotations().clone().unwrap_or_default() })
    };
    layers.iter().map(read).collect()
}

/// A digest as a tag, which must not have a colon.
pub(super) fn as_tag(digest: Digest) -> String {
    digest.to_string().replace(':', "-")
}

/// Nothing when the registry does not have it.
pub(super) fn optional<T>(outcome: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_absent => Ok(None),
        Err(failure) => Err(failure),
    }
}
