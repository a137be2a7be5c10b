//! Asks the policy about an image, and fetches the signatures it may need: from the image's repository, by the tag
//! `sha256-….sig` as cosign writes them, or by the referrers of the manifest (OCI distribution-spec, "Listing
//! Referrers").

use super::Finder;
use crate::ambiguity;
use crate::retry::{Failure, PullObserver, RetryPolicy};
use crate::source::ImageSource;
use anyhow::{Context as _, ensure};
use fetch::http::Deadline;
use hint::hinted;
use oci_reference::digest::Digest;
use oci_reference::reference::Named;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use oci_trust::policy::{Approval, Subject};
use oci_trust::{PAYLOAD_TYPE, Signature};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

/// Signatures of one image: more than anybody makes. It limits the cost of a hostile registry.
const MOST_SIGNATURES: usize = 64;
/// Bytes of a signed payload: a digest and a name, some hundred bytes.
const PAYLOAD_LIMIT: u64 = 64 << 10;
/// Time limit for all signatures of one image: each takes a registry some ms, and may take as long as a document.
const SIGNATURES_TIME_LIMIT: Duration = Duration::from_secs(300);
/// The artifact type of cosign's signature manifests among the referrers.
const SIGNATURE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

impl Finder {
    /// Asks the policy for approval of the image that was found as `candidate` in `repository`.
    pub(super) fn approve(
        &self,
        candidate: &Named,
        repository: &dyn ImageSource,
        manifest: Digest,
        observer: &PullObserver<'_>,
    ) -> anyhow::Result<Approval> {
        let subject = Subject::of_registry(candidate);
        let rule = self.policy.rule(&subject);
        let place = candidate.moved_to(&repository.name())?;
        if !rule.needs_signatures() || !self.attachments.are_used(&place) {
            return rule.judge(&subject, manifest, &[]);
        }
        let attached = Attached { repository, observer, until: Instant::now() + SIGNATURES_TIME_LIMIT };
        let mut signatures = attached.by_tag(manifest).context("cannot fetch its signatures")?;
        if let Ok(approval) = rule.judge(&subject, manifest, &signatures) {
            return Ok(approval);
        }
        signatures.extend(attached.by_referrers(manifest).context("cannot fetch its signatures")?);
        rule.judge(&subject, manifest, &signatures)
    }

    /// Asks the policy for approval of an image in local files, which has no attached signatures.
    pub(super) fn approve_local(&self, subject: &Subject, manifest: Digest) -> anyhow::Result<Approval> {
        self.policy.rule(subject).judge(subject, manifest, &[])
    }
}

/// The manifests of signatures in a list of referrers, no more of them than anybody makes.
pub(super) fn signature_manifests(index: &ImageIndex) -> impl Iterator<Item = &Descriptor> {
    let is_signature = |entry: &&Descriptor| {
        entry.artifact_type().as_ref().is_some_and(|kind| kind.to_string() == SIGNATURE_ARTIFACT)
    };
    index.manifests().iter().filter(is_signature).take(MOST_SIGNATURES)
}

/// Refuses more signatures than anybody makes, and larger ones.
pub(super) fn check_bounds(signatures: &[&Descriptor]) -> anyhow::Result<()> {
    if signatures.len() > MOST_SIGNATURES {
        let hint = "sign the image anew in another repository, or remove signatures that nobody needs";
        return Err(hinted(
            format!("it has {} signatures, more than {MOST_SIGNATURES}", signatures.len()),
            hint,
        ));
    }
    let largest = signatures.iter().map(|layer| layer.size()).max().unwrap_or_default();
    ensure!(
        largest <= PAYLOAD_LIMIT,
        "a signature has {largest} bytes, more than the {PAYLOAD_LIMIT} of what is signed"
    );
    Ok(())
}

/// What lies beside images in a repository.
struct Attached<'a> {
    repository: &'a dyn ImageSource,
    observer: &'a PullObserver<'a>,
    /// No request begins after this.
    until: Instant,
}

impl Attached<'_> {
    fn by_tag(&self, manifest: Digest) -> anyhow::Result<Vec<Signature>> {
        let tag = format!("{}.sig", as_tag(manifest));
        let found = self.ask(|deadline| optional(self.repository.manifest(&tag, deadline)))?;
        let signatures = found.map(|bytes| self.signatures(&bytes));
        signatures.unwrap_or_else(|| Ok(Vec::new())).with_context(|| format!("`{tag}`"))
    }

    fn by_referrers(&self, manifest: Digest) -> anyhow::Result<Vec<Signature>> {
        let ask = |deadline| match optional(self.repository.referrers(manifest, deadline))? {
            Some(bytes) => Ok(Some(bytes)),
            // The specification's "Referrers Tag Schema", for registries without the API.
            None => optional(self.repository.manifest(&as_tag(manifest), deadline)),
        };
        let Some(bytes) = self.ask(ask)? else { return Ok(Vec::new()) };
        let index = ambiguity::index(&bytes).context("the list of referrers is not understood")?;
        let mut signatures = Vec::new();
        for descriptor in signature_manifests(&index) {
            let digest = Digest::from_str(descriptor.digest().as_ref())?;
            let bytes = self.ask(|deadline| self.repository.manifest(&digest.to_string(), deadline))?;
            digest.verify("the manifest of a signature", &bytes)?;
            signatures.extend(self.signatures(&bytes)?);
            if signatures.len() >= MOST_SIGNATURES {
                break;
            }
        }
        Ok(signatures)
    }

    /// The signatures in a signature manifest, one per layer.
    fn signatures(&self, manifest: &[u8]) -> anyhow::Result<Vec<Signature>> {
        let manifest = ImageManifest::from_reader(manifest)
            .context("the manifest of the signatures is not understood")?;
        let kind = manifest.media_type().as_ref().unwrap_or(&MediaType::ImageManifest);
        ensure!(*kind == MediaType::ImageManifest, "the manifest of the signatures is a `{kind}`");
        let layers = manifest.layers().iter().filter(|layer| layer.media_type().to_string() == PAYLOAD_TYPE);
        let layers: Vec<_> = layers.collect();
        check_bounds(&layers)?;
        let read = |layer: &&Descriptor| {
            let digest = Digest::from_str(layer.digest().as_ref())?;
            let payload = self.ask(|deadline| self.repository.document(digest, deadline))?;
            ensure!(
                payload.len() as u64 == layer.size(),
                "`{digest}` has another size than its descriptor says"
            );
            Ok(Signature { payload, annotations: layer.annotations().clone().unwrap_or_default() })
        };
        layers.iter().map(read).collect()
    }

    fn ask<T>(&self, ask: impl FnMut(Deadline) -> Result<T, Failure>) -> anyhow::Result<T> {
        if Instant::now() < self.until {
            return RetryPolicy::usual().until_done(self.observer, ask);
        }
        Err(hinted(
            format!("they did not all come within {} s", SIGNATURES_TIME_LIMIT.as_secs()),
            format!("look into the registry of `{}`: it answers too slowly", self.repository.name()),
        ))
    }
}

/// A digest as a tag, which must not contain a colon.
pub(super) fn as_tag(digest: Digest) -> String {
    digest.to_string().replace(':', "-")
}

/// `None` when the registry does not have it.
pub(super) fn optional<T>(outcome: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_absent => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::HashMap;
    use std::io::Read;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    /// Documents by tag or digest, and the requests so far.
    #[derive(Default)]
    struct RepositoryView {
        documents: HashMap<String, Vec<u8>>,
        asked: Mutex<usize>,
    }

    impl RepositoryView {
        fn put(&mut self, bytes: &[u8]) -> Digest {
            let digest = Digest::of(bytes);
            self.documents.insert(digest.to_string(), bytes.to_vec());
            digest
        }
    }

    impl ImageSource for RepositoryView {
        fn name(&self) -> String {
            "view".into()
        }

        fn manifest(&self, identifier: &str, _: Deadline) -> Result<Vec<u8>, Failure> {
            *self.asked.lock().unwrap() += 1;
            let found = self.documents.get(identifier).cloned();
            found.ok_or_else(|| Failure::absent(anyhow::anyhow!("no `{identifier}`")))
        }

        fn document(&self, digest: Digest, deadline: Deadline) -> Result<Vec<u8>, Failure> {
            self.manifest(&digest.to_string(), deadline)
        }

        fn blob(&self, _: Digest, _: u64, _: u64) -> Result<Box<dyn Read + '_>, Failure> {
            Err(Failure::absent(anyhow::anyhow!("no blobs")))
        }
    }

    fn attached(repository: &RepositoryView) -> Attached<'_> {
        static STAYS: AtomicBool = AtomicBool::new(false);
        let observer = Box::leak(Box::new(PullObserver { tell: &|_| (), is_cancelled: &STAYS }));
        Attached { repository, observer, until: Instant::now() + SIGNATURES_TIME_LIMIT }
    }

    fn manifest(payloads: &[(Digest, u64)]) -> Vec<u8> {
        let layer = |(digest, size): &(Digest, u64)| json!({"mediaType": PAYLOAD_TYPE, "digest": digest.to_string(), "size": size});
        let layers: Vec<_> = payloads.iter().map(layer).collect();
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
            "digest": Digest::of(b"{}").to_string()});
        json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string().into_bytes()
    }

    #[test]
    fn signatures_have_a_number_and_a_size_at_most() {
        let mut repository_view = RepositoryView::default();
        let small = (repository_view.put(b"payload"), 7);
        for (count, is_taken) in [(MOST_SIGNATURES, true), (MOST_SIGNATURES + 1, false)] {
            let read = attached(&repository_view).signatures(&manifest(&vec![small; count]));
            let told = read.map_or_else(|error| error.to_string(), |_| String::new());
            assert_eq!(told.is_empty(), is_taken);
            assert!(is_taken || told == "it has 65 signatures, more than 64", "{told}");
        }
        for (size, is_taken) in [(PAYLOAD_LIMIT, true), (PAYLOAD_LIMIT + 1, false)] {
            let large = (repository_view.put(&vec![7; usize::try_from(size).unwrap()]), size);
            let read = attached(&repository_view).signatures(&manifest(&[large]));
            let told = read.map_or_else(|error| error.to_string(), |_| String::new());
            assert_eq!(told.contains("more than the 65536 of what is signed"), !is_taken, "{told}");
        }
        let lied = attached(&repository_view).signatures(&manifest(&[(small.0, 6)])).unwrap_err().to_string();
        assert!(lied.contains("another size than its descriptor says"), "{lied}");
    }

    /// 64 manifests of 64 signatures, each as slow as a document may be, would take days.
    #[test]
    fn signatures_are_fetched_for_a_time_at_most() {
        let mut repository_view = RepositoryView::default();
        let payload = (repository_view.put(b"payload"), 7);
        let late = Attached { until: Instant::now(), ..attached(&repository_view) };
        for told in [
            late.by_tag(Digest::of(b"image")),
            late.by_referrers(Digest::of(b"image")),
            late.signatures(&manifest(&[payload])),
        ] {
            let told = format!("{:#}", told.unwrap_err());
            assert!(told.contains("they did not all come within 300 s"), "{told}");
        }
        assert_eq!(*repository_view.asked.lock().unwrap(), 0);
    }

    #[test]
    fn of_a_list_of_referrers_no_more_are_fetched_than_there_may_be_signatures() {
        let mut repository_view = RepositoryView::default();
        let empty = manifest(&[]);
        let digest = repository_view.put(&empty).to_string();
        let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
            "size": empty.len(), "artifactType": SIGNATURE_ARTIFACT});
        let list = json!({"schemaVersion": 2, "manifests": vec![entry; 900]}).to_string();
        let image = Digest::of(b"image");
        repository_view.documents.insert(as_tag(image), list.into_bytes());
        assert!(attached(&repository_view).by_referrers(image).unwrap().is_empty());
        assert_eq!(*repository_view.asked.lock().unwrap(), 1 + MOST_SIGNATURES);
    }
}
