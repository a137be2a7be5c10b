//! Keys of a document that differ from those of the specification only in their case.
//!
//! Go's encoding/json, with which most tools read images, takes `Layers` for `layers`, and of both the last one. So such
//! a document has one digest and two contents: the one that somebody looked at and signed, and the one that runs.

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The keys of manifests, indexes and configurations that are read here: OCI image-spec, manifest.md, image-index.md,
/// descriptor.md and config.md; Docker's image manifest v2, schemas 1 and 2.
const KEYS: &[&str] = &[
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
    "annotations",
    "architecture",
    "artifactType",
    "config",
    "data",
    "diff_ids",
    "digest",
    "features",
    "fsLayers",
    "history",
    "layers",
    "manifests",
    "mediaType",
    "os",
    "os.features",
    "os.version",
    "platform",
    "rootfs",
    "schemaVersion",
    "size",
    "subject",
    "urls",
    "variant",
];

/// What has names of its author's in the place of keys.
const NAMED_FREELY: &[&str] = &["ExposedPorts", "Labels", "Volumes", "annotations"];

/// A document whose keys are spelled as the specification does it.
pub(super) struct Spelled;

/// As Go compares keys: without case, in which `ſ` and the sign for Kelvin are letters of ASCII, too (Unicode,
/// CaseFolding.txt).
fn folded(key: &str) -> String {
    key.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase()
}

fn check<E: Error>(key: &str) -> Result<(), E> {
    let known = KEYS.iter().find(|known| folded(known) == folded(key));
    match known.filter(|known| **known != key) {
        Some(known) => Err(E::custom(format!("its key `{key}` is `{known}` for some tools, not for others"))),
        None => Ok(()),
    }
}

impl<'de> Deserialize<'de> for Spelled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Spelled;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Spelled, A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            check(&key)?;
            if NAMED_FREELY.contains(&key.as_str()) {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value::<Spelled>()?;
            }
        }
        Ok(Spelled)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Spelled, A::Error> {
        while list.next_element::<Spelled>()?.is_some() {}
        Ok(Spelled)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Spelled, E> {
        Ok(Spelled)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Spelled, E> {
        Ok(Spelled)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Spelled, E> {
        Ok(Spelled)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Spelled, E> {
        Ok(Spelled)
    }

    fn visit_str<E>(self, _: &str) -> Result<Spelled, E> {
        Ok(Spelled)
    }

    fn visit_unit<E>(self) -> Result<Spelled, E> {
        Ok(Spelled)
    }
}
