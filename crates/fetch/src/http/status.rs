//! What an unsuccessful status means for a retry.

use super::host;
use hint::hinted;
use retry::{Failure, FailureKind};
use std::time::Duration;
use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode, header};

/// Whether the same request may succeed later (RFC 9110, section 15, and RFC 6585, section 4).
#[must_use]
pub fn failure_kind(status: StatusCode) -> FailureKind {
    match status.as_u16() {
        429 | 503 => FailureKind::Overloaded,
        408 | 500 | 502 | 504 => FailureKind::Unreachable,
        _ => FailureKind::Permanent,
    }
}

/// The failure for an answer with an unsuccessful status.
pub(super) fn failure(url: &str, response: &Response<Body>) -> Failure {
    let (status, host) = (response.status(), host(url));
    let kind = failure_kind(status);
    let error = match kind {
        FailureKind::Overloaded => hinted(
            format!("`{host}` is overloaded: it responded with `{status}` to `{url}`"),
            "the server was reached: try later, or serve the file from several machines",
        ),
        FailureKind::Unreachable => hinted(
            format!("the server responded with `{status}` to `{url}`"),
            format!("the server was reached but failed: check the log of `{host}`"),
        ),
        FailureKind::Permanent | FailureKind::Damaged => hinted(
            format!("the server responded with `{status}` to `{url}`"),
            "the server was reached: check the URL",
        ),
    };
    Failure {
        is_absent: status == StatusCode::NOT_FOUND,
        not_before: retry_after(response.headers()),
        ..Failure::new(kind, error)
    }
}

/// Parses `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date. A date is compared with the server's own
/// `Date`, for the clock of this machine may be wrong.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let after = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = after.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = seconds_of(after)?.saturating_sub(seconds_of(text(header::DATE)?)?);
    Some(Duration::from_secs(seconds))
}
/// Seconds from 1 March of the year 0 to an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7). Only
/// differences are meaningful.
fn seconds_of(date: &str) -> Option<u64> {
    const MONTHS: &str = "MarAprMayJunJulAugSepOctNovDecJanFeb";
    let fields: Vec<&str> = date.trim().split(' ').collect();
    let [_, day, month, year, time, "GMT"] = fields[..] else { return None };
    let month = (MONTHS.find(month).filter(|at| at % 3 == 0 && month.len() == 3)? / 3) as u64;
    let day = day.parse::<u64>().ok().filter(|day| *day < 32)?;
    let year = year.parse::<u64>().ok().filter(|year| *year < 10_000)?;
    // The year begins in March, so that leap days come last.
    let year = year.checked_sub(u64::from(month >= 10))?;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    let clock: Vec<u64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hours, minutes, seconds] = clock[..] else { return None };
    (hours < 24 && minutes < 60 && seconds < 61)
        .then(|| days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_in_seconds_or_a_date() {
        let after = |pairs: &[(header::HeaderName, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            retry_after(&headers).map(|wait| wait.as_secs())
        };
        let date = |text| (header::DATE, text);
        let wait = |text| (header::RETRY_AFTER, text);
        assert_eq!(after(&[wait("7")]), Some(7));
        assert_eq!(after(&[wait("soon")]), None);
        let newest = "Fri, 29 Feb 2024 23:59:50 GMT";
        assert_eq!(after(&[date(newest), wait("Sat, 01 Mar 2024 00:00:20 GMT")]), Some(30));
        assert_eq!(
            after(&[date("Sun, 31 Dec 2023 23:59:59 GMT"), wait("Mon, 01 Jan 2024 00:00:00 GMT")]),
            Some(1)
        );
        assert_eq!(after(&[date(newest), wait("Fri, 29 Feb 2024 23:00:00 GMT")]), Some(0));
        assert_eq!(after(&[wait("Sat, 01 Mar 2024 00:00:20 GMT")]), None);
        let no_day = format!("Sat, {} Mar 2024 00:00:20 GMT", u64::MAX);
        assert_eq!(after(&[date(newest), wait(&no_day)]), None);
        let no_hour = format!("Sat, 01 Mar 2024 {}:00:20 GMT", u64::MAX);
        assert_eq!(after(&[date(newest), wait(&no_hour)]), None);
    }

    #[test]
    fn an_overloaded_server_is_distinguished_from_a_refusing_one() {
        let failure = |status: u16| {
            let response = Response::builder().status(status).header(header::RETRY_AFTER, "90");
            failure("https://r.example/x", &response.body(Body::builder().data("")).unwrap())
        };
        for (status, kind, told) in [
            (429, FailureKind::Overloaded, "`r.example` is overloaded: it responded with `429"),
            (503, FailureKind::Overloaded, "`r.example` is overloaded: it responded with `503"),
            (502, FailureKind::Unreachable, "the server responded with `502"),
            (403, FailureKind::Permanent, "the server responded with `403"),
            (404, FailureKind::Permanent, "the server responded with `404"),
        ] {
            let failure = failure(status);
            assert!(
                failure.kind == kind && failure.is_absent == (status == 404),
                "{status}: {:?}",
                failure.kind
            );
            assert!(failure.error.to_string().starts_with(told), "{:#}", failure.error);
            assert_eq!(failure.not_before, Some(Duration::from_secs(90)));
        }
    }
}
