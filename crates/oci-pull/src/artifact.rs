//! Workflows as OCI artifacts: what the layers are called, by which a registry can hold a workflow and what belongs to
//! it, its images among that.

/// The type of the artifact (OCI image-spec, manifest.md, `artifactType`).
pub const TYPE: &str = "application/vnd.iguana.workflow.v1";
/// The workflow itself.
pub const WORKFLOW: &str = "application/vnd.iguana.workflow.v1+yaml";
/// Its lock file.
pub const LOCK: &str = "application/vnd.iguana.lock.v1+json";
/// The names of the images that are in it, as an image index (OCI image-spec, image-index.md).
pub const IMAGES: &str = "application/vnd.iguana.images.v1+json";
/// A blob of an image: a manifest, a configuration, a layer or a signature.
pub const BLOB: &str = "application/vnd.iguana.blob.v1";
/// What belongs to a workflow: how its file's name ends where it lies beside the workflow, and its media type.
pub const BESIDE: &[(&str, &str)] = &[
    (".sig", "application/vnd.iguana.workflow.signature.v1"),
    (".lock", LOCK),
    (".lock.sig", "application/vnd.iguana.lock.signature.v1"),
];

/// The media types of all documents, which are small.
#[must_use]
pub fn media_types() -> Vec<&'static str> {
    BESIDE.iter().map(|(_, media_type)| *media_type).chain([WORKFLOW, IMAGES]).collect()
}
