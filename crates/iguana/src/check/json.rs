//! Findings and the job order as one JSON document.

use super::Document;
use super::findings::{self, LocatedFinding};
use serde_json::{Value, json};
use workflow::render;

/// All findings; with `has_plans` also the job order, which is null for a workflow that cannot run.
pub(super) fn report(documents: &[Document], has_plans: bool) -> Value {
    let files: Vec<Value> = documents.iter().map(|document| file(document, has_plans)).collect();
    json!({ "files": files })
}

fn file(document: &Document, has_plan: bool) -> Value {
    let findings: Vec<Value> = findings::of(document).map(|told| finding(&told)).collect();
    let mut file = json!({ "file": document.name, "findings": findings });
    if has_plan {
        file["plan"] = document.checked.plan.as_ref().map_or(Value::Null, render::json);
    }
    file
}

fn finding(told: &LocatedFinding<'_>) -> Value {
    json!({
        "severity": told.finding.severity.to_string(),
        "rule": told.finding.rule,
        "message": told.finding.message,
        "line": told.start.line,
        "column": told.start.column,
        "end_line": told.end.line,
        "end_column": told.end.column,
        "hint": told.finding.hint,
    })
}
