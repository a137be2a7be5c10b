use super::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Documents by tag or digest, what the API for referrers answers, and the requests so far.
#[derive(Default)]
struct Repository {
    documents: HashMap<String, Vec<u8>>,
    api: Option<Vec<u8>>,
    /// Refuses for good what it does not have, as some registries do, instead of saying that it is not there.
    refuses: bool,
    asked: Mutex<usize>,
}

impl Repository {
    fn put(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.documents.insert(digest.to_string(), bytes.to_vec());
        digest
    }

    fn found(&self, found: Option<&Vec<u8>>, what: &str) -> Result<Vec<u8>, Failure> {
        let error = anyhow::anyhow!("no {what}");
        found.cloned().ok_or_else(|| match self.refuses {
            true => Failure::permanent(error.context("it responded with `403 Forbidden`")),
            false => Failure::absent(error),
        })
    }
}

impl ImageSource for Repository {
    fn name(&self) -> String {
        "r.example/x".into()
    }

    fn manifest(&self, identifier: &str, _: Deadline) -> Result<Vec<u8>, Failure> {
        *self.asked.lock().unwrap() += 1;
        self.found(self.documents.get(identifier), identifier)
    }

    fn referrers(&self, _: Digest, _: Deadline) -> Result<Vec<u8>, Failure> {
        self.found(self.api.as_ref(), "API for referrers")
    }

    fn document(&self, digest: Digest, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        self.manifest(&digest.to_string(), deadline)
    }

    fn blob(&self, _: Digest, _: u64, _: u64) -> Result<Box<dyn Read + '_>, Failure> {
        Err(Failure::absent(anyhow::anyhow!("no blobs")))
    }
}

fn attached(repository: &Repository) -> Attached<'_> {
    static STAYS: AtomicBool = AtomicBool::new(false);
    Attached::new(repository, Box::leak(Box::new(PullObserver { tell: &|_| (), is_cancelled: &STAYS })))
}

fn manifest(payloads: &[(Digest, u64)]) -> Vec<u8> {
    let layer = |(digest, size): &(Digest, u64)| json!({"mediaType": PAYLOAD_TYPE, "digest": digest.to_string(), "size": size});
    let layers: Vec<_> = payloads.iter().map(layer).collect();
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
        "digest": Digest::of(b"{}").to_string()});
    json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string().into_bytes()
}

fn parsed(payloads: &[(Digest, u64)]) -> SignatureManifest {
    SignatureManifest::parse(manifest(payloads)).unwrap()
}

fn entry(digest: &str, media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": 1, "artifactType": SIGNATURE_ARTIFACT})
}

fn list(entries: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string().into_bytes()
}

/// An image with a signature among its referrers, and the entry of that signature.
fn signed() -> (Repository, Digest, Value) {
    let mut repository = Repository::default();
    let payload = (repository.put(b"payload"), 7);
    let signature = repository.put(&manifest(&[payload])).to_string();
    (repository, Digest::of(b"image"), entry(&signature, MANIFEST))
}

/// How many signatures are found, and why the policy did not get more.
fn found(repository: &Repository, image: Digest) -> (usize, String) {
    let attached = attached(repository);
    let mut signatures = attached.among_referrers(image).unwrap();
    if let Some(found) = attached.by_tag(image).unwrap() {
        signatures.extend(attached.signatures(&found).unwrap());
    }
    (signatures.len(), format!("{:#}", attached.explain(anyhow::anyhow!("nobody has signed it"))))
}

/// distribution-spec, "Listing Referrers": "If the registry supports the referrers API, the registry MUST NOT return a
/// `404 Not Found`", and an image index as the body; "Unavailable Referrers API": else the tag schema.
#[test]
fn an_image_has_no_referrers_unless_there_is_a_valid_index() {
    let page = b"<!DOCTYPE html><title>Sign in</title>".to_vec();
    for refuses in [false, true] {
        for answer in [None, Some(page.clone()), Some(b"{}".to_vec()), Some(manifest(&[]))] {
            let (mut repository, image, entry) = signed();
            (repository.refuses, repository.api) = (refuses, answer.clone());
            assert_eq!(found(&repository, image).0, 0, "{answer:?}");
            // The tag of the list is the image itself, a page, or an index of other things.
            let platform =
                json!({"mediaType": MANIFEST, "digest": Digest::of(b"arm").to_string(), "size": 1});
            for other in [manifest(&[]), page.clone(), list(&[platform])] {
                repository.documents.insert(as_tag(image), other);
                assert_eq!(found(&repository, image).0, 0, "{answer:?}");
            }
            repository.documents.insert(as_tag(image), list(&[entry]));
            assert_eq!(found(&repository, image).0, 1, "{answer:?}");
        }
    }
    let (mut repository, image, entry) = signed();
    repository.api = Some(list(&[entry]));
    assert_eq!(found(&repository, image), (1, "nobody has signed it".into()));
}

#[test]
fn referrers_that_are_not_signatures_are_ignored() {
    let sha512 = format!("sha512:{}", "0".repeat(128));
    for (other, told) in [
        (entry(&Digest::of(b"index").to_string(), INDEX), ""),
        (entry(&Digest::of(b"old").to_string(), "application/vnd.oci.artifact.manifest.v1+json"), ""),
        (entry(&sha512, MANIFEST), "the signature `sha512:"),
        (entry(&Digest::of(b"deleted").to_string(), MANIFEST), ": no sha256:"),
    ] {
        let (mut repository, image, entry) = signed();
        repository.api = Some(list(&[other.clone(), entry]));
        let (count, why) = found(&repository, image);
        assert!(
            count == 1 && why.starts_with("nobody has signed it") && why.contains(told),
            "{other}: {why}"
        );
    }
    for other in [list(&[]), b"<html>".to_vec(), b"{}".to_vec()] {
        let (mut repository, image, _) = signed();
        repository.documents.insert(signature_tag(image), other);
        assert_eq!(found(&repository, image).0, 0);
    }
    let (mut repository, image, entry) = signed();
    let deleted = repository.put(&manifest(&[(Digest::of(b"gone"), 7)])).to_string();
    repository.api = Some(list(&[super::tests::entry(&deleted, MANIFEST), entry]));
    let (count, why) = found(&repository, image);
    assert!(count == 1 && why.contains("what is signed, `sha256:"), "{why}");
}

#[test]
fn a_required_signature_that_cannot_be_fetched_is_reported() {
    let (mut repository, image, _) = signed();
    repository.refuses = true;
    let (count, why) = found(&repository, image);
    assert_eq!(count, 0);
    assert!(
        why.starts_with(
            "nobody has signed it: cannot read the list of its referrers: it responded with `403"
        ),
        "{why}"
    );
}

#[test]
fn the_number_and_size_of_signatures_are_limited() {
    let mut repository = Repository::default();
    let small = (repository.put(b"payload"), 7);
    for (count, is_taken) in [(MOST_SIGNATURES, true), (MOST_SIGNATURES + 1, false)] {
        let read = attached(&repository).signatures(&parsed(&vec![small; count]));
        let told = read.map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(told.is_empty(), is_taken);
        assert!(is_taken || told == "it has 65 signatures, more than 64", "{told}");
    }
    for (size, is_taken) in [(PAYLOAD_LIMIT, true), (PAYLOAD_LIMIT + 1, false)] {
        let large = (repository.put(&vec![7; usize::try_from(size).unwrap()]), size);
        let read = attached(&repository).signatures(&parsed(&[large]));
        let told = read.map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(told.contains("exceeds the limit of 65536"), !is_taken, "{told}");
    }
    let lied = attached(&repository);
    assert!(lied.signatures(&parsed(&[(small.0, 6)])).unwrap().is_empty());
    let why = format!("{:#}", lied.explain(anyhow::anyhow!("nobody has signed it")));
    assert!(why.contains("differs from its descriptor"), "{why}");
}

/// 64 manifests of 64 signatures, each as slow as a document may be, would take days.
#[test]
fn fetching_signatures_has_a_time_limit() {
    let mut repository = Repository::default();
    let payload = (repository.put(b"payload"), 7);
    let late = Attached { until: Instant::now(), ..attached(&repository) };
    for told in [
        late.by_tag(Digest::of(b"image")).map(drop),
        late.by_referrers(Digest::of(b"image")).map(drop),
        late.signatures(&parsed(&[payload])).map(drop),
    ] {
        let told = format!("{:#}", told.unwrap_err());
        assert!(told.contains("they did not all arrive within 300 s"), "{told}");
    }
    assert_eq!(*repository.asked.lock().unwrap(), 0);
}

#[test]
fn the_number_of_fetched_referrers_is_limited() {
    let mut repository = Repository::default();
    let digest = repository.put(&manifest(&[])).to_string();
    let image = Digest::of(b"image");
    repository.documents.insert(as_tag(image), list(&vec![entry(&digest, MANIFEST); 900]));
    assert!(attached(&repository).among_referrers(image).unwrap().is_empty());
    assert_eq!(*repository.asked.lock().unwrap(), 1 + MOST_SIGNATURES);
}
