//! Names of registries: the `domain` of distribution/reference's grammar, and the canonical form for comparisons.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The name of Docker Hub.
pub(crate) const HUB: &str = "docker.io";

/// Other hosts of Docker Hub: that of its old index, which distribution/reference calls `legacyDefaultDomain`, and
/// that of its API.
const HUB_ALIASES: &[&str] = &["index.docker.io", "registry-1.docker.io"];

/// Docker's rule: the first part of a name is a registry if it has a dot or a port, is `localhost`, or has upper-case
/// letters, which repositories cannot have (distribution/reference, `splitDockerDomain`).
pub(super) fn is_named(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.bytes().any(|letter| letter.is_ascii_uppercase())
}

/// The canonical form of a registry, which policies, registries.conf and auth.json are compared with. Host names are
/// case insensitive (RFC 3986, section 3.2.2), all names of Docker Hub are one registry, and an address has one
/// spelling: IPv6 that of RFC 5952, IPv4 four decimal numbers.
///
/// # Errors
/// When it is not a registry: the reason, as the end of a message.
pub(super) fn canonical(domain: &str) -> Result<String, String> {
    let (host, port) = split_port(domain);
    if !is_host(host) {
        return Err(format!("`{host}` is not a valid host name or address"));
    }
    if is_number(host) && host.parse::<Ipv4Addr>().is_err() {
        return Err(format!(
            "the IPv4 address `{host}` is not written as four decimal numbers without leading zeros"
        ));
    }
    if port.is_some_and(|port| !is_port(port)) {
        return Err(format!("the port of `{domain}` must be a number from 1 to 65535"));
    }
    Ok(one_name(domain))
}

/// The canonical form of a scope that may begin with a registry: in a policy, a prefix of registries.conf, a key of
/// auth.json. Anything that is not a name stays unchanged.
pub fn canonical_scope(scope: &str) -> String {
    match scope.split_once('/') {
        Some((domain, rest)) => format!("{}/{rest}", one_name(domain)),
        None => one_name(scope),
    }
}

fn one_name(domain: &str) -> String {
    let name = domain.to_ascii_lowercase();
    let host = name.strip_suffix(":443").unwrap_or(&name);
    if host == HUB || HUB_ALIASES.contains(&host) {
        return HUB.to_owned();
    }
    let address = name.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let canonical = |(address, port): (&str, &str)| {
        address.parse::<Ipv6Addr>().ok().map(|address| format!("[{address}]{port}"))
    };
    address.and_then(canonical).unwrap_or(name)
}

/// Whether resolvers take a host for an IPv4 address: its last label is a decimal, octal or hexadecimal number (WHATWG
/// URL, "ends in a number"). They also know other forms than four decimal numbers (inet_aton(3)): `127.1`, `0x7f000001`.
fn is_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let (digits, is_digit): (_, fn(&u8) -> bool) = match hexadecimal {
        Some(digits) => (digits, u8::is_ascii_hexdigit),
        None => (last, u8::is_ascii_digit),
    };
    (hexadecimal.is_some() || !digits.is_empty()) && digits.as_bytes().iter().all(is_digit)
}

/// Splits host and port. Colons inside the brackets of an IPv6 address do not count.
fn split_port(domain: &str) -> (&str, Option<&str>) {
    match domain.rsplit_once(':') {
        Some((_, rest)) if rest.ends_with(']') => (domain, None),
        Some((host, port)) => (host, Some(port)),
        None => (domain, None),
    }
}

/// Whether it is a `domain-name`, whose components may have `-` inside, or an IPv6 address in brackets. An IPv4
/// address matches the syntax of a name.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(is_ipv6);
    }
    let is_component = |part: &str| {
        let is_inside = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
        !part.is_empty() && !part.starts_with('-') && !part.ends_with('-') && part.bytes().all(is_inside)
    };
    host.split('.').all(is_component)
}

/// The grammar has no zones and no dotted IPv4 suffixes. An IPv4 address in IPv6 form would be a second spelling of it.
fn is_ipv6(address: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_hexdigit() || letter == b':';
    let parsed = address.parse::<Ipv6Addr>();
    address.bytes().all(is_letter) && parsed.is_ok_and(|address| address.to_ipv4_mapped().is_none())
}

/// A leading zero is not allowed: it would be another spelling of the same port.
fn is_port(port: &str) -> bool {
    !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (domain, expected) in [
            ("[::1]:5000", "[::1]:5000"),
            ("[0::1]:5000", "[::1]:5000"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[2001:DB8:0::0001]", "[2001:db8::1]"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("r1.example", "r1.example"),
            ("0x7f.example", "0x7f.example"),
            ("r.0xample", "r.0xample"),
        ] {
            assert_eq!(canonical(domain).as_deref(), Ok(expected));
        }
        for domain in [
            "127.1:5000",
            "127.0.0.01",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "0X7F000001:5000",
            "2130706433:5000",
            "127.0.0.0x1",
            "1.2.3.4.5",
            "256.0.0.1",
            "r.example.1",
            "127.0.0.0x",
        ] {
            let refused = canonical(domain).unwrap_err();
            assert!(refused.contains("four decimal numbers"), "{domain}: {refused}");
        }
        assert!(canonical("[::ffff:7f00:1]:5000").is_err());
    }

    #[test]
    fn scopes_have_the_spelling_of_names() {
        for (scope, expected) in [
            ("Index.Docker.io", "docker.io"),
            ("index.docker.io/Team", "docker.io/Team"),
            ("R.Example:5000/x:Tag", "r.example:5000/x:Tag"),
            ("*.Example.org", "*.example.org"),
            ("[0:0::1]:5000/x", "[::1]:5000/x"),
            ("[2001:DB8::0001]", "[2001:db8::1]"),
            ("[no address]/x", "[no address]/x"),
            ("", ""),
        ] {
            assert_eq!(canonical_scope(scope), expected);
        }
    }
}
