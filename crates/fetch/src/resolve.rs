//! DNS lookups with a time limit. getaddrinfo(3) does the lookup. It calls nearly every failure "temporary", so after a
//! failure one query of our own finds out why.

mod diagnosis;

use crate::http::RESOLVE_LIMIT;
use retry::TransientError;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The messages of gai_strerror(3) for `EAI_NONAME` and `EAI_NODATA`; std does not pass on the codes.
const LASTING: [&str; 2] = ["Name or service not known", "No address associated with hostname"];
/// Addresses of one name that are tried (ureq, `MAX_ADDRS`).
const ADDRESSES_LIMIT: usize = 16;

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// The host does not exist, or has no address: a retry does not help.
    NoSuchName(String),
    /// No DNS server sent a usable answer.
    TransientError(TransientError),
}

impl LookupError {
    /// Converts it into the error that determines the kind of a [`retry::Failure`].
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::NoSuchName(host) => anyhow::Error::msg(no_such_name(&host)),
            Self::TransientError(error) => error.into(),
        }
    }
}

/// ureq passes this error on to [`crate::http`] unchanged.
impl fmt::Display for LookupError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName(host) => out.write_str(&no_such_name(host)),
            Self::TransientError(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for LookupError {}

fn no_such_name(host: &str) -> String {
    format!("no such name: DNS has no address for `{host}`")
}

/// The resolver of a [`ureq::Agent`].
#[derive(Debug)]
pub(crate) struct Lookup;

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or_else(|| ureq::Error::BadUri(uri.to_string()))?;
        let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let place = format!("{host}:{}", uri.port_u16().unwrap_or(usual));
        let limit = (*timeout.after).min(RESOLVE_LIMIT);
        let found = addresses(&place, limit).map_err(|error| ureq::Error::Other(error.into()))?;
        let mut kept = self.empty();
        for address in config.ip_family().keep_wanted(found.into_iter()).take(ADDRESSES_LIMIT) {
            kept.push(address);
        }
        if kept.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(kept) }
    }
}

/// The addresses of `HOST:PORT`.
///
/// # Errors
/// When there are none, or the lookup takes longer than `limit`.
pub(crate) fn addresses(place: &str, limit: Duration) -> Result<Vec<SocketAddr>, LookupError> {
    if let Ok(address) = place.parse() {
        return Ok(vec![address]);
    }
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    let (answer, answered) = channel();
    let asked = place.to_owned();
    // getaddrinfo(3) cannot be cancelled: after the limit the thread runs on by itself.
    let ask = move || answer.send(asked.to_socket_addrs().map(Vec::from_iter));
    if let Err(error) = thread::Builder::new().spawn(ask) {
        return Err(unsteady(format!("cannot look up `{host}`: {error}")));
    }
    match answered.recv_timeout(limit) {
        Ok(Ok(found)) if found.is_empty() => Err(LookupError::NoSuchName(host.into())),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(explain(host, &error)),
        Err(_) => {
            let seconds = limit.as_secs_f32();
            Err(unsteady(format!("no response from a DNS server for `{host}` within {seconds:.0} s")))
        }
    }
}

/// glibc also says "no such name" when it does not understand an answer. In that case a server has sent records.
fn explain(host: &str, error: &io::Error) -> LookupError {
    let replies = diagnosis::ask(host);
    if is_permanent(error) && !replies.iter().any(diagnosis::Reply::has_records) {
        return LookupError::NoSuchName(host.into());
    }
    unsteady(format!("cannot look up `{host}`: {}", diagnosis::in_words(&replies)))
}

fn is_permanent(error: &io::Error) -> bool {
    let text = error.to_string();
    LASTING.iter().any(|lasting| text.ends_with(lasting))
}

fn unsteady(text: String) -> LookupError {
    LookupError::TransientError(TransientError(text))
}
