//! One repository of one registry: the pulling half of the OCI Distribution Specification,
//! which Docker Registry's v2 API is the ancestor of.

use super::ambiguity;
use super::auth::Login;
use super::refusal::{LoginOrigin, refusal};
use super::registries::Endpoint;
use super::retry::Failure;
use super::source::ImageSource;
use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fetch::http;
use fetch::http::{Answer, Deadline, Paced, SILENCE_LIMIT};
use hint::hinted;
use oci_reference::digest::Digest;
use serde::Deserialize;
use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use ureq::Body;
use ureq::http::header::HeaderName;
use ureq::http::{Response, StatusCode, header};

/// Everything that may stand behind a tag. Schema 1 is not among them: it cannot be verified.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// What a registry says the digest of a manifest to be (distribution-spec, "Pulling manifests").
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Bytes of a token: servers take no longer headers (nginx, `large_client_header_buffers`: 8 kB; Go's net/http: 1 MB).
const TOKEN_LIMIT: usize = 64 << 10;
/// How many challenges of one answer are read. A registry has one, perhaps two.
const CHALLENGES_LIMIT: usize = 8;

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
    login_origin: LoginOrigin,
    /// What the registry has asked for: `Bearer …` or `Basic …`. A token is for this repository alone, and is
    /// asked for again when it has run out.
    authorization: Mutex<Option<String>>,
    /// Whether the registry has accepted a token: one that it refuses then is refused for the moment.
    has_accepted_token: AtomicBool,
}

impl Repository {
    pub(super) fn new(
        http: &http::Client,
        endpoint: Endpoint,
        login: Option<Login>,
        login_origin: LoginOrigin,
    ) -> Self {
        let http = http.for_registry(endpoint.host());
        Self {
            http,
            endpoint,
            login,
            login_origin,
            authorization: Mutex::new(None),
            has_accepted_token: AtomicBool::new(false),
        }
    }

    fn blob_url(&self, digest: Digest) -> String {
        format!("{}/blobs/{digest}", self.endpoint.base())
    }

    /// Asks once; if the registry wants to know who we are, or does not any more, a second time.
    /// Where the registry sends us (storage, as a rule) nobody may ask who we are: what proves it is the registry's.
    fn get(
        &self,
        url: &str,
        accept: &str,
        range: Option<&str>,
        deadline: Deadline,
    ) -> Result<Response<Body>, Failure> {
        let shown = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = self.send(url, accept, range, shown.as_deref(), deadline)?;
        let Some(challenge) = challenge(&answer) else { return self.judge(url, answer, shown.is_some()) };
        let authorization = self.authorize(&challenge, shown.as_deref(), deadline)?;
        let answer = match shown.as_ref() == Some(&authorization) {
            true => answer,
            false => self.send(url, accept, range, Some(&authorization), deadline)?,
        };
        let is_refused = matches!(challenge, Challenge::Bearer(_)) && self::challenge(&answer).is_some();
        if is_refused && self.has_accepted_token.load(Ordering::Relaxed) {
            return Err(self.refused_token(url));
        }
        self.judge(url, answer, true)
    }

    /// A token that the registry should know: its copies do not agree yet, or its clock and the token server's differ.
    fn refused_token(&self, url: &str) -> Failure {
        let host = self.endpoint.host();
        Failure::unreachable(hinted(
            format!(
                "`{host}` refuses the token that its token server has just given (for `{url}`), and has accepted one before"
            ),
            format!("compare the clocks of `{host}` and of its token server, and look into their logs"),
        ))
    }

    fn judge(&self, url: &str, answer: Answer, is_authorized: bool) -> Result<Response<Body>, Failure> {
        if answer.response.status().is_success() {
            self.has_accepted_token.fetch_or(is_authorized, Ordering::Relaxed);
            return Ok(answer.response);
        }
        let registry = self.endpoint.host();
        Err(match answer.elsewhere {
            Some(elsewhere) => refusal(&elsewhere, url, LoginOrigin::Elsewhere, answer.response),
            None => refusal(registry, url, self.login_origin, answer.response),
        })
    }

    fn send(
        &self,
        url: &str,
        accept: &str,
        range: Option<&str>,
        shown: Option<&str>,
        deadline: Deadline,
    ) -> anyhow::Result<Answer> {
        let range = range.map(|range| ("range", range));
        let authorization = shown.map(|shown| ("authorization", shown));
        let headers: Vec<(&str, &str)> =
            [("accept", accept)].into_iter().chain(range).chain(authorization).collect();
        self.http.answer(url, &headers, deadline)
    }

    /// What is shown from now on. Of several threads that were refused with the same token one gets a new one.
    fn authorize(
        &self,
        challenge: &Challenge,
        refused: Option<&str>,
        deadline: Deadline,
    ) -> Result<String, Failure> {
        let mut current = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newer) = current.as_ref().filter(|newer| Some(newer.as_str()) != refused) {
            return Ok(newer.clone());
        }
        let answer = self.answer(challenge, deadline)?;
        *current = Some(answer.clone());
        Ok(answer)
    }

    /// What is sent to a registry that asks who we are.
    fn answer(&self, challenge: &Challenge, deadline: Deadline) -> Result<String, Failure> {
        match (challenge, &self.login) {
            (Challenge::Bearer(bearer), _) => Ok(format!("Bearer {}", self.new_token(bearer, deadline)?)),
            (Challenge::Basic, Some(Login::Password(credentials))) => Ok(credentials.basic()),
            (Challenge::Basic, Some(Login::Token(_))) => Err(Failure::permanent(hinted(
                format!(
                    "`{}` demands a name and a password, and auth.json has a token",
                    self.endpoint.host()
                ),
                format!("log in anew: `skopeo login --authfile auth.json {}`", self.endpoint.registry),
            ))),
            (Challenge::Basic, None) => Err(Failure::permanent(hinted(
                format!("`{}` demands a name and a password", self.endpoint.host()),
                "give the container `credentials:`, or the initrd an auth.json (`iguana build --auth FILE`)",
            ))),
        }
    }

    /// Asks the authorization server for a token: that of the login, else one that anybody may have
    /// (distribution's docs/spec/auth/token.md and oauth.md).
    /// The registry says which server that is (`realm`); it may be of another host, but not without encryption where
    /// the registry has it.
    fn new_token(
        &self,
        Bearer { realm, service, scope }: &Bearer,
        deadline: Deadline,
    ) -> Result<String, Failure> {
        if !http::is_secure(realm) && !self.endpoint.insecure() {
            let message =
                format!("`{}` wants a token of `{realm}`, which is not encrypted", self.endpoint.host());
            let hint = "the registry's token server must be reached by https";
            return Err(Failure::permanent(hinted(message, hint)));
        }
        let own = format!("repository:{}:pull", self.endpoint.repository);
        // What else the registry asks for: it may know the repository by another name.
        let asked = scope.as_ref().filter(|scope| !scope.is_empty() && **scope != own);
        let asked = asked.map(|scope| format!("&scope={}", percent(scope))).unwrap_or_default();
        let wanted = format!("service={}&scope={}{asked}", percent(service), percent(&own));
        let separator = if realm.contains('?') { '&' } else { '?' };
        let url = format!("{realm}{separator}{wanted}");
        let response = match &self.login {
            Some(Login::Token(token)) => {
                let token = percent(token);
                let form =
                    format!("grant_type=refresh_token&refresh_token={token}&client_id=iguana&{wanted}");
                self.http.post(realm, &form, deadline)?
            }
            Some(Login::Password(credentials)) => {
                self.http.answer(&url, &[("authorization", &credentials.basic())], deadline)?.response
            }
            None => self.http.answer(&url, &[], deadline)?.response,
        };
        if !response.status().is_success() {
            return Err(refusal(http::host(realm), &url, self.login_origin, response));
        }
        Ok(read_token(response).with_context(|| format!("`{url}` did not answer with a token"))?)
    }
}

impl ImageSource for Repository {
    fn name(&self) -> String {
        self.endpoint.name()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn place_of(&self, digest: Digest) -> String {
        self.blob_url(digest)
    }

    /// The manifest or index behind a tag or digest. What it has by another digest than the registry says, or than it was asked
    /// for by, was damaged on its way.
    fn manifest(&self, identifier: &str, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/manifests/{identifier}", self.endpoint.base());
        let mut response = self.get(&url, MANIFEST_TYPES, None, deadline)?;
        let bytes = http::read_document(&mut response)?;
        let text = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let told = text(CONTENT_DIGEST).and_then(|digest| digest.parse().ok());
        for digest in identifier.parse().ok().into_iter().chain(told) {
            undamaged(digest, "the manifest", &bytes, &url)?;
        }
        let content_type = text(header::CONTENT_TYPE).map(ambiguity::media_type);
        ambiguity::refuse(&bytes, "its `Content-Type`", content_type.as_deref())?;
        Ok(bytes)
    }

    fn referrers(&self, digest: Digest, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/referrers/{digest}", self.endpoint.base());
        let mut response = self.get(&url, MANIFEST_TYPES, None, deadline)?;
        Ok(http::read_document(&mut response)?)
    }

    fn document(&self, digest: Digest, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        let url = self.blob_url(digest);
        let mut response = self.get(&url, "*/*", None, deadline)?;
        let bytes = http::read_document(&mut response)?;
        undamaged(digest, "the document", &bytes, &url)?;
        Ok(bytes)
    }

    /// A server that knows no ranges (RFC 9110, section 14) sends the blob from the beginning; what comes before the byte
    /// is then passed over.
    fn blob(&self, digest: Digest, size: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure> {
        let url = self.blob_url(digest);
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let deadline = Deadline::within(http::longest(size));
        let response = self.get(&url, "*/*", range.as_deref(), deadline)?;
        let begins =
            if response.status() == StatusCode::PARTIAL_CONTENT { first_byte(&response)? } else { 0 };
        if begins > start {
            return Err(Failure::permanent(anyhow::anyhow!(
                "`{url}` was asked for from byte {start} on, and begins with byte {begins}"
            )));
        }
        let mut body = Paced::new(response.into_body().into_with_config().limit(u64::MAX).reader(), deadline);
        let passed_over = io::copy(&mut (&mut body).take(start - begins), &mut io::sink());
        passed_over.with_context(|| format!("cannot read `{url}`"))?;
        Ok(Box::new(body))
    }

    /// A server that knows no ranges would send all of it, and is not listened to.
    fn part(&self, digest: Digest, _: u64, start: u64, count: u64) -> Result<Option<Vec<u8>>, Failure> {
        let range = format!("bytes={start}-{}", start.saturating_add(count).saturating_sub(1));
        let (url, deadline) = (self.blob_url(digest), Deadline::within(SILENCE_LIMIT));
        let mut response = self.get(&url, "*/*", Some(&range), deadline)?;
        if response.status() != StatusCode::PARTIAL_CONTENT || first_byte(&response)? != start {
            return Ok(None);
        }
        let mut part = Vec::new();
        let read = http::beginning(&mut response, count, deadline).read_to_end(&mut part);
        read.with_context(|| format!("cannot read a part of `{url}`"))?;
        Ok((part.len() as u64 == count).then_some(part))
    }
}

/// Whether bytes have their digest; if not, they may have it the next time.
fn undamaged(digest: Digest, what: &str, bytes: &[u8], url: &str) -> Result<(), Failure> {
    let verified = digest.verify(what, bytes).with_context(|| format!("`{url}` came damaged"));
    verified.map_err(Failure::damaged)
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
    struct TokenResponse {
        token: Option<String>,
        access_token: Option<String>,
    }
    // Words about where the text is wrong could show a part of it.
    let answer: Option<TokenResponse> = serde_json::from_slice(&http::read_document(&mut response)?).ok();
    let token = answer.and_then(|answer| answer.token.or(answer.access_token));
    let token = token.context("it is not JSON with a `token`")?;
    ensure!(
        token.len() <= TOKEN_LIMIT,
        "its token has {} bytes, more than the {TOKEN_LIMIT} that are shown to a registry",
        token.len()
    );
    Ok(token)
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
    /// `Bearer realm="…",service="…",scope="…"`
    Bearer(Bearer),
    /// `Basic …`
    Basic,
}

/// Where a token is to be had, and for what.
#[derive(Debug, PartialEq, Eq)]
struct Bearer {
    realm: String,
    service: String,
    scope: Option<String>,
}

/// What the registry itself demands. Where it has sent us nobody may ask who we are.
fn challenge(answer: &Answer) -> Option<Challenge> {
    challenge_of(&answer.response).filter(|_| answer.elsewhere.is_none())
}

fn challenge_of(response: &Response<Body>) -> Option<Challenge> {
    if response.status() != StatusCode::UNAUTHORIZED {
        return None;
    }
    let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
    headers.iter().take(CHALLENGES_LIMIT).filter_map(|header| header.to_str().ok()).find_map(parse_challenge)
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
    is_bearer.then(|| Challenge::Bearer(Bearer { realm, service, scope: value("scope") }))
}

#[cfg(test)]
mod tests;
