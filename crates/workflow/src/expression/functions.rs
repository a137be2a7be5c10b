//! The functions of the language.

use super::bounded::BoundedText;
use super::token::shown;
use super::value::without_case;
use super::{ExpressionError, Scope, Status, Value};
use crate::github;
use crate::nearest::nearest;
use std::cmp::Ordering;
use std::fmt::Write as _;
use std::ops::{Range, RangeInclusive};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Function {
    Status(Status),
    Contains,
    StartsWith,
    EndsWith,
    Format,
    Join,
    ToJson,
}

pub(super) struct Signature {
    name: &'static str,
    pub(super) function: Function,
    arguments: RangeInclusive<usize>,
}

/// The largest number of arguments of a function: GitHub's limit.
const MANY: usize = 255;

static SIGNATURES: [Signature; 10] = [
    Signature { name: "success", function: Function::Status(Status::Success), arguments: 0..=0 },
    Signature { name: "failure", function: Function::Status(Status::Failure), arguments: 0..=0 },
    Signature { name: "always", function: Function::Status(Status::Always), arguments: 0..=0 },
    Signature { name: "cancelled", function: Function::Status(Status::Cancelled), arguments: 0..=0 },
    Signature { name: "contains", function: Function::Contains, arguments: 2..=2 },
    Signature { name: "startsWith", function: Function::StartsWith, arguments: 2..=2 },
    Signature { name: "endsWith", function: Function::EndsWith, arguments: 2..=2 },
    Signature { name: "format", function: Function::Format, arguments: 1..=MANY },
    Signature { name: "join", function: Function::Join, arguments: 1..=2 },
    Signature { name: "toJSON", function: Function::ToJson, arguments: 1..=1 },
];

/// The function whose name is at `span`.
pub(super) fn find(text: &str, span: &Range<usize>) -> Result<&'static Signature, ExpressionError> {
    let name = &text[span.clone()];
    if let Some(signature) = SIGNATURES.iter().find(|known| known.name.eq_ignore_ascii_case(name)) {
        return Ok(signature);
    }
    if let Some((name, hint)) = github::FUNCTIONS.iter().find(|(absent, _)| absent.eq_ignore_ascii_case(name))
    {
        return Err(ExpressionError::new(span, format!("GitHub's `{name}` does not exist here")).hint(*hint));
    }
    let known = || SIGNATURES.iter().map(|known| known.name);
    let hint = match nearest(name, known()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("use one of `{}`", known().collect::<Vec<_>>().join("`, `")),
    };
    Err(ExpressionError::new(span, format!("unknown function `{}`", shown(name))).hint(hint))
}

impl Signature {
    /// Checks the number of arguments.
    pub(super) fn check(&self, count: usize, call: &Range<usize>) -> Result<(), ExpressionError> {
        if self.arguments.contains(&count) {
            return Ok(());
        }
        let (least, most) = (*self.arguments.start(), *self.arguments.end());
        let takes = match most {
            0 => "no arguments".to_owned(),
            1 => "1 argument".to_owned(),
            _ if least == most => format!("{least} arguments"),
            _ => format!("{least} to {most} arguments"),
        };
        let message = format!("`{}` takes {takes}, but {count} were given", self.name);
        let hint = if count < least { "add the missing arguments" } else { "remove the extra arguments" };
        Err(ExpressionError::new(call, message).hint(hint))
    }
}

/// The value of a call. The number of arguments must be right.
pub(super) fn call(function: Function, arguments: &[Value], scope: &dyn Scope) -> Value {
    match (function, arguments) {
        (Function::Status(status), _) => Value::Bool(scope.status(status)),
        (Function::Contains, [Value::List(list), item]) => {
            Value::Bool(list.iter().any(|candidate| candidate.compare(item) == Some(Ordering::Equal)))
        }
        (Function::Contains, [text, part]) => compare_texts(text, part, |text, part| text.contains(part)),
        (Function::StartsWith, [text, part]) => {
            compare_texts(text, part, |text, part| text.starts_with(part))
        }
        (Function::EndsWith, [text, part]) => compare_texts(text, part, |text, part| text.ends_with(part)),
        (Function::Format, [format, arguments @ ..]) => Value::Text(fill(&format.to_string(), arguments)),
        (Function::Join, [Value::List(list), separator @ ..]) => Value::Text(join(list, separator.first())),
        (Function::Join, [Value::Map(_), ..]) => Value::Text(String::new()),
        (Function::Join, [text, ..]) => Value::Text(text.to_string()),
        (Function::ToJson, [value]) => Value::Text(json(value)),
        // Not reached: the parser checks the number of arguments.
        _ => Value::Null,
    }
}

fn compare_texts(text: &Value, part: &Value, holds: fn(&str, &str) -> bool) -> Value {
    let is_text = !text.is_collection() && !part.is_collection();
    Value::Bool(is_text && holds(&without_case(&text.to_string()), &without_case(&part.to_string())))
}

fn join(list: &[Value], separator: Option<&Value>) -> String {
    let separator = separator.filter(|value| !value.is_collection()).map(Value::to_string);
    let separator = separator.as_deref().unwrap_or(",");
    let mut joined = BoundedText::default();
    for (index, item) in list.iter().enumerate() {
        let separator = if index == 0 { "" } else { separator };
        let _ = write!(joined, "{separator}{item}");
    }
    joined.into_string()
}

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Argument(u8),
}

/// The pieces of a format; `None` if it has an unmatched brace.
fn pieces(mut format: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    while let Some(brace) = format.find(['{', '}']) {
        let (before, after) = format.split_at(brace);
        if after.starts_with("{{") || after.starts_with("}}") {
            pieces.push(Piece::Text(&format[..=brace]));
            format = &after[2..];
            continue;
        }
        let (number, after) = after.strip_prefix('{')?.split_once('}')?;
        // Rust would also accept a `+`.
        let number = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
        pieces.extend([Piece::Text(before), Piece::Argument(number.parse().ok()?)]);
        format = after;
    }
    pieces.push(Piece::Text(format));
    Some(pieces)
}

/// Checks a constant format against the number of arguments.
pub(super) fn check_format(format: &str, count: usize, span: &Range<usize>) -> Result<(), ExpressionError> {
    let Some(pieces) = pieces(format) else {
        return Err(ExpressionError::new(
            span,
            "a brace in this format string is not part of a placeholder \
                                               such as `{0}`",
        )
        .hint("for a literal brace, write `{{` or `}}`"));
    };
    let missing = pieces.iter().find_map(|piece| match piece {
        Piece::Argument(number) if usize::from(*number) >= count => Some(*number),
        _ => None,
    });
    match missing {
        None => Ok(()),
        Some(number) => Err(ExpressionError::new(span, format!("no argument for `{{{number}}}`"))
            .hint("the first argument after the format string is `{0}`")),
    }
}

/// The format with its arguments inserted. Mistakes that GitHub stops at stay unchanged in a format that is not
/// constant: an unmatched brace, and the number of a missing argument.
fn fill(format: &str, arguments: &[Value]) -> String {
    let mut filled = BoundedText::default();
    for piece in pieces(format).unwrap_or_else(|| vec![Piece::Text(format)]) {
        let _ = match piece {
            Piece::Text(text) => filled.write_str(text),
            Piece::Argument(number) => match arguments.get(usize::from(number)) {
                Some(argument) => write!(filled, "{argument}"),
                None => write!(filled, "{{{number}}}"),
            },
        };
    }
    filled.into_string()
}

fn json(value: &Value) -> String {
    let mut json = BoundedText::default();
    push_json(value, 0, &mut json);
    json.into_string()
}

fn push_json(value: &Value, level: usize, json: &mut BoundedText) {
    match value {
        Value::Null => json.push("null"),
        Value::Text(text) => push_json_text(text, json),
        Value::List(list) => {
            push_json_items(["[", "]"], list.iter().map(|item| (None, item)), level, json);
        }
        Value::Map(map) => {
            push_json_items(["{", "}"], map.iter().map(|(key, item)| (Some(key), item)), level, json);
        }
        Value::Bool(_) | Value::Number(_) => {
            let _ = write!(json, "{value}");
        }
    }
}

fn push_json_items<'a>(
    [open, close]: [&str; 2],
    items: impl Iterator<Item = (Option<&'a String>, &'a Value)>,
    level: usize,
    json: &mut BoundedText,
) {
    json.push(open);
    let mut is_empty = true;
    for (key, item) in items {
        json.push(if is_empty { "\n" } else { ",\n" });
        is_empty = false;
        json.push(&"  ".repeat(level + 1));
        if let Some(key) = key {
            push_json_text(key, json);
            json.push(": ");
        }
        push_json(item, level + 1, json);
    }
    if !is_empty {
        json.push("\n");
        json.push(&"  ".repeat(level));
    }
    json.push(close);
}

fn push_json_text(text: &str, json: &mut BoundedText) {
    json.push("\"");
    for letter in text.chars() {
        let _ = match letter {
            '"' | '\\' => write!(json, "\\{letter}"),
            '\n' => json.write_str("\\n"),
            '\r' => json.write_str("\\r"),
            '\t' => json.write_str("\\t"),
            '\u{8}' => json.write_str("\\b"),
            '\u{c}' => json.write_str("\\f"),
            // The last three end a line in JavaScript.
            '\0'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                write!(json, "\\u{:04x}", u32::from(letter))
            }
            _ => json.write_char(letter),
        };
    }
    json.push("\"");
}

#[cfg(test)]
mod tests {
    use super::super::bounded::MAX_BYTES;
    use super::super::tests::{Sample, assert_faults, assert_values};
    use super::super::{Expression, Value};

    #[test]
    fn functions_return_the_same_as_on_github() {
        assert_values(&[
            ("success() && always()", "true"),
            ("failure() || cancelled()", "false"),
            ("CONTAINS('Straße', 'STRA')", "true"),
            ("contains('abc', '')", "true"),
            ("contains(123, 2)", "true"),
            ("contains('abc', null)", "true"),
            ("contains(words, 'ONE')", "true"),
            ("contains(words, '3')", "true"),
            ("contains(words, 'on')", "false"),
            ("contains('Array', words)", "false"),
            ("contains(needs, 'b')", "false"),
            ("contains(needs.*.result, 'success')", "true"),
            ("startsWith('Éa', 'é')", "true"),
            ("startsWith('ab', 'b')", "false"),
            ("startsWith(words, '')", "false"),
            ("endsWith('abC', 'Bc')", "true"),
            ("endsWith(12, '1')", "false"),
            ("join(words, '; ')", "\"zero; One; two; 3\""),
            ("join(words)", "\"zero,One,two,3\""),
            ("join(words, needs)", "\"zero,One,two,3\""),
            ("join('a', 'b')", "\"a\""),
            ("join(needs)", "\"\""),
            ("join(absent.*)", "\"\""),
            ("format('{0}-{1}-{0}', 'a', 2)", "\"a-2-a\""),
            ("format('{{0}} {{{0}}} }}{{', true)", "\"{0} {true} }{\""),
            ("format(null, 1)", "\"\""),
            ("format('{0}', words)", "\"Array\""),
        ]);
    }

    #[test]
    fn a_format_computed_at_run_time_tolerates_errors() {
        assert_values(&[
            ("format(format('{0}', '{1} {0}'), 'a')", "\"{1} a\""),
            ("format(format('{0}', '{0} {'), 'a')", "\"{0} {\""),
        ]);
    }

    #[test]
    fn json_is_formatted_as_on_github() {
        for (text, expected) in [
            ("toJSON(null)", "null"),
            ("toJSON(1.50)", "1.5"),
            ("toJSON(absent.*)", "[]"),
            ("toJSON(needs)", "{\n  \"b\": {\n    \"result\": \"success\"\n  },\n  \"c\": {}\n}"),
            ("toJSON(disks.*.tags)", "[\n  [\n    \"x\",\n    \"y\"\n  ]\n]"),
            ("toJSON('\"\\\n\t\u{1}\u{8}\u{2028}é')", r#""\"\\\n\t\u0001\b\u2028é""#),
        ] {
            assert_eq!(
                Expression::parse(text).unwrap().evaluate(&Sample),
                Value::Text(expected.into()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_call_is_checked_before_the_run() {
        assert_faults(&[
            ("contians(a, b)", "contians", "did you mean `contains`?"),
            ("startswidth(a, b)", "startswidth", "did you mean `startsWith`?"),
            ("whatever()", "whatever", "use one of `success`, `failure`"),
            ("false && hashFiles('a')", "hashFiles", "GitHub's `hashFiles` does not exist here"),
            ("fromjson('1')", "fromjson", "GitHub's `fromJSON` does not exist here"),
            ("case(a, 1, 2)", "case", "`&&` and `||`"),
            ("a && always(1)", "always(1)", "`always` takes no arguments, but 1 were given"),
            ("!contains(env.A) && b", "contains(env.A)", "`contains` takes 2 arguments, but 1 were given"),
            ("toJSON()", "toJSON()", "`toJSON` takes 1 argument, but 0 were given"),
            ("join(a, b, c)", "join(a, b, c)", "`join` takes 1 to 2 arguments, but 3 were given"),
            ("format('{0} {1}', a)", "'{0} {1}'", "no argument for `{1}`"),
            ("format('{0}')", "'{0}'", "no argument for `{0}`"),
            ("format('{', a)", "'{'", "brace"),
            ("format('{0}}', a)", "'{0}}'", "brace"),
            ("format('{x}', a)", "'{x}'", "brace"),
            ("format('{+0}', a)", "'{+0}'", "brace"),
            ("format('{256}', a)", "'{256}'", "brace"),
        ]);
    }

    #[test]
    fn a_text_cannot_grow_without_limit() {
        let wrap = |before: &str, levels: usize, after: &str| {
            before.repeat(levels) + "'\"\"'" + &after.repeat(levels)
        };
        for text in [
            wrap("format('{0}{0}{0}{0}', ", 48, ")"),
            wrap("toJSON(", 48, ")"),
            wrap("join(words, ", 48, ")"),
        ] {
            let value = Expression::parse(&text).unwrap().evaluate(&Sample).to_string();
            assert_eq!(value.len(), MAX_BYTES);
        }
    }
}
