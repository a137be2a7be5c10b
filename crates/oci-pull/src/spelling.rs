//! Finds keys of a document that differ from those of the specification in case only.
//!
//! Go's encoding/json, which most tools use for images, takes `Layers` for `layers`, and the last one if there are
//! both. So such a document has one digest and two contents: the one that was reviewed and signed, and the one that
//! runs.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

/// The keys of manifests, indexes and configs that are read here: OCI image-spec, manifest.md, image-index.md,
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

/// Objects whose keys are names chosen by the author.
const NAMED_FREELY: &[&str] = &["ExposedPorts", "Labels", "Volumes", "annotations"];

/// Values in one document: ten times those of the longest index. A small value takes a hundred times its bytes in
/// memory.
pub(super) const VALUES_LIMIT: usize = 100_000;

/// Entries of all objects whose keys are chosen by the author, as annotations: they are kept in memory, and usual images have a
/// few dozen.
pub(super) const ANNOTATIONS_LIMIT: usize = 10_000;

/// What is wrong with a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A key is not spelled as in the specification.
    Spelling(String),
    /// It has more values than [`VALUES_LIMIT`].
    TooManyValues,
    /// It has more entries than [`ANNOTATIONS_LIMIT`].
    TooManyAnnotations,
}

/// Checks all keys of a document. Other code refuses text that is not JSON.
pub(super) fn fault(bytes: &[u8]) -> Option<Fault> {
    let (values, annotations) = (Cell::new(0), Cell::new(0));
    let mut text = serde_json::Deserializer::from_slice(bytes);
    match (Keys { values: &values, annotations: &annotations, is_named_freely: false }).deserialize(&mut text)
    {
        Err(error) if error.is_data() && values.get() > VALUES_LIMIT => Some(Fault::TooManyValues),
        Err(error) if error.is_data() && annotations.get() > ANNOTATIONS_LIMIT => {
            Some(Fault::TooManyAnnotations)
        }
        Err(error) if error.is_data() => Some(Fault::Spelling(error.to_string())),
        _ => None,
    }
}

/// Folds a key as Go compares keys: without case, where `ſ` and the Kelvin sign count as ASCII letters, too (Unicode,
/// CaseFolding.txt).
fn folded(key: &str) -> String {
    key.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase()
}

fn check<E: Error>(key: &str) -> Result<(), E> {
    let known = KEYS.iter().find(|known| folded(known) == folded(key));
    match known.filter(|known| **known != key) {
        Some(known) => Err(E::custom(format!("some tools read its key `{key}` as `{known}`, others do not"))),
        None => Ok(()),
    }
}

/// A value whose keys are checked.
#[derive(Clone, Copy)]
struct Keys<'a> {
    /// The number of values of the document so far.
    values: &'a Cell<usize>,
    /// The same of entries that are named freely.
    annotations: &'a Cell<usize>,
    /// It is of [`NAMED_FREELY`].
    is_named_freely: bool,
}

impl Keys<'_> {
    fn count<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            self.annotations.set(self.annotations.get() + 1);
            if self.annotations.get() > ANNOTATIONS_LIMIT {
                return Err(A::Error::custom("too many"));
            }
        }
        Ok(())
    }
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
        if self.is_named_freely {
            return self.count(map);
        }
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            check(&key)?;
            let is_named_freely = NAMED_FREELY.contains(&key.as_str());
            if let Some(key) = seen.replace(key) {
                let why = "some tools put the two together, others take one of them";
                return Err(A::Error::custom(format!("its key `{key}` is there twice: {why}")));
            }
            map.next_value_seed(Self { is_named_freely, ..self })?;
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
