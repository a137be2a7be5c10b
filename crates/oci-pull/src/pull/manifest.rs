//! The documents behind a name: indexes, manifests and configs (OCI image-spec; Docker's manifest v2 schema 2).

use super::PullEvent;
use crate::ambiguity;
use crate::artifact;
use crate::retry::{Failure, PullObserver, RetryPolicy};
use crate::source::ImageSource;
use anyhow::{Context as _, bail};
use fetch::http::{DOCUMENT_TIME_LIMIT, Deadline};
use hint::{WithHint as _, hinted};
use oci_reference::digest::Digest;
use oci_reference::platform::Machine;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os};
use oci_trust::pins::Locked;
use serde::Deserialize;
use std::collections::BTreeMap;
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
    /// Chooses the entry of an index; for images, the one for this platform.
    fn choose<'a>(self, index: &'a ImageIndex, machine: &Machine) -> anyhow::Result<&'a Descriptor> {
        let Self::Artifact(wanted) = self else { return machine.choose(index) };
        let found = artifact::entry(index.manifests());
        found.with_context(|| format!("its index has no entry of the type `{wanted}`"))
    }
}

/// The manifest of the wanted kind, from whatever document the name refers to.
pub(super) fn resolve(
    source: &dyn ImageSource,
    identifier: &str,
    digest: Option<Digest>,
    kind: ManifestKind,
    machine: &Machine,
    deadline: Deadline,
) -> Result<(Digest, ImageManifest), Failure> {
    let bytes = source.manifest(identifier, deadline)?;
    if let Some(digest) = digest {
        digest.verify("the manifest", &bytes)?;
    }
    if let ManifestDocument::Manifest(manifest) = ManifestDocument::parse(&bytes, kind)? {
        return Ok((Digest::of(&bytes), *manifest));
    }
    let mut index = ambiguity::index(&bytes).context("the image's index is malformed")?;
    let is_here = |entry: &&Descriptor| descriptor_digest(entry).is_ok_and(|digest| source.has(digest));
    index.set_manifests(index.manifests().iter().filter(is_here).cloned().collect());
    let chosen = kind.choose(&index, machine)?;
    let digest = descriptor_digest(chosen)?;
    let bytes = source.manifest(&digest.to_string(), deadline)?;
    digest.verify("the manifest", &bytes)?;
    ambiguity::refuse(&bytes, "the index", Some(chosen.media_type().as_ref()))?;
    match ManifestDocument::parse(&bytes, kind)? {
        ManifestDocument::Manifest(manifest) => Ok((digest, *manifest)),
        ManifestDocument::Index => Err(Failure::permanent(hinted(
            "the image's index lists another index",
            "push the image with a single index that lists the manifests",
        ))),
    }
}

/// The manifests behind a name that a source has, for every platform that its index tells of, if it has one.
pub(super) fn taken_along(
    source: &dyn ImageSource,
    identifier: &str,
    digest: Option<Digest>,
) -> anyhow::Result<Vec<(Digest, Option<Machine>)>> {
    let deadline = Deadline::within(DOCUMENT_TIME_LIMIT);
    let bytes = source.manifest(identifier, deadline).map_err(|failure| failure.error)?;
    digest.map_or(Ok(()), |digest| digest.verify("the manifest", &bytes))?;
    if let ManifestDocument::Manifest(_) = ManifestDocument::parse(&bytes, ManifestKind::Image)? {
        return Ok(vec![(Digest::of(&bytes), None)]);
    }
    let index = ambiguity::index(&bytes).context("the image's index is malformed")?;
    let mut found = Vec::new();
    for entry in index.manifests() {
        let digest = descriptor_digest(entry)?;
        if source.has(digest) {
            let listed = source.manifest(&digest.to_string(), deadline).map_err(|failure| failure.error)?;
            ambiguity::refuse(&listed, "the index", Some(entry.media_type().as_ref()))?;
            found.push((digest, entry.platform().as_ref().map(Machine::of_platform).transpose()?));
        }
    }
    Ok(found)
}

/// The digests behind a name; `judged` is the manifest for this platform, which must be part of it.
pub(super) fn locked(bytes: &[u8], judged: Digest) -> anyhow::Result<Locked> {
    let digest = Digest::of(bytes);
    let mut platforms = BTreeMap::new();
    match ManifestDocument::parse(bytes, ManifestKind::Image)? {
        ManifestDocument::Manifest(_) => drop(platforms.insert(Machine::this().to_string(), digest)),
        ManifestDocument::Index => {
            let index = ambiguity::index(bytes).context("the image's index is malformed")?;
            for entry in index.manifests() {
                if let Some(platform) =
                    entry.platform().as_ref().filter(|platform| *platform.os() == Os::Linux)
                {
                    let variant = platform.variant().iter().map(|variant| format!("/{variant}"));
                    let name = format!("linux/{}{}", platform.architecture(), variant.collect::<String>());
                    platforms.insert(name, descriptor_digest(entry)?);
                }
            }
        }
    }
    if !platforms.values().any(|known| *known == judged) && digest != judged {
        return Err(hinted("the tag was moved during the check", "try again"));
    }
    Ok(Locked { digest, platforms })
}

/// A document that a name can refer to.
#[derive(Debug)]
enum ManifestDocument {
    /// A list of manifests.
    Index,
    /// The manifest of an image.
    Manifest(Box<ImageManifest>),
}

impl ManifestDocument {
    /// Parses the types of OCI image-spec, manifest.md and image-index.md, and of Docker's schema 2. All others are
    /// refused with a message that names the type.
    fn parse(bytes: &[u8], wanted: ManifestKind) -> anyhow::Result<Self> {
        ambiguity::refuse(bytes, "", None)?;
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: u32,
            manifests: Option<serde::de::IgnoredAny>,
            artifact_type: Option<String>,
            media_type: Option<String>,
            config: Option<Config>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            #[serde(default)]
            media_type: String,
        }
        let shape: Shape =
            serde_json::from_slice(bytes).context("the manifest is malformed").hint(NO_REGISTRY)?;
        if shape.schema_version != 2 {
            return Err(hinted(
                format!("the manifest has schema version {}, which cannot be verified", shape.schema_version),
                "push the image again with a current tool, such as `skopeo copy --format oci`",
            ));
        }
        if shape.manifests.is_some() {
            return Ok(Self::Index);
        }
        let is_docker = shape.media_type.as_deref() == Some(DOCKER_MANIFEST);
        let is_image = |config: &Config| {
            let kind = &&*config.media_type;
            CONFIGURATIONS.contains(kind) || (is_docker && OLD_CONFIGURATIONS.contains(kind))
        };
        if let Some(config) = shape.config.filter(|config| !is_image(config)) {
            let kind = shape.artifact_type.filter(|kind| !kind.is_empty()).unwrap_or(config.media_type);
            if matches!(wanted, ManifestKind::Artifact(wanted) if wanted == kind) {
                return manifest(bytes);
            }
            artifact::check_version(&kind)?;
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
    let manifest = ImageManifest::from_reader(bytes).context("the manifest is malformed")?;
    Ok(ManifestDocument::Manifest(Box::new(manifest)))
}

/// The config that a manifest refers to, if it is for this platform.
pub(super) fn configuration(
    sources: &[&dyn ImageSource],
    manifest: &ImageManifest,
    machine: &Machine,
    observer: &PullObserver<'_>,
) -> anyhow::Result<ImageConfiguration> {
    let digest = descriptor_digest(manifest.config())?;
    let bytes = document_of_any(sources, digest, observer)?;
    let configuration =
        parse_configuration(&bytes, machine).context("the image's configuration is malformed")?;
    let (architecture, variant) = (configuration.architecture(), configuration.variant().as_deref());
    if machine.rank(architecture, variant).is_none() {
        let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
        return Err(hinted(
            format!("the image is for `{architecture}{variant}`, not for `{machine}`"),
            "build the image for this architecture as well",
        ));
    }
    Ok(configuration)
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
    let configuration = parse_configuration(&bytes, &Machine::usual());
    let configuration = configuration.context("the image's configuration is malformed")?;
    let machine = Machine::of_image(configuration.architecture(), configuration.variant().as_deref());
    Ok((configuration, machine))
}

/// Parses a config. `architecture` and `os` are required, but some tools omit them or leave them empty. They then count
/// as those of this machine, as in podman and docker.
fn parse_configuration(bytes: &[u8], machine: &Machine) -> anyhow::Result<ImageConfiguration> {
    ambiguity::check_keys("the configuration", bytes)?;
    let mut value: serde_json::Value = serde_json::from_slice(bytes)?;
    if let Some(object) = value.as_object_mut() {
        for (key, usual) in [("architecture", machine.architecture()), ("os", "linux".to_owned())] {
            if object.get(key).is_none_or(|value| value.as_str() == Some("")) {
                object.insert(key.into(), usual.into());
            }
        }
    }
    Ok(serde_json::from_value(value)?)
}

/// The digest in a descriptor.
pub(super) fn descriptor_digest(descriptor: &Descriptor) -> anyhow::Result<Digest> {
    Digest::from_str(descriptor.digest().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_names_no_platform_is_for_this_machine() {
        let machine: Machine = "linux/arm64".parse().unwrap();
        let parse = |platform: &str| {
            let text = format!(r#"{{{platform}"rootfs":{{"type":"layers","diff_ids":[]}}}}"#);
            parse_configuration(text.as_bytes(), &machine)
        };
        for platform in
            ["", r#""architecture":"","os":"","#, r#""os":"linux","#, r#""architecture":"arm64","#]
        {
            let configuration = parse(platform).unwrap();
            assert_eq!(configuration.architecture().to_string(), "arm64", "{platform}");
        }
        let other = parse(r#""architecture":"s390x","os":"linux","#).unwrap();
        assert_eq!(machine.rank(other.architecture(), None), None);
        assert!(parse(r#""architecture":7,"#).is_err());
    }

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
