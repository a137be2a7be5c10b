//! What a registry says when it does not give what it was asked for (distribution specification, "Error Codes").

use super::retry::Failure;
use fetch::http;
use hint::hinted;
use serde::Deserialize;
use std::io::Read as _;
use std::time::Duration;
use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode, header};

/// Bytes of the answer that are looked at: a message, not a page.
const ANSWER_LIMIT: u64 = 16 << 10;
/// How long it is waited for: the failure itself is known already.
const ANSWER_TIME_LIMIT: Duration = Duration::from_secs(10);
/// Letters of the registry's message that are shown.
const MESSAGE_LIMIT: usize = 200;

/// Who asks; for hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginOrigin {
    Nobody,
    Workflow,
    AuthFile,
    /// Nobody who may say who it is: the registry has sent us to another server.
    Elsewhere,
}

/// The failure that an answer without success means.
pub(super) fn refusal(
    host: &str,
    url: &str,
    login_origin: LoginOrigin,
    mut response: Response<Body>,
) -> Failure {
    let status = response.status();
    let message = message(&mut response);
    let (what, hint) = explain(status, host, url, login_origin);
    let error = match message {
        Some(message) => hint::attach(anyhow::anyhow!("it says: {message}").context(what), hint),
        None => hinted(what, hint),
    };
    // RFC 9110: 408, 429 and all but a few of 5xx are of the moment.
    let may_pass = matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504);
    let is_absent = status == StatusCode::NOT_FOUND;
    Failure { error, may_pass, is_absent, not_before: retry_after(response.headers()) }
}

fn explain(status: StatusCode, host: &str, url: &str, login_origin: LoginOrigin) -> (String, String) {
    let answered = format!("`{host}` answered `{status}` for `{url}`");
    match status {
        StatusCode::NOT_FOUND => {
            (format!("`{host}` has no `{url}`"), "check the image's name and tag".into())
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let hint = match login_origin {
                LoginOrigin::Workflow => "check the container's `credentials`, and the image's name",
                LoginOrigin::AuthFile => "check the login in auth.json, what it may do, and the image's name",
                LoginOrigin::Elsewhere => {
                    "the registry sends us to that server, which is never shown a login: check the registry's storage"
                }
                LoginOrigin::Nobody => {
                    "the image does not exist or is not public; `credentials:` or an auth.json name who pulls"
                }
            };
            (answered, hint.into())
        }
        StatusCode::TOO_MANY_REQUESTS => (
            format!("`{host}` has had too many requests from here (`{status}` for `{url}`)"),
            "log in (`credentials:`, auth.json), use a mirror (registries.conf), or try later".into(),
        ),
        _ if status.is_server_error() => {
            (answered, format!("the registry is out of order or overloaded: look into the log of `{host}`"))
        }
        _ => (answered, format!("check that `{host}` is a registry, and the image's name")),
    }
}

/// What the registry itself says, as it says it.
fn message(response: &mut Response<Body>) -> Option<String> {
    let mut body = Vec::new();
    // What does not arrive is not shown.
    let _ = http::beginning(response, ANSWER_LIMIT, ANSWER_TIME_LIMIT).read_to_end(&mut body);
    parse_message(&body)
}

fn parse_message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorResponse {
        errors: Vec<Told>,
    }
    #[derive(Deserialize)]
    struct Told {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let answer: ErrorResponse = serde_json::from_slice(body).ok()?;
    let told =
        answer.errors.iter().map(|told| if told.message.is_empty() { &*told.code } else { &*told.message });
    let text = told.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    let beginning: String = text.chars().take(MESSAGE_LIMIT).collect();
    (!beginning.is_empty()).then_some(beginning)
}

/// RFC 9110, section 10.2.3: seconds, or a date, which is compared with the server's own: our clock may be wrong.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let after = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = after.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = seconds_of(after)?.saturating_sub(seconds_of(text(header::DATE)?)?);
    Some(Duration::from_secs(seconds))
}

/// Seconds from the first of March of the year 0 to an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110,
/// section 5.6.7). Only differences have a meaning.
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
        .then_some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_registry_are_shown_bounded() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                Some("manifest unknown"),
            ),
            (
                r#"{"errors":[{"code":"DENIED"},{"message":"go\n\u001b[31maway"}]}"#,
                Some("DENIED; go\n\u{1b}[31maway"),
            ),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(parse_message(body.as_bytes()).as_deref(), expected, "{body}");
        }
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(5000));
        assert_eq!(parse_message(long.as_bytes()).unwrap().len(), MESSAGE_LIMIT);
    }

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
    }

    #[test]
    fn the_hint_knows_who_asked() {
        let hint = |status, login_origin| explain(status, "r.example", "https://r.example/x", login_origin).1;
        assert!(hint(StatusCode::UNAUTHORIZED, LoginOrigin::Workflow).contains("container's `credentials`"));
        assert!(hint(StatusCode::FORBIDDEN, LoginOrigin::AuthFile).contains("login in auth.json"));
        assert!(hint(StatusCode::UNAUTHORIZED, LoginOrigin::Nobody).contains("not public"));
        assert!(hint(StatusCode::BAD_GATEWAY, LoginOrigin::Nobody).contains("log of `r.example`"));
    }
}
