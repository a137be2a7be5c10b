//! Workflows as OCI artifacts: the media types of the layers under which a registry holds a workflow, its images, and
//! the other files that belong to it.

use anyhow::Context as _;
use format_version::Format;
use oci_spec::image::Descriptor;

/// The format of bundles and of workflow artifacts. Their media types state the version: `.v1` and so on, before any
/// `+`. A lock file also states a version of its own.
const FORMAT: Format = Format { document: "the bundle", newest: 1 };
/// The prefix of all these media types.
const OURS: &str = "application/vnd.iguana.";

/// The type of the artifact (OCI image-spec, manifest.md, `artifactType`).
pub const TYPE: &str = "application/vnd.iguana.workflow.v1";
/// The workflow itself.
pub const WORKFLOW: &str = "application/vnd.iguana.workflow.v1+yaml";
/// Its lock file.
pub const LOCK: &str = "application/vnd.iguana.lock.v1+json";
/// The names of its images, as an image index (OCI image-spec, image-index.md).
pub const IMAGES: &str = "application/vnd.iguana.images.v1+json";
/// A blob of an image: a manifest, a config, a layer or a signature.
pub const BLOB: &str = "application/vnd.iguana.blob.v1";
/// The files that belong to a workflow: the suffix of such a file beside the workflow, and its media type.
pub const BESIDE: &[(&str, &str)] = &[
    (".sig", "application/vnd.iguana.workflow.signature.v1"),
    (".lock", LOCK),
    (".lock.sig", "application/vnd.iguana.lock.signature.v1"),
];

/// The name and the version in one of these media types; `None` for any other type.
fn name_and_version(media_type: &str) -> Option<(&str, u64)> {
    let name = media_type.strip_prefix(OURS)?;
    let name = name.split_once('+').map_or(name, |(name, _syntax)| name);
    let (name, version) = name.rsplit_once(".v")?;
    Some((name, version.parse().ok()?))
}

/// The entry of a workflow artifact in an index: one of the known version if there is one, else one of another version,
/// which is then refused for its version.
pub(crate) fn entry(entries: &[Descriptor]) -> Option<&Descriptor> {
    let has_type = |is_meant: fn(&str) -> bool| {
        let is_it =
            |entry: &&Descriptor| entry.artifact_type().as_ref().is_some_and(|it| is_meant(it.as_ref()));
        entries.iter().find(is_it)
    };
    has_type(|kind| kind == TYPE).or_else(|| has_type(is_workflow))
}

/// Whether this is the type of a workflow artifact, in any version.
fn is_workflow(artifact_type: &str) -> bool {
    let [known, given] = [TYPE, artifact_type].map(|kind| name_and_version(kind).map(|(name, _)| name));
    given.is_some() && given == known
}

/// Refuses one of these media types in a newer version than is supported. Skipping such a layer could mean to run other
/// images than the author intended.
///
/// # Errors
/// When the version is newer.
pub fn check_version(media_type: &str) -> anyhow::Result<()> {
    let Some((_, version)) = name_and_version(media_type) else { return Ok(()) };
    FORMAT.check(version).with_context(|| format!("cannot read `{media_type}`"))
}

/// The media types of all documents, which are small.
#[must_use]
pub fn media_types() -> Vec<&'static str> {
    BESIDE.iter().map(|(_, media_type)| *media_type).chain([WORKFLOW, IMAGES]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_media_type_states_a_version_that_is_read() {
        for media_type in media_types().into_iter().chain([TYPE, BLOB]) {
            assert_eq!(name_and_version(media_type).map(|(_, version)| version), Some(FORMAT.newest));
            check_version(media_type).unwrap();
        }
    }

    #[test]
    fn a_newer_version_is_distinguished_from_foreign_types() {
        for newer in ["application/vnd.iguana.workflow.v2+yaml", "application/vnd.iguana.index.v3"] {
            let error = check_version(newer).unwrap_err();
            assert!(
                format!("{error:#}").starts_with(&format!("cannot read `{newer}`: the bundle needs version"))
            );
            assert!(hint::of(&error).unwrap().contains("a newer initrd"));
        }
        for other in ["application/vnd.oci.image.layer.v2", "application/vnd.iguana.note", "text/plain", ""] {
            check_version(other).unwrap();
        }
        assert!(is_workflow(TYPE) && is_workflow("application/vnd.iguana.workflow.v12"));
        assert!(!is_workflow("application/vnd.iguana.blob.v1") && !is_workflow("text/plain"));
    }
}
