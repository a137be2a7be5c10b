//! Keys of a document that differ from those of the specification only in their case.
//!
//! Go's encoding/json, with which most tools read images, takes `Layers` for `layers`, and of both the last one. So such
//! a document has one digest and two contents: the one that somebody looked at and signed, and the one that runs.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
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

/// Values in one document: ten times those of the longest index. A small one takes a hundred times its bytes in memory.
pub(super) const VALUES_LIMIT: usize = 100_000;

/// What is wrong with a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Keys are not spelled as the specification does it.
    Spelling(String),
    /// It has more values than [`VALUES_LIMIT`].
    TooManyValues,
}

/// Looks at all keys of a document. What is not JSON is for others to refuse.
pub(super) fn fault(bytes: &[u8]) -> Option<Fault> {
    let values = Cell::new(0);
    let mut text = serde_json::Deserializer::from_slice(bytes);
    match (Keys { values: &values }).deserialize(&mut text) {
        Err(error) if error.is_data() && values.get() > VALUES_LIMIT => Some(Fault::TooManyValues),
        Err(error) if error.is_data() => Some(Fault::Spelling(error.to_string())),
        _ => None,
    }
}

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

/// A value whose keys are looked at.
#[derive(Clone, Copy)]
struct Keys<'a> {
    /// Those of the document so far.
    values: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > VALUES_LIMIT {
            return Err(D::Error::custom("too many"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            check(&key)?;
            if NAMED_FREELY.contains(&key.as_str()) {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(self)?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
