//! `iguana schema`: converts the language's table of keys to a JSON Schema (json-schema.org/draft/2020-12).

use serde_json::{Map, Value, json};
use workflow::duration;
use workflow::language::{OBJECTS, WORKFLOW};
use workflow::schema::{ID_PATTERN, Key, LONGEST_ID, Object, ValueKind};

/// URL at which the schema is published: `docs/workflow.schema.json` in the repository.
const ID: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/raw/main/docs/workflow.schema.json");

/// The schema of a workflow.
pub(crate) fn text() -> String {
    format!("{:#}\n", schema())
}

fn schema() -> Value {
    let parts = OBJECTS.iter().filter(|(path, _)| !path.is_empty());
    let parts: Map<String, Value> = parts.map(|(_, part)| (name(part).into(), object(part))).collect();
    let mut schema = object(&WORKFLOW);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["$id"] = ID.into();
    schema["title"] = "Iguana workflow".into();
    schema["description"] = "the containers that run before the operating system is there".into();
    schema["$defs"] = parts.into();
    schema
}

/// Name of an object's definition: `job` for the object that messages call `a job`.
fn name(object: &Object) -> &'static str {
    object.name.trim_start_matches("a ").trim_matches('`')
}

fn object(object: &Object) -> Value {
    let properties: Map<String, Value> = object.keys.iter().flat_map(properties).collect();
    let required: Vec<&str> = object.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({
        "title": object.name,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// A key under its name and under each alias.
fn properties(key: &'static Key) -> impl Iterator<Item = (String, Value)> {
    let mut schema = kind(&key.kind);
    schema["description"] = key.doc.into();
    let mut deprecated = schema.clone();
    deprecated["deprecated"] = true.into();
    let aliases = key.aliases.iter().map(move |alias| ((*alias).to_owned(), deprecated.clone()));
    [(key.name.to_owned(), schema)].into_iter().chain(aliases)
}

fn kind(kind: &ValueKind) -> Value {
    match kind {
        ValueKind::Text => json!({ "type": "string" }),
        ValueKind::Id => id(),
        ValueKind::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        ValueKind::Bool => json!({ "type": "boolean" }),
        ValueKind::Integer(first, last) => json!({ "type": "integer", "minimum": first, "maximum": last }),
        ValueKind::Minutes => {
            json!({ "type": "number", "exclusiveMinimum": 0, "maximum": duration::LONGEST / 60 })
        }
        ValueKind::Duration => json!({ "type": "string", "pattern": duration::PATTERN }),
        ValueKind::Size => size(),
        ValueKind::Choice(words) => json!({ "enum": words }),
        ValueKind::List(item) => json!({ "type": "array", "items": self::kind(item) }),
        ValueKind::Map(value) => json!({ "type": "object", "additionalProperties": self::kind(value) }),
        ValueKind::Ids(value) => {
            json!({ "type": "object", "propertyNames": id(), "additionalProperties": self::kind(value) })
        }
        ValueKind::Object(object) => json!({ "$ref": format!("#/$defs/{}", name(object)) }),
        ValueKind::Either(kinds) => json!({ "anyOf": kinds.iter().map(self::kind).collect::<Vec<_>>() }),
        ValueKind::Ignored => json!({}),
    }
}

fn id() -> Value {
    json!({ "type": "string", "pattern": ID_PATTERN, "maxLength": LONGEST_ID })
}

fn size() -> Value {
    let text = json!({ "type": "string", "pattern": duration::SIZE_PATTERN });
    json!({ "anyOf": [text, { "type": "integer", "minimum": 1 }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/workflow.schema.json");
        let published = std::fs::read_to_string(path).unwrap_or_default();
        let remedy =
            "`docs/workflow.schema.json` is old: cargo run -p iguana -- schema > docs/workflow.schema.json";
        assert!(published == text(), "{remedy}");
    }

    #[test]
    fn every_object_has_a_name_of_its_own_and_is_found_by_it() {
        let schema = schema();
        let parts = schema["$defs"].as_object().unwrap();
        assert_eq!(parts.len(), OBJECTS.len() - 1);
        let text = schema.to_string();
        for reference in text.split("\"$ref\":\"#/$defs/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(parts.contains_key(name), "{name}");
        }
    }

    /// The schema's `required` lists names only, so a required key must not have aliases.
    #[test]
    fn no_required_key_has_another_spelling() {
        let mut keys = OBJECTS.iter().flat_map(|(_, object)| object.keys);
        assert!(keys.all(|key| !key.required || key.aliases.is_empty()));
    }

    #[test]
    fn another_spelling_is_accepted_and_deprecated() {
        let schema = schema();
        assert_eq!(schema["properties"]["on_failure"]["deprecated"], true);
        assert_eq!(schema["properties"]["on-failure"].get("deprecated"), None);
    }
}
