//! Refuses ambiguous documents of a registry or a layout. A document that one reader takes for an index and another for
//! a manifest has one digest and two contents (CVE-2021-41190).

use crate::document;
use crate::spelling;
use crate::spelling::{ANNOTATIONS_LIMIT, Fault, VALUES_LIMIT};
use anyhow::ensure;
use hint::hinted;
use oci_spec::image::ImageIndex;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fmt;

/// Entries of an index that are read: more than there are platforms, each with its attestations.
pub(super) const ENTRIES_LIMIT: usize = 1000;

/// The kind of document that a media type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DocumentKind {
    Index,
    Manifest,
}

impl fmt::Display for DocumentKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Index => "an index",
            Self::Manifest => "a manifest",
        })
    }
}

/// The known types: OCI image-spec, media-types.md; Docker's manifest v2 schema 2.
const TYPES: &[(&str, DocumentKind)] = &[
    ("application/vnd.oci.image.index.v1+json", DocumentKind::Index),
    ("application/vnd.docker.distribution.manifest.list.v2+json", DocumentKind::Index),
    ("application/vnd.oci.image.manifest.v1+json", DocumentKind::Manifest),
    ("application/vnd.docker.distribution.manifest.v2+json", DocumentKind::Manifest),
];

fn kind_of(media_type: &str) -> Option<DocumentKind> {
    TYPES.iter().find(|(known, _)| *known == media_type).map(|(_, kind)| *kind)
}

/// The keys that distinguish one kind of document from another.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentMarks {
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    /// Of schema 1, like `history`.
    fs_layers: Option<IgnoredAny>,
    history: Option<IgnoredAny>,
}

impl DocumentMarks {
    /// The keys that only one kind of document has, with that kind.
    fn marks(&self) -> impl Iterator<Item = (&'static str, DocumentKind)> {
        let marks = [
            ("manifests", &self.manifests, DocumentKind::Index),
            ("config", &self.config, DocumentKind::Manifest),
            ("layers", &self.layers, DocumentKind::Manifest),
            ("fsLayers", &self.fs_layers, DocumentKind::Manifest),
            ("history", &self.history, DocumentKind::Manifest),
        ];
        marks.into_iter().filter(|(_, value, _)| value.is_some()).map(|(key, _, kind)| (key, kind))
    }
}

/// Refuses a document that contradicts itself or its declared type. `told` is the type that `place` declares (`its
/// Content-Type`). OCI image-spec, manifest.md and image-index.md, `mediaType`. A declared type that is none of the
/// four, such as `application/json`, is ignored. Other code refuses text that is not JSON.
///
/// # Errors
/// When the kinds disagree.
pub(super) fn refuse(bytes: &[u8], place: &str, told: Option<&str>) -> anyhow::Result<()> {
    let shape: DocumentMarks = match serde_json::from_slice(bytes) {
        Ok(shape) => shape,
        Err(error) if error.is_data() => anyhow::bail!("the manifest is malformed: {error}"),
        Err(_) => return Ok(()),
    };
    check_keys("the manifest", bytes)?;
    let ambiguous = |why: String| Err(ambiguous("the manifest", &why));
    let marks: Vec<_> = shape.marks().collect();
    for kind in [DocumentKind::Index, DocumentKind::Manifest] {
        if let (Some((one, _)), Some((other, _))) =
            (marks.iter().find(|mark| mark.1 == kind), marks.iter().find(|mark| mark.1 != kind))
        {
            return ambiguous(format!("it has both `{one}` and `{other}`"));
        }
    }
    let has = |key: &str| marks.iter().any(|(known, _)| *known == key);
    if has("layers") && (has("fsLayers") || has("history")) {
        return ambiguous("it has `layers` and also `fsLayers` or `history` of schema 1".into());
    }
    let own = shape.media_type.as_deref().filter(|own| !own.is_empty());
    let told = told.filter(|told| kind_of(told).is_some());
    if let (Some(own), Some(told)) = (own, told)
        && own != told
    {
        return ambiguous(format!("its `mediaType` is `{own}`, but {place} says `{told}`"));
    }
    for (who, media_type) in [("its `mediaType`", own), (place, told)] {
        let said = media_type.and_then(kind_of);
        if let (Some(said), Some((key, _))) = (said, marks.iter().find(|(_, kind)| Some(*kind) != said)) {
            return ambiguous(format!("{who} says that it is {said}, but it has `{key}`"));
        }
    }
    Ok(())
}

fn ambiguous(what: &str, why: &str) -> anyhow::Error {
    hinted(
        format!("{what} is ambiguous: {why}"),
        "other tools may read it as a different image: push the image again with the tool that created it",
    )
}

/// Refuses a document with keys that only some readers recognize, with a key twice, or with more than [`VALUES_LIMIT`] values
/// or [`ANNOTATIONS_LIMIT`] labels and annotations. Other code refuses text that is not JSON. `what` names the document in the
/// message.
///
/// # Errors
/// When a key is there twice or differs from the specification's in case only, or there are too many values.
pub(super) fn check_keys(what: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let too_many = |count: String| {
        let hint = "no tool creates such a document: push the image again";
        Err(hinted(format!("{what} has more than {count}"), hint))
    };
    match spelling::fault(bytes) {
        None => Ok(()),
        Some(Fault::Spelling(why)) => Err(ambiguous(what, &why)),
        Some(Fault::TooManyValues) => too_many(format!("{VALUES_LIMIT} values")),
        Some(Fault::TooManyAnnotations) => too_many(format!("{ANNOTATIONS_LIMIT} labels and annotations")),
    }
}

/// The media type of a `Content-Type` (RFC 9110, section 8.3.1), without its parameters.
pub(super) fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Parses an index of at most [`ENTRIES_LIMIT`] entries.
///
/// # Errors
/// When it is not an index, or has more.
pub(super) fn index(bytes: &[u8]) -> anyhow::Result<ImageIndex> {
    let index = document::index(bytes)?;
    let entries = index.manifests().len();
    ensure!(
        entries <= ENTRIES_LIMIT,
        "it has {entries} entries, more than the limit of {ENTRIES_LIMIT} for \
                                       an index"
    );
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const OCI_INDEX: &str = TYPES[0].0;
    const DOCKER_LIST: &str = TYPES[1].0;
    const OCI_MANIFEST: &str = TYPES[2].0;
    const DOCKER_MANIFEST: &str = TYPES[3].0;

    fn refused(document: &Value, told: Option<&str>) -> Option<String> {
        let outcome = refuse(document.to_string().as_bytes(), "its Content-Type", told);
        outcome.err().map(|error| error.to_string())
    }

    #[test]
    fn an_ambiguous_document_is_refused() {
        let both = json!({"schemaVersion": 2, "config": {}, "layers": [], "manifests": []});
        for document in [
            both.clone(),
            json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "config": {}, "manifests": []}),
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "manifests": [1]}),
            json!({"schemaVersion": 2, "fsLayers": [], "manifests": []}),
        ] {
            for told in [None, Some(OCI_INDEX), Some(OCI_MANIFEST), Some("application/json")] {
                let told = refused(&document, told).expect("two things");
                assert!(
                    told.starts_with("the manifest is ambiguous: it has both `manifests` and `"),
                    "{told}"
                );
            }
        }
        let old = json!({"schemaVersion": 2, "config": {}, "layers": [], "fsLayers": []});
        assert!(refused(&old, None).unwrap().contains("schema 1"));
        let twice = refuse(br#"{"layers": [], "layers": []}"#, "", None).unwrap_err().to_string();
        assert!(twice.contains("duplicate field `layers`"), "{twice}");
    }

    #[test]
    fn a_document_must_match_its_media_type() {
        let manifest = |own: &str| json!({"schemaVersion": 2, "mediaType": own, "config": {}, "layers": []});
        let index = |own: &str| json!({"schemaVersion": 2, "mediaType": own, "manifests": []});
        let bare = json!({"schemaVersion": 2, "config": {}, "layers": [], "manifests": null});
        for (document, told) in [
            (manifest(OCI_MANIFEST), Some(OCI_MANIFEST)),
            (manifest(DOCKER_MANIFEST), Some(DOCKER_MANIFEST)),
            (manifest(OCI_MANIFEST), Some("application/json")),
            (manifest(OCI_MANIFEST), None),
            (manifest(""), Some(OCI_MANIFEST)),
            (bare.clone(), Some(OCI_MANIFEST)),
            (bare.clone(), None),
            (index(DOCKER_LIST), Some(DOCKER_LIST)),
            (index(OCI_INDEX), None),
        ] {
            assert_eq!(refused(&document, told), None, "{document} {told:?}");
        }
        for (document, told, expected) in [
            (manifest(OCI_INDEX), None, "its `mediaType` says that it is an index, but it has `config`"),
            (
                index(DOCKER_MANIFEST),
                None,
                "its `mediaType` says that it is a manifest, but it has `manifests`",
            ),
            (
                manifest(OCI_MANIFEST),
                Some(OCI_INDEX),
                "but its Content-Type says `application/vnd.oci.image.index",
            ),
            (manifest(OCI_MANIFEST), Some(DOCKER_MANIFEST), "its `mediaType` is `application/vnd.oci"),
            (manifest("x/y"), Some(OCI_MANIFEST), "its `mediaType` is `x/y`"),
            (bare, Some(OCI_INDEX), "its Content-Type says that it is an index, but it has `config`"),
        ] {
            let told = refused(&document, told).expect(expected);
            assert!(told.contains(expected), "{told}");
        }
        assert_eq!(media_type("Application/VND.oci.image.index.v1+JSON; charset=utf-8"), OCI_INDEX);
    }

    /// Go's encoding/json ignores the case of keys, and takes the last of two.
    #[test]
    fn a_key_in_another_case_is_refused() {
        let layer = |digit: &str| json!([{"mediaType": "x", "size": 1, "digest": digit.repeat(64)}]);
        for (key, known) in [("Layers", "layers"), ("layer\u{17f}", "layers"), ("MANIFESTS", "manifests")] {
            let document = json!({"schemaVersion": 2, "config": {}, "layers": layer("1"), key: layer("2")});
            let told = refused(&document, None).expect("two contents");
            let expected = format!("some tools read its key `{key}` as `{known}`, others do not");
            assert!(told.starts_with(&format!("the manifest is ambiguous: {expected}")), "{told}");
        }
        let below = json!({"schemaVersion": 2, "config": {"digest": "1", "Digest": "2"}, "layers": []});
        assert!(refused(&below, None).unwrap().contains("its key `Digest` as `digest`"));
        let listed = json!({"schemaVersion": 2, "manifests": [{"Platform": {}}]}).to_string();
        assert!(index(listed.as_bytes()).unwrap_err().to_string().contains("`Platform` as `platform`"));
        let configuration =
            br#"{"rootfs": {"diff_ids": []}, "config": {"Entrypoint": ["a"], "entrypoint": ["b"]}}"#;
        let error = check_keys("the configuration", configuration).unwrap_err().to_string();
        assert!(
            error.starts_with("the configuration is ambiguous: some tools read its key `entrypoint` as"),
            "{error}"
        );
        let free = json!({"config": {"Labels": {"User": "x", "user": "y"}, "Volumes": {"/Data": {}}},
            "annotations": {"digest": "a", "Digest": "b"}, "unknown": {"Key": 1, "key": 2.5, "k": -1, "b": true}});
        assert!(check_keys("it", free.to_string().as_bytes()).is_ok());
    }

    /// Go puts the two objects together, and serde_json takes the last.
    #[test]
    fn a_duplicate_key_is_refused() {
        let twice = br#"{"rootfs": {}, "config": {"User": "1000"}, "config": {"Cmd": ["id"]}}"#;
        let told = check_keys("the configuration", twice).unwrap_err().to_string();
        assert!(told.contains("its key `config` is there twice"), "{told}");
        let below = br#"{"config": {"Env": ["A=1"], "Env": ["A=2"]}}"#;
        assert!(check_keys("it", below).unwrap_err().to_string().contains("`Env` is there twice"));
    }

    /// 8 MiB of annotations of two letters took 350 MB of memory.
    #[test]
    fn the_number_of_annotations_is_limited() {
        let entries = |count: usize| (0..count).map(|it| format!("\"{it}\":\"\",")).collect::<String>();
        for (count, is_taken) in [(ANNOTATIONS_LIMIT / 2, true), (ANNOTATIONS_LIMIT / 2 + 1, false)] {
            let (labels, annotations) = (entries(ANNOTATIONS_LIMIT / 2 - 1), entries(count - 1));
            let document = format!(
                r#"{{"config": {{"Labels": {{{labels}"x": ""}}}}, "annotations": {{{annotations}"x": ""}}}}"#
            );
            let told = check_keys("it", document.as_bytes()).map_err(|error| error.to_string());
            assert_eq!(told.is_ok(), is_taken, "{told:?}");
            assert!(is_taken || told == Err("it has more than 10000 labels and annotations".into()));
        }
    }

    /// 8 MiB of small objects took 700 MB of memory.
    #[test]
    fn the_number_of_values_in_a_document_is_limited() {
        for (count, is_taken) in [(VALUES_LIMIT - 2, true), (VALUES_LIMIT - 1, false)] {
            let document = format!("{{\"x\": [{}0]}}", "0,".repeat(count - 1));
            let told = check_keys("it", document.as_bytes()).map_err(|error| error.to_string());
            assert_eq!(told.is_ok(), is_taken, "{told:?}");
            assert!(is_taken || told == Err("it has more than 100000 values".into()));
        }
    }

    #[test]
    fn the_number_of_entries_in_an_index_is_limited() {
        let entry =
            json!({"mediaType": OCI_MANIFEST, "size": 1, "digest": format!("sha256:{}", "0".repeat(64))});
        for (entries, is_taken) in [(ENTRIES_LIMIT, true), (ENTRIES_LIMIT + 1, false)] {
            let document = json!({"schemaVersion": 2, "manifests": vec![entry.clone(); entries]}).to_string();
            let told = index(document.as_bytes()).map_or_else(|error| error.to_string(), |_| String::new());
            assert_eq!(told.is_empty(), is_taken);
            assert!(
                is_taken || told == "it has 1001 entries, more than the limit of 1000 for an index",
                "{told}"
            );
        }
    }
}
