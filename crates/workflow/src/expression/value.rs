//! Values and their conversions.

use indexmap::IndexMap;
use std::cmp::Ordering;
use std::fmt;

/// The result of an expression.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Null; also the value of a missing key.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number; integers have no type of their own.
    Number(f64),
    /// A text.
    Text(String),
    /// A list of values.
    List(Vec<Value>),
    /// Values by their keys.
    Map(IndexMap<String, Value>),
}

impl Value {
    /// Whether the value counts as true. Only null, false, 0, NaN and the empty text do not.
    #[must_use]
    pub fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Text(text) => !text.is_empty(),
            Self::List(_) | Self::Map(_) => true,
        }
    }

    pub(super) fn is_collection(&self) -> bool {
        matches!(self, Self::List(_) | Self::Map(_))
    }

    pub(super) fn as_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(value) => f64::from(*value),
            Self::Number(number) => *number,
            Self::Text(text) => parse_number(text),
            Self::List(_) | Self::Map(_) => f64::NAN,
        }
    }

    /// Compares two values; `None` if that is not possible: NaN, a list, a map.
    ///
    /// On GitHub a list or a map is equal to itself. Here each use is a copy, so it is equal to nothing.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => Some(without_case(one).cmp(&without_case(other))),
            (Self::List(_) | Self::Map(_), _) | (_, Self::List(_) | Self::Map(_)) => None,
            _ => self.as_number().partial_cmp(&other.as_number()),
        }
    }

    /// The value of a key or an item of a list, if it exists.
    pub(super) fn into_item(self, key: &Self) -> Option<Self> {
        match self {
            Self::List(list) => list.into_iter().nth(list_index(key.as_number())?),
            Self::Map(mut map) if !key.is_collection() => {
                let key = key.to_string();
                let index = map.get_index_of(&key).or_else(|| index_without_case(&map, &key))?;
                map.swap_remove_index(index).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The values in a list or a map.
    pub(super) fn into_items(self) -> Vec<Self> {
        match self {
            Self::List(list) => list,
            Self::Map(map) => map.into_values().collect(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Number(number) => write_number(*number, out),
            Self::Text(text) => out.write_str(text),
            Self::List(_) => out.write_str("Array"),
            Self::Map(_) => out.write_str("Object"),
        }
    }
}

fn list_index(number: f64) -> Option<usize> {
    // The cast rounds down. An index that is too large becomes the end of the range.
    (number >= 0.0).then_some(number as usize)
}

fn index_without_case(map: &IndexMap<String, Value>, key: &str) -> Option<usize> {
    let key = without_case(key);
    map.keys().position(|candidate| without_case(candidate) == key)
}

/// Folds the case of a text for comparison.
///
/// As .NET's ordinal comparison: each character by itself, and only ASCII letters are equal to ASCII letters.
pub(super) fn without_case(text: &str) -> String {
    text.chars().map(upper).collect()
}

fn upper(letter: char) -> char {
    let mut upper = letter.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) if upper.is_ascii() == letter.is_ascii() => upper,
        _ => letter,
    }
}

/// Converts a text to a number: 0 if it is blank, NaN if it is not a number.
pub(super) fn parse_number(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return parse_digits(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return parse_digits(digits, 8);
    }
    match text {
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        // Rust would also accept `inf` and `nan`.
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => {
            text.parse().unwrap_or(f64::NAN)
        }
        _ => f64::NAN,
    }
}

/// Parses a signed 32-bit number as .NET does: `0xFFFFFFFF` is -1.
fn parse_digits(digits: &str, radix: u32) -> f64 {
    match u32::from_str_radix(digits, radix) {
        Ok(number) if !digits.starts_with('+') => f64::from(number.cast_signed()),
        _ => f64::NAN,
    }
}

/// Significant digits of a number in a text: .NET's format `G15`.
const DIGITS: i32 = 15;

fn write_number(number: f64, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    if number.is_nan() {
        return out.write_str("NaN");
    }
    if number.is_infinite() {
        return out.write_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
    }
    if number == 0.0 {
        return out.write_str("0");
    }
    let scientific = format!("{number:.*e}", (DIGITS - 1) as usize);
    let Some((digits, exponent)) = scientific.split_once('e') else { return out.write_str(&scientific) };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..DIGITS).contains(&exponent) {
        let decimals = (DIGITS - 1 - exponent) as usize;
        return out.write_str(without_trailing_zeros(&format!("{number:.decimals$}")));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "{}E{sign}{:02}", without_trailing_zeros(digits), exponent.abs())
}

fn without_trailing_zeros(digits: &str) -> &str {
    match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_values;
    use super::*;

    #[test]
    fn numbers_are_written_as_dotnet_does() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (100.0, "100"),
            (0.1 + 0.2, "0.3"),
            (123_456.789, "123456.789"),
            (0.845_512_408_225_570_1, "0.84551240822557"),
            (0.000_1, "0.0001"),
            (0.000_01, "1E-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (999_999_999_999_999.9, "1E+15"),
            (1_234_567_890_123_456.0, "1.23456789012346E+15"),
            (-1e100, "-1E+100"),
            (f64::MIN_POSITIVE, "2.2250738585072E-308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(Value::Number(number).to_string(), expected);
        }
    }

    #[test]
    fn strings_convert_to_numbers_as_on_github() {
        for (text, expected) in [
            ("", 0.0),
            (" \t\n", 0.0),
            (" 12 ", 12.0),
            ("+1.5e-1", 0.15),
            (".5", 0.5),
            ("0x10", 16.0),
            ("0xFFFFFFFF", -1.0),
            ("0o37777777777", -1.0),
            (" Infinity", f64::INFINITY),
            ("1e999", f64::INFINITY),
        ] {
            assert_eq!(parse_number(text), expected, "{text}");
        }
        for text in [
            "a",
            "1a",
            "1 2",
            "-",
            ".",
            "1e",
            "inf",
            "nan",
            "NaN",
            "0X10",
            "0x+1",
            "0x",
            "0x1FFFFFFFF",
            "0o9",
        ] {
            assert!(parse_number(text).is_nan(), "{text}");
        }
    }

    #[test]
    fn values_are_true_except_empty_ones() {
        assert_values(&[
            ("!null", "true"),
            ("!false", "true"),
            ("!0", "true"),
            ("!-0", "true"),
            ("!NaN", "true"),
            ("!''", "true"),
            ("!'false'", "false"),
            ("!' '", "false"),
            ("!-1", "false"),
            ("!words", "false"),
            ("!needs.c", "false"),
        ]);
    }

    #[test]
    fn comparing_makes_numbers_of_unlike_kinds() {
        assert_values(&[
            ("null == 0", "true"),
            ("null == ''", "true"),
            ("null == null", "true"),
            ("null >= null", "true"),
            ("true == 1", "true"),
            ("true == 'true'", "false"),
            ("true > false", "true"),
            ("' 0x10 ' == 16", "true"),
            ("'a' == 0", "false"),
            ("'a' != 0", "true"),
            ("'a' < 1 || 'a' >= 1", "false"),
            ("NaN == NaN", "false"),
            ("NaN != NaN", "true"),
            ("'Ada' == env.name", "true"),
            ("'ÉΣ' == 'éς'", "true"),
            ("'ı' == 'I' || 'ſ' == 's'", "false"),
            ("'ß' == 'SS'", "false"),
            ("'a' < 'B' && 'B' > 'a'", "true"),
            ("'10' < '9'", "true"),
            ("10 < '9'", "false"),
            ("words == words", "false"),
            ("words != words", "true"),
            ("words == 'Array' || needs == NaN || words == needs", "false"),
        ]);
    }
}
