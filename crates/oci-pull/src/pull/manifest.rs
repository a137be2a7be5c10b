//! The documents behind a name: indexes, manifests and configs (OCI image-spec; Docker's manifest v2 schema 2).

use super::{HealthCheck, PullEvent};
use crate::ambiguity;
use crate::artifact;
use crate::document;
use crate::retry::{PullObserver, RetryPolicy};
use crate::source::ImageSource;
use anyhow::{Context as _, bail};
use fetch::http::Deadline;
use hint::{WithHint as _, hinted};
use oci_reference::digest::Digest;
use oci_reference::platform::{Machine, is_linux};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde::Deserialize;
use std::str::FromStr as _;

/// The media types of image configs: OCI image-spec, config.md, and Docker's schema 2.
const CONFIGURATIONS: &[&str] =
    &["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The types that old registries put into Docker manifests instead; docker and podman accept these (moby,
/// `distribution/pull_v2.go`, after distribution's issue 1622).
const OLD_CONFIGURATIONS: &[&str] = &["application/octet-stream", "application/json", "text/html", ""];

/// What to do about a manifest that is none.
const NO_REGISTRY: &str =
    "check that a registry responds there, not a login page or a proxy: fetch the URL with `curl`";

/// The kind of manifest that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ManifestKind {
    /// The image of a container.
    Image,
    /// An artifact of this type.
    Artifact(&'static str),
}

impl ManifestKind {
    /// The entries of an index that may be it, the best first.
    pub(super) fn ranked<'a>(self, index: &'a ImageIndex, machine: &Machine) -> Vec<&'a Descriptor> {
        match self {
            Self::Image => machine.ranked(index),
            Self::Artifact(_) => artifact::entry(index.manifests()).into_iter().collect(),
        }
    }
}

/// A document that a name can refer to.
#[derive(Debug)]
pub(super) enum ManifestDocument {
    /// A list of manifests.
    Index,
    /// The manifest of an image.
    Manifest(Box<ImageManifest>),
}

impl ManifestDocument {
    /// Parses the types of OCI image-spec, manifest.md and image-index.md, and of Docker's schema 2. All others are
    /// refused with a message that names the type.
    pub(super) fn parse(bytes: &[u8], wanted: ManifestKind) -> anyhow::Result<Self> {
        ambiguity::refuse(bytes, "", None)?;
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: Option<u32>,
            manifests: Option<serde::de::IgnoredAny>,
            artifact_type: Option<String>,
            media_type: Option<String>,
            config: Option<Config>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            media_type: Option<String>,
        }
        let shape: Shape =
            serde_json::from_slice(bytes).context("the manifest is malformed").hint(NO_REGISTRY)?;
        if shape.schema_version.is_none() && shape.config.is_none() && shape.manifests.is_none() {
            return Err(hinted("the manifest is malformed: it has no `schemaVersion`", NO_REGISTRY));
        }
        if let Some(version) = shape.schema_version.filter(|version| *version != 2) {
            return Err(hinted(
                format!("the manifest has schema version {version}, which cannot be verified"),
                "push the image again with a current tool, such as `skopeo copy --format oci`",
            ));
        }
        if shape.manifests.is_some() {
            return Ok(Self::Index);
        }
        let is_docker = shape.media_type.as_deref() == Some(DOCKER_MANIFEST);
        let is_image = |config: &Config| {
            let kind = &config.media_type.as_deref().unwrap_or_default();
            CONFIGURATIONS.contains(kind) || (is_docker && OLD_CONFIGURATIONS.contains(kind))
        };
        if let Some(config) = shape.config.filter(|config| !is_image(config)) {
            let kind = shape.artifact_type.filter(|kind| !kind.is_empty()).or(config.media_type);
            let kind = kind.unwrap_or_default();
            if matches!(wanted, ManifestKind::Artifact(wanted) if wanted == kind) {
                return manifest(bytes);
            }
            artifact::check_version(&kind)?;
            if kind.is_empty() {
                return Err(hinted(
                    "its manifest does not state what it is: its config has no media type",
                    "push the image again with a current tool, such as `skopeo copy --format oci`",
                ));
            }
            return Err(hinted(
                format!("it is an artifact of the type `{kind}`, not a container image"),
                "use an image; artifacts (charts, signatures, SBOMs) cannot be run",
            ));
        }
        if let ManifestKind::Artifact(kind) = wanted {
            return Err(hinted(
                "it is a container image",
                format!("use an artifact of the type `{kind}`; `iguana bundle push` creates one"),
            ));
        }
        manifest(bytes)
    }
}

fn manifest(bytes: &[u8]) -> anyhow::Result<ManifestDocument> {
    let manifest = document::manifest(bytes).context("the manifest is malformed")?;
    Ok(ManifestDocument::Manifest(Box::new(manifest)))
}

/// The config that a manifest refers to, if it is for this platform, and its health check.
pub(super) fn configuration(
    sources: &[&dyn ImageSource],
    manifest: &ImageManifest,
    machine: &Machine,
    observer: &PullObserver<'_>,
) -> anyhow::Result<(ImageConfiguration, Option<HealthCheck>)> {
    let digest = descriptor_digest(manifest.config())?;
    let bytes = document_of_any(sources, digest, observer)?;
    document::check_size(manifest.config(), "the manifest", &bytes)?;
    let configuration =
        document::configuration(&bytes, machine).context("the image's configuration is malformed")?;
    let (architecture, variant) = (configuration.architecture(), configuration.variant().as_deref());
    if !is_linux(configuration.os()) || machine.rank(architecture, variant).is_none() {
        let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
        return Err(hinted(
            format!("the image is for `{}/{architecture}{variant}`, not for `{machine}`", configuration.os()),
            "build the image for this machine as well",
        ));
    }
    Ok((configuration, HealthCheck::of(&bytes)?))
}

/// A document from the first source that has it. Each is tried once, the last one with retries.
fn document_of_any(
    sources: &[&dyn ImageSource],
    digest: Digest,
    observer: &PullObserver<'_>,
) -> anyhow::Result<Vec<u8>> {
    for (number, source) in (1..).zip(sources) {
        let is_last = number == sources.len();
        let retry = if is_last { RetryPolicy::usual() } else { RetryPolicy::none() };
        match retry.until_done(observer, |deadline| source.document(digest, deadline)) {
            Err(error) if !is_last => {
                (observer.tell)(PullEvent::Elsewhere { place: source.name(), why: format!("{error:#}") });
            }
            done => return done,
        }
    }
    bail!("there is no source to fetch `{digest}` from")
}

/// The config that a manifest refers to, and the machine that it is for.
pub(super) fn any_configuration(
    source: &dyn ImageSource,
    manifest: &ImageManifest,
    deadline: Deadline,
) -> anyhow::Result<(ImageConfiguration, Machine)> {
    let digest = descriptor_digest(manifest.config())?;
    let bytes = source.document(digest, deadline).map_err(|failure| failure.error)?;
    document::check_size(manifest.config(), "the manifest", &bytes)?;
    let configuration = document::configuration(&bytes, &Machine::usual());
    let configuration = configuration.context("the image's configuration is malformed")?;
    let machine = Machine::of_image(configuration.architecture(), configuration.variant().as_deref());
    Ok((configuration, machine))
}

/// The digest in a descriptor.
pub(super) fn descriptor_digest(descriptor: &Descriptor) -> anyhow::Result<Digest> {
    Digest::from_str(descriptor.digest().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_are_not_images_are_refused_by_their_type() {
        assert!(matches!(
            ManifestDocument::parse(br#"{"schemaVersion":2,"manifests":[]}"#, ManifestKind::Image),
            Ok(ManifestDocument::Index)
        ));
        let manifest = |config: &str, more: &str| {
            let digest = Digest::of(b"");
            let text = format!(
                r#"{{"schemaVersion":2,{more}"layers":[],
                "config":{{"mediaType":"{config}","digest":"{digest}","size":2}}}}"#
            );
            ManifestDocument::parse(text.as_bytes(), ManifestKind::Image)
        };
        for config in CONFIGURATIONS {
            assert!(matches!(manifest(config, r#""artifactType":"","#), Ok(ManifestDocument::Manifest(_))));
        }
        for config in OLD_CONFIGURATIONS {
            let docker = format!(r#""mediaType":"{DOCKER_MANIFEST}","#);
            assert!(matches!(manifest(config, &docker), Ok(ManifestDocument::Manifest(_))), "{config}");
            assert!(manifest(config, "").is_err(), "{config}");
        }
        let both = br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        let told = ManifestDocument::parse(both, ManifestKind::Image).unwrap_err().to_string();
        assert!(told.contains("ambiguous"), "{told}");
        let empty = "application/vnd.oci.empty.v1+json";
        for (outcome, expected) in [
            (ManifestDocument::parse(br#"{"schemaVersion":1}"#, ManifestKind::Image), "schema version 1"),
            (ManifestDocument::parse(b"<html>", ManifestKind::Image), "malformed"),
            (
                manifest("application/vnd.cncf.helm.config.v1+json", ""),
                "`application/vnd.cncf.helm.config.v1+json`",
            ),
            (manifest(empty, r#""artifactType":"application/spdx+json","#), "`application/spdx+json`"),
            (
                manifest(empty, r#""artifactType":"application/vnd.iguana.workflow.v2","#),
                "cannot read `application/vnd.iguana.workflow.v2`",
            ),
        ] {
            let error = outcome.map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
