//! The types of the language's table: every key, what it takes, and what it means. The first pass of the reader, the
//! JSON Schema and the check of the documentation all use this table, so they cannot disagree.

use super::duration;
use super::github;
use super::nearest::nearest;
use std::collections::HashSet;
use std::ops::Range;
use yaml_tree::document::{Content, Key as DocumentKey, Node, Scalar, ScalarType};
use yaml_tree::finding::{Findings, Severity};

/// A map with fixed keys.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    /// Its name in messages: `a job`.
    pub name: &'static str,
    /// Its allowed keys.
    pub keys: &'static [Key],
}

/// One key of an [`Object`].
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The key, as it should be written.
    pub name: &'static str,
    /// Other spellings with the same meaning.
    pub aliases: &'static [&'static str],
    /// What it takes.
    pub kind: ValueKind,
    /// Whether it is mandatory.
    pub required: bool,
    /// What it means: one sentence.
    pub doc: &'static str,
}

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub enum ValueKind {
    /// A text.
    Text,
    /// A text that follows GitHub's rule for ids.
    Id,
    /// A text, a number or a boolean, as written.
    Scalar,
    /// `true` or `false`.
    Bool,
    /// An integer in this inclusive range.
    Integer(u64, u64),
    /// A number of minutes.
    Minutes,
    /// A duration with its unit: `90s`.
    Duration,
    /// Bytes, with or without a unit: `64M`.
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list.
    List(&'static ValueKind),
    /// A map with arbitrary names as keys.
    Map(&'static ValueKind),
    /// A map with ids as keys, which follow GitHub's rule.
    Ids(&'static ValueKind),
    /// A map with fixed keys.
    Object(&'static Object),
    /// One of these kinds, distinguished by their shapes.
    Either(&'static [ValueKind]),
    /// Any value of a GitHub key that has no effect here.
    Ignored,
}

/// The three node types of YAML.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NodeShape {
    Scalar,
    List,
    Map,
}

impl ValueKind {
    fn shape(&self) -> Option<NodeShape> {
        match self {
            Self::List(_) => Some(NodeShape::List),
            Self::Map(_) | Self::Ids(_) | Self::Object(_) => Some(NodeShape::Map),
            Self::Either(_) | Self::Ignored => None,
            _ => Some(NodeShape::Scalar),
        }
    }

    /// The expected value, for messages.
    fn describe(&self) -> String {
        match self {
            Self::Text => "a string".into(),
            Self::Id => "an ID".into(),
            Self::Scalar => "a string or a number".into(),
            Self::Bool => "`true` or `false`".into(),
            Self::Integer(only, last) if only == last => format!("`{only}`"),
            Self::Integer(first, last) => format!("a whole number from {first} to {last}"),
            Self::Minutes => "a number of minutes".into(),
            Self::Duration => "a time such as `90s`, `5m` or `1h`".into(),
            Self::Size => "a size such as `64M`".into(),
            Self::Choice(words) => format!("`{}`", words.join("`, `")),
            Self::List(_) => "a list".into(),
            Self::Map(_) | Self::Ids(_) => "a map".into(),
            Self::Object(object) => format!("a map with the keys of {}", object.name),
            Self::Either(kinds) => kinds.iter().map(Self::describe).collect::<Vec<_>>().join(" or "),
            Self::Ignored => "anything".into(),
        }
    }

    /// The same with more detail, for hints.
    fn describe_with_keys(&self) -> String {
        match self {
            Self::Object(object) => format!("a map with the keys {}", object.key_names()),
            Self::Either(kinds) => {
                kinds.iter().map(Self::describe_with_keys).collect::<Vec<_>>().join(", or ")
            }
            _ => self.describe(),
        }
    }
}

/// Compares a document with the expected kind.
pub(super) fn check(root: &Node, kind: &ValueKind, findings: &mut Findings) {
    check_node(root, kind, &(root.span.start..root.span.start), findings);
}

/// Checks one node. Missing keys are reported at `owner`, the key of the node.
fn check_node(node: &Node, kind: &ValueKind, owner: &Range<usize>, findings: &mut Findings) {
    match kind {
        _ if findings.are_enough() => {}
        ValueKind::Either(kinds) => match kinds.iter().find(|kind| kind.shape() == Some(shape(node))) {
            Some(kind) => check_node(node, kind, owner, findings),
            None => wrong_type(node, kind, findings),
        },
        ValueKind::Ignored => {}
        _ if kind.shape() != Some(shape(node)) => wrong_type(node, kind, findings),
        ValueKind::List(kind) => {
            node.items().iter().for_each(|item| check_node(item, kind, &item.span, findings));
        }
        ValueKind::Map(kind) => {
            for (key, value) in node.entries() {
                check_value(key, value, kind, "give it one: `\"\"` is the empty string", findings);
            }
        }
        ValueKind::Ids(kind) => {
            let mut known = HashSet::new();
            for (id, value) in node.entries() {
                check_id(&id.name, &id.span, findings);
                if !known.insert(id.name.to_ascii_lowercase()) {
                    let message = format!("`{}` differs from an earlier ID only in case", id.name);
                    findings.error(
                        "duplicate-key",
                        &id.span,
                        message,
                        "expressions cannot distinguish them: rename one",
                    );
                }
                check_value(id, value, kind, "add its keys", findings);
            }
        }
        ValueKind::Object(object) => check_object(node, object, owner, findings),
        _ => check_scalar(node, kind, findings),
    }
}

fn check_value(key: &DocumentKey, value: &Node, kind: &ValueKind, remedy: &str, findings: &mut Findings) {
    if value.is_null() && !matches!(kind, ValueKind::Ignored) {
        findings.error("type", &key.span, format!("`{}` has no value", key.name), remedy);
        return;
    }
    check_node(value, kind, &key.span, findings);
}

fn shape(node: &Node) -> NodeShape {
    match node.content {
        Content::Scalar(_) => NodeShape::Scalar,
        Content::List(_) => NodeShape::List,
        Content::Map(_) => NodeShape::Map,
    }
}

fn wrong_type(node: &Node, kind: &ValueKind, findings: &mut Findings) {
    let message = format!("expected {}, found {}", kind.describe(), node.describe());
    let hint = match (&node.content, kind) {
        (Content::Scalar(scalar), ValueKind::List(_)) => {
            format!("begin each item with `- `, or write `[{}]`", shortened(&scalar.text))
        }
        (Content::Map(_), ValueKind::List(_)) => "begin each item with `- `".into(),
        (Content::List(_), ValueKind::Map(_) | ValueKind::Ids(_)) => {
            "write each entry as `NAME: VALUE`, without `- `".into()
        }
        (Content::List(_) | Content::Map(_), kind) if kind.shape() == Some(NodeShape::Scalar) => {
            "write one value, in quotes if it begins with `{` or `[`".into()
        }
        (_, kind) => format!("write {}", kind.describe_with_keys()),
    };
    findings.error("type", &node.span, message, hint);
}

fn check_object(node: &Node, object: &Object, owner: &Range<usize>, findings: &mut Findings) {
    let mut given: Vec<&str> = Vec::new();
    for (key, value) in node.entries() {
        let Some(known) = object.find(&key.name) else {
            let meant = nearest(&key.name, object.spellings()).and_then(|near| object.find(near));
            let (message, hint) = unknown_key(&key.name, object);
            findings.error("unknown-key", &key.span, message, hint);
            // A key that was misspelt is not reported as missing too.
            given.extend(meant.map(|meant| meant.name).filter(|_| instead_of(&key.name).is_none()));
            continue;
        };
        if given.contains(&known.name) {
            let message = format!("`{}` is given in two spellings", key.name);
            findings.error("duplicate-key", &key.span, message, format!("keep `{}`", known.name));
        }
        given.push(known.name);
        if matches!(known.kind, ValueKind::Ignored) {
            let message = format!("`{}` has no effect: {}", key.name, known.doc);
            findings.add(Severity::Note, "ignored-key", &key.span, message, Some("it can be removed".into()));
        }
        let remedy = match known.required {
            true => format!("give it one: {}", known.doc),
            false => "give it one, or remove the key".into(),
        };
        check_value(key, value, &known.kind, &remedy, findings);
    }
    for key in object.keys.iter().filter(|key| key.required && !given.contains(&key.name)) {
        let message = format!("{} requires the key `{}`", object.name, key.name);
        findings.error("missing-key", owner, message, format!("add `{}`: {}", key.name, key.doc));
    }
}

fn unknown_key(name: &str, object: &Object) -> (String, String) {
    let message = format!("{} has no key `{name}`", object.name);
    if let Some(instead) = instead_of(name) {
        return (message, instead.to_owned());
    }
    let hint = match nearest(name, object.spellings()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("its keys are {}", object.key_names()),
    };
    (message, hint)
}

fn instead_of(foreign: &str) -> Option<&'static str> {
    github::KEYS.iter().find(|(name, _)| *name == foreign).map(|(_, instead)| *instead)
}

impl Object {
    /// The key with this name or alias.
    #[must_use]
    pub fn find(&self, spelling: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == spelling || key.aliases.contains(&spelling))
    }

    fn key_names(&self) -> String {
        let names: Vec<&str> = self.keys.iter().map(|key| key.name).collect();
        format!("`{}`", names.join("`, `"))
    }

    fn spellings(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().flat_map(|key| [key.name].into_iter().chain(key.aliases.iter().copied()))
    }
}

/// Checks GitHub's rule for ids (workflow syntax, `jobs.<job_id>`), which also makes them safe as directory names.
fn check_id(id: &str, span: &Range<usize>, findings: &mut Findings) {
    let is_first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    let is_later = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    if !id.starts_with(is_first) || !id.chars().all(is_later) {
        let hint = "begin with a letter or `_`, and continue with letters, digits, `-` and `_`";
        findings.error("duplicate-key", span, format!("`{id}` is not a valid ID"), hint);
    } else if id.len() > LONGEST_ID {
        let hint = "choose a shorter one, and use `name:` for the title";
        findings.error("id", span, format!("this ID has more than {LONGEST_ID} characters"), hint);
    }
}

/// The rule for ids as a regular expression of ECMA-262.
pub const ID_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";

/// Characters of the longest id: it becomes part of the name of a directory (NAME_MAX, 255).
pub const LONGEST_ID: usize = 100;

fn check_scalar(node: &Node, kind: &ValueKind, findings: &mut Findings) {
    let Some(scalar) = node.scalar() else { return };
    let text = scalar.text.as_str();
    let is_right = match (kind, scalar.kind()) {
        (_, ScalarType::Null) => false,
        (ValueKind::Text | ValueKind::Id, found) => found == ScalarType::Text,
        (ValueKind::Scalar, _) => true,
        (ValueKind::Bool, found) => matches!(found, ScalarType::Bool(_)),
        (ValueKind::Integer(first, last), found) => {
            let is_between = |number: u64| (*first..=*last).contains(&number);
            found == ScalarType::Number && text.parse().is_ok_and(is_between)
        }
        (ValueKind::Minutes, found) => found == ScalarType::Number && duration::minutes(text).is_some(),
        (ValueKind::Duration, _) => duration::parse(text).is_some(),
        (ValueKind::Size, _) => duration::bytes(text).is_some(),
        (ValueKind::Choice(words), _) => words.contains(&text),
        _ => true,
    };
    if !is_right {
        let (message, hint) = wrong_scalar(scalar, kind, node);
        findings.error("type", &node.span, message, hint);
    } else if matches!(kind, ValueKind::Id) {
        check_id(text, &node.span, findings);
    } else if matches!(kind, ValueKind::Scalar) && scalar.was_no_text_in_yaml_1_1() {
        let message = format!("`{text}` is a string here, but a boolean in YAML 1.1");
        let hint = format!("write `\"{text}\"`, or `true` or `false`");
        findings.add(Severity::Warning, "ambiguous-text", &node.span, message, Some(hint));
    }
}

fn wrong_scalar(scalar: &Scalar, kind: &ValueKind, node: &Node) -> (String, String) {
    let expected = kind.describe();
    if scalar.kind() == ScalarType::Null {
        return (format!("expected {expected}, found nothing"), "give it a value, or remove it".into());
    }
    let message = format!("expected {expected}, found {} `{}`", node.describe(), shortened(&scalar.text));
    (message, remedy(scalar, kind).unwrap_or_else(|| format!("write {expected}")))
}

/// A hint for a scalar of the wrong kind, if there is more to say than the expected kind.
fn remedy(scalar: &Scalar, kind: &ValueKind) -> Option<String> {
    let text = scalar.text.as_str();
    let is_quoted = scalar.is_quoted();
    Some(match kind {
        ValueKind::Text | ValueKind::Id => format!("quote it if it is intended: `\"{text}\"`"),
        ValueKind::Bool if is_quoted && ["true", "false"].contains(&text) => {
            format!("write it without quotes: `{text}`")
        }
        ValueKind::Bool if scalar.was_no_text_in_yaml_1_1() => {
            let meant = ["yes", "on", "y"].iter().any(|word| text.eq_ignore_ascii_case(word));
            format!("`{text}` is a string in YAML 1.2: write `{meant}`")
        }
        ValueKind::Integer(first, last)
            if is_quoted && text.parse().is_ok_and(|it| (*first..=*last).contains(&it)) =>
        {
            format!("write it without quotes: `{text}`")
        }
        ValueKind::Minutes if is_quoted && text.parse::<f64>().is_ok() => {
            format!("write it without quotes: `{text}`")
        }
        ValueKind::Choice(words) => match nearest(text, words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!(
                "write {}",
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
            ),
        },
        ValueKind::Duration if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("add a unit: `{text}s` for seconds, `{text}m` for minutes")
        }
        ValueKind::Minutes if duration::parse(text).is_some() => {
            format!("write a number without a unit, or `timeout: {text}`")
        }
        ValueKind::Duration | ValueKind::Minutes if duration::is_out_of_range(text) => {
            "it must be greater than zero and at most one year".into()
        }
        _ => return None,
    })
}

/// Shortens a text for a message.
pub(super) fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.len() < text.trim_end().len() => format!("{line}…"),
        None => line.to_owned(),
    }
}
