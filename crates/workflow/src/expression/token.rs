//! Splits an expression into tokens.

use super::ExpressionError;
use super::value::{Value, parse_number};
use std::ops::Range;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// `null`, `true`, `0x1F`, `'a text'`.
    Literal(Value),
    /// The name of a context, a key or a function.
    Name,
    Sign(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Range<usize>,
}

/// Of two operators with the same beginning, the longer one comes first.
const SIGNS: [&str; 16] =
    ["==", "!=", "<=", ">=", "&&", "||", "(", ")", "[", "]", ",", ".", "*", "!", "<", ">"];

/// The longest quotation of a wrong word in an error, in characters.
const MAX_QUOTED: usize = 40;

/// Splits a part of `text`; the spans are offsets in the whole `text`.
pub(super) fn tokens(text: &str, part: Range<usize>) -> Result<Vec<Token>, ExpressionError> {
    let text = &text[..part.end];
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = part.start;
    loop {
        at += length_while(&text[at..], char::is_whitespace);
        if at == text.len() {
            return Ok(tokens);
        }
        let token = token(text, at, tokens.last().map(|token| &token.kind))?;
        at = token.span.end;
        tokens.push(token);
    }
}

fn token(text: &str, start: usize, before: Option<&TokenKind>) -> Result<Token, ExpressionError> {
    let rest = &text[start..];
    match rest.as_bytes()[0] {
        b'\'' => return quoted(text, start),
        b'"' => return Err(double_quoted(text, start)),
        b'0'..=b'9' | b'+' | b'-' => return number(text, start),
        b'.' if expects_value(before) => return number(text, start),
        _ => {}
    }
    match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        Some(sign) => Ok(Token { kind: TokenKind::Sign(sign), span: start..start + sign.len() }),
        None => word(text, start, before == Some(&TokenKind::Sign("."))),
    }
}

fn expects_value(before: Option<&TokenKind>) -> bool {
    match before {
        None => true,
        Some(TokenKind::Sign(sign)) => !matches!(*sign, ")" | "]" | "*" | "."),
        Some(_) => false,
    }
}

fn quoted(text: &str, start: usize) -> Result<Token, ExpressionError> {
    let mut value = String::new();
    let mut at = start + 1;
    while let Some(length) = text[at..].find('\'') {
        value.push_str(&text[at..at + length]);
        at += length + 1;
        if !text[at..].starts_with('\'') {
            return Ok(Token { kind: TokenKind::Literal(Value::Text(value)), span: start..at });
        }
        value.push('\'');
        at += 1;
    }
    Err(ExpressionError::new(&(start..text.len()), "the string that begins with this `'` is not closed")
        .hint("close it with `'`; write `''` for a quote in it"))
}

fn double_quoted(text: &str, start: usize) -> ExpressionError {
    let after = start + 1;
    let end = text[after..].find('"').map_or(text.len(), |length| after + length + 1);
    unexpected(text, &(start..end))
}

fn number(text: &str, start: usize) -> Result<Token, ExpressionError> {
    // The first character is always taken: it may be a point, or a sign.
    let length = 1 + length_while(&text[start + 1..], |letter| letter == '.' || !ends_word(letter));
    let span = start..start + length;
    let number = parse_number(&text[span.clone()]);
    if number.is_nan() {
        return Err(unexpected(text, &span));
    }
    Ok(Token { kind: TokenKind::Literal(Value::Number(number)), span })
}

fn word(text: &str, start: usize, is_key: bool) -> Result<Token, ExpressionError> {
    let first = text[start..].chars().next().map_or(0, char::len_utf8);
    let length = first + length_while(&text[start + first..], |letter| !ends_word(letter));
    let span = start..start + length;
    let word = &text[span.clone()];
    if !is_name(word) {
        return Err(unexpected(text, &span));
    }
    let kind = if is_key { None } else { constant(word).map(TokenKind::Literal) };
    Ok(Token { kind: kind.unwrap_or(TokenKind::Name), span })
}

fn constant(word: &str) -> Option<Value> {
    Some(match word {
        "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "NaN" => Value::Number(f64::NAN),
        "Infinity" => Value::Number(f64::INFINITY),
        _ => return None,
    })
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-')
}

fn ends_word(letter: char) -> bool {
    letter.is_whitespace() || "()[],.!<>=&|".contains(letter)
}

fn length_while(text: &str, holds: impl Fn(char) -> bool) -> usize {
    text.find(|letter| !holds(letter)).unwrap_or(text.len())
}

/// The error for a token that is not allowed at its position.
pub(super) fn unexpected(text: &str, span: &Range<usize>) -> ExpressionError {
    let word = &text[span.clone()];
    let error = ExpressionError::new(span, format!("unexpected `{}`", shown(word)));
    match remedy(word) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

const NO_ARITHMETIC: &str = "expressions have no arithmetic";
const TWO_VALUES: &str = "put an operator such as `==` or `&&` between two values";

fn remedy(word: &str) -> Option<&'static str> {
    let first = word.chars().next()?;
    Some(match word.to_ascii_lowercase().as_str() {
        _ if word.contains('"') => "strings need single quotes: `'text'`",
        "and" => "write `&&`",
        "or" => "write `||`",
        "not" => "write `!`",
        "*" => NO_ARITHMETIC,
        _ if SIGNS.contains(&word) => return None,
        _ => match first {
            '=' => "equality is `==`",
            '&' => "and is `&&`",
            '|' => "or is `||`",
            '+' | '-' | '/' | '%' => NO_ARITHMETIC,
            '$' | '{' | '}' => "omit `${{ }}` inside an expression",
            '0'..='9' | '.' if parse_number(word).is_nan() => {
                "write a number as `42`, `-1.5`, `1e3`, `0x1F` or `0o17`, and a string in single quotes"
            }
            '0'..='9' | '.' | '\'' => TWO_VALUES,
            _ if is_name(word) => TWO_VALUES,
            _ if first.is_alphabetic() || first == '_' => {
                "a name consists of ASCII letters, digits, `_` and `-`; write any other key as `['key']`"
            }
            _ => return None,
        },
    })
}

/// A part of the source for a message: shortened, and without control characters.
pub(super) fn shown(source: &str) -> String {
    let mut shown = String::new();
    for (count, letter) in source.chars().enumerate() {
        if count == MAX_QUOTED {
            shown.push('…');
            break;
        }
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_faults, assert_values};

    #[test]
    fn literals_are_read_as_on_github() {
        assert_values(&[
            ("null", "null"),
            (" true ", "true"),
            ("'it''s'", "\"it's\""),
            ("''", "\"\""),
            ("''''", "\"'\""),
            ("'a\"é\n'", "\"a\\\"é\\n\""),
            ("1", "1"),
            ("-1.50", "-1.5"),
            ("+.5", "0.5"),
            ("1.", "1"),
            ("1E+3", "1000"),
            ("0xfF", "255"),
            ("0o17", "15"),
            ("-Infinity", "-Infinity"),
            ("NaN", "NaN"),
        ]);
    }

    #[test]
    fn a_constant_after_a_point_is_a_key() {
        assert_values(&[("needs.true", "null"), ("needs.Infinity.null", "null")]);
    }

    #[test]
    fn an_invalid_token_is_an_error_with_its_position() {
        assert_faults(&[
            ("env.A == \"a b\" || x", "\"a b\"", "single quotes"),
            ("\"a", "\"a", "single quotes"),
            ("a\"b\"", "a\"b\"", "single quotes"),
            ("'é' == 'a", "'a", "is not closed"),
            ("'it's'", "s'", "unexpected `s'`"),
            ("a = 1", "=", "`==`"),
            ("1 =2", "=2", "`==`"),
            ("a & b", "&", "`&&`"),
            ("a | b", "|", "`||`"),
            ("a and b", "and", "`&&`"),
            ("a OR b", "OR", "`||`"),
            ("not a", "a", "operator"),
            ("a + b", "+", "no arithmetic"),
            ("a * b", "*", "no arithmetic"),
            ("a -1", "-1", "no arithmetic"),
            ("0x", "0x", "write a number"),
            ("0xFG", "0xFG", "write a number"),
            ("-0xF", "-0xF", "unexpected `-0xF`"),
            ("0o8", "0o8", "write a number"),
            ("1.2.3", "1.2.3", "write a number"),
            ("..a", "..a", "write a number"),
            ("inf == -inf", "-inf", "unexpected `-inf`"),
            ("env.é == 1", "é", "['key']"),
            ("a@b", "a@b", "['key']"),
            ("a }}", "}}", "inside an expression"),
            ("a\0", "a\0", "unexpected `a\\u{0}`"),
        ]);
    }
}
