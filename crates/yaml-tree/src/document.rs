//! Parses YAML text to a tree in which every node has its span.
//!
//! YAML 1.2, core schema (yaml.org/spec/1.2.2, section 10.3), one document, with anchors and merge keys
//! (yaml.org/type/merge.html). The cost of a hostile text is bounded: its bytes, its depth, and its nodes after all
//! aliases are expanded.

use super::finding::Findings;
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

/// The largest workflow in bytes. A workflow of 1,000 jobs has about 200 kB.
pub const LARGEST: usize = 1 << 20;
/// The deepest nesting of a document; a workflow needs 7.
const DEEPEST: usize = 40;
/// The largest number of entries in a list or a map: twice the jobs of the largest known workflow.
const MOST_ENTRIES: usize = 2000;
/// The largest weight of a document with every alias expanded. A workflow of 1,000 jobs weighs about 40,000.
const WEIGHT_LIMIT: usize = 250_000;
/// Bytes of text that weigh as much as a node: aliases multiply both.
const BYTES_PER_WEIGHT: usize = 16;

/// A part of the document.
#[derive(Debug, Clone)]
pub struct Node {
    /// Span in bytes of the document.
    pub span: Range<usize>,
    /// What it is.
    pub content: Content,
    /// Cost of reading it with all its children.
    weight: usize,
}

/// The three kinds of nodes (YAML 1.2.2, section 3.2.1.1).
#[derive(Debug, Clone)]
pub enum Content {
    /// A text, a number, a boolean, or null.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Rc<Node>>),
    /// A mapping, in the order of the document.
    Map(Vec<MapEntry>),
}

/// A scalar as written.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// The text without quotes and escapes.
    pub text: String,
    /// Whether it is unquoted, so that YAML derives a type from the text.
    plain: bool,
}

/// A key and its value.
pub type MapEntry = (Rc<Key>, Rc<Node>);

/// The key of an entry of a mapping.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its text.
    pub name: String,
    /// Span in bytes of the document.
    pub span: Range<usize>,
}

/// The type that YAML gives to a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarType {
    /// Empty, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer or a floating-point number.
    Number,
    /// Anything else.
    Text,
}

impl Key {
    fn used_at(&self, span: &Range<usize>) -> Rc<Self> {
        Rc::new(Self { name: self.name.clone(), span: span.clone() })
    }
}

impl Content {
    fn own_weight(&self) -> usize {
        match self {
            Self::Scalar(scalar) => text_weight(&scalar.text),
            Self::List(_) | Self::Map(_) => 1,
        }
    }

    /// The weight of all children with aliases expanded.
    fn weight_below(&self) -> usize {
        match self {
            Self::Scalar(_) => 0,
            Self::List(items) => items.iter().map(|item| item.weight).sum(),
            Self::Map(entries) => {
                entries.iter().map(|(key, node)| text_weight(&key.name) + node.weight).sum()
            }
        }
    }

    fn entry_count(&self) -> usize {
        match self {
            Self::Scalar(_) => 0,
            Self::List(items) => items.len(),
            Self::Map(entries) => entries.len(),
        }
    }
}

impl Scalar {
    /// Whether it is quoted or a block scalar, and so always a text.
    #[must_use]
    pub fn is_quoted(&self) -> bool {
        !self.plain
    }

    /// The type in YAML 1.2's core schema (section 10.3.2).
    #[must_use]
    pub fn kind(&self) -> ScalarType {
        if !self.plain {
            return ScalarType::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => ScalarType::Null,
            "true" | "True" | "TRUE" => ScalarType::Bool(true),
            "false" | "False" | "FALSE" => ScalarType::Bool(false),
            text if is_number(text) => ScalarType::Number,
            _ => ScalarType::Text,
        }
    }

    /// Whether YAML 1.1, which many editors and programs still use, gives this text another type.
    pub fn was_no_text_in_yaml_1_1(&self) -> bool {
        self.plain
            && ["yes", "no", "on", "off", "y", "n"].iter().any(|word| self.text.eq_ignore_ascii_case(word))
    }
}

/// The core schema's integers and floats (YAML 1.2.2, section 10.3.2).
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let radix = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|letter| letter.is_digit(radix)))
    };
    let is_decimal = digits.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.')
        && digits.contains(|letter: char| letter.is_ascii_digit())
        && digits.parse::<f64>().is_ok();
    is_decimal || radix("0o", 8) || radix("0x", 16) || matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan")
}

impl Node {
    /// A placeholder for a missing node.
    pub fn nothing() -> Self {
        Self { span: 0..0, content: Content::List(Vec::new()), weight: 1 }
    }

    /// The scalar, if it is one.
    #[must_use]
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.content {
            Content::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar that is not null, whatever type YAML gives it.
    pub fn text(&self) -> Option<&str> {
        self.scalar().filter(|scalar| scalar.kind() != ScalarType::Null).map(|scalar| scalar.text.as_str())
    }

    /// Whether YAML also considers it a text.
    pub fn is_text(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.kind() == ScalarType::Text)
    }

    /// Whether it is empty or `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.kind() == ScalarType::Null)
    }

    /// The entries of a mapping; empty for other nodes.
    #[must_use]
    pub fn entries(&self) -> &[MapEntry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a sequence; empty for other nodes.
    #[must_use]
    pub fn items(&self) -> &[Rc<Node>] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }

    /// A copy for an alias: every part of it has the span of the alias, because a finding belongs to the place of use.
    fn used_at(&self, span: &Range<usize>) -> Rc<Self> {
        let content = match &self.content {
            Content::Scalar(scalar) => Content::Scalar(scalar.clone()),
            Content::List(items) => Content::List(items.iter().map(|item| item.used_at(span)).collect()),
            Content::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.used_at(span), value.used_at(span)));
                Content::Map(entries.collect())
            }
        };
        Rc::new(Self { span: span.clone(), content, weight: self.weight })
    }

    /// The kind of the node, for messages.
    pub fn describe(&self) -> &'static str {
        match &self.content {
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
            Content::Scalar(scalar) => match scalar.kind() {
                ScalarType::Null => "nothing",
                ScalarType::Bool(_) => "a boolean",
                ScalarType::Number => "a number",
                ScalarType::Text => "a string",
            },
        }
    }
}

/// Reads a text with one document. Mistakes are added to `findings`; there may be a tree in spite of them.
pub fn read(text: &str, findings: &mut Findings) -> Option<Rc<Node>> {
    let mut reader =
        Reader { text, events: Parser::new_from_str(text), anchors: HashMap::new(), findings, weight: 0 };
    reader.document().ok()
}

/// Reading cannot continue; the reason is among the findings.
struct Aborted;

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Rc<Node>>,
    findings: &'a mut Findings,
    /// The weight so far, with aliases expanded.
    weight: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Rc<Node>, Aborted> {
        let root = loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd, span) => {
                    let hint = "a workflow requires at least `jobs:`";
                    self.findings.error("empty", &span, "the document is empty", hint);
                    return Err(Aborted);
                }
                (event, span) => break self.node(event, span, 0)?,
            }
        };
        while let Some(next) = self.events.next_event() {
            match next {
                Ok((Event::DocumentStart(..), span)) => {
                    let span = byte_range(&span, self.text);
                    let message = "a second document begins here";
                    self.findings.error("second-document", &span, message, "write one workflow per file");
                    break;
                }
                Ok(_) => {}
                Err(error) => return Err(self.not_yaml(&error)),
            }
        }
        Ok(root)
    }

    fn next(&mut self) -> Result<(Event<'a>, Range<usize>), Aborted> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, byte_range(&span, self.text))),
            Some(Err(error)) => Err(self.not_yaml(&error)),
            None => Ok((Event::StreamEnd, self.text.len()..self.text.len())),
        }
    }

    fn not_yaml(&mut self, error: &ScanError) -> Aborted {
        let at = self.text.floor_char_boundary(error.marker().byte_offset().unwrap_or(0));
        if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
            return self.too_deep(&(at..at + 1));
        }
        let message = match error.kind() {
            ErrorKind::UnknownAnchor => "this alias refers to no anchor".to_owned(),
            ErrorKind::UnexpectedCharacter { character } => {
                format!("a string cannot begin with `{character}`")
            }
            kind => format!("invalid YAML: {kind}"),
        };
        let hint = self.yaml_remedy(error.kind(), at);
        self.findings.error("yaml", &(at..at + 1), message, hint);
        Aborted
    }

    fn too_deep(&mut self, span: &Range<usize>) -> Aborted {
        let message = format!("the document is nested deeper than {DEEPEST} levels");
        self.findings.error("too-deep", span, message, "check that this is the right file");
        Aborted
    }

    fn yaml_remedy(&self, error: &ErrorKind, at: usize) -> &'static str {
        let line_start = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let indent = &line[..line.len() - line.trim_start().len()];
        match error {
            _ if indent.contains('\t') => "indent with spaces: YAML does not allow tabs",
            ErrorKind::UnknownAnchor => "define the anchor earlier: `&` and the same name",
            ErrorKind::UnexpectedCharacter { .. } => "quote the string",
            ErrorKind::UnclosedQuotedScalar => "close the quote",
            ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::ExpectedFlowSequenceSeparator
                if line.contains("${{") =>
            {
                "within `{ }` and `[ ]`, quote a string that contains `${{ }}`"
            }
            ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator
            | ErrorKind::UnclosedFlowCollection { .. } => "close the bracket, or add a comma",
            ErrorKind::ExpectedBlockMappingKey => "indent this line like the others of its block",
            ErrorKind::MappingValueNotAllowed => {
                "quote a string that contains `: `; or a line is indented too far"
            }
            _ => "check indentation, quotes and brackets near this position",
        }
    }

    fn node(&mut self, event: Event<'a>, span: Range<usize>, depth: usize) -> Result<Rc<Node>, Aborted> {
        if depth > DEEPEST {
            return Err(self.too_deep(&span));
        }
        let mut end = span.end;
        let (content, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let plain = style == ScalarStyle::Plain && !is_text;
                (Content::Scalar(Scalar { text: text.into_owned(), plain }), anchor, tag)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let (items, close) = self.list(depth)?;
                end = end.max(close);
                (Content::List(items), anchor, tag)
            }
            Event::MappingStart(_, anchor, tag) => {
                let (entries, close) = self.map(depth)?;
                end = end.max(close);
                (Content::Map(entries), anchor, tag)
            }
            Event::Alias(anchor) => return self.alias(anchor, &span),
            _ => return Err(Aborted),
        };
        self.check_tag(tag.as_deref(), &span);
        self.check_entries(content.entry_count(), &span)?;
        self.count(content.own_weight(), &span)?;
        let weight = content.own_weight() + content.weight_below();
        let node = Rc::new(Node { span: span.start..end, content, weight });
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    /// Limits the number of entries, because later stages compare them with each other.
    fn check_entries(&mut self, count: usize, span: &Range<usize>) -> Result<(), Aborted> {
        if count <= MOST_ENTRIES {
            return Ok(());
        }
        let message = format!("a list or a map may have at most {MOST_ENTRIES} entries");
        self.findings.error("too-large", span, message, "check that this is the right file");
        Err(Aborted)
    }

    /// Adds to the weight of the tree, so that aliases of aliases cannot multiply without limit.
    fn count(&mut self, weight: usize, span: &Range<usize>) -> Result<(), Aborted> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= WEIGHT_LIMIT {
            return Ok(());
        }
        let message = "with its aliases expanded, the document is too large";
        self.findings.error("too-large", span, message, "check that this is the right file");
        Err(Aborted)
    }

    fn alias(&mut self, anchor: usize, span: &Range<usize>) -> Result<Rc<Node>, Aborted> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            // The anchor is on a node that encloses the alias.
            let hint = "write out the value";
            self.findings.error("alias-loop", span, "the alias is inside the node it refers to", hint);
            return Err(Aborted);
        };
        self.count(node.weight, span)?;
        self.findings.note_alias(span, &node.span);
        Ok(node.used_at(span))
    }

    fn check_tag(&mut self, tag: Option<&Tag>, span: &Range<usize>) {
        let tag = tag.filter(|tag| !tag.is_yaml_core_schema() && !self.findings.are_enough());
        if let Some(tag) = tag {
            let written = tag.original();
            let message = format!("the tag `{written}` is not supported");
            // The tag is before the node, possibly with an anchor in between.
            let found = self.text[..span.start].rfind(&written);
            let span = found.map_or(span.clone(), |at| at..at + written.len());
            self.findings.error("tag", &span, message, "remove it");
        }
    }

    /// The items, and the end of the closing bracket. A list in block style ends with its last item.
    fn list(&mut self, depth: usize) -> Result<(Vec<Rc<Node>>, usize), Aborted> {
        let mut items: Vec<Rc<Node>> = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => {
                    let last = items.last().map_or(0, |item| item.span.end);
                    return Ok((items, last.max(self.closing(&span, "]"))));
                }
                (event, span) => {
                    self.check_entries(items.len() + 1, &span)?;
                    items.push(self.node(event, span, depth + 1)?);
                }
            }
        }
    }

    /// The end of the closing bracket, if there is one.
    fn closing(&self, span: &Range<usize>, bracket: &str) -> usize {
        if self.text.get(span.clone()) == Some(bracket) { span.end } else { 0 }
    }

    /// The entries and their end.
    fn map(&mut self, depth: usize) -> Result<(Vec<MapEntry>, usize), Aborted> {
        let mut map = MapReader::default();
        let mut last = 0;
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok((map.merged(), last.max(self.closing(&span, "}"))));
            }
            self.check_entries(map.entries.len() + 1, &span)?;
            let key = self.node(event, span.clone(), depth + 1)?;
            let (event, value_span) = self.next()?;
            let is_alias = matches!(event, Event::Alias(_));
            let value_end = value_span.end;
            let value = self.node(event, value_span, depth + 1)?;
            last = if is_alias { value_end } else { value.span.end };
            let Some(scalar) = key.scalar() else {
                self.findings.error("key", &span, "a key must be a string", "write a name before the colon");
                continue;
            };
            let key = Rc::new(Key { name: scalar.text.clone(), span });
            if scalar.plain && key.name == "<<" {
                map.merge(&key, &value, self.findings);
            } else {
                map.insert(key, value, self.text, self.findings);
            }
        }
    }
}

/// State while a map is read.
#[derive(Default)]
struct MapReader {
    entries: Vec<MapEntry>,
    names: HashSet<String>,
    merged: Vec<Rc<Node>>,
}

impl MapReader {
    fn insert(&mut self, key: Rc<Key>, value: Rc<Node>, text: &str, findings: &mut Findings) {
        if self.names.insert(key.name.clone()) {
            self.entries.push((key, value));
            return;
        }
        if findings.are_enough() {
            return;
        }
        let first = self.entries.iter().find(|(other, _)| other.name == key.name);
        let line = first.map_or(1, |(other, _)| 1 + text[..other.span.start].matches('\n').count());
        let message = format!("the key `{}` is given twice", key.name);
        let hint = format!("remove one of them; the first is in line {line}");
        findings.error("duplicate-key", &key.span, message, hint);
    }

    fn merge(&mut self, key: &Key, value: &Rc<Node>, findings: &mut Findings) {
        let sources = match &value.content {
            Content::Map(_) => std::slice::from_ref(value),
            Content::List(items) => items.as_slice(),
            Content::Scalar(_) => &[],
        };
        if sources.is_empty() || sources.iter().any(|source| !matches!(source.content, Content::Map(_))) {
            let message = format!("`<<` merges maps, but this is {}", value.describe());
            findings.error(
                "merge",
                &key.span,
                message,
                "give it an alias to a map, such as `*name`, or a list of such aliases",
            );
            return;
        }
        self.merged.extend(sources.iter().cloned());
    }

    /// The entries, followed by the merged ones. A merged key does not replace an existing one.
    fn merged(mut self) -> Vec<MapEntry> {
        for source in self.merged {
            for (key, value) in source.entries() {
                if self.names.insert(key.name.clone()) {
                    self.entries.push((Rc::clone(key), Rc::clone(value)));
                }
            }
        }
        self.entries
    }
}

fn text_weight(text: &str) -> usize {
    1 + text.len() / BYTES_PER_WEIGHT
}

/// The bytes of a node, without the trailing line breaks that the parser counts as part of it.
fn byte_range(span: &Span, text: &str) -> Range<usize> {
    let range = span.byte_range().unwrap_or(0..0);
    let (start, end) = (range.start.min(text.len()), range.end.min(text.len()));
    let kept = text.get(start..end).map_or(0, |slice| slice.trim_end().len());
    start..start + kept
}
