//! Strict JSON for policies and signatures: a duplicate key, an unknown key, and a value of the wrong type are
//! errors, as in containers/image (`ParanoidUnmarshalJSONObject`).

use anyhow::{Context as _, bail, ensure};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// Bytes of the longest text: far more than any policy, signature or log entry has, and parsed in a few ms.
const LONGEST: usize = 1 << 20;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool,
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// The keys of an object that have not been taken yet, in the order of the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object(Vec<(String, Json)>);

impl Json {
    /// Parses a whole text.
    ///
    /// # Errors
    /// When it is not JSON, longer than [`LONGEST`], nested deeper than 127 levels (serde_json's limit), or has a
    /// duplicate key.
    pub(super) fn parse(text: &[u8]) -> anyhow::Result<Self> {
        ensure!(text.len() <= LONGEST, "it has {} bytes, more than the limit of {LONGEST}", text.len());
        Ok(serde_json::from_slice(text)?)
    }

    pub(super) fn text(self) -> anyhow::Result<String> {
        match self {
            Self::Text(text) => Ok(text),
            other => bail!("it is {}, not a string", other.describe()),
        }
    }

    /// An integer that JSON represents exactly (RFC 8259, section 6: up to 2^53).
    pub(super) fn integer(self) -> anyhow::Result<i64> {
        match self {
            Self::Number(number) if number.fract() == 0.0 && number.abs() <= (1_u64 << 53) as f64 => {
                Ok(number as i64)
            }
            other => bail!("it is {}, not a whole number", other.describe()),
        }
    }

    pub(super) fn list(self) -> anyhow::Result<Vec<Self>> {
        match self {
            Self::List(list) => Ok(list),
            other => bail!("it is {}, not a list", other.describe()),
        }
    }

    pub(super) fn object(self) -> anyhow::Result<Object> {
        match self {
            Self::Object(object) => Ok(object),
            other => bail!("it is {}, not an object", other.describe()),
        }
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl Object {
    /// Takes the value of a key, if it exists.
    pub(super) fn take(&mut self, key: &str) -> Option<Json> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// Takes the value of a mandatory key.
    pub(super) fn need(&mut self, key: &str) -> anyhow::Result<Json> {
        self.take(key).with_context(|| format!("`{key}` is missing"))
    }

    /// Takes the value of a mandatory key, which must be a text.
    pub(super) fn need_text(&mut self, key: &str) -> anyhow::Result<String> {
        self.need(key)?.text().with_context(|| format!("`{key}`"))
    }

    /// Takes the value of a mandatory key, which must be an object.
    pub(super) fn need_object(&mut self, key: &str) -> anyhow::Result<Self> {
        self.need(key)?.object().with_context(|| format!("`{key}`"))
    }

    /// All remaining entries, for objects with arbitrary keys.
    pub(super) fn rest(self) -> Vec<(String, Json)> {
        self.0
    }

    /// Fails if there are unknown keys left.
    pub(super) fn end(self) -> anyhow::Result<()> {
        match self.0.first() {
            Some((key, _)) => bail!("unknown key `{key}`"),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Json;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let (mut object, mut seen) = (Vec::new(), HashSet::new());
        while let Some((key, value)) = entries.next_entry::<String, Json>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("duplicate key `{key}`")));
            }
            object.push((key, value));
        }
        Ok(Json::Object(Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluation_is_bounded_by_length_and_depth() {
        let start = std::time::Instant::now();
        let keys = |count: usize| {
            let keys: Vec<String> = (0..count).map(|number| format!("\"{number}\":0")).collect();
            format!("{{{}}}", keys.join(","))
        };
        assert_eq!(Json::parse(keys(80_000).as_bytes()).unwrap().object().unwrap().rest().len(), 80_000);
        let told = Json::parse(keys(600_000).as_bytes()).unwrap_err().to_string();
        assert!(told.ends_with("more than the limit of 1048576"), "{told}");
        // A quadratic comparison takes 19 s for the first text in a release build.
        assert!(start.elapsed().as_secs() < 10);
        let padded = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
        assert!(Json::parse(padded(LONGEST).as_bytes()).is_ok());
        assert!(Json::parse(padded(LONGEST + 1).as_bytes()).is_err());
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(nested(127).as_bytes()).is_ok());
        let told = Json::parse(nested(128).as_bytes()).unwrap_err().to_string();
        assert!(told.contains("recursion limit"), "{told}");
    }

    #[test]
    fn duplicate_and_unknown_keys_are_errors() {
        let twice = Json::parse(br#"{"a": {"b": 1, "b": 2}}"#).unwrap_err().to_string();
        assert!(twice.contains("duplicate key `b`"), "{twice}");
        let mut object = Json::parse(br#"{"a": "x", "b": [], "c": 7}"#).unwrap().object().unwrap();
        assert_eq!(object.need_text("a").unwrap(), "x");
        assert_eq!(object.need("c").unwrap().integer().unwrap(), 7);
        assert!(object.need_text("a").unwrap_err().to_string().contains("`a` is missing"));
        assert!(format!("{:#}", object.clone().need_text("b").unwrap_err()).contains("a list, not a string"));
        assert!(object.end().unwrap_err().to_string().contains("`b`"));
        for text in [&b""[..], b"{} {}", b"{\"a\": }", b"\"\xff\""] {
            assert!(Json::parse(text).is_err(), "{text:?}");
        }
        for number in ["1.5", "1e300", "null"] {
            assert!(Json::parse(number.as_bytes()).unwrap().integer().is_err(), "{number}");
        }
    }
}
