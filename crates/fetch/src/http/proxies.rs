//! Which requests go through a proxy: the environment variables that curl and Go use, and `proxy=`.
//!
//! For https the proxy is asked for a tunnel (`CONNECT`, RFC 9110, section 9.3.6): TLS is end-to-end, and the server's
//! certificate is verified as without a proxy. Requests by plain http are given to the proxy, as curl and Go do, because
//! most proxies allow tunnels to port 443 only; a proxy that is itself reached by https gets a tunnel for these, too.

use anyhow::ensure;
use hint::hinted;
use std::fmt;
use std::net::IpAddr;
use ureq::Proxy;

/// The proxies of this machine; by default none.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    direct: Vec<Direct>,
}

/// Hosts that are reached without a proxy: an entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Direct {
    All,
    /// An address, and the number of its leading bits that count.
    Network(IpAddr, u32),
    /// The end of a name, with its dot; whether the name without the dot matches, too; and the port if only one
    /// matches.
    Name {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
    /// One address at one port.
    Address(IpAddr, u16),
}

impl fmt::Debug for Proxies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URLs may contain passwords.
        write!(out, "Proxies({} for https, {} for http)", self.https.iter().len(), self.http.iter().len())
    }
}

impl Proxies {
    /// The proxies of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, also in lower case.
    ///
    /// # Errors
    /// When one of them is not the URL of a proxy.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let value = |name: &str| {
            let found = variable(name).or_else(|| variable(&name.to_lowercase()));
            found.filter(|value| !value.is_empty())
        };
        let named = |name: &str| value(name).map(|url| proxy(name, &url)).transpose();
        let direct = value("NO_PROXY").map(|list| direct(&list)).unwrap_or_default();
        Ok(Self { https: named("HTTPS_PROXY")?, http: named("HTTP_PROXY")?, direct })
    }

    /// One proxy for all requests, except for the hosts of the list `except`: `proxy=` of the kernel command line.
    ///
    /// # Errors
    /// When it is not the URL of a proxy.
    pub fn one(url: &str, except: &str) -> anyhow::Result<Self> {
        let proxy = proxy("proxy", url)?;
        Ok(Self { https: Some(proxy.clone()), http: Some(proxy), direct: direct(except) })
    }

    /// The proxy for a server.
    pub(super) fn for_server(&self, is_secure: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if is_secure { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !self.is_direct(host, port))
    }

    fn is_direct(&self, host: &str, port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_lowercase();
        let address = host.parse::<IpAddr>().ok();
        let is_this_machine = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        is_this_machine || self.direct.iter().any(|direct| direct.covers(&host, address, port))
    }
}

/// Parses the URL of a proxy; `name` is the setting for messages. A host without a scheme means http, as in curl.
fn proxy(name: &str, url: &str) -> anyhow::Result<Proxy> {
    let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme);
    // The part before an `@` may contain a password.
    let host = url.rsplit_once('@').map_or_else(|| url.trim_start_matches("http://"), |(_, host)| host);
    let bad = || {
        let message = format!("`{name}` has an invalid URL for the proxy `{host}`");
        hinted(
            message,
            "write it as `http://HOST:PORT`, or `http://USER:PASSWORD@HOST:PORT` with special characters as \
             `%XX`",
        )
    };
    ensure!(matches!(scheme, "http" | "https"), bad());
    let proxy = Proxy::new(url).map_err(|_| bad())?;
    Ok(proxy)
}

/// Parses the list as Go's `golang.org/x/net/http/httpproxy` does, which podman and docker use.
fn direct(list: &str) -> Vec<Direct> {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Direct::parse).collect()
}

impl Direct {
    fn parse(entry: &str) -> Self {
        if entry == "*" {
            return Self::All;
        }
        if let Some(network) = network(entry) {
            return network;
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().ok()),
            _ => (entry, None),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_lowercase();
        match (bare.parse::<IpAddr>(), port) {
            (Ok(address), Some(port)) => Self::Address(address, port),
            (Ok(address), None) => Self::Network(address, bits(address).1),
            (Err(_), port) => {
                let name = bare.strip_prefix('*').unwrap_or(&bare);
                let itself = !name.starts_with('.');
                let suffix = if itself { format!(".{name}") } else { name.to_owned() };
                Self::Name { suffix, itself, port }
            }
        }
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(network, length) => {
                address.is_some_and(|address| is_in_network(address, *network, *length))
            }
            Self::Address(one, at) => address == Some(*one) && *at == port,
            Self::Name { suffix, itself, port: at } => {
                let is_named = host.ends_with(suffix.as_str()) || (*itself && host == &suffix[1..]);
                is_named && at.is_none_or(|at| at == port)
            }
        }
    }
}

/// Parses `10.0.0.0/8`.
fn network(entry: &str) -> Option<Direct> {
    let (address, length) = entry.split_once('/')?;
    let (address, length) = (address.parse::<IpAddr>().ok()?, length.parse().ok()?);
    (length <= bits(address).1).then_some(Direct::Network(address, length))
}

/// An address as a number, and its width in bits.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u32::from(address).into(), u32::BITS),
        IpAddr::V6(address) => (address.into(), u128::BITS),
    }
}

fn is_in_network(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let ((address, width), (network, other_width)) = (bits(address), bits(network));
    let rest = width.saturating_sub(length);
    width == other_width && (rest == u128::BITS || address >> rest == network >> rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_is_interpreted_as_go_does() {
        for (list, host, port, expected) in [
            ("", "r.example", 443, false),
            ("", "localhost", 443, true),
            ("", "127.8.9.1", 443, true),
            ("", "[::1]", 443, true),
            ("*", "r.example", 443, true),
            ("r.example", "r.example", 443, true),
            ("r.example", "R.EXAMPLE", 443, true),
            ("r.example", "a.r.example", 443, true),
            ("r.example", "ar.example", 443, false),
            (".r.example", "a.r.example", 443, true),
            (".r.example", "r.example", 443, false),
            ("*.r.example", "a.r.example", 443, true),
            ("*.r.example", "r.example", 443, false),
            ("a.example, r.example:5000", "r.example", 5000, true),
            ("a.example, r.example:5000", "r.example", 443, false),
            ("10.0.0.0/8", "10.1.2.3", 443, true),
            ("10.0.0.0/8", "11.1.2.3", 443, false),
            ("10.0.0.0/33", "10.0.0.0", 443, false),
            ("10.1.2.3", "10.1.2.3", 443, true),
            ("10.1.2.3", "10.1.2.4", 443, false),
            ("10.1.2.3:80", "10.1.2.3", 80, true),
            ("10.1.2.3:80", "10.1.2.3", 443, false),
            ("fd00::/8", "[fd12::1]", 443, true),
            ("::/0", "[2001:db8::1]", 443, true),
            ("::/0", "10.1.2.3", 443, false),
        ] {
            let proxies = Proxies::one("http://proxy.example:3128", list).unwrap();
            let is_direct = proxies.for_server(true, host, port).is_none();
            assert_eq!(is_direct, expected, "`{list}` and {host}:{port}");
        }
    }

    #[test]
    fn proxy_variables_exist_for_each_scheme_in_either_case() {
        let of = |pairs: &'static [(&str, &str)]| {
            let value = move |name: &str| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
            };
            Proxies::from_environment(value).unwrap()
        };
        let host = |proxies: &Proxies, is_secure| {
            proxies.for_server(is_secure, "r.example", 1).map(|proxy| proxy.host().to_owned())
        };
        let both =
            of(&[("HTTPS_PROXY", "http://one:1"), ("https_proxy", "http://no:1"), ("http_proxy", "two:2")]);
        assert_eq!(host(&both, true).as_deref(), Some("one"));
        assert_eq!(host(&both, false).as_deref(), Some("two"));
        let none = of(&[("HTTPS_PROXY", ""), ("HTTP_PROXY", "http://one"), ("no_proxy", "r.example")]);
        assert_eq!((host(&none, true), host(&none, false)), (None, None));
    }

    #[test]
    fn an_invalid_proxy_is_reported_without_its_password() {
        for url in ["socks5://user:secret@proxy.example:1080", "http://user:secret@", "ftp://secret@x"] {
            let error = Proxies::one(url, "").unwrap_err();
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
            assert!(hint::of(&error).is_some());
        }
        let good = Proxies::one("http://user:secret@proxy.example:3128", "").unwrap();
        assert!(!format!("{good:?}").contains("secret"));
    }
}
