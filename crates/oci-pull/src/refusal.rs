//! The failure for an unsuccessful answer of a registry (distribution specification, "Error Codes").

use super::caller::Caller;
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
}

/// Who asks; for hints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) login_origin: LoginOrigin,
    pub(super) caller: Caller,
}

/// A server that refused something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server<'a> {
    pub(super) host: &'a str,
    pub(super) role: Role<'a>,
}

/// What a server is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role<'a> {
    /// The registry, which was asked for an image by its name.
    Names,
    /// The registry, which was asked for a part of an image by its digest.
    Blobs,
    /// The token server that this registry names (`realm`).
    Tokens(&'a str),
    /// The storage that this registry redirects to. No login is sent there.
    Storage(&'a str),
}

/// The failure for an unsuccessful answer.
pub(super) fn refusal(server: Server<'_>, url: &str, asker: Asker, mut response: Response<Body>) -> Failure {
    let status = response.status();
    let message = message(&mut response);
    let (what, hint) = explain(status, server, url, asker);
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

fn explain(status: StatusCode, server: Server<'_>, url: &str, asker: Asker) -> (String, String) {
    let (name, host) = (server.name(), server.host);
    let answered = format!("{name} responded with `{status}` to `{url}`");
    match status {
        StatusCode::NOT_FOUND => (format!("{name} has no `{url}`"), server.role.remedy_if_absent()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (answered, server.remedy_if_denied(asker)),
        StatusCode::TOO_MANY_REQUESTS => (
            format!("too many requests to {name} (`{status}` for `{url}`)"),
            format!("{}; use a mirror (registries.conf), or try later", asker.caller.how_to_log_in(host)),
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            format!("{name} is overloaded or starting (`{status}` for `{url}`)"),
            format!("try later, use a mirror (registries.conf), or check the log of `{host}`"),
        ),
        _ if status.is_server_error() => {
            (answered, format!("{} failed: check the log of `{host}`", server.role.noun()))
        }
        _ => (answered, server.remedy()),
    }
}

impl Server<'_> {
    fn name(&self) -> String {
        let (noun, host) = (self.role.noun(), self.host);
        match self.role {
            Role::Names | Role::Blobs => format!("`{host}`"),
            Role::Tokens(registry) | Role::Storage(registry) => format!("{noun} `{host}` of `{registry}`"),
        }
    }

    fn remedy_if_denied(&self, Asker { login_origin, caller }: Asker) -> String {
        match (self.role, login_origin) {
            (Role::Storage(_), _) => self.remedy(),
            (_, LoginOrigin::Workflow) => "check the container's `credentials` and the image's name".into(),
            (_, LoginOrigin::AuthFile) => {
                "check the login in auth.json, its permissions, and the image's name".into()
            }
            (Role::Tokens(registry), LoginOrigin::Nobody) => how_to_see_it(caller, registry),
            (_, LoginOrigin::Nobody) => how_to_see_it(caller, self.host),
        }
    }

    fn remedy(&self) -> String {
        match self.role {
            Role::Names => format!("check the image's name, and that `{}` is a registry", self.host),
            Role::Blobs => format!("check that `{}` is a registry, and its log", self.host),
            Role::Tokens(registry) => format!("check the token server that `{registry}` is configured with"),
            Role::Storage(registry) => format!(
                "`{registry}` redirects to this server, to which no login is sent: check the registry's storage, \
                 and compare the clocks of both"
            ),
        }
    }
}

fn how_to_see_it(caller: Caller, registry: &str) -> String {
    format!("the image does not exist or requires a login: {}", caller.how_to_log_in(registry))
}

impl Role<'_> {
    fn noun(self) -> &'static str {
        match self {
            Self::Names | Self::Blobs => "the registry",
            Self::Tokens(_) => "the token server",
            Self::Storage(_) => "the storage",
        }
    }

    fn remedy_if_absent(self) -> String {
        match self {
            Self::Names => "check the image's name and tag".into(),
            Self::Blobs => {
                "the registry has lost a part of the image: push it again, or use a mirror (registries.conf)"
                    .into()
            }
            Self::Tokens(registry) => {
                format!("`{registry}` names this URL for tokens: check its configuration")
            }
            Self::Storage(registry) => format!(
                "the storage of `{registry}` has lost a part of the image: push it again, or use a mirror \
                 (registries.conf)"
            ),
        }
    }
}

/// The registry's own message.
fn message(response: &mut Response<Body>) -> Option<String> {
    let mut body = Vec::new();
    // A message that cannot be read is left out.
    let _ = http::beginning(response, ANSWER_LIMIT, http::Deadline::within(ANSWER_TIME_LIMIT))
        .read_to_end(&mut body);
    parse_message(&body).or_else(|| parse_code(&body))
}

/// The code and the message of storage services: `<Error><Code>…</Code><Message>…</Message></Error>` (Amazon S3 API
/// reference, "Error Responses"; Azure and Google write the same).
fn parse_code(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.trim().to_owned()).filter(|content| !content.is_empty())
    };
    let told = [Some(element("Code")?), element("Message")];
    let told = told.into_iter().flatten().collect::<Vec<_>>().join(": ");
    Some(told.chars().take(MESSAGE_LIMIT).collect())
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
    fn the_error_code_of_a_storage_service_is_bounded() {
        for (body, expected) in [
            (
                "<?xml version=\"1.0\"?>\n<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too \
                 large.</Message><RequestId>1</RequestId></Error>",
                Some("RequestTimeTooSkewed: The difference is too large."),
            ),
            ("<Error><Code> AccessDenied </Code></Error>", Some("AccessDenied")),
            ("<Error><Code></Code></Error>", None),
            ("<Error><Code>cut off", None),
            ("<html>", None),
        ] {
            assert_eq!(parse_code(body.as_bytes()).as_deref(), expected, "{body}");
        }
        let long = format!("<Code>{}</Code>", "x".repeat(5000));
        assert_eq!(parse_code(long.as_bytes()).unwrap().len(), MESSAGE_LIMIT);
    }

    fn explained(status: StatusCode, role: Role<'_>, asker: Asker) -> (String, String) {
        explain(status, Server { host: "s.example", role }, "https://s.example/x", asker)
    }

    #[test]
    fn the_hint_depends_on_the_caller() {
        let hint =
            |status, login_origin, caller| explained(status, Role::Names, Asker { login_origin, caller }).1;
        let of = |login_origin| hint(StatusCode::UNAUTHORIZED, login_origin, Caller::Boot);
        assert!(of(LoginOrigin::Workflow).contains("container's `credentials`"));
        assert!(of(LoginOrigin::AuthFile).contains("login in auth.json"));
        assert!(of(LoginOrigin::Nobody).contains("requires a login"));
        assert!(
            hint(StatusCode::BAD_GATEWAY, LoginOrigin::Nobody, Caller::Boot).contains("log of `s.example`")
        );
        for (caller, option, foreign) in [
            (Caller::Boot, "iguana build --auth FILE", "skopeo login"),
            (Caller::Run, "skopeo login s.example", "--auth"),
            (Caller::Pull, "with `--auth FILE`", "credentials:"),
            (Caller::Trust, "the trust directory", "--auth"),
        ] {
            for status in [StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS] {
                let hint = hint(status, LoginOrigin::Nobody, caller);
                assert!(hint.contains(option) && !hint.contains(foreign), "{hint}");
            }
        }
    }

    #[test]
    fn a_refusal_names_the_role_of_the_server() {
        let asker = Asker { login_origin: LoginOrigin::Nobody, caller: Caller::Boot };
        let (absent, denied) = (StatusCode::NOT_FOUND, StatusCode::FORBIDDEN);
        let (tokens, storage) = (Role::Tokens("r.example"), Role::Storage("r.example"));
        for (status, role, named, hinted) in [
            (absent, Role::Names, "`s.example` has no ", "check the image's name and tag"),
            (absent, Role::Blobs, "`s.example` has no ", "the registry has lost a part of the image"),
            (
                absent,
                tokens,
                "the token server `s.example` of `r.example` has no ",
                "names this URL for tokens",
            ),
            (
                absent,
                storage,
                "the storage `s.example` of `r.example` has no ",
                "has lost a part of the image",
            ),
            (denied, tokens, "the token server `s.example` of `r.example` responded", "requires a login"),
            (
                denied,
                storage,
                "the storage `s.example` of `r.example` responded with `403",
                "compare the clocks",
            ),
            (
                StatusCode::BAD_GATEWAY,
                storage,
                "the storage `s.example`",
                "the storage failed: check the log",
            ),
            (StatusCode::BAD_REQUEST, storage, "the storage `s.example`", "no login is sent"),
            (StatusCode::BAD_REQUEST, tokens, "the token server `s.example`", "check the token server"),
        ] {
            let (what, hint) = explained(status, role, asker);
            assert!(what.starts_with(named) && hint.contains(hinted), "{what}: {hint}");
            assert!(role == Role::Names || !hint.contains("name and tag"), "{hint}");
        }
    }
}
