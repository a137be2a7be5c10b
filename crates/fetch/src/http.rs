//! An HTTP client with verified TLS, time limits, and errors that name the remedy.

mod certificate;
mod encoding;
mod explain;
mod forward;
mod limits;
mod origin;
mod proxies;
mod retrying;
mod setting_names;
mod status;
#[cfg(test)]
mod testing;

pub use limits::{DOCUMENT_TIME_LIMIT, Deadline, LEAST_RATE, SLOWNESS_LIMIT};
pub use limits::{Pace, Paced, longest};
pub use proxies::Proxies;
pub use retrying::{RetryEvent, retrying};
pub use status::{failure_kind, retry_after};

use crate::resolve::Lookup;
use crate::tls::{Identity, RegistryCertificates, Roots};
use anyhow::Context as _;
use explain::{explain, network_remedy};
use forward::Forward;
use hint::{WithHint as _, hinted};
use limits::{PacedConnector, Request, Timed};
use origin::Origin;
use retry::Failure;
pub use setting_names::SettingNames;
use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::{Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::{Connector as _, DefaultConnector};
use ureq::{Agent, Body, Proxy};

/// Time limit for the DNS lookup.
pub const RESOLVE_LIMIT: Duration = retry::ADDRESS_LOOKUP.total;
/// Time limit for the TCP connection and the TLS handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// The stall limit: after this time without a single byte a server counts as unreachable, however slow it may be. A
/// registry may have to fetch from its own upstream before it answers.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// The largest document that [`Client::fetch`] accepts, in bytes: far above any workflow or manifest (the distribution
/// specification asks registries for 4 MiB), far below any machine's memory.
pub const DOCUMENT_LIMIT: u64 = 8 << 20;

/// Redirects of one request, as in Go's net/http; a registry needs one or two.
const REDIRECT_LIMIT: usize = 10;
/// Time limit for following redirects: each may take as long as an answer may, and none is shown on the console.
const REDIRECTS_TIME_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of the headers of an answer. Their number is at most 128 (ureq-proto, `MAX_RESPONSE_HEADERS`).
const HEADERS_LIMIT: usize = 64 << 10;

/// An HTTP client. Connections are reused, and shared between threads and clones.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    /// Created on first use.
    agents: Arc<Mutex<HashMap<Route, Agent>>>,
}

/// Which servers a client trusts, and through which proxies it connects.
#[derive(Debug, Clone, Default)]
struct ClientConfig {
    roots: Roots,
    proxies: Proxies,
    certificates: RegistryCertificates,
    /// The client certificate, and the host that it is sent to.
    identity: Option<(String, Identity)>,
    names: SettingNames,
}

/// An answer, and the server that sent it.
pub struct Answer {
    /// Status, headers and body.
    pub response: Response<Body>,
    /// Host and port of the server that answered, if a redirect led to another one than that of the URL.
    pub elsewhere: Option<String>,
}

/// The properties of a connection that need an agent of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Route {
    is_secure: bool,
    is_proxied: bool,
    is_identified: bool,
}

impl Client {
    /// A client that trusts servers whose certificates lead to `roots`.
    #[must_use]
    pub fn new(roots: &Roots) -> Self {
        Self::with(ClientConfig { roots: roots.clone(), ..ClientConfig::default() })
    }

    fn with(config: ClientConfig) -> Self {
        Self { config: Arc::new(config), agents: Arc::default() }
    }

    /// The same client, through proxies.
    #[must_use]
    pub fn through(&self, proxies: Proxies) -> Self {
        Self::with(ClientConfig { proxies, ..ClientConfig::clone(&self.config) })
    }

    /// The same client, with certificates for single registries.
    #[must_use]
    pub fn with_certificates(&self, certificates: RegistryCertificates) -> Self {
        Self::with(ClientConfig { certificates, ..ClientConfig::clone(&self.config) })
    }

    /// The same client, whose hints name the settings so. It shares the connections.
    #[must_use]
    pub fn with_hints(&self, names: SettingNames) -> Self {
        let config = ClientConfig { names, ..ClientConfig::clone(&self.config) };
        Self { config: Arc::new(config), agents: Arc::clone(&self.agents) }
    }

    /// A client that also trusts the authorities in the certs.d directory of `registry`, for redirects to other hosts,
    /// too, as containers/image does. It sends the client certificate of that directory to the registry only.
    #[must_use]
    pub fn for_registry(&self, registry: &str) -> Self {
        let Some(certificates) = self.config.certificates.of(registry) else { return self.clone() };
        Self::with(ClientConfig {
            roots: self.config.roots.and(certificates.authorities()),
            identity: certificates.identity().map(|identity| (registry.to_owned(), identity.clone())),
            ..ClientConfig::clone(&self.config)
        })
    }

    /// Requests `url`, follows redirects, and returns the answer, whatever its status. An `Authorization` header is
    /// sent only to the server that `url` names.
    ///
    /// # Errors
    /// When no answer came, or the certificate of a server is not valid.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Response<Body>> {
        Ok(self.answer(url, headers, Deadline::within(DOCUMENT_TIME_LIMIT))?.response)
    }

    /// Like [`Self::get`], and also returns which server answered. All redirects and the body together must end by
    /// `deadline`. It holds also while no byte of the body can be read: a part of a TLS record or of a chunk header may
    /// arrive byte by byte.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn answer(&self, url: &str, headers: &[(&str, &str)], deadline: Deadline) -> anyhow::Result<Answer> {
        self.follow(url, headers, deadline, Instant::now() + REDIRECTS_TIME_LIMIT)
    }

    /// Follows redirects, but none after `until`.
    fn follow(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        deadline: Deadline,
        until: Instant,
    ) -> anyhow::Result<Answer> {
        let mut headers = headers.to_vec();
        let first = Origin::parse(url).map_err(|error| self.explain(error, url, deadline))?;
        let mut origin = first.clone();
        for hops in 0..=REDIRECT_LIMIT {
            let response = self.ask(&origin, &headers, deadline)?;
            let Some(next) = redirection(&response, &origin)? else {
                let elsewhere = (origin.origin() != first.origin()).then_some(origin.authority);
                return Ok(Answer { response, elsewhere });
            };
            if Instant::now() >= until {
                return Err(slow_redirects(url, hops));
            }
            if next.origin() != origin.origin() {
                headers.retain(|(name, _)| !name.eq_ignore_ascii_case(header::AUTHORIZATION.as_str()));
            }
            origin = next;
        }
        Err(hinted(
            format!("too many redirects for `{url}`: {REDIRECT_LIMIT}"),
            format!("check `{}` for a redirect loop", host(url)),
        ))
    }

    fn ask(
        &self,
        origin: &Origin,
        headers: &[(&str, &str)],
        deadline: Deadline,
    ) -> anyhow::Result<Response<Body>> {
        let request = self.agent(origin).get(&origin.url);
        let mut request = request.config().timeout_global(Some(deadline.left())).build();
        // A digest is of the bytes as they were pushed.
        request = request.header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.call().map_err(|error| self.explain(error, &origin.url, deadline))?;
        response.extensions_mut().insert(Request { url: origin.url.clone(), deadline });
        Ok(response)
    }

    fn explain(&self, error: ureq::Error, url: &str, deadline: Deadline) -> anyhow::Error {
        explain(error, url, deadline, self.config.names)
    }

    /// Posts a form (`application/x-www-form-urlencoded`). Redirects are not followed, as the form may hold a secret.
    ///
    /// # Errors
    /// When no answer came, or the certificate of the server is not valid.
    pub fn post(&self, url: &str, form: &str, deadline: Deadline) -> anyhow::Result<Response<Body>> {
        let origin = Origin::parse(url).map_err(|error| self.explain(error, url, deadline))?;
        let request = self.agent(&origin).post(url);
        let request = request.config().timeout_global(Some(deadline.left())).build();
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let mut response = request.send(form).map_err(|error| self.explain(error, url, deadline))?;
        response.extensions_mut().insert(Request { url: origin.url, deadline });
        Ok(response)
    }

    fn agent(&self, origin: &Origin) -> Agent {
        let proxy = self.config.proxies.for_server(origin.is_secure, origin.host(), origin.port());
        let identity = self.config.identity.as_ref().filter(|(host, _)| *host == origin.authority);
        let route = Route {
            is_secure: origin.is_secure,
            is_proxied: proxy.is_some(),
            is_identified: identity.is_some() && origin.is_secure,
        };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || agent(&self.config.roots, proxy, identity.map(|(_, identity)| identity), route);
        agents.entry(route).or_insert_with(make).clone()
    }

    /// Fetches a document of at most [`DOCUMENT_LIMIT`] bytes by `deadline`, in one attempt.
    ///
    /// # Errors
    /// When it cannot be fetched or is too large; the failure says whether a retry may help.
    pub fn fetch(&self, url: &str, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        let mut response = self.answer(url, &[], deadline)?.response;
        if response.status().is_success() {
            return Ok(read_document(&mut response)?);
        }
        Err(status::failure(url, &response))
    }
}

fn agent(roots: &Roots, proxy: Option<&Proxy>, identity: Option<&Identity>, route: Route) -> Agent {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots.certificates().to_vec())))
        .client_cert(identity.filter(|_| route.is_identified).map(Identity::certificate));
    let forward = proxy.filter(|_| !route.is_secure).and_then(Forward::through);
    let config = Agent::config_builder()
        .tls_config(tls.build())
        // Not the proxy in the environment: the kernel puts words of its command line there.
        .proxy(proxy.filter(|_| forward.is_none()).cloned())
        .https_only(route.is_secure)
        .max_response_header_size(HEADERS_LIMIT)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("iguana/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(RESOLVE_LIMIT))
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(SILENCE_LIMIT))
        .timeout_per_read(Some(SILENCE_LIMIT))
        .build();
    match forward {
        Some(forward) => {
            let connector = DefaultConnector::default().chain(forward.clone()).chain(PacedConnector);
            Agent::with_parts(config, connector, forward)
        }
        None => Agent::with_parts(config, DefaultConnector::default().chain(PacedConnector), Lookup),
    }
}

fn slow_redirects(url: &str, hops: usize) -> anyhow::Error {
    hinted(
        format!("`{url}` still redirects after {hops} redirects and {} s", REDIRECTS_TIME_LIMIT.as_secs()),
        format!("check `{}`: it and the servers it redirects to answer too slowly", host(url)),
    )
}

/// The target of a redirect, if the answer is one.
fn redirection(response: &Response<Body>, from: &Origin) -> anyhow::Result<Option<Origin>> {
    let is_redirection = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(header::LOCATION).filter(|_| is_redirection);
    let Some(location) = location else { return Ok(None) };
    let to = from.follow(location.as_bytes()).map_err(|_| {
        let location = String::from_utf8_lossy(location.as_bytes());
        hinted(
            format!("`{}` redirects to `{location}`, which is not an http URL", from.url),
            "correct the server",
        )
    })?;
    if from.is_secure && !to.is_secure {
        return Err(hinted(
            format!("`{}` redirects to the unencrypted `{}`", from.url, to.url),
            "correct the server: a redirect from https to http is not followed",
        ));
    }
    Ok(Some(to))
}

/// Reads a whole body of at most [`DOCUMENT_LIMIT`] bytes, within the deadline of its request.
///
/// # Errors
/// When it is too large or too slow, or the connection breaks; with the URL.
pub fn read_document(response: &mut Response<Body>) -> anyhow::Result<Vec<u8>> {
    read_at_most(response, DOCUMENT_LIMIT)
}

fn read_at_most(response: &mut Response<Body>, largest: u64) -> anyhow::Result<Vec<u8>> {
    let request = Request::of(response);
    let mut bytes = Vec::new();
    let mut body = beginning(response, largest.saturating_add(1), request.deadline);
    let cannot = || format!("cannot read `{}`", request.url);
    body.read_to_end(&mut bytes).with_context(cannot).hint(network_remedy(host(&request.url)))?;
    if bytes.len() as u64 > largest {
        let hint = format!("check what `{}` sends there", host(&request.url));
        return Err(too_large(largest)).with_context(cannot).hint(hint);
    }
    drop(body);
    encoding::decoded(bytes, response.headers(), largest).with_context(cannot)
}

fn too_large(largest: u64) -> anyhow::Error {
    anyhow::anyhow!("the response exceeds the limit of {largest} bytes for a document")
}

/// A reader of the first `bytes` bytes of a body, which must arrive by `deadline`.
pub fn beginning(response: &mut Response<Body>, bytes: u64, deadline: Deadline) -> impl Read + '_ {
    let inner = response.body_mut().with_config().limit(u64::MAX).reader();
    Timed { inner, deadline }.take(bytes)
}

/// Whether the scheme of a URL is https.
pub fn is_secure(url: &str) -> bool {
    Origin::parse(url).is_ok_and(|origin| origin.is_secure)
}

/// The host (and port) of a URL, for messages.
pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use retry::FailureKind;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    /// A certificate for 127.0.0.1, valid until 2126; only these tests trust it.
    const CERTIFICATE: &[u8] = include_bytes!("http/testing/server.pem");
    const KEY: &[u8] = include_bytes!("http/testing/server.key");

    fn fetch(client: &Client, url: &str) -> Result<Vec<u8>, Failure> {
        client.fetch(url, Deadline::within(DOCUMENT_TIME_LIMIT))
    }

    /// A TLS server that answers one request without saying how long the answer is. It then ends the TLS session, or
    /// only the connection, as anyone on the network path could.
    fn ending(is_whole: bool) -> String {
        use std::io::Write as _;
        let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()];
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(KEY).unwrap())
            .unwrap();
        let observer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/x", observer.local_addr().unwrap());
        std::thread::spawn(move || {
            let session = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(session, observer.accept().unwrap().0);
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\njobs: {first: {}}").unwrap();
            if is_whole {
                stream.conn.send_close_notify();
            }
            stream.flush().unwrap();
        });
        url
    }

    /// RFC 8446, section 6.1: without `close_notify` the data may be truncated. RFC 9112, section 9.8: such an answer
    /// is incomplete.
    #[test]
    fn a_truncated_answer_is_incomplete() {
        let client = Client::new(&Roots::from_pem(CERTIFICATE).unwrap());
        assert_eq!(fetch(&client, &ending(true)).unwrap(), b"jobs: {first: {}}");
        let failure = fetch(&client, &ending(false)).unwrap_err();
        let error = format!("{:#}", failure.error);
        assert!(error.contains("the connection was cut off") && failure.is_transient(), "{error}");
    }

    #[test]
    fn a_refused_connection_names_host_and_remedy() {
        let client = Client::new(&Roots::default());
        let error = fetch(&client, "http://127.0.0.1:1/x").unwrap_err().error;
        assert!(error.to_string().contains("`http://127.0.0.1:1/x`"), "{error:#}");
        assert!(hint::of(&error).unwrap().contains("`127.0.0.1:1`"));
    }

    /// A server that answers one request with this head, and then with one byte every 50 ms.
    fn dripping(head: &'static str) -> String {
        use std::io::Write as _;
        let observer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", observer.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = observer.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes()).unwrap();
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        url
    }

    /// Fetches with a limit of a second, and returns the error.
    fn in_a_second(url: &str) -> String {
        let start = Instant::now();
        let failure = Client::new(&Roots::default()).fetch(url, Deadline::within(Duration::from_secs(1)));
        let failure = failure.unwrap_err();
        assert!(failure.kind == FailureKind::Unreachable && start.elapsed() < Duration::from_secs(9));
        format!("{:#}", failure.error)
    }

    #[test]
    fn a_document_sent_slowly_ends_within_its_time_limit_with_an_error() {
        for head in ["content-length: 1000000\r\n\r\n", "\r\n"] {
            let url = dripping(head);
            let told = in_a_second(&url);
            assert_eq!(told, format!("cannot read `{url}`: the transfer did not finish within 1 s"));
        }
    }

    #[test]
    fn a_slow_body_ends_within_its_time_limit_where_nothing_can_be_read() {
        let told = in_a_second(&dripping("transfer-encoding: chunked\r\n\r\n5;a="));
        assert!(told.ends_with("the transfer did not finish within 1 s"), "{told}");
    }

    #[test]
    fn slow_headers_end_within_the_time_limit_of_the_document() {
        let told = in_a_second(&dripping("x: "));
        assert!(told.ends_with("the transfer did not finish within 1 s"), "{told}");
    }

    /// A server that redirects every request to itself, `hops` times.
    fn redirecting(hops: usize, more: String) -> String {
        use std::io::Write as _;
        let observer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", observer.local_addr().unwrap());
        std::thread::spawn(move || {
            for (count, stream) in observer.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let head = if count < hops { "307 X\r\nlocation: /y\r\n" } else { "200 OK\r\n" };
                let answer = format!("HTTP/1.1 {head}{more}connection: close\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        url
    }

    #[test]
    fn a_chain_of_redirects_shares_one_time_limit() {
        use std::io::Write as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 4096]);
                std::thread::sleep(Duration::from_millis(300));
                let _ = stream.write_all(
                    b"HTTP/1.1 307 X\r\nlocation: /y\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                );
            }
        });
        let start = Instant::now();
        let told = in_a_second(&url);
        assert!(told.ends_with("the transfer did not finish within 1 s") && told.contains("/y`"), "{told}");
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    }

    #[test]
    fn redirects_and_headers_have_a_limit() {
        let client = Client::new(&Roots::default());
        assert!(fetch(&client, &redirecting(REDIRECT_LIMIT, String::new())).is_ok());
        let error = fetch(&client, &redirecting(REDIRECT_LIMIT + 1, String::new())).unwrap_err().error;
        assert!(error.to_string().contains("too many redirects"), "{error:#}");
        let header = |bytes: usize| format!("x: {}\r\n", "y".repeat(bytes));
        assert!(fetch(&client, &redirecting(0, header(HEADERS_LIMIT - 200))).is_ok());
        let error = fetch(&client, &redirecting(0, header(HEADERS_LIMIT))).unwrap_err().error;
        assert!(format!("{error:#}").contains("header"), "{error:#}");
        assert!(fetch(&client, &redirecting(0, header(1).repeat(100))).is_ok());
        assert!(fetch(&client, &redirecting(0, header(1).repeat(200))).is_err());
    }

    #[test]
    fn following_redirects_has_a_time_limit() {
        let client = Client::new(&Roots::default());
        let follow = |hops, until| {
            client.follow(
                &redirecting(hops, String::new()),
                &[],
                Deadline::within(DOCUMENT_TIME_LIMIT),
                until,
            )
        };
        assert!(follow(0, Instant::now()).is_ok());
        let later = Instant::now() + Duration::from_secs(60);
        assert!(follow(3, later).is_ok());
        let error = follow(1, Instant::now()).err().expect("too late");
        assert!(error.to_string().contains("still redirects after 0 redirects and 60 s"), "{error:#}");
        assert!(!Failure::from(error).is_transient());
    }

    #[test]
    fn the_size_of_a_document_is_limited() {
        for (largest, is_whole) in [(10, true), (9, false)] {
            let mut response = Response::builder().body(Body::builder().data("0123456789")).unwrap();
            let read = read_at_most(&mut response, largest);
            assert_eq!(read.is_ok(), is_whole, "{largest}");
            let told = read.map_or_else(|error| format!("{error:#}"), |_| String::new());
            assert!(is_whole || told.contains("exceeds the limit of 9 bytes for a document"), "{told}");
        }
    }

    #[test]
    fn a_text_that_is_no_url_is_refused() {
        let error = fetch(&Client::new(&Roots::default()), "nonsense").unwrap_err().error;
        assert!(hint::of(&error).is_some(), "{error:#}");
    }
}
