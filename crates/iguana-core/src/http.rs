//! HTTP as Iguana uses it: verified TLS, bounded waiting, and errors that name the remedy.

use crate::hint::{WithHint as _, hinted};
use crate::trust::tls::Roots;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Time for the TCP connection and the TLS handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Time without a single byte after which a server counts as gone; slow ones may go on. A registry may
/// have to fetch from its own upstream before it answers.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Largest document that [`Client::fetch`] takes, in bytes: far above any workflow or manifest
/// (the distribution specification asks registries for 4 MiB), far below any machine's memory.
pub const DOCUMENT_LIMIT: u64 = 8 << 20;

/// Makes requests; connections are kept and shared between threads.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
}

impl Client {
    /// A client that believes the servers whose certificates lead to `roots`.
    #[must_use]
    pub fn new(roots: &Roots) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots.certificates().to_vec())))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .user_agent(concat!("iguana/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_recv_response(Some(SILENCE_LIMIT))
            .timeout_per_read(Some(SILENCE_LIMIT))
            .build();
        Self { agent: config.new_agent() }
    }

    /// Asks for `url` and gives back whatever the server answers.
    ///
    /// # Errors
    /// When no answer came, or the server could not prove who it is.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Response<Body>> {
        // What was asked for by https must not come by http, whatever a redirect says.
        let mut request = self.agent.get(url).config().https_only(url.starts_with("https://")).build();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.call().map_err(|error| explain(error, url))
    }

    /// Fetches a document of at most [`DOCUMENT_LIMIT`] bytes.
    ///
    /// # Errors
    /// When it cannot be had, or is too large.
    pub fn fetch(&self, url: &str) -> anyhow::Result<Vec<u8>> {
        let mut response = self.get(url, &[])?;
        let status = response.status();
        if !status.is_success() {
            return Err(hinted(
                format!("the server answered `{status}` for `{url}`"),
                "check the URL; the server was reached",
            ));
        }
        read_document(&mut response).with_context(|| format!("cannot read `{url}`"))
    }
}

/// Reads a whole answer of at most [`DOCUMENT_LIMIT`] bytes.
///
/// # Errors
/// When it is too large, or the connection breaks.
pub(crate) fn read_document(response: &mut Response<Body>) -> anyhow::Result<Vec<u8>> {
    response.body_mut().with_config().limit(DOCUMENT_LIMIT).read_to_vec().map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(limit) => {
            anyhow::anyhow!("the answer is larger than the {limit} bytes that a document may have")
        }
        other => other.into(),
    })
}

/// The host (and port) of a URL, for messages.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn explain(error: ureq::Error, url: &str) -> anyhow::Error {
    let host = host(url);
    let remedy = match &error {
        ureq::Error::HostNotFound => Some(name_remedy(host)),
        ureq::Error::Io(cause) if is_lookup_failure(cause) => Some(name_remedy(host)),
        ureq::Error::BadUri(_) => Some("write it as `https://HOST/PATH` or `http://HOST/PATH`".into()),
        ureq::Error::Timeout(_) => Some(format!("check that `{host}` is up and that no firewall is between")),
        ureq::Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
            Some(format!("`{host}` was reached but nothing listens there: check the port and the server"))
        }
        _ => certificate_remedy(&error, host),
    };
    let failed = Err::<(), _>(cause(error)).with_context(|| format!("cannot get `{url}`"));
    match remedy {
        Some(remedy) => failed.hint(remedy).unwrap_err(),
        None => failed.unwrap_err(),
    }
}

fn name_remedy(host: &str) -> String {
    format!("check the name `{host}`, and that the DNS server of this network knows it")
}

/// The error in the words of whoever found it, without those of the layers between.
fn cause(error: ureq::Error) -> anyhow::Error {
    match error {
        ureq::Error::Io(cause) if is_lookup_failure(&cause) => anyhow::anyhow!("the name is not known"),
        ureq::Error::Io(cause) => cause.into(),
        ureq::Error::Rustls(cause) => cause.into(),
        ureq::Error::HostNotFound => anyhow::anyhow!("the name is not known"),
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            anyhow::anyhow!("no connection within {} s", CONNECT_LIMIT.as_secs())
        }
        ureq::Error::Timeout(_) => anyhow::anyhow!("no answer within {} s", SILENCE_LIMIT.as_secs()),
        other => other.into(),
    }
}

/// std has no kind of its own for the failures of getaddrinfo(3).
fn is_lookup_failure(error: &std::io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address information")
}

fn certificate_remedy(error: &ureq::Error, host: &str) -> Option<String> {
    use rustls::{CertificateError as Bad, Error::InvalidCertificate};
    let cause = match error {
        ureq::Error::Rustls(cause) => cause,
        ureq::Error::Io(cause) => cause.get_ref()?.downcast_ref::<rustls::Error>()?,
        _ => return None,
    };
    Some(match cause {
        InvalidCertificate(Bad::UnknownIssuer) => format!(
            "`{host}` is not certified by an authority of this initrd; \
             if it should be, build the initrd with `--ca FILE`"
        ),
        InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            format!("renew the certificate of `{host}`, or set this machine's clock right")
        }
        InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "set this machine's clock right: the certificate is not valid yet".into()
        }
        InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("the certificate is for another name than `{host}`: use the name that it is made for")
        }
        rustls::Error::InvalidMessage(_) => {
            format!("`{host}` does not speak TLS there: http instead of https?")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint;

    #[test]
    fn a_refused_connection_names_host_and_remedy() {
        let client = Client::new(&Roots::default());
        let error = client.fetch("http://127.0.0.1:1/x").unwrap_err();
        assert!(error.to_string().contains("`http://127.0.0.1:1/x`"), "{error:#}");
        assert!(hint::of(&error).unwrap().contains("`127.0.0.1:1`"));
    }

    #[test]
    fn a_text_that_is_no_url_is_refused() {
        let error = Client::new(&Roots::default()).fetch("nonsense").unwrap_err();
        assert!(hint::of(&error).is_some(), "{error:#}");
    }
}
