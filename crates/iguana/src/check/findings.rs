//! The parts of a finding that every output format for programs uses.

use super::Document;
use workflow::{Finding, Position};

/// A finding with its document and its position in lines and columns.
pub(super) struct LocatedFinding<'a> {
    pub(super) document: &'a Document,
    pub(super) finding: &'a Finding,
    /// Its first character.
    pub(super) start: Position,
    /// The position after its last character.
    pub(super) end: Position,
}

/// The findings of a document.
pub(super) fn of(document: &Document) -> impl Iterator<Item = LocatedFinding<'_>> {
    document.checked.findings.iter().map(move |finding| {
        let source = &document.checked.source;
        let (start, end) = (source.position(finding.span.start), source.position(finding.span.end));
        LocatedFinding { document, finding, start, end }
    })
}

impl LocatedFinding<'_> {
    /// The message, and the hint below it.
    pub(super) fn text(&self) -> String {
        match &self.finding.hint {
            Some(hint) => format!("{}\nhint: {hint}", self.finding.message),
            None => self.finding.message.clone(),
        }
    }
}
