use super::super::test_source::Source;
use super::*;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = INDEXES[0];
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A registry with images, and what was said about them.
#[derive(Default)]
struct Registry(Source);

impl Registry {
    /// A document with this media type; returns its descriptor.
    fn put(&mut self, media_type: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        json!({"mediaType": media_type, "digest": self.0.put(&bytes).to_string(), "size": bytes.len()})
    }

    /// An image whose config states this platform.
    fn image(&mut self, platform: &Value) -> Value {
        let mut config = json!({"rootfs": {"type": "layers", "diff_ids": []}});
        config.as_object_mut().unwrap().extend(platform.as_object().unwrap().clone());
        let config = self.put(CONFIG, &config);
        self.put(
            MANIFEST,
            &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}),
        )
    }

    /// An image for Linux, as an entry with its platform.
    fn entry(&mut self, architecture: &str) -> Value {
        let platform = json!({"architecture": architecture, "os": "linux"});
        let mut entry = self.image(&platform);
        entry["platform"] = platform;
        entry
    }

    fn index(&mut self, entries: &[Value]) -> Value {
        self.put(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))
    }

    /// Finds the image of an index for this machine.
    fn find(&self, index: &Value, machine: &str) -> Result<Resolved, String> {
        let deadline = Deadline::within(DOCUMENT_TIME_LIMIT);
        let name = index["digest"].as_str().unwrap();
        let machine = machine.parse().unwrap();
        let found = resolve(&self.0, name, None, ManifestKind::Image, &machine, deadline);
        found
            .map_err(|failure| format!("{:#}{}", failure.error, hint::of(&failure.error).unwrap_or_default()))
    }

    fn locked(&self, index: &Value, judged: Digest) -> Locked {
        let deadline = Deadline::within(DOCUMENT_TIME_LIMIT);
        let bytes = self.0.manifest(index["digest"].as_str().unwrap(), deadline).ok().unwrap();
        let machine = "linux/amd64".parse().unwrap();
        locked(&self.0, &bytes, judged, &machine, deadline).map_err(|failure| failure.error).unwrap()
    }
}

fn digest_of(entry: &Value) -> Digest {
    entry["digest"].as_str().unwrap().parse().unwrap()
}

/// image-index.md: "implementations SHOULD support the following media types: application/vnd.oci.image.index.v1+json (nested
/// index)".
#[test]
fn an_image_is_found_in_an_index_within_an_index() {
    let mut registry = Registry::default();
    let (amd, arm, other) = (registry.entry("amd64"), registry.entry("arm64"), registry.entry("s390x"));
    let first = registry.index(std::slice::from_ref(&other));
    let second = registry.index(&[arm.clone(), amd.clone()]);
    let whole = registry.index(&[first.clone(), second.clone()]);
    for (machine, expected) in [("linux/amd64", &amd), ("linux/arm64", &arm)] {
        let found = registry.find(&whole, machine).unwrap();
        // What was read and verified is not asked for again: a registry may answer otherwise.
        let documents: Vec<_> = found.documents.iter().map(|document| Digest::of(document)).collect();
        assert_eq!(documents, [digest_of(&whole), digest_of(&second), digest_of(expected)]);
        assert_eq!(found.digest, digest_of(expected));
    }
    let told = registry.find(&whole, "linux/riscv64").unwrap_err();
    assert!(told.contains("not available for `linux/riscv64`"), "{told}");
    assert!(told.contains("`linux/s390x`, `linux/arm64`, `linux/amd64`"), "{told}");
    let locked = registry.locked(&whole, digest_of(&amd));
    assert_eq!(locked.digest, digest_of(&whole));
    assert_eq!(locked.platforms.len(), 3);
    assert_eq!(locked.platforms["linux/amd64"], digest_of(&amd));
}

/// The platform of a nested index is that of what it lists.
#[test]
fn a_nested_index_gives_its_platform_to_its_images() {
    let mut registry = Registry::default();
    let image = registry.image(&json!({"architecture": "arm64", "os": "linux"}));
    let mut nested = registry.index(std::slice::from_ref(&image));
    nested["platform"] = json!({"architecture": "arm64", "os": "linux"});
    let whole = registry.index(&[nested]);
    let found = taken_along(&registry.0, whole["digest"].as_str().unwrap(), None).unwrap();
    assert_eq!(found, [(digest_of(&image), Some("linux/arm64".parse().unwrap()))]);
    assert!(registry.find(&whole, "linux/amd64").is_err());
    assert_eq!(registry.find(&whole, "linux/arm64").unwrap().digest, digest_of(&image));
}

#[test]
fn indexes_are_nested_so_deep_and_list_so_many_documents_at_most() {
    let mut registry = Registry::default();
    let image = registry.entry("amd64");
    let mut index = registry.index(std::slice::from_ref(&image));
    for depth in 2..=INDEX_DEPTH_LIMIT + 1 {
        index = registry.index(&[index]);
        let found = registry.find(&index, "linux/amd64");
        if depth <= INDEX_DEPTH_LIMIT {
            assert_eq!(found.unwrap().documents.len(), depth + 1);
        } else {
            assert!(found.unwrap_err().contains("nested more than 4 deep"));
        }
    }
    let other = registry.image(&json!({"architecture": "s390x", "os": "linux"}));
    for (others, is_found) in [(DOCUMENTS_LIMIT - 1, true), (DOCUMENTS_LIMIT, false)] {
        let mut entries = vec![other.clone(); others];
        let mut last = image.clone();
        last.as_object_mut().unwrap().remove("platform");
        entries.push(last);
        let index = registry.index(&entries);
        match registry.find(&index, "linux/amd64") {
            Ok(found) => assert!(is_found && found.digest == digest_of(&image)),
            Err(told) => assert!(!is_found && told.contains("more than 64 documents"), "{told}"),
        }
    }
}

/// image-index.md, `platform`: "This property SHOULD be present if its target is platform-specific"; where it is not, the
/// config states the platform.
#[test]
fn of_images_without_a_platform_the_one_for_this_machine_is_found() {
    let mut registry = Registry::default();
    let [windows, arm, amd] = [("windows", "amd64"), ("linux", "arm64"), ("linux", "amd64")]
        .map(|(os, architecture)| registry.image(&json!({"architecture": architecture, "os": os})));
    let mut empty = amd.clone();
    empty["platform"] = json!({"architecture": "", "os": ""});
    for last in [amd.clone(), empty] {
        let index = registry.index(&[windows.clone(), arm.clone(), last]);
        assert_eq!(registry.find(&index, "linux/amd64").unwrap().digest, digest_of(&amd));
        assert_eq!(registry.locked(&index, digest_of(&amd)).platforms["linux/amd64/v1"], digest_of(&amd));
    }
}

/// image-index.md: "An encountered `mediaType` that is unknown to the implementation MUST NOT generate an error."
#[test]
fn what_is_no_image_is_passed_over() {
    let mut registry = Registry::default();
    let image = registry.entry("amd64");
    let platform = || json!({"architecture": "amd64", "os": "linux"});
    let with = |further: Value| {
        let mut entry =
            json!({"mediaType": MANIFEST, "size": 7, "digest": Digest::of(b"another").to_string()});
        entry.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        entry
    };
    let other_algorithm = format!("sha512:{}", "0".repeat(128));
    for before in [
        with(json!({"mediaType": "application/vnd.oci.image.manifest.v9+json", "platform": platform()})),
        with(json!({"mediaType": "text/plain"})),
        with(json!({"artifactType": "application/spdx+json", "platform": platform()})),
        with(json!({"annotations": {"vnd.docker.reference.type": "attestation-manifest"}})),
        with(json!({"platform": {"architecture": "unknown", "os": "unknown"}})),
        with(json!({"platform": {"architecture": "amd64", "os": "windows", "os.version": "10.0.14393.1066",
            "os.features": ["win32k"]}})),
        with(json!({"platform": {"architecture": "amd64", "os": "linux", "os.features": ["erofs"]}})),
        with(json!({"digest": other_algorithm, "platform": platform()})),
    ] {
        let index = registry.index(&[before.clone(), image.clone()]);
        let found = registry.find(&index, "linux/amd64");
        assert_eq!(found.map(|found| found.digest), Ok(digest_of(&image)), "{before}");
    }
}

/// descriptor.md, `size`: "If the length of the retrieved content does not match the specified length, the content SHOULD NOT
/// be trusted."
#[test]
fn a_size_in_an_index_that_contradicts_the_manifest_is_an_error() {
    let mut registry = Registry::default();
    let mut image = registry.entry("amd64");
    image["size"] = json!(1);
    let index = registry.index(&[image]);
    assert!(registry.find(&index, "linux/amd64").unwrap_err().starts_with("the index states 1 bytes for"));
}

/// manifest.md and image-index.md, `mediaType`: a reader may go by either (CVE-2021-41190).
#[test]
fn an_index_that_states_another_type_than_the_document_is_ambiguous() {
    let mut registry = Registry::default();
    let mut image = registry.entry("amd64");
    image["mediaType"] = json!(INDEX);
    let index = registry.index(&[image]);
    assert!(registry.find(&index, "linux/amd64").unwrap_err().contains("ambiguous"));
}
