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

    /// How well the machine runs an image: the lowest number is the best; `None` if it cannot run it.
    pub fn rank(&self, architecture: &Arch, variant: Option<&str>) -> Option<usize> {
        let variant = usual(architecture, variant.unwrap_or_default());
        let found = || self.variants.iter().position(|known| *known == variant);
        (*architecture == self.architecture).then(found).flatten()
    }

    /// The image of an index that the machine runs best. An entry without a platform fits every machine and is the
    /// last choice; the image's configuration then states the platform.
    pub fn choose<'a>(&self, index: &'a ImageIndex) -> anyhow::Result<&'a Descriptor> {
        let rank = |entry: &Descriptor| match entry.platform() {
            Some(platform) if *platform.os() == Os::Linux => {
                self.rank(platform.architecture(), platform.variant().as_deref())
            }
            Some(_) => None,
            None => Some(usize::MAX),
        };
        let ranked = index.manifests().iter().filter_map(|entry| Some((rank(entry)?, entry)));
        let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry);
        best.ok_or_else(|| {
            hinted(
                format!("the image is not available for `{self}`"),
                match offered(index) {
                    list if list.is_empty() => "its index is empty: push it again".into(),
                    list => format!(
                        "it is available for `{}`; build it for this machine as well",
                        list.join("`, `")
                    ),
                },
            )
        })
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
        anyhow::ensure!(*platform.os() == Os::Linux, "its index has an image for `{}`", platform.os());
        Ok(Self::of_image(platform.architecture(), platform.variant().as_deref()))
    }

    /// A machine with this variant; an empty one is the default variant.
    fn of(architecture: Arch, variant: &str) -> Self {
        let variant = usual(&architecture, variant);
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

/// The platforms of an index, except attestations, whose platform is `unknown` (BuildKit).
fn offered(index: &ImageIndex) -> Vec<String> {
    let platforms = index.manifests().iter().filter_map(|entry| entry.platform().as_ref());
    let known = platforms.filter(|platform| platform.os().to_string() != "unknown");
    let text = |platform: &Platform| {
        let variant = platform.variant().as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{}/{}{variant}", platform.os(), platform.architecture())
    };
    known.map(text).collect()
}

/// Normalizes a variant: many images omit the default one, or the `v`.
fn usual(architecture: &Arch, variant: &str) -> String {
    match (architecture, variant) {
        (Arch::Amd64, "") => "v1".into(),
        (Arch::ARM, "") => "v7".into(),
        (Arch::ARM64, "") => "v8".into(),
        (_, digits) if digits.starts_with(|letter: char| letter.is_ascii_digit()) => format!("v{digits}"),
        (_, other) => other.into(),
    }
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
            let chosen = machine.choose(&index).ok();
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
        let error = Machine::new(Arch::Amd64, 2).choose(&index).unwrap_err();
        assert_eq!(error.to_string(), "the image is not available for `linux/amd64/v2`");
        assert!(hint::of(&error).unwrap().contains("`linux/s390x`, `linux/amd64/v3`;"), "{error:#}");
    }
}
