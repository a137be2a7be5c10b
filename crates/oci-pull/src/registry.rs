//! A client of one repository in a registry: the pulling half of the OCI Distribution Specification, the successor of
//! Docker Registry's v2 API.

use super::ambiguity;
use super::auth::Login;
use super::caller::Caller;
use super::challenge;
use super::challenge::{Bearer, Challenge};
use super::refusal::{Asker, LoginOrigin, Role, Server, refusal};
use super::registries::Endpoint;
use super::retry::Failure;
use super::source::ImageSource;
use super::web_page;
use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fetch::http;
use fetch::http::{Answer, Deadline, Paced, SILENCE_LIMIT};
use hint::{WithHint as _, hinted};
use oci_reference::digest::Digest;
use serde::Deserialize;
use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use ureq::Body;
use ureq::http::header::HeaderName;
use ureq::http::{Response, StatusCode, header};

/// The document types that a tag may refer to. Schema 1 is not among them: it cannot be verified.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// The header with the registry's digest of a manifest (distribution-spec, "Pulling manifests").
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Bytes of a token: servers accept no longer headers (nginx, `large_client_header_buffers`: 8 kB; Go's net/http: 1
/// MB).
const TOKEN_LIMIT: usize = 64 << 10;

/// A name and a password for a registry.
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
    /// The `Authorization` header of RFC 7617.
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
    /// The `Authorization` that the registry asked for: `Bearer …` or `Basic …`. A token is for this repository only,
    /// and is renewed when it has expired.
    authorization: Mutex<Option<String>>,
    /// The challenges of the registry's API, once they were asked for.
    api: Mutex<Option<Vec<Challenge>>>,
    /// Whether the registry has accepted a token: a later refusal is then taken for a transient failure.
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
            asker: Asker { login_origin, caller: Caller::default() },
            authorization: Mutex::new(None),
            api: Mutex::new(None),
            has_accepted_token: AtomicBool::new(false),
        }
    }

    /// The same repository, for the hints of this command.
    pub(super) fn for_caller(self, caller: Caller) -> Self {
        let http = self.http.with_hints(caller.setting_names());
        Self { http, asker: Asker { caller, ..self.asker }, ..self }
    }

    fn blob_url(&self, digest: Digest) -> String {
        format!("{}/blobs/{digest}", self.endpoint.base())
    }

    /// Makes a request, and repeats it once with a new authorization if the registry demands one.
    fn get(
        &self,
        url: &str,
        accept: &str,
        range: Option<&str>,
        deadline: Deadline,
    ) -> Result<Response<Body>, Failure> {
        let shown = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = self.send(url, accept, range, shown.as_deref(), deadline)?;
        let Some(challenge) = self.challenge(&answer, shown.is_some(), deadline) else {
            return self.judge(url, answer, shown.is_some());
        };
        let authorization = self.authorize(&challenge, shown.as_deref(), deadline)?;
        let answer = match shown.as_ref() == Some(&authorization) {
            true => answer,
            false => self.send(url, accept, range, Some(&authorization), deadline)?,
        };
        let is_refused = matches!(challenge, Challenge::Bearer(_)) && !challenges(&answer).is_empty();
        if is_refused && self.has_accepted_token.load(Ordering::Relaxed) {
            return Err(self.refused_token(url));
        }
        self.judge(url, answer, true)
    }

    /// The challenge to meet before the request is repeated. An anonymous request for what only some may see may be
    /// answered as if it were not there; the registry's challenge is then that of `/v2/`.
    fn challenge(&self, answer: &Answer, has_shown: bool, deadline: Deadline) -> Option<Challenge> {
        let challenges = challenges(answer);
        if let Some(first) = challenges.first() {
            return Some(self.answerable(&challenges).unwrap_or(first).clone());
        }
        let is_hidden = matches!(answer.response.status().as_u16(), 401 | 403 | 404);
        if has_shown || !is_hidden || answer.elsewhere.is_some() {
            return None;
        }
        self.answerable(&self.challenges_of_api(deadline)).cloned()
    }

    /// The first challenge that can be met with the login that there is.
    fn answerable<'a>(&self, challenges: &'a [Challenge]) -> Option<&'a Challenge> {
        challenges.iter().find(|challenge| match challenge {
            Challenge::Bearer(_) => true,
            Challenge::Basic => matches!(self.login, Some(Login::Password(_))),
            Challenge::Other(_) => false,
        })
    }

    /// The challenges of the registry as a whole (distribution-spec, "Determining Support"), asked for once. Whatever
    /// else it answers there says nothing about an image.
    fn challenges_of_api(&self, deadline: Deadline) -> Vec<Challenge> {
        let mut known = self.api.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = || self.send(&self.endpoint.api(), "*/*", None, None, deadline);
        known.get_or_insert_with(|| ask().map_or(Vec::new(), |answer| challenges(&answer))).clone()
    }

    /// The failure for a fresh token that the registry refuses: its replicas are not in sync yet, or its clock differs
    /// from the token server's.
    fn refused_token(&self, url: &str) -> Failure {
        let host = self.endpoint.host();
        Failure::unreachable(hinted(
            format!(
                "`{host}` refuses a new token of its token server (for `{url}`), although it accepted one \
                 before"
            ),
            format!("compare the clocks of `{host}` and its token server, and check their logs"),
        ))
    }

    fn judge(&self, url: &str, answer: Answer, is_authorized: bool) -> Result<Response<Body>, Failure> {
        if answer.response.status().is_success() {
            self.has_accepted_token.fetch_or(is_authorized, Ordering::Relaxed);
            return Ok(answer.response);
        }
        let registry = self.endpoint.host();
        let is_blob = url.strip_prefix(&self.endpoint.base()).is_some_and(|path| path.starts_with("/blobs/"));
        let server = match &answer.elsewhere {
            Some(elsewhere) => Server { host: elsewhere, role: Role::Storage(registry) },
            None => Server { host: registry, role: if is_blob { Role::Blobs } else { Role::Names } },
        };
        Err(refusal(server, url, self.asker, answer.response))
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

    /// Renews the authorization. If several threads were refused with the same token, only one fetches a new one.
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

    /// The authorization for a challenge of the registry.
    fn answer(&self, challenge: &Challenge, deadline: Deadline) -> Result<String, Failure> {
        match (challenge, &self.login) {
            (Challenge::Bearer(bearer), _) => Ok(format!("Bearer {}", self.new_token(bearer, deadline)?)),
            (Challenge::Basic, Some(Login::Password(credentials))) => Ok(credentials.basic()),
            (Challenge::Basic, Some(Login::Token(_))) => Err(Failure::permanent(hinted(
                format!(
                    "`{}` requires a name and a password, but auth.json has a token",
                    self.endpoint.host()
                ),
                format!("log in again: `skopeo login --authfile auth.json {}`", self.endpoint.registry),
            ))),
            (Challenge::Basic, None) => Err(Failure::permanent(hinted(
                format!("`{}` requires a name and a password", self.endpoint.host()),
                self.asker.caller.how_to_log_in(&self.endpoint.registry),
            ))),
            (Challenge::Other(scheme), _) => Err(Failure::permanent(hinted(
                format!(
                    "`{}` requires `{scheme}`, but only `Basic` and `Bearer` are supported",
                    self.endpoint.host()
                ),
                "configure the registry to accept a password or a token, or use a mirror (registries.conf)",
            ))),
        }
    }

    /// Fetches a token from the authorization server: for the login, or else an anonymous one (distribution's
    /// docs/spec/auth/token.md and oauth.md). The registry names that server (`realm`); it may be another host, but
    /// must use encryption if the registry does.
    fn new_token(
        &self,
        Bearer { realm, service, scope }: &Bearer,
        deadline: Deadline,
    ) -> Result<String, Failure> {
        if !http::is_secure(realm) && !self.endpoint.insecure() {
            let message =
                format!("`{}` requires a token of `{realm}`, which is not encrypted", self.endpoint.host());
            let hint = "the registry's token server must use https";
            return Err(Failure::permanent(hinted(message, hint)));
        }
        let own = format!("repository:{}:pull", self.endpoint.repository);
        // The scopes that the registry asks for, too: it may have another name for the repository.
        let asked = scope.iter().flat_map(|scopes| scopes.split_whitespace()).filter(|scope| *scope != own);
        let scopes = [&*own].into_iter().chain(asked).map(|scope| format!("scope={}", percent(scope)));
        let service = service.iter().map(|service| format!("service={}", percent(service)));
        let wanted = service.chain(scopes).collect::<Vec<_>>().join("&");
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
            let server = Server { host: http::host(realm), role: Role::Tokens(self.endpoint.host()) };
            return Err(refusal(server, &url, self.asker, response));
        }
        let token = read_token(response).with_context(|| format!("`{url}` did not return a token"));
        Ok(token.or_hint(format!("look into the token server of `{}`", self.endpoint.host()))?)
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

    /// The manifest or index for a tag or digest. If it does not match the digest that was requested or that the
    /// registry states, it was damaged in transit.
    fn manifest(&self, identifier: &str, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/manifests/{identifier}", self.endpoint.base());
        let mut response = self.get(&url, MANIFEST_TYPES, None, deadline)?;
        let bytes = http::read_document(&mut response)?;
        web_page::refuse(&url, "a manifest", &bytes)?;
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
        let bytes = http::read_document(&mut response)?;
        web_page::refuse(&url, "a list of referrers", &bytes)?;
        Ok(bytes)
    }

    fn document(&self, digest: Digest, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        let url = self.blob_url(digest);
        let mut response = self.get(&url, "*/*", None, deadline)?;
        let bytes = http::read_document(&mut response)?;
        let checked = undamaged(digest, "the document", &bytes, &url);
        if checked.is_err() {
            web_page::refuse(&url, "a document of the image", &bytes)?;
        }
        checked.map(|()| bytes)
    }

    /// A server without range requests (RFC 9110, section 14) sends the blob from its beginning; the bytes before
    /// `start` are then skipped.
    fn blob(&self, digest: Digest, size: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure> {
        let url = self.blob_url(digest);
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let deadline = Deadline::within(http::longest(size));
        let response = self.get(&url, "*/*", range.as_deref(), deadline)?;
        let begins = if response.status() == StatusCode::PARTIAL_CONTENT {
            first_byte(&response).hint(wrong_ranges(self.endpoint.host()))?
        } else {
            0
        };
        if begins > start {
            return Err(Failure::permanent(hinted(
                format!("`{url}` was requested from byte {start}, but the response begins at byte {begins}"),
                wrong_ranges(self.endpoint.host()),
            )));
        }
        let mut body = Paced::new(response.into_body().into_with_config().limit(u64::MAX).reader(), deadline);
        let passed_over = io::copy(&mut (&mut body).take(start - begins), &mut io::sink());
        passed_over.with_context(|| format!("cannot read `{url}`"))?;
        Ok(Box::new(body))
    }

    /// A server without range requests would send the whole blob; its answer is not read.
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

/// What to do about a part that is not the one that was asked for.
fn wrong_ranges(host: &str) -> String {
    format!("it handles range requests incorrectly: check `{host}` and any proxy in front of it")
}

/// Verifies a digest; a mismatch may be gone on a retry.
fn undamaged(digest: Digest, what: &str, bytes: &[u8], url: &str) -> Result<(), Failure> {
    let verified = digest.verify(what, bytes).with_context(|| format!("`{url}` arrived damaged"));
    verified.map_err(Failure::damaged)
}

/// The offset of a part: `Content-Range: bytes FIRST-LAST/LENGTH` (RFC 9110, section 14.4).
fn first_byte(response: &Response<Body>) -> anyhow::Result<u64> {
    let header = response.headers().get(header::CONTENT_RANGE).and_then(|header| header.to_str().ok());
    let first =
        header.and_then(|header| header.trim().strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    first.with_context(|| {
        format!("the response to a range request does not state its range: `{}`", header.unwrap_or_default())
    })
}

fn read_token(mut response: Response<Body>) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct TokenResponse {
        token: Option<String>,
        access_token: Option<String>,
    }
    // The parser's message could contain a part of the token.
    let bytes = http::read_document(&mut response)?;
    ensure!(!web_page::is_web_page(&bytes), "it is a web page");
    let answer: Option<TokenResponse> = serde_json::from_slice(&bytes).ok();
    // Some servers leave one of them empty.
    let tokens = answer.into_iter().flat_map(|answer| [answer.token, answer.access_token]).flatten();
    let token = tokens.into_iter().find(|token| !token.is_empty());
    let token = token.context("it is not JSON with a `token`")?;
    ensure!(
        token.len() <= TOKEN_LIMIT,
        "its token has {} bytes, more than the limit of {TOKEN_LIMIT}",
        token.len()
    );
    Ok(token)
}

/// RFC 3986, section 2.3: percent-encodes everything but unreserved characters.
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

/// The registry's own challenges in an answer. Those of another server, after a redirect (usually to storage), are
/// ignored: credentials are for the registry only.
fn challenges(answer: &Answer) -> Vec<Challenge> {
    if answer.response.status() != StatusCode::UNAUTHORIZED || answer.elsewhere.is_some() {
        return Vec::new();
    }
    let headers = answer.response.headers().get_all(header::WWW_AUTHENTICATE);
    challenge::parse(headers.iter().filter_map(|header| header.to_str().ok()))
}

#[cfg(test)]
mod tests;
