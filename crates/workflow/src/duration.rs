//! Parsers for durations and sizes.

use std::time::Duration;

/// The longest duration that makes sense in a boot: a year, in seconds.
pub const LONGEST: u64 = 366 * 24 * 3600;

/// What [`parse`] accepts, as a regular expression of ECMA-262, but without an upper limit.
pub const PATTERN: &str = "^\\s*(?=.*[1-9])(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)\\s*\
     (ms|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)\\s*)+$";

/// What [`bytes`] accepts, as a regular expression of ECMA-262.
pub const SIZE_PATTERN: &str = "^0*[1-9][0-9]*([kKmMgGtT]([iI]?[bB])?)?$";

/// `90s`, `1m 30s`, `1.5h`, `2d`: numbers with units, added up (as systemd.time(7), but always with a unit). `None`
/// for any other text, for zero, and for more than a year.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    bounded(seconds(text)?)
}

/// Whether a text is a number of minutes or a duration, but zero or more than a year.
pub(super) fn is_out_of_range(text: &str) -> bool {
    let seconds = seconds(text).or_else(|| text.parse().ok());
    seconds.is_some_and(|seconds| bounded(seconds).is_none())
}

fn seconds(text: &str) -> Option<f64> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let unit_at = rest.find(|letter: char| letter.is_ascii_alphabetic())?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(tail.len());
        seconds += decimal(number.trim())? * unit_seconds(&tail[..unit_end])?;
        rest = tail[unit_end..].trim_start();
    }
    Some(seconds)
}

/// GitHub's `timeout-minutes`: a number.
#[must_use]
pub fn minutes(text: &str) -> Option<Duration> {
    bounded(decimal(text)? * 60.0)
}

fn bounded(seconds: f64) -> Option<Duration> {
    (seconds > 0.0 && seconds <= LONGEST as f64).then(|| Duration::from_secs_f64(seconds))
}

fn decimal(text: &str) -> Option<f64> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_decimal { text.parse().ok() } else { None }
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" => 0.001,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86400.0,
        _ => return None,
    })
}

/// `64M`: bytes, with units of powers of 1024 as in tmpfs(5).
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let power = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" | "kb" => 1,
        "m" | "mib" | "mb" => 2,
        "g" | "gib" | "gb" => 3,
        "t" | "tib" | "tb" => 4,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << (10 * power)).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, expected) in [
            ("90s", Some(90.0)),
            ("1m 30s", Some(90.0)),
            ("1m30s", Some(90.0)),
            ("1.5h", Some(5400.0)),
            ("250ms", Some(0.25)),
            ("2 days", Some(172_800.0)),
            ("90", None),
            ("0s", None),
            ("-1s", None),
            ("1e9s", None),
            ("400d", None),
            ("s", None),
            ("", None),
            ("5 parsecs", None),
        ] {
            assert_eq!(parse(text).map(|time| time.as_secs_f64()), expected, "{text}");
        }
        assert_eq!(minutes("1.5"), Some(Duration::from_secs(90)));
        assert_eq!(minutes("inf"), None);
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(bytes("64M"), Some(64 << 20));
        assert_eq!(bytes("1000"), Some(1000));
        assert_eq!(bytes("1GiB"), Some(1 << 30));
        assert_eq!((bytes("0"), bytes("M"), bytes("5X"), bytes("99999999T")), (None, None, None, None));
    }
}
