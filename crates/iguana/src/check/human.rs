//! Findings in text form.

use super::Document;
use annotate_snippets::Renderer;
use printable::visible;
use workflow::{Checked, Severity};

/// All findings, and one line with their number.
pub(super) fn text(documents: &[Document], styled: bool) -> String {
    let mut text: String =
        documents.iter().map(|document| blocks(&document.name, &document.checked, styled)).collect();
    if !documents.is_empty() {
        text.push_str(&summary(documents));
    }
    text
}

/// The findings of one workflow, each followed by an empty line.
pub(crate) fn blocks(name: &str, checked: &Checked, styled: bool) -> String {
    let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
    let block = |finding: &workflow::Finding| finding.render(name, &checked.source, &renderer) + "\n\n";
    checked.findings.iter().map(block).collect()
}

fn summary(documents: &[Document]) -> String {
    let of = |severity: Severity| {
        let findings = documents.iter().flat_map(|document| &document.checked.findings);
        findings.filter(|finding| finding.severity == severity).count()
    };
    let counts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .map(|severity| (of(severity), severity))
        .filter(|(count, _)| *count > 0)
        .map(|(count, severity)| counted(count, &severity.to_string()))
        .collect();
    let what = if counts.is_empty() { "ok".to_owned() } else { counts.join(", ") };
    match documents {
        [document] if counts.is_empty() => format!("{}: {what}\n", visible(&document.name)),
        _ => format!("checked {}: {what}\n", counted(documents.len(), "workflow")),
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use workflow::check;

    fn summed_up(texts: &[&str]) -> String {
        let document = |text: &&str| Document {
            name: "flow.yaml".into(),
            bytes: text.as_bytes().to_vec(),
            checked: check(text.as_bytes()),
        };
        summary(&texts.iter().map(document).collect::<Vec<_>>())
    }

    #[test]
    fn one_line_summarises_the_result() {
        let good = "jobs: {a: {container: r.example/a}}";
        let noted = "{on: push, jobs: {a: {container: r.example/a}}}";
        let bad = "jobs: {a: {}, b: {}}";
        assert_eq!(summed_up(&[good]), "flow.yaml: ok\n");
        assert_eq!(summed_up(&[good, good]), "checked 2 workflows: ok\n");
        assert_eq!(summed_up(&[noted]), "checked 1 workflow: 1 note\n");
        assert_eq!(summed_up(&[good, bad, noted]), "checked 3 workflows: 2 errors, 1 note\n");
    }
}
