//! Findings as workflow commands for GitHub's runner (docs.github.com, "Workflow commands for GitHub Actions").

use super::Document;
use super::findings;
use super::findings::LocatedFinding;
use printable::{is_hidden, without_commands};
use workflow::Severity;

/// One line for each finding.
pub(super) fn text(documents: &[Document]) -> String {
    documents.iter().flat_map(findings::of).map(|told| command(&told)).collect()
}

fn command(told: &LocatedFinding<'_>) -> String {
    let name = match told.finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let properties = [
        ("file", told.document.name.clone()),
        ("line", told.start.line.to_string()),
        ("col", told.start.column.to_string()),
        ("endLine", told.end.line.to_string()),
        ("endColumn", told.end.column.to_string()),
        ("title", told.finding.rule.to_owned()),
    ];
    let properties = properties.map(|(key, value)| format!("{key}={}", property(&value)));
    format!("::{name} {}::{}\n", properties.join(","), data(&told.text()))
}

/// Escapes a message as the runner decodes it (actions/toolkit, `packages/core/src/command.ts`), and control
/// characters, which would act on a terminal that shows the log.
fn data(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '%' => escaped.push_str("%25"),
            '\r' => escaped.push_str("%0D"),
            '\n' => escaped.push_str("%0A"),
            hidden if is_hidden(hidden) => escaped.extend(hidden.escape_default()),
            shown => escaped.push(shown),
        }
    }
    without_commands(&escaped).into_owned()
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use workflow::check;

    #[test]
    fn separators_are_escaped() {
        let checked = check(b"jobs: {a: {container: r.example/a, '100%,:\\r': 1}}");
        let told = text(&[Document { name: "a,b:%.yaml".into(), bytes: Vec::new(), checked }]);
        let start = "::error file=a%2Cb%3A%25.yaml,line=1,col=36,endLine=1,endColumn=46,title=unknown-key::";
        assert!(told.starts_with(start), "{told}");
        assert!(told.contains("`100%25,:") && told.contains("%0Ahint: "), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}
