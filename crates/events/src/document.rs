//! The table of events as a JSON Schema (json-schema.org/draft/2020-12), and as a documentation page.

use crate::{Event, EventField, EventKind, Record, VOCABULARY, Value};
use serde_json::{Map, json};
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

/// URL at which the schema is published: `docs/events.schema.json` in the repository.
const ID: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/raw/main/docs/events.schema.json");

/// The part of the page before the table.
const INTRODUCTION: &str = "\
# Events

A boot is logged to two files with the same content: `/run/iguana/log` as text, and `/run/iguana/log.jsonl` as events, one JSON object
per line. The new system gets copies in `/var/log/iguana`: `boot.log` and `boot.jsonl`.

Each event begins with these fields:

| field | type | meaning |
| --- | --- | --- |
| `uptime` | seconds | since the kernel started (`CLOCK_BOOTTIME`), as in the kernel's messages; this clock is never set |
| `time` | string | the date and time (RFC 3339) according to the machine's clock, which may be wrong early in the boot |
| `event` | string | the type of the event, one of those below |

The first line is the event `log`, which states the version of the format. Events and fields can be added without a new version:
ignore those that you do not know. A string has at most 16 KiB and the file at most 4 MiB; when it is full, its middle is removed and
replaced by the event `lost`. Control characters and characters that hide others are escaped, so the file can safely be printed. The
log has the lines that jobs write, those in `/iguana/progress`, and the last lines of failed services, but not what a full-screen
program draws. A job can mount the log as a volume: `/run/iguana/log.jsonl:/log.jsonl:ro`.

A virtual machine also sends these lines to its host if the host has created a virtio port with the name `org.iguana.events` (in QEMU
`-device virtserialport,name=org.iguana.events`), as `iguana try` does.

[`events.schema.json`](events.schema.json) is a JSON Schema (2020-12) of one line. The schema and this page are generated from the same
table with `cargo run -p events --example write-docs`.
";

/// The schema of one line.
#[must_use]
pub fn schema() -> String {
    let names: Vec<&str> = VOCABULARY.iter().map(|kind| kind.name).collect();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Iguana boot event",
        "description": "one line of /run/iguana/log.jsonl",
        "type": "object",
        "required": ["uptime", "time", "event"],
        "properties": {
            "uptime": { "type": "number", "minimum": 0 },
            "time": { "type": "string", "format": "date-time" },
            "event": { "enum": names },
        },
        "oneOf": VOCABULARY.iter().map(kind_schema).collect::<Vec<_>>(),
        "unevaluatedProperties": false,
    });
    format!("{schema:#}\n")
}

fn kind_schema(kind: &EventKind) -> serde_json::Value {
    let mut properties = Map::from_iter([("event".to_owned(), json!({ "const": kind.name }))]);
    for field in kind.fields {
        let mut schema = value_schema(&field.value);
        schema["description"] = field.doc.trim().into();
        properties.insert(field.name.into(), schema);
    }
    let required: Vec<&str> =
        std::iter::once("event").chain(kind.fields.iter().map(|field| field.name)).collect();
    json!({ "title": kind.name, "description": kind.doc.trim(), "properties": properties, "required": required })
}

fn value_schema(value: &Value) -> serde_json::Value {
    match value {
        Value::Text => json!({ "type": "string" }),
        Value::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Value::Count => json!({ "type": "integer", "minimum": 0 }),
        Value::Seconds => json!({ "type": "number", "minimum": 0 }),
        Value::Flag => json!({ "type": "boolean" }),
        Value::Choice(words) => json!({ "enum": words }),
        Value::Optional(value) => json!({ "anyOf": [value_schema(value), { "type": "null" }] }),
    }
}

/// `docs/events.md`.
#[must_use]
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (kind, example) in VOCABULARY.iter().zip(Event::examples()) {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## `{}`\n\n{}\n\n{}", kind.name, kind.doc.trim(), fields(kind.fields));
        let record = Record::new(12.345, UNIX_EPOCH + Duration::from_secs(1_798_761_600), example);
        let line = record.line().unwrap_or_default();
        let _ = write!(page, "\n```json\n{line}```\n");
    }
    page
}

fn fields(fields: &[EventField]) -> String {
    let rows = fields.iter().map(|field| {
        let doc = field.doc.trim().trim_end_matches('.');
        let doc: String =
            doc.chars().take(1).flat_map(char::to_lowercase).chain(doc.chars().skip(1)).collect();
        format!("| `{}` | {} | {doc} |\n", field.name, type_name(&field.value))
    });
    format!("| field | type | meaning |\n| --- | --- | --- |\n{}", rows.collect::<String>())
}

fn type_name(value: &Value) -> String {
    match value {
        Value::Text => "string".into(),
        Value::Texts => "list of strings".into(),
        Value::Count => "number".into(),
        Value::Seconds => "seconds".into(),
        Value::Flag => "`true` or `false`".into(),
        Value::Choice(words) => format!("`{}`", words.join("`, `")),
        Value::Optional(value) => format!("{}, or `null`", type_name(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_documents_match_the_table() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
        for (name, expected) in [("events.schema.json", schema()), ("events.md", page())] {
            let published = std::fs::read_to_string(format!("{docs}/{name}")).unwrap_or_default();
            assert!(published == expected, "`docs/{name}` is old: cargo run -p events --example write-docs");
        }
    }

    #[test]
    fn names_are_unique_and_every_event_has_its_own_in_its_record() {
        for (kind, example) in VOCABULARY.iter().zip(Event::examples()) {
            let value = serde_json::to_value(example).unwrap();
            assert_eq!(value["event"], kind.name);
            let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
            assert_eq!(keys.len(), kind.fields.len() + 1, "{keys:?}");
            assert_eq!(VOCABULARY.iter().filter(|other| other.name == kind.name).count(), 1);
        }
    }
}
