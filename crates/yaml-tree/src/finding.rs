//! Findings: messages about a workflow document with their positions.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use printable::visible;
use std::fmt;
use std::ops::Range;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The workflow does not run.
    Error,
    /// It runs, but probably not as intended.
    Warning,
    /// It runs, and a part of it has no effect.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// A message about a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The rule that found it: a short constant such as `unknown-key`, for programs.
    pub rule: &'static str,
    /// What is wrong: lower case, without a full stop, the literal in backticks.
    pub message: String,
    /// Span in bytes of the document, on character boundaries.
    pub span: Range<usize>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A position as shown to people: from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.line, self.column)
    }
}

/// A document with an index of its lines, for fast conversion of positions.
#[derive(Debug, Clone)]
pub struct SourceText {
    text: String,
    /// Start of each line.
    starts: Vec<usize>,
}

impl SourceText {
    /// Indexes the lines of a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = [0].into_iter().chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The position of a byte.
    #[must_use]
    pub fn position(&self, byte: usize) -> Position {
        let byte = self.text.floor_char_boundary(byte);
        let line = self.starts.partition_point(|start| *start <= byte);
        Position { line, column: 1 + self.text[self.starts[line - 1]..byte].chars().count() }
    }

    /// A line, counted from 1, without its line break.
    fn line(&self, line: usize) -> &str {
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        self.text[self.starts[line - 1]..end].trim_end_matches(['\n', '\r'])
    }
}

impl Finding {
    /// The finding in text form: the message, the position, the line with a mark, the hint.
    #[must_use]
    pub fn render(&self, file: &str, source: &SourceText, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let line = source.position(self.span.start).line;
        let (text, file) = (source.line(line), visible(file));
        // Mark the first line only: a mark over many lines would hide its content.
        let within = |byte: usize| text.floor_char_boundary(byte.saturating_sub(source.starts[line - 1]));
        let (start, end) = (within(self.span.start), within(self.span.end));
        let (before, rest) = text.split_at(start);
        let (marked, after) = rest.split_at(end.max(start) - start);
        // The text before the mark is needed for the column. Of the rest a terminal shows the beginning only.
        let [before, marked, after] = [before, beginning(marked), beginning(after)].map(visible);
        let text = format!("{before}{marked}{after}");
        let snippet = Snippet::source(&text).path(&*file).line_start(line);
        let span = before.len()..before.len() + marked.len();
        let snippet = snippet.annotation(AnnotationKind::Primary.span(span));
        let mut group: Group<'_> = level.primary_title(self.message.as_str()).element(snippet);
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        renderer.render(&[group])
    }
}

/// Limits of errors and of other findings: more than anybody reads, and a bound for the cost of a hostile document.
const MOST: usize = 100;

/// The longest message in characters: names in it come from the document.
const LONGEST: usize = 500;

/// Bytes of a line that are shown from the start of a mark, and again after it: more than the width of a terminal.
const SHOWN: usize = 1000;

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN)]
}

/// A text on one line, shortened, and without control characters.
fn readable(text: &str) -> String {
    let mut readable = String::new();
    for (count, letter) in text.chars().enumerate() {
        match letter {
            _ if count == LONGEST => {
                readable.push('…');
                break;
            }
            _ if printable::is_hidden(letter) => readable.extend(letter.escape_default()),
            _ => readable.push(letter),
        }
    }
    readable
}

/// Collects findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Errors are kept apart from other findings, so that notes cannot displace them.
    errors: Vec<Finding>,
    others: Vec<Finding>,
    /// Those of aliases that were left out because they are shown where their anchor is.
    repeated: Vec<Finding>,
    /// The spans of each alias and of the node that it refers to, in the order of the document.
    aliases: Vec<(Range<usize>, Range<usize>)>,
}

impl Findings {
    /// Adds an error, which keeps the workflow from running.
    pub fn error(
        &mut self,
        rule: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(Severity::Error, rule, span, message.into(), Some(hint.into()));
    }

    /// Adds a finding, unless the limit is reached.
    pub fn add(
        &mut self,
        severity: Severity,
        rule: &'static str,
        span: &Range<usize>,
        message: String,
        hint: Option<String>,
    ) {
        let (message, hint) = (readable(&message), hint.as_deref().map(readable));
        let finding = Finding { severity, rule, message, span: span.clone(), hint };
        let kept = match severity {
            _ if self.is_repeated(&finding) => &mut self.repeated,
            Severity::Error => &mut self.errors,
            Severity::Warning | Severity::Note => &mut self.others,
        };
        if kept.len() < MOST {
            kept.push(finding);
        }
    }

    /// Notes that the alias at `used` refers to the node at `defined`. Aliases come in the order of the document.
    pub(crate) fn note_alias(&mut self, used: &Range<usize>, defined: &Range<usize>) {
        self.aliases.push((used.clone(), defined.clone()));
    }

    /// Whether the finding is about an alias, and was added before: for the same alias, or where its anchor is.
    fn is_repeated(&self, finding: &Finding) -> bool {
        let is_of_alias = self.definition(&finding.span).is_some();
        is_of_alias && (self.all().any(|other| other == finding) || self.is_at_anchor(finding))
    }

    /// Whether the finding is about an alias, and the same was found in the node that it refers to.
    fn is_at_anchor(&self, finding: &Finding) -> bool {
        let Some(defined) = self.definition(&finding.span) else { return false };
        let is_inside = |span: &Range<usize>| defined.start <= span.start && span.end <= defined.end;
        let is_same = |other: &Finding| other.rule == finding.rule && other.message == finding.message;
        self.all().any(|other| is_inside(&other.span) && is_same(other))
    }

    fn all(&self) -> impl Iterator<Item = &Finding> {
        self.errors.iter().chain(&self.others).chain(&self.repeated)
    }

    /// The node that the alias with this span refers to.
    fn definition(&self, span: &Range<usize>) -> Option<&Range<usize>> {
        let at = self.aliases.partition_point(|(used, _)| used.start < span.start);
        self.aliases.get(at).filter(|(used, _)| used == span).map(|(_, defined)| defined)
    }

    /// Whether the limit of errors is reached.
    pub fn are_enough(&self) -> bool {
        self.errors.len() >= MOST
    }

    /// Whether there is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The findings in the order of the document.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Finding> {
        let may_be_more = self.are_enough() || self.others.len() >= MOST;
        let kept = self.errors.iter().chain(&self.others);
        let mut findings: Vec<Finding> = kept.filter(|one| !self.is_at_anchor(one)).cloned().collect();
        findings.sort_by_key(|finding| (finding.span.start, finding.severity));
        findings.extend(may_be_more.then(|| Finding {
            severity: Severity::Note,
            rule: "more",
            message: format!("there may be more than these {} findings", findings.len()),
            span: 0..0,
            hint: Some("correct these first".into()),
        }));
        findings
    }
}
