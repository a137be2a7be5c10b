//! Addresses of names, in bounded time. The system's getaddrinfo(3) asks and reads the answers; Iguana reads none.

use crate::http::RESOLVE_LIMIT;
use hint::hinted;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::channel;
use std::thread;

/// The addresses of `HOST:PORT`.
///
/// # Errors
/// When there are none, or none is told in time.
pub(crate) fn addresses(place: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let (answer, answered) = channel();
    let asked = place.to_owned();
    // Goes on waiting when nobody waits for it any more.
    thread::Builder::new().spawn(move || answer.send(asked.to_socket_addrs().map(Vec::from_iter)))?;
    match answered.recv_timeout(RESOLVE_LIMIT) {
        Ok(found) => Ok(found?),
        Err(_) => Err(hinted(
            format!("no answer of a DNS server within {} s", RESOLVE_LIMIT.as_secs()),
            "check `nameserver` in `/etc/resolv.conf`, or write the address in place of the name",
        )),
    }
}
