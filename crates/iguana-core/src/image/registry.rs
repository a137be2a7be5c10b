//! One repository of one registry: the pulling half of the OCI Distribution Specification,
//! which Docker Registry's v2 API is the ancestor of.

use super::auth::Login;
use super::digest::Digest;
use super::patience::Failure;
use super::refusal::{Asker, refusal};
use super::registries::Endpoint;
use super::source::Source;
use crate::hint::hinted;
use crate::http;
use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::fmt;
use std::io::{self, Read};
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
pub(super) struct Repository {
    http: http::Client,
    endpoint: Endpoint,
    login: Option<Login>,
    asker: Asker,
    /// What the registry has asked for: `Bearer …` or `Basic …`. A token is for this repository alone, and is
    /// asked for again when it has run out.
    authorization: Mutex<Option<String>>,
}

impl Repository {
    pub(super) fn new(http: &http::Client, endpoint: Endpoint, login: Option<Login>, asker: Asker) -> Self {
        let http = http.for_registry(endpoint.host());
        Self { http, endpoint, login, asker, authorization: Mutex::new(None) }
    }

    fn blob_url(&self, digest: Digest) -> String {
        format!("{}/blobs/{digest}", self.endpoint.base())
    }

    /// Asks once; if the registry wants to know who we are, or does not any more, a second time.
    fn get(&self, url: &str, accept: &str, range: Option<&str>) -> Result<Response<Body>, Failure> {
        let shown = self.authorization.lock().expect("no thread panics with it").clone();
        let response = self.send(url, accept, range, shown.as_deref())?;
        let Some(challenge) = challenge(&response) else { return self.judge(url, response) };
        let answer = self.authorize(&challenge, shown.as_deref())?;
        if shown.as_ref() == Some(&answer) {
            return self.judge(url, response);
        }
        self.judge(url, self.send(url, accept, range, Some(&answer))?)
    }

    fn judge(&self, url: &str, response: Response<Body>) -> Result<Response<Body>, Failure> {
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(self.endpoint.host(), url, self.asker, response))
    }

    fn send(
        &self,
        url: &str,
        accept: &str,
        range: Option<&str>,
        shown: Option<&str>,
    ) -> anyhow::Result<Response<Body>> {
        let range = range.map(|range| ("range", range));
        let authorization = shown.map(|shown| ("authorization", shown));
        let headers: Vec<(&str, &str)> =
            [("accept", accept)].into_iter().chain(range).chain(authorization).collect();
        self.http.get(url, &headers)
    }

    /// What is shown from now on. Of several threads that were refused with the same token one gets a new one.
    fn authorize(&self, challenge: &Challenge, refused: Option<&str>) -> Result<String, Failure> {
        let mut current = self.authorization.lock().expect("no thread panics with it");
        if let Some(newer) = current.as_ref().filter(|newer| Some(newer.as_str()) != refused) {
            return Ok(newer.clone());
        }
        let answer = self.answer(challenge)?;
        *current = Some(answer.clone());
        Ok(answer)
    }

    /// What is sent to a registry that asks who we are.
    fn answer(&self, challenge: &Challenge) -> Result<String, Failure> {
        match (challenge, &self.login) {
            (Challenge::Bearer { realm, service }, _) => {
                Ok(format!("Bearer {}", self.new_token(realm, service)?))
            }
            (Challenge::Basic, Some(Login::Password(credentials))) => Ok(credentials.basic()),
            (Challenge::Basic, Some(Login::Token(_))) => Err(Failure::for_good(hinted(
                format!(
                    "`{}` demands a name and a password, and auth.json has a token",
                    self.endpoint.host()
                ),
                format!("log in anew: `skopeo login --authfile auth.json {}`", self.endpoint.registry),
            ))),
            (Challenge::Basic, None) => Err(Failure::for_good(hinted(
                format!("`{}` demands a name and a password", self.endpoint.host()),
                "give the container `credentials:`, or the initrd an auth.json (`iguana build --auth FILE`)",
            ))),
        }
    }

    /// Asks the authorization server for a token: that of the login, else one that anybody may have
    /// (distribution's docs/spec/auth/token.md and oauth.md).
    fn new_token(&self, realm: &str, service: &str) -> Result<String, Failure> {
        if self.login.is_some() && !realm.starts_with("https://") && !self.endpoint.insecure() {
            let message = format!("`{realm}` wants the password without encryption");
            let hint = "the registry's token server must be reached by https";
            return Err(Failure::for_good(hinted(message, hint)));
        }
        let scope = percent(&format!("repository:{}:pull", self.endpoint.repository));
        let wanted = format!("service={}&scope={scope}", percent(service));
        let separator = if realm.contains('?') { '&' } else { '?' };
        let url = format!("{realm}{separator}{wanted}");
        let response = match &self.login {
            Some(Login::Token(token)) => {
                let token = percent(token);
                let form =
                    format!("grant_type=refresh_token&refresh_token={token}&client_id=iguana&{wanted}");
                self.http.post(realm, &form)?
            }
            Some(Login::Password(credentials)) => {
                self.http.get(&url, &[("authorization", &credentials.basic())])?
            }
            None => self.http.get(&url, &[])?,
        };
        if !response.status().is_success() {
            return Err(refusal(http::host(realm), &url, self.asker, response));
        }
        Ok(read_token(response).with_context(|| format!("`{url}` did not answer with a token"))?)
    }
}

impl Source for Repository {
    fn name(&self) -> String {
        self.endpoint.name()
    }

    /// The manifest or index behind a tag or digest.
    fn manifest(&self, identifier: &str) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/manifests/{identifier}", self.endpoint.base());
        let mut response = self.get(&url, MANIFEST_TYPES, None)?;
        Ok(http::read_document(&mut response).with_context(|| format!("cannot read `{url}`"))?)
    }

    fn referrers(&self, digest: Digest) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/referrers/{digest}", self.endpoint.base());
        let mut response = self.get(&url, MANIFEST_TYPES, None)?;
        Ok(http::read_document(&mut response).with_context(|| format!("cannot read `{url}`"))?)
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, Failure> {
        let mut response = self.get(&self.blob_url(digest), "*/*", None)?;
        let bytes = http::read_document(&mut response)?;
        digest.verify("the document", &bytes)?;
        Ok(bytes)
    }

    /// A server that knows no ranges (RFC 9110, section 14) sends the blob from the beginning; what comes before the byte
    /// is then passed over.
    fn blob(&self, digest: Digest, _: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure> {
        let url = self.blob_url(digest);
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let response = self.get(&url, "*/*", range.as_deref())?;
        let begins =
            if response.status() == StatusCode::PARTIAL_CONTENT { first_byte(&response)? } else { 0 };
        if begins > start {
            return Err(Failure::for_good(anyhow::anyhow!(
                "`{url}` was asked for from byte {start} on, and begins with byte {begins}"
            )));
        }
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let passed_over = io::copy(&mut (&mut body).take(start - begins), &mut io::sink());
        passed_over.with_context(|| format!("cannot read `{url}`"))?;
        Ok(Box::new(body))
    }

    /// A server that knows no ranges would send all of it, and is not listened to.
    fn part(&self, digest: Digest, _: u64, start: u64, count: u64) -> Result<Option<Vec<u8>>, Failure> {
        let range = format!("bytes={start}-{}", start.saturating_add(count).saturating_sub(1));
        let response = self.get(&self.blob_url(digest), "*/*", Some(&range))?;
        if response.status() != StatusCode::PARTIAL_CONTENT || first_byte(&response)? != start {
            return Ok(None);
        }
        let mut part = Vec::new();
        let read = response.into_body().into_reader().take(count).read_to_end(&mut part);
        read.context("the part cannot be read")?;
        Ok((part.len() as u64 == count).then_some(part))
    }
}

/// Where a part begins: `Content-Range: bytes FIRST-LAST/LENGTH` (RFC 9110, section 14.4).
fn first_byte(response: &Response<Body>) -> anyhow::Result<u64> {
    let header = response.headers().get(header::CONTENT_RANGE).and_then(|header| header.to_str().ok());
    let first =
        header.and_then(|header| header.trim().strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    first.with_context(|| format!("a part was sent without saying which: `{}`", header.unwrap_or_default()))
}

fn read_token(mut response: Response<Body>) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    // Words about where the text is wrong could show a part of it.
    let answer: Option<Answer> = serde_json::from_slice(&http::read_document(&mut response)?).ok();
    answer.and_then(|answer| answer.token.or(answer.access_token)).context("it is not JSON with a `token`")
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
