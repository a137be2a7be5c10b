//! The contents of the files that configure name resolution.

use crate::{Lease, v6};
use std::net::IpAddr;

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

/// What the command line gives, which comes before what was learned.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    /// Name servers.
    pub name_servers: &'a [IpAddr],
    /// The machine's name.
    pub host_name: Option<&'a str>,
    /// Whether name servers that were learned are not used.
    pub ignores_learned_name_servers: bool,
}

/// What the networks on one interface told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Learned<'a> {
    /// The name of the interface, by which its link-local servers are reached.
    pub interface: &'a str,
    /// The lease of DHCPv4.
    pub lease: Option<&'a Lease>,
    /// What IPv6 routers and DHCPv6 told.
    pub network: Option<&'a v6::Network>,
}

impl Resolver {
    /// Puts the servers that are given before those that were learned, those of IPv4 before those of IPv6.
    #[must_use]
    pub fn new(given: Given<'_>, learned: Learned<'_>) -> Self {
        let of_lease =
            learned.lease.into_iter().flat_map(|lease| &lease.name_servers).map(ToString::to_string);
        let of_network = learned.network.into_iter().flat_map(|network| &network.name_servers);
        let of_network = of_network.map(|server| match server.is_unicast_link_local() {
            true => format!("{server}%{}", learned.interface),
            false => server.to_string(),
        });
        let learned_servers = of_lease.chain(of_network).filter(|_| !given.ignores_learned_name_servers);
        let servers: Vec<String> =
            given.name_servers.iter().map(ToString::to_string).chain(learned_servers).collect();
        let mut search: Vec<&String> = learned.lease.into_iter().flat_map(|lease| &lease.search).collect();
        let more = learned.network.into_iter().flat_map(|network| &network.search);
        search.extend(more.filter(|domain| learned.lease.is_none_or(|lease| !lease.search.contains(domain))));
        let of_lease = || learned.lease.and_then(|lease| lease.host_name.as_deref());
        let host_name = given.host_name.or_else(of_lease).unwrap_or(NO_NAME);
        Self {
            resolv_conf: resolv_conf(&servers, &search),
            hosts: hosts(host_name),
            host_name: host_name.to_owned(),
        }
    }
}

fn resolv_conf(servers: &[String], domains: &[&String]) -> String {
    let names: String = domains.iter().map(|domain| format!(" {domain}")).collect();
    let search = (!names.is_empty()).then(|| format!("search{names}\n"));
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
        let servers: Vec<String> = (1..=4).map(|n| format!("10.0.0.{n}")).collect();
        assert_eq!(
            resolv_conf(&servers, &[&"lab.example".into(), &"example".into()]),
            "search lab.example example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"
        );
    }

    #[test]
    fn without_a_lease_the_machine_is_localhost() {
        let resolver = Resolver::new(Given::default(), Learned::default());
        assert_eq!((&*resolver.resolv_conf, &*resolver.host_name), ("", "localhost"));
        assert_eq!(resolver.hosts, "127.0.0.1 localhost\n::1 localhost\n");
    }

    #[test]
    fn a_server_on_the_link_is_reached_by_its_interface() {
        let servers = ["fe80::1", "2001:db8::1"].map(|server| server.parse().unwrap()).to_vec();
        let network = v6::Network {
            name_servers: servers,
            search: vec!["lab.example".into()],
            ..v6::Network::default()
        };
        let learned = Learned { interface: "eth0", network: Some(&network), ..Learned::default() };
        let own = ["9.9.9.9".parse().unwrap()];
        let given = Given { name_servers: &own, host_name: Some("lab7"), ..Given::default() };
        let resolver = Resolver::new(given, learned);
        let expected =
            "search lab.example\nnameserver 9.9.9.9\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n";
        assert_eq!(resolver.resolv_conf, expected);
        assert_eq!(resolver.host_name, "lab7");
        let only_own = Given { ignores_learned_name_servers: true, ..given };
        let expected = "search lab.example\nnameserver 9.9.9.9\n";
        assert_eq!(Resolver::new(only_own, learned).resolv_conf, expected);
    }
}
