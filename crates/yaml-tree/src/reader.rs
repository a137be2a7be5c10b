//! Reads YAML files other than workflows.

use super::document;
pub use super::document::Node;
use super::finding::Findings;
use hint::hinted;
use std::rc::Rc;

/// Reads a document. An empty document is a map without keys.
///
/// # Errors
/// When the document has a mistake: the first one.
pub fn read(text: &str) -> anyhow::Result<Rc<Node>> {
    let mut findings = Findings::default();
    let root = document::read(text, &mut findings);
    let wrong = findings.into_sorted().into_iter().find(|finding| finding.rule != "empty");
    match wrong {
        Some(finding) => {
            let hint = finding.hint.unwrap_or_default();
            Err(hinted(finding.message, hint))
        }
        None => Ok(root.unwrap_or_else(|| Rc::new(Node::nothing()))),
    }
}
