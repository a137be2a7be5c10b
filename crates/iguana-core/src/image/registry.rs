//! One repository of one registry: the pulling half of the OCI Distribution Specification,
//! which Docker Registry's v2 API is the ancestor of.

use super::digest::Digest;
use super::registries::Endpoint;
use crate::hint::hinted;
use crate::http;
use anyhow::Context as _;
use serde::Deserialize;
use std::sync::Mutex;
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

/// Everything that may stand behind a tag. Schema 1 is not among them: it cannot be verified.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// A repository to pull from.
pub(super) struct Repository<'a> {
    http: &'a http::Client,
    endpoint: Endpoint,
    token: Mutex<Option<String>>,
}

impl<'a> Repository<'a> {
    pub(super) fn new(http: &'a http::Client, endpoint: Endpoint) -> Self {
        Self { http, endpoint, token: Mutex::new(None) }
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
                *self.token.lock().expect("no thread panics with the token") =
                    Some(self.new_token(&challenge)?);
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
                "the image does not exist or is not public",
            )),
            status => Err(anyhow::anyhow!("`{}` answered `{status}` for `{url}`", self.endpoint.host)),
        }
    }

    fn try_get(&self, url: &str, accept: &str) -> anyhow::Result<Response<Body>> {
        let token = self.token.lock().expect("no thread panics with the token").clone();
        match token {
            Some(token) => {
                self.http.get(url, &[("accept", accept), ("authorization", &format!("Bearer {token}"))])
            }
            None => self.http.get(url, &[("accept", accept)]),
        }
    }

    /// Asks the authorization server for a token that anybody may have
    /// (distribution's docs/spec/auth/token.md).
    fn new_token(&self, challenge: &Challenge) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let scope = format!("repository:{}:pull", self.endpoint.repository);
        let separator = if challenge.realm.contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}service={}&scope={scope}", challenge.realm, challenge.service);
        let answer: Answer = serde_json::from_slice(&self.http.fetch(&url)?)
            .with_context(|| format!("`{url}` did not answer with a token"))?;
        answer.token.or(answer.access_token).with_context(|| format!("`{url}` answered without a token"))
    }
}

/// What a registry demands with `WWW-Authenticate: Bearer realm="…",service="…"`.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: String,
}

fn challenge(response: &Response<Body>) -> Option<Challenge> {
    if response.status() != StatusCode::UNAUTHORIZED {
        return None;
    }
    parse_challenge(response.headers().get(header::WWW_AUTHENTICATE)?.to_str().ok()?)
}

fn parse_challenge(header: &str) -> Option<Challenge> {
    let parameters = header.strip_prefix("Bearer ").or_else(|| header.strip_prefix("bearer "))?;
    let value = |name: &str| {
        let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    Some(Challenge { realm: value("realm")?, service: value("service").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_challenge_is_read() {
        let header =
            r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a:pull""#;
        let expected = Challenge { realm: "https://auth.example/token".into(), service: "r.example".into() };
        assert_eq!(parse_challenge(header), Some(expected));
        assert_eq!(parse_challenge("Basic realm=\"x\""), None);
    }
}
