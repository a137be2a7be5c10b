//! Selects the image of an index for a machine: OCI image-spec, image-index.md, with the order of variants of
//! containerd's platforms package.

use hint::hinted;
use oci_spec::image::{Arch, Descriptor, ImageIndex, Os, Platform};
use std::str::FromStr;

/// A machine, described by what its processor can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    architecture: Arch,
    /// Supported variants, the best first.
    variants: Vec<String>,
}

impl Machine {
    /// The machine that this program runs on.
    #[must_use]
    pub fn this() -> Self {
        match std::env::consts::ARCH {
            "x86_64" => Self::new(Arch::Amd64, amd64_level()),
            "aarch64" => Self::new(Arch::ARM64, 8),
            "arm" => Self::new(Arch::ARM, 7),
            other => Self::new(other.into(), 0),
        }
    }

    /// A machine of this architecture that supports variants up to `newest`.
    fn new(architecture: Arch, newest: u32) -> Self {
        let oldest = match architecture {
            Arch::Amd64 => 1,
            Arch::ARM => 5,
            Arch::ARM64 => 8,
            _ => return Self { architecture, variants: vec![String::new()] },
        };
        let variants = (oldest..=newest).rev().map(|version| format!("v{version}")).collect();
        Self { architecture, variants }
    }

    /// The architecture in OCI's spelling.
    pub fn architecture(&self) -> String {
        self.architecture.to_string()
    }

    /// How well the machine runs an image: the lowest number is the best; `None` if it cannot run it. An image without an
    /// architecture may be for every machine, and is the last choice.
    pub fn rank(&self, architecture: &Arch, variant: Option<&str>) -> Option<usize> {
        let (architecture, variant) = usual(architecture, variant.unwrap_or_default());
        if is_unstated(&architecture) {
            return Some(usize::MAX);
        }
        let found = || self.variants.iter().position(|known| *known == variant);
        (architecture == self.architecture).then(found).flatten()
    }

    /// The entries of an index that the machine can run, the best first; of equal ones in the order of the index
    /// (image-index.md: "the first matching entry SHOULD be used"). An entry without a platform is the last choice; the
    /// image's configuration then states the platform. Entries that need a feature (`os.features`) come after those that
    /// need none, and what is no image is passed over if there is one: "An encountered `mediaType` that is unknown to the
    /// implementation MUST NOT generate an error."
    #[must_use]
    pub fn ranked<'a>(&self, index: &'a ImageIndex) -> Vec<&'a Descriptor> {
        let rank = |entry: &Descriptor| match entry.platform() {
            Some(platform) if is_unstated(platform.os()) || is_linux(platform.os()) => {
                self.rank(platform.architecture(), platform.variant().as_deref())
            }
            Some(_) => None,
            None => Some(usize::MAX),
        };
        let needs_features = |entry: &Descriptor| {
            let features = entry.platform().as_ref().and_then(|platform| platform.os_features().as_ref());
            features.is_some_and(|features| !features.is_empty())
        };
        let has_images = index.manifests().iter().any(is_image);
        let entries = index.manifests().iter().filter(|entry| is_image(entry) || !has_images);
        let ranked = entries.filter_map(|entry| Some(((needs_features(entry), rank(entry)?), entry)));
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Says that an image is not for this machine, with the platforms that it is for.
    #[must_use]
    pub fn unavailable(&self, offered: &[String]) -> anyhow::Error {
        let hint = match offered {
            [] => "its index is empty: push it again".into(),
            list => {
                format!("it is available for `{}`; build it for this machine as well", list.join("`, `"))
            }
        };
        hinted(format!("the image is not available for `{self}`"), hint)
    }
}

impl Machine {
    /// A machine of the current architecture with its default variant.
    #[must_use]
    pub fn usual() -> Self {
        Self::of(Self::this().architecture, "")
    }

    /// The machine that an image with this architecture and variant is for.
    #[must_use]
    pub fn of_image(architecture: &Arch, variant: Option<&str>) -> Self {
        Self::of(architecture.clone(), variant.unwrap_or_default())
    }

    /// The machine that an entry of an index is for.
    ///
    /// # Errors
    /// When it is for another operating system than Linux.
    pub fn of_platform(platform: &Platform) -> anyhow::Result<Self> {
        anyhow::ensure!(is_linux(platform.os()), "its index has an image for `{}`", platform.os());
        Ok(Self::of_image(platform.architecture(), platform.variant().as_deref()))
    }

    /// A machine with this variant; an empty one is the default variant.
    fn of(architecture: Arch, variant: &str) -> Self {
        let (architecture, variant) = usual(&architecture, variant);
        let newest = variant.trim_start_matches('v').parse().unwrap_or_default();
        Self::new(architecture, newest)
    }
}

/// The syntax of a platform, for hints.
const SHAPE: &str = "write `linux/ARCHITECTURE[/VARIANT]`, such as `linux/arm64/v8`";

impl FromStr for Machine {
    type Err = anyhow::Error;

    /// Parses `linux/ARCHITECTURE[/VARIANT]` in the spelling of Go and OCI. Without a variant, the default one is
    /// used.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let fields: Vec<&str> = text.split('/').collect();
        let (architecture, variant) = match fields[..] {
            ["linux", architecture] => (Arch::from(architecture), ""),
            ["linux", architecture, variant] => (Arch::from(architecture), variant),
            _ => anyhow::bail!("`{text}` is not a container platform: {SHAPE}"),
        };
        let is_number = variant.trim_start_matches('v').parse::<u32>().is_ok();
        match &architecture {
            Arch::Other(name) if name == "x86_64" => anyhow::bail!("OCI calls `{name}` `amd64`"),
            Arch::Other(name) if name == "aarch64" => anyhow::bail!("OCI calls `{name}` `arm64`"),
            Arch::Other(name) => anyhow::bail!("unknown architecture `{name}`: {SHAPE}"),
            _ if !variant.is_empty() && !is_number => {
                anyhow::bail!("unknown variant `{variant}`: {SHAPE}")
            }
            _ => {}
        }
        Ok(Self::of(architecture, variant))
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "linux/{}", self.architecture)?;
        match self.variants.first().filter(|variant| !variant.is_empty()) {
            Some(variant) => write!(out, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// The media types that an entry of an index may have: OCI image-spec, image-index.md; Docker's manifest v2 schema 2.
const MEDIA_TYPES: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "",
];

/// The types of artifact that an image may have: distribution-spec, "Listing Referrers", takes that of its config.
const ARTIFACT_TYPES: &[&str] =
    &["", "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The annotation of BuildKit's attestations.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// The annotation that tells what an entry of a layout of `cosign save` is, and what begins its values.
const COSIGN_KIND: &str = "kind";
const COSIGN: &str = "dev.cosignproject.cosign/";

/// Whether an entry of an index is an image, or an index of images, and no attestation, signature or other artifact.
#[must_use]
pub fn is_image(entry: &Descriptor) -> bool {
    let annotation = |key: &str| entry.annotations().as_ref().and_then(|all| all.get(key));
    let kind = entry.artifact_type().as_ref().map_or("", |kind| kind.as_ref());
    let is_of_cosign = annotation(COSIGN_KIND).and_then(|kind| kind.strip_prefix(COSIGN));
    MEDIA_TYPES.contains(&entry.media_type().as_ref())
        && ARTIFACT_TYPES.contains(&kind)
        && annotation(REFERENCE_TYPE).is_none()
        && is_of_cosign.is_none_or(|kind| kind.starts_with("image"))
        && entry.platform().as_ref().is_none_or(|platform| platform.os().to_string() != "unknown")
}

/// The platforms that an index states, except those of attestations, whose platform is `unknown` (BuildKit).
#[must_use]
pub fn offered(index: &ImageIndex) -> Vec<String> {
    let platforms = index.manifests().iter().filter_map(|entry| entry.platform().as_ref());
    let known = platforms.filter(|platform| platform.os().to_string() != "unknown");
    let text = |platform: &Platform| {
        let variant = platform.variant().as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{}/{}{variant}", platform.os(), platform.architecture())
    };
    known.map(text).collect()
}

/// Whether an operating system is Linux; some makers write it with a capital letter.
#[must_use]
pub fn is_linux(os: &Os) -> bool {
    os.to_string().eq_ignore_ascii_case("linux")
}

/// Whether a field that must be there is empty.
fn is_unstated(field: &impl ToString) -> bool {
    field.to_string().is_empty()
}

/// Normalizes an architecture and its variant: many images omit the default variant, or its `v`, and some have the name that
/// `uname -m` prints (containerd's platforms package takes the same).
fn usual(architecture: &Arch, variant: &str) -> (Arch, String) {
    let name = architecture.to_string().to_ascii_lowercase();
    let (name, of_name) = match name.as_str() {
        "x86_64" | "x86-64" => ("amd64", ""),
        "i386" => ("386", ""),
        "aarch64" => ("arm64", ""),
        "armhf" => ("arm", "v7"),
        "armel" => ("arm", "v6"),
        name => (name, ""),
    };
    let variant = match (name, if variant.is_empty() { of_name } else { variant }) {
        ("amd64", "") => "v1".into(),
        ("arm", "") => "v7".into(),
        ("arm64", "") => "v8".into(),
        (_, digits) if digits.starts_with(|letter: char| letter.is_ascii_digit()) => format!("v{digits}"),
        (_, other) => other.into(),
    };
    (Arch::from(name), variant)
}

/// The level of this processor: x86-64 psABI, "Micro-Architecture Levels".
fn amd64_level() -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if !(has!("cmpxchg16b") && has!("popcnt") && has!("sse3") && has!("ssse3") && has!("sse4.2")) {
            return 1;
        }
        let third = has!("avx2") && has!("bmi1") && has!("bmi2") && has!("f16c") && has!("fma");
        if !(third && has!("lzcnt") && has!("movbe")) {
            return 2;
        }
        let fourth = has!("avx512f") && has!("avx512bw") && has!("avx512cd");
        if fourth && has!("avx512dq") && has!("avx512vl") { 4 } else { 3 }
    }
    #[cfg(not(target_arch = "x86_64"))]
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> ImageIndex {
        let entry = |platform: &&str| {
            let fields: Vec<&str> = platform.split('/').collect();
            let platform = match fields[..] {
                [os, architecture] => {
                    format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#)
                }
                [os, architecture, variant] => format!(
                    r#","platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}"#
                ),
                _ => String::new(),
            };
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"{platform}}}"#
            )
        };
        let entries: Vec<String> = platforms.iter().map(entry).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        ImageIndex::from_reader(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_newest_variant_that_the_processor_runs_is_chosen() {
        for (machine, platforms, expected) in [
            (Machine::new(Arch::Amd64, 3), &["linux/arm64", "linux/amd64"][..], Some(1)),
            (Machine::new(Arch::Amd64, 3), &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], Some(1)),
            (Machine::new(Arch::Amd64, 1), &["linux/amd64/v2", "linux/amd64/v1"], Some(1)),
            (Machine::new(Arch::Amd64, 2), &["linux/amd64/v3"], None),
            (Machine::new(Arch::Amd64, 2), &["windows/amd64", "linux/386"], None),
            (Machine::new(Arch::Amd64, 2), &["unknown/unknown", "", "linux/amd64"], Some(2)),
            (Machine::new(Arch::Amd64, 2), &["linux/s390x", ""], Some(1)),
            (Machine::new(Arch::ARM, 7), &["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], Some(1)),
            (Machine::new(Arch::ARM, 7), &["linux/arm/v6", "linux/arm"], Some(1)),
            (Machine::new(Arch::ARM, 6), &["linux/arm"], None),
            (Machine::new(Arch::ARM64, 8), &["linux/arm/v7", "linux/arm64/8"], Some(1)),
            (Machine::new("riscv64".into(), 0), &["linux/amd64", "linux/riscv64"], Some(1)),
        ] {
            let index = index(platforms);
            let chosen = machine.ranked(&index).first().copied();
            let expected = expected.map(|at: usize| &index.manifests()[at]);
            assert!(
                chosen.map(std::ptr::from_ref) == expected.map(std::ptr::from_ref),
                "{machine}: {platforms:?}"
            );
        }
    }

    #[test]
    fn platforms_of_other_tools_are_parsed() {
        for (text, expected) in [
            ("linux/arm64", "linux/arm64/v8"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/amd64", "linux/amd64/v1"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(text.parse::<Machine>().unwrap().to_string(), expected);
        }
        assert!("arm64".parse::<Machine>().is_err() && "windows/amd64".parse::<Machine>().is_err());
    }

    #[test]
    fn an_index_without_this_platform_lists_its_platforms() {
        let index = index(&["linux/s390x", "linux/amd64/v3", "unknown/unknown"]);
        let machine = Machine::new(Arch::Amd64, 2);
        assert!(machine.ranked(&index).is_empty());
        let error = machine.unavailable(&offered(&index));
        assert_eq!(error.to_string(), "the image is not available for `linux/amd64/v2`");
        assert!(hint::of(&error).unwrap().contains("`linux/s390x`, `linux/amd64/v3`;"), "{error:#}");
    }

    /// An index whose entries have these further fields.
    fn entries(further: &[serde_json::Value]) -> ImageIndex {
        let entry = |further: &serde_json::Value| {
            let mut entry = serde_json::json!({"mediaType": MEDIA_TYPES[0], "size": 1, "digest":
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"});
            further.as_object().unwrap().iter().for_each(|(key, value)| entry[key] = value.clone());
            entry
        };
        let entries: Vec<_> = further.iter().map(entry).collect();
        serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": entries})).unwrap()
    }

    /// image-index.md: "An encountered `mediaType` that is unknown to the implementation MUST NOT generate an error";
    /// `os.features` are "mandatory OS features"; "If multiple manifests match a client or runtime's requirements, the first
    /// matching entry SHOULD be used."
    #[test]
    fn an_image_is_chosen_before_what_is_none_or_needs_more() {
        use serde_json::json;
        let here = || json!({"os": "linux", "architecture": "amd64"});
        let with = |key: &str, value: serde_json::Value| {
            let mut platform = here();
            platform[key] = value;
            json!({"platform": platform})
        };
        let image = || json!({"platform": here()});
        for (before, choices) in [
            (
                json!({"platform": here(), "mediaType": "application/vnd.oci.image.manifest.v2+json"}),
                &[1][..],
            ),
            (json!({"platform": here(), "artifactType": "application/spdx+json"}), &[1]),
            (json!({"platform": here(), "annotations": {REFERENCE_TYPE: "attestation-manifest"}}), &[1]),
            (json!({"platform": here(), "annotations": {"kind": "dev.cosignproject.cosign/sigs"}}), &[1]),
            (with("os_features", json!(["nydus.remoteimage.v1"])), &[1, 0]),
            (with("os_features", json!([])), &[0, 1]),
            (with("os_version", json!("6.1")), &[0, 1]),
            (json!({"platform": here(), "artifactType": ARTIFACT_TYPES[1]}), &[0, 1]),
            (json!({"platform": here(), "annotations": {"kind": "dev.cosignproject.cosign/image"}}), &[0, 1]),
            (json!({"platform": {"os": "", "architecture": "amd64"}}), &[0, 1]),
            (json!({"platform": {"os": "", "architecture": ""}}), &[1, 0]),
        ] {
            let index = entries(&[before.clone(), image()]);
            let machine = Machine::new(Arch::Amd64, 2);
            let ranked: Vec<_> = machine.ranked(&index).into_iter().map(std::ptr::from_ref).collect();
            let expected: Vec<_> =
                choices.iter().map(|at| std::ptr::from_ref(&index.manifests()[*at])).collect();
            assert_eq!(ranked, expected, "{before}");
        }
    }

    #[test]
    fn an_architecture_may_have_the_name_of_the_kernel() {
        for (machine, architecture, variant, expected) in [
            (Machine::new(Arch::Amd64, 2), "x86_64", None, Some(1)),
            (Machine::new(Arch::Amd64, 2), "AMD64", Some("v2"), Some(0)),
            (Machine::new(Arch::ARM64, 8), "aarch64", Some("8"), Some(0)),
            (Machine::new(Arch::ARM, 7), "armhf", None, Some(0)),
            (Machine::new(Arch::ARM, 7), "armel", None, Some(1)),
            (Machine::new(Arch::Amd64, 2), "", None, Some(usize::MAX)),
            (Machine::new(Arch::Amd64, 2), "aarch64", None, None),
        ] {
            assert_eq!(machine.rank(&Arch::from(architecture), variant), expected, "{architecture}");
        }
    }
}
