//! The failure for an unsuccessful answer of a registry (distribution specification, "Error Codes").

use super::retry::Failure;
use fetch::http;
use hint::hinted;
use serde::Deserialize;
use std::io::Read as _;
use std::time::Duration;
use ureq::Body;
use ureq::http::{Response, StatusCode};

/// Bytes of the answer that are read: a message, not a page.
const ANSWER_LIMIT: u64 = 16 << 10;
/// Time limit for the message: the failure itself is known already.
const ANSWER_TIME_LIMIT: Duration = Duration::from_secs(10);
/// Characters of the registry's message that are shown.
const MESSAGE_LIMIT: usize = 200;

/// Where the login comes from; for hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginOrigin {
    Nobody,
    Workflow,
    AuthFile,
    /// None is sent: the answer is from another server, after a redirect.
    Elsewhere,
}

/// The failure for an unsuccessful answer.
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
        Some(message) => hint::attach(anyhow::anyhow!("the server replied: {message}").context(what), hint),
        None => hinted(what, hint),
    };
    Failure {
        is_absent: status == StatusCode::NOT_FOUND,
        not_before: http::retry_after(response.headers()),
        ..Failure::new(http::failure_kind(status), error)
    }
}

fn explain(status: StatusCode, host: &str, url: &str, login_origin: LoginOrigin) -> (String, String) {
    let answered = format!("`{host}` responded with `{status}` to `{url}`");
    match status {
        StatusCode::NOT_FOUND => {
            (format!("`{host}` has no `{url}`"), "check the image's name and tag".into())
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let hint = match login_origin {
                LoginOrigin::Workflow => "check the container's `credentials` and the image's name",
                LoginOrigin::AuthFile => {
                    "check the login in auth.json, its permissions, and the image's \
                                          name"
                }
                LoginOrigin::Elsewhere => {
                    "the registry redirects to this server, to which no login is sent: check the registry's \
                     storage"
                }
                LoginOrigin::Nobody => {
                    "the image does not exist or requires a login: set `credentials:` or add an auth.json"
                }
            };
            (answered, hint.into())
        }
        StatusCode::TOO_MANY_REQUESTS => (
            format!("too many requests to `{host}` (`{status}` for `{url}`)"),
            "log in (`credentials:`, auth.json), use a mirror (registries.conf), or try later".into(),
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            format!("`{host}` is overloaded or starting (`{status}` for `{url}`)"),
            format!("try later, use a mirror (registries.conf), or check the log of `{host}`"),
        ),
        _ if status.is_server_error() => {
            (answered, format!("the registry failed: check the log of `{host}`"))
        }
        _ => (answered, format!("check the image's name, and that `{host}` is a registry")),
    }
}

/// The registry's own message.
fn message(response: &mut Response<Body>) -> Option<String> {
    let mut body = Vec::new();
    // A message that cannot be read is left out.
    let _ = http::beginning(response, ANSWER_LIMIT, http::Deadline::within(ANSWER_TIME_LIMIT))
        .read_to_end(&mut body);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_message_of_a_registry_is_bounded() {
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
    fn the_hint_depends_on_the_caller() {
        let hint = |status, login_origin| explain(status, "r.example", "https://r.example/x", login_origin).1;
        assert!(hint(StatusCode::UNAUTHORIZED, LoginOrigin::Workflow).contains("container's `credentials`"));
        assert!(hint(StatusCode::FORBIDDEN, LoginOrigin::AuthFile).contains("login in auth.json"));
        assert!(hint(StatusCode::UNAUTHORIZED, LoginOrigin::Nobody).contains("requires a login"));
        assert!(hint(StatusCode::BAD_GATEWAY, LoginOrigin::Nobody).contains("log of `r.example`"));
    }
}
