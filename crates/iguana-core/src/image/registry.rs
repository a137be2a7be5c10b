//! One repository of one registry: the pulling half of the OCI Distribution Specification,
//! which Docker Registry's v2 API is the ancestor of.

use super::digest::Digest;
use super::registries::Endpoint;
use crate::hint::hinted;
use crate::http;
use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::fmt;
use std::sync::Mutex;
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

/// Everything that may stand behind a tag. Schema 1 is not among them: it cannot be verified.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Who pulls from a registry that demands to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Credentials({}, …)", self.username)
    }
}

impl Credentials {
    /// The `Authorization` of RFC 7617.
    fn basic(&self) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }
}

/// A repository to pull from.
pub(super) struct Repository<'a> {
    http: &'a http::Client,
    endpoint: Endpoint,
    credentials: Option<&'a Credentials>,
    /// What the registry has asked for: `Bearer …` or `Basic …`.
    authorization: Mutex<Option<String>>,
}

impl<'a> Repository<'a> {
    pub(super) fn new(
        http: &'a http::Client,
        endpoint: Endpoint,
        credentials: Option<&'a Credentials>,
    ) -> Self {
        Self { http, endpoint, credentials, authorization: Mutex::new(None) }
    }

    /// The manifest or index behind a tag or digest.
    pub(super) fn manifest(&self, identifier: &str) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}/manifests/{identifier}", self.endpoint.base());
        http::read_document(&mut self.get(&url, MANIFEST_TYPES)?)
            .with_context(|| format!("cannot read `{url}`"))
    }

    /// A small blob, whole and verified.
    pub(super) fn document(&self, digest: Digest) -> anyhow::Result<Vec<u8>> {
        let mut response = self.blob(digest)?;
        let bytes = http::read_document(&mut response)?;
        digest.verify("the image's configuration", &bytes)?;
        Ok(bytes)
    }

    /// A blob as a stream, not verified.
    pub(super) fn blob(&self, digest: Digest) -> anyhow::Result<Response<Body>> {
        self.get(&format!("{}/blobs/{digest}", self.endpoint.base()), "*/*")
    }

    fn get(&self, url: &str, accept: &str) -> anyhow::Result<Response<Body>> {
        let response = self.try_get(url, accept)?;
        let response = match challenge(&response) {
            Some(challenge) => {
                let authorization = self.answer(&challenge)?;
                *self.authorization.lock().expect("no thread panics with it") = Some(authorization);
                self.try_get(url, accept)?
            }
            None => response,
        };
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(hinted(
                format!("`{}` has no `{url}`", self.endpoint.host),
                "check the image's name and tag",
            )),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(hinted(
                format!("`{}` answered `{status}` for `{url}`", self.endpoint.host),
                match self.credentials {
                    Some(_) => "check the container's `credentials`, and the image's name",
                    None => "the image does not exist or is not public; `credentials:` name who pulls",
                },
            )),
            status => Err(anyhow::anyhow!("`{}` answered `{status}` for `{url}`", self.endpoint.host)),
        }
    }

    fn try_get(&self, url: &str, accept: &str) -> anyhow::Result<Response<Body>> {
        let authorization = self.authorization.lock().expect("no thread panics with it").clone();
        match authorization {
            Some(authorization) => {
                self.http.get(url, &[("accept", accept), ("authorization", &authorization)])
            }
            None => self.http.get(url, &[("accept", accept)]),
        }
    }

    /// What is sent to a registry that asks who we are.
    fn answer(&self, challenge: &Challenge) -> anyhow::Result<String> {
        match (challenge, self.credentials) {
            (Challenge::Bearer { .. }, _) => Ok(format!("Bearer {}", self.new_token(challenge)?)),
            (Challenge::Basic, Some(credentials)) => Ok(credentials.basic()),
            (Challenge::Basic, None) => Err(hinted(
                format!("`{}` demands a name and a password", self.endpoint.host),
                "give the container `credentials:`",
            )),
        }
    }

    /// Asks the authorization server for a token: that of the credentials, else one that anybody may have
    /// (distribution's docs/spec/auth/token.md).
    fn new_token(&self, challenge: &Challenge) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let Challenge::Bearer { realm, service } = challenge else { bail!("no token is asked for") };
        let scope = format!("repository:{}:pull", self.endpoint.repository);
        let separator = if realm.contains('?') { '&' } else { '?' };
        let url = format!("{realm}{separator}service={}&scope={}", percent(service), percent(&scope));
        let basic = self.credentials.map(Credentials::basic);
        if basic.is_some() && !realm.starts_with("https://") && !self.endpoint.insecure() {
            let message = format!("`{realm}` wants the password without encryption");
            return Err(hinted(message, "the registry's token server must be reached by https"));
        }
        let headers: Vec<(&str, &str)> =
            basic.iter().map(|basic| ("authorization", basic.as_str())).collect();
        let mut response = self.http.get(&url, &headers)?;
        if !response.status().is_success() {
            let message = format!("`{url}` answered `{}`", response.status());
            return Err(hinted(message, "check the container's `credentials`"));
        }
        let answer: Answer = serde_json::from_slice(&http::read_document(&mut response)?)
            .with_context(|| format!("`{url}` did not answer with a token"))?;
        answer.token.or(answer.access_token).with_context(|| format!("`{url}` answered without a token"))
    }
}

/// RFC 3986, section 2.3: everything but unreserved characters as `%` and two digits.
fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// What a registry demands with `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    /// `Bearer realm="…",service="…"`
    Bearer { realm: String, service: String },
    /// `Basic …`
    Basic,
}

fn challenge(response: &Response<Body>) -> Option<Challenge> {
    if response.status() != StatusCode::UNAUTHORIZED {
        return None;
    }
    let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
    headers.iter().filter_map(|header| header.to_str().ok()).find_map(parse_challenge)
}

fn parse_challenge(header: &str) -> Option<Challenge> {
    let (scheme, parameters) = header.split_once(' ').unwrap_or((header, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    let value = |name: &str| {
        let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    let (realm, service) = (value("realm")?, value("service").unwrap_or_default());
    is_bearer.then_some(Challenge::Bearer { realm, service })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_challenge_is_read() {
        let header =
            r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a:pull""#;
        let expected =
            Challenge::Bearer { realm: "https://auth.example/token".into(), service: "r.example".into() };
        assert_eq!(parse_challenge(header), Some(expected));
        assert_eq!(parse_challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(parse_challenge("Negotiate"), None);
    }

    #[test]
    fn credentials_are_sent_as_the_standard_says_and_never_shown() {
        // RFC 7617, section 2.
        let credentials = Credentials { username: "Aladdin".into(), password: "open sesame".into() };
        assert_eq!(credentials.basic(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{credentials:?}"), "Credentials(Aladdin, …)");
        assert_eq!(percent("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    }
}
