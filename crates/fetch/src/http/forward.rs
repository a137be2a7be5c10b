//! Requests by plain http through a proxy: they name the whole URL (RFC 9112, section 3.2.2, "absolute-form").

use crate::resolve::Lookup;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fmt;
use std::io;
use ureq::Proxy;
use ureq::ProxyProtocol;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Connects to a proxy in place of every server.
#[derive(Clone)]
pub(super) struct Forward {
    proxy: Uri,
    /// The header with the name and the password, if the proxy has them.
    authorization: String,
}

impl fmt::Debug for Forward {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The header contains a password.
        out.write_str("Forward(…)")
    }
}

impl Forward {
    /// `None` for a proxy that is not reached by plain http itself.
    pub(super) fn through(proxy: &Proxy) -> Option<Self> {
        let place = format!("http://{}:{}", proxy.host(), proxy.port()).parse().ok()?;
        let is_plain = matches!(proxy.protocol(), ProxyProtocol::Http);
        let name = proxy.username().unwrap_or_default();
        let password = proxy.password().unwrap_or_default();
        let login = BASE64_STANDARD.encode(format!("{name}:{password}"));
        let has_login = proxy.username().is_some() || proxy.password().is_some();
        let authorization =
            if has_login { format!("Proxy-Authorization: Basic {login}\r\n") } else { String::new() };
        is_plain.then_some(Self { proxy: place, authorization })
    }

    /// The head of a request, with the whole URL in its first line.
    fn absolute(&self, authority: &str, head: &[u8]) -> Option<Vec<u8>> {
        let end = head.windows(2).position(|bytes| bytes == b"\r\n")? + 2;
        let target = head.iter().position(|byte| *byte == b' ')? + 1;
        let place = format!("http://{authority}");
        Some(
            [
                &head[..target],
                place.as_bytes(),
                &head[target..end],
                self.authorization.as_bytes(),
                &head[end..],
            ]
            .concat(),
        )
    }
}

/// The proxy looks up the names of servers.
impl Resolver for Forward {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Lookup.resolve(&self.proxy, config, timeout)
    }
}

impl<In: Transport> Connector<In> for Forward {
    type Out = Forwarded<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        inner: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let authority = details.uri.authority().map(ToString::to_string).unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default().to_owned();
        Ok(inner.map(|inner| Forwarded { inner, forward: self.clone(), authority, is_head: true }))
    }
}

/// A connection to a proxy.
#[derive(Debug)]
pub(super) struct Forwarded<T> {
    inner: T,
    forward: Forward,
    /// The host and port of the server.
    authority: String,
    /// Whether what is sent next begins a request.
    is_head: bool,
}

impl<T: Transport> Transport for Forwarded<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        if !std::mem::replace(&mut self.is_head, false) {
            return self.inner.transmit_output(amount, timeout);
        }
        let output = self.inner.buffers().output();
        let head = self.forward.absolute(&self.authority, &output[..amount]);
        let place = head.as_ref().and_then(|head| output.get_mut(..head.len()));
        let (Some(head), Some(place)) = (&head, place) else {
            let message = "the request header is too long for a proxy";
            return Err(ureq::Error::Io(io::Error::new(io::ErrorKind::InvalidInput, message)));
        };
        place.copy_from_slice(head);
        self.inner.transmit_output(head.len(), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.is_head = true;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use crate::http::testing::serve;
    use crate::http::{Client, DOCUMENT_TIME_LIMIT, Deadline, Proxies};
    use crate::tls::Roots;

    #[test]
    fn a_proxy_gets_the_whole_url_and_resolves_the_name() {
        for (login, expected) in
            [("", None), ("user:open%40sesame@", Some("proxy-authorization: basic dxnlcjpvcgvuqhnlc2ftzq=="))]
        {
            let (proxy, served) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec());
            let proxies = Proxies::one(&format!("http://{login}{proxy}"), "").unwrap();
            let client = Client::new(&Roots::default()).through(proxies);
            let url = "http://no-such-name.invalid:5000/v2/?x=y";
            let document = client.fetch(url, Deadline::within(DOCUMENT_TIME_LIMIT)).unwrap();
            assert_eq!(document, b"{}");
            let request = served.join().unwrap().to_lowercase();
            assert!(request.starts_with(&format!("get {url} http/1.1\r\n")), "{request}");
            assert!(request.contains("host: no-such-name.invalid:5000\r\n"), "{request}");
            assert!(request.contains("accept-encoding: identity\r\n"), "{request}");
            let has_login = request.contains("proxy-authorization");
            assert!(
                has_login == expected.is_some() && request.contains(expected.unwrap_or_default()),
                "{request}"
            );
        }
    }
}
