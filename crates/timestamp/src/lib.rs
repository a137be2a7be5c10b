//! Points in time as documents write them.
//!
//! Principles:
//!
//! 1. A timestamp is whole seconds in UTC. A text that cannot be represented exactly is an error.
//! 2. No I/O: the caller reads the clock.
//!
//! ```
//! use timestamp::Timestamp;
//!
//! assert_eq!("1970-01-02T00:00:00Z".parse::<Timestamp>().unwrap(), Timestamp::from_unix(86_400));
//! assert!("1970-13-01".parse::<Timestamp>().is_err());
//! ```
//!
//! Errors: a text that is not a timestamp or names no point in time, with a hint.
//!
//! Specification: RFC 3339, section 5.6.
#![forbid(unsafe_code)]

use hint::hinted;
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of a day; Unix time has no leap seconds.
const DAY: i64 = 86_400;

/// Whole seconds since 1970-01-01T00:00:00Z, without leap seconds. Years are from 0000 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From Unix seconds.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// The time in whole seconds, rounded down.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
            Err(before) => Self(-i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX)),
        }
    }
}

/// A date without a time is its last second in UTC, so that "until this date" includes the date.
impl FromStr for Timestamp {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        parse(text).ok_or_else(|| {
            hinted(
                format!("`{}` is not an RFC 3339 date", text.escape_debug()),
                "write it as `2027-01-31` or `2027-01-31T18:00:00Z`",
            )
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = date_of(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = (text.get(..10)?, text.get(10..)?);
    let days = days_since_1970(date)?;
    if time.is_empty() {
        return Some(Timestamp(days * DAY + DAY - 1));
    }
    let time = time.strip_prefix(['T', 't'])?;
    let (clock, zone) = (time.get(..8)?, without_fraction(time.get(8..)?)?);
    Some(Timestamp(days * DAY + second_of_day(clock)? - offset(zone)?))
}

fn days_since_1970(date: &str) -> Option<i64> {
    let (year, month, day) = (digits(date, 0..4)?, digits(date, 5..7)?, digits(date, 8..10)?);
    let separated = date.as_bytes()[4] == b'-' && date.as_bytes()[7] == b'-';
    let is_date = separated && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    is_date.then(|| days_of_civil(year, month, day))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `days_from_civil`).
fn days_of_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_of_civil`] (`civil_from_days` there).
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days.saturating_add(719_468);
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * of_era + of_era / 4 - of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// Parses `HH:MM:SS`. A leap second counts as the following second.
fn second_of_day(clock: &str) -> Option<i64> {
    let (hour, minute, second) = (digits(clock, 0..2)?, digits(clock, 3..5)?, digits(clock, 6..8)?);
    let separated = clock.as_bytes()[2] == b':' && clock.as_bytes()[5] == b':';
    let is_time = separated && hour < 24 && minute < 60 && second <= 60;
    is_time.then_some(hour * 3600 + minute * 60 + second)
}

fn without_fraction(rest: &str) -> Option<&str> {
    let Some(fraction) = rest.strip_prefix('.') else { return Some(rest) };
    let zone = fraction.trim_start_matches(|letter: char| letter.is_ascii_digit());
    (zone.len() < fraction.len()).then_some(zone)
}

/// Offset of a time zone from UTC in seconds, positive in the east.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('+') { 1 } else { -1 };
    let clock = zone.strip_prefix(['+', '-']).filter(|clock| clock.len() == 5 && clock.is_ascii())?;
    let (hour, minute) = (digits(clock, 0..2)?, digits(clock, 3..5)?);
    let is_offset = clock.as_bytes()[2] == b':' && hour < 24 && minute < 60;
    is_offset.then_some(sign * (hour * 3600 + minute * 60))
}

fn digits(text: &str, range: std::ops::Range<usize>) -> Option<i64> {
    let part = text.get(range)?;
    part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_rfc_3339_are_read_and_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01", DAY - 1),
            ("1969-12-31T23:59:59z", -1),
            ("2024-02-29", 1_709_251_199),
            ("2024-02-29t12:30:00.123456789+01:30", 1_709_204_400),
            ("2000-02-29T00:00:00-23:59", 951_782_400 + 86_340),
            ("2016-12-31T23:59:60Z", 1_483_228_800),
            ("0000-01-01T00:00:00Z", -62_167_219_200),
            ("9999-12-31", 253_402_300_799),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap(), Timestamp(seconds), "{text}");
        }
        for seconds in [0, -1, 951_782_399, 1_709_251_199, 253_402_300_799, -62_167_219_200] {
            assert_eq!(Timestamp(seconds).to_string().parse::<Timestamp>().unwrap(), Timestamp(seconds));
        }
        assert_eq!(Timestamp(1_709_251_199).to_string(), "2024-02-29T23:59:59Z");
    }

    #[test]
    fn malformed_dates_are_refused() {
        for text in [
            "",
            "2024",
            "2024-13-01",
            "2024-00-01",
            "2023-02-29",
            "1900-02-29",
            "2024-04-31",
            "2024-01-00",
            "2024-1-01",
            "24-01-01",
            "+024-01-01",
            "2024-01-01 00:00:00Z",
            "2024-01-01T",
            "2024-01-01T00:00:00",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00Zx",
            "2024/01/01",
            "10000-01-01",
            "2024-01-01x",
            "２０２４-01-01",
            "2024-01-01T00:00:00+é1:0",
            "2024-01-01T00:00:00é",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
