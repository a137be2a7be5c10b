//! Findings as SARIF (docs.oasis-open.org/sarif/sarif/v2.1.0), which code hosts and editors show at the lines.

use super::Document;
use super::findings::{self, LocatedFinding};
use super::rules::RULES;
use serde_json::{Value, json};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The SARIF log of one run.
pub(super) fn report(documents: &[Document]) -> Value {
    let results: Vec<Value> = documents.iter().flat_map(findings::of).map(|told| result(&told)).collect();
    let run = json!({
        "tool": { "driver": driver() },
        "columnKind": "unicodeCodePoints",
        "results": results,
    });
    json!({ "$schema": SCHEMA, "version": "2.1.0", "runs": [run] })
}

fn driver() -> Value {
    let rule = |(id, meaning): &(&str, &str)| json!({ "id": id, "shortDescription": { "text": meaning } });
    json!({
        "name": "iguana",
        "version": env!("CARGO_PKG_VERSION"),
        "informationUri": env!("CARGO_PKG_REPOSITORY"),
        "rules": RULES.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn result(told: &LocatedFinding<'_>) -> Value {
    json!({
        "ruleId": told.finding.rule,
        "level": told.finding.severity.to_string(),
        "message": { "text": told.text() },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": uri(&told.document.name) },
            "region": {
                "startLine": told.start.line,
                "startColumn": told.start.column,
                "endLine": told.end.line,
                "endColumn": told.end.column,
            },
        } }],
    })
}

/// A path as a URI reference: every byte except the unreserved characters (RFC 3986, section 2.3) is percent-encoded.
fn uri(path: &str) -> String {
    let letter = |byte: u8| match byte {
        b'/' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let escaped: String = path.bytes().map(letter).collect();
    if path.starts_with('/') { format!("file://{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_uri() {
        assert_eq!(uri("flows/a b:c.yaml"), "flows/a%20b%3Ac.yaml");
        assert_eq!(uri("/srv/ä.yaml"), "file:///srv/%C3%A4.yaml");
    }
}
