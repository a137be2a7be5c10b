//! The contents of the files that configure name resolution.

use crate::Lease;
use std::net::Ipv4Addr;

/// resolv.conf(5) allows three.
const NAME_SERVERS_AT_MOST: usize = 3;
/// The host name when neither the user nor a server gives one.
const NO_NAME: &str = "localhost";

/// The contents of the files that configure name resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// `/etc/hosts`.
    pub hosts: String,
    /// The host name.
    pub host_name: String,
}

impl Resolver {
    /// Puts the servers in `first` before those of the lease.
    #[must_use]
    pub fn new(first: &[Ipv4Addr], lease: Option<&Lease>) -> Self {
        let mut servers = first.to_vec();
        servers.extend(lease.into_iter().flat_map(|lease| &lease.name_servers));
        let host_name = lease.and_then(|lease| lease.host_name.as_deref()).unwrap_or(NO_NAME);
        Self {
            resolv_conf: resolv_conf(&servers, lease.and_then(|lease| lease.domain.as_deref())),
            hosts: hosts(host_name),
            host_name: host_name.to_owned(),
        }
    }
}

fn resolv_conf(servers: &[Ipv4Addr], domain: Option<&str>) -> String {
    let search = domain.map(|domain| format!("search {domain}\n"));
    let servers = servers.iter().take(NAME_SERVERS_AT_MOST).map(|server| format!("nameserver {server}\n"));
    search.into_iter().chain(servers).collect()
}

fn hosts(host_name: &str) -> String {
    let own = if host_name == NO_NAME { String::new() } else { format!("127.0.1.1 {host_name}\n") };
    format!("127.0.0.1 localhost\n::1 localhost\n{own}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_three_servers_are_named() {
        let servers: Vec<Ipv4Addr> = (1..=4).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
        assert_eq!(
            resolv_conf(&servers, Some("lab.example")),
            "search lab.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"
        );
    }

    #[test]
    fn without_a_lease_the_machine_is_localhost() {
        let resolver = Resolver::new(&[], None);
        assert_eq!((&*resolver.resolv_conf, &*resolver.host_name), ("", "localhost"));
        assert_eq!(resolver.hosts, "127.0.0.1 localhost\n::1 localhost\n");
    }
}
