//! What names mean: `/etc/resolv.conf`, `/etc/hosts`, `/etc/hostname`.

use super::dhcp::Lease;
use anyhow::Context as _;
use iguana_core::cmdline::Settings;
use std::net::Ipv4Addr;

/// resolv.conf(5) takes three.
const NAMESERVERS_AT_MOST: usize = 3;

/// Writes the files; servers of the command line go before those of the lease.
pub(super) fn write(settings: &Settings, lease: Option<&Lease>) -> anyhow::Result<()> {
    let hostname = lease.and_then(|lease| lease.hostname.as_deref()).unwrap_or("localhost");
    let servers = settings.nameservers.iter().chain(lease.into_iter().flat_map(|lease| &lease.nameservers));
    let domain = lease.and_then(|lease| lease.domain.as_deref());
    put("/etc/resolv.conf", &resolv_conf(servers, domain))?;
    put("/etc/hostname", &format!("{hostname}\n"))?;
    put("/etc/hosts", &hosts(hostname))?;
    rustix::system::sethostname(hostname.as_bytes()).context("cannot set the host name")
}

fn put(path: &str, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write `{path}`"))
}

fn resolv_conf<'a>(servers: impl Iterator<Item = &'a Ipv4Addr>, domain: Option<&str>) -> String {
    let search = domain.map(|domain| format!("search {domain}\n"));
    let servers = servers.take(NAMESERVERS_AT_MOST).map(|server| format!("nameserver {server}\n"));
    search.into_iter().chain(servers).collect()
}

fn hosts(hostname: &str) -> String {
    let own = if hostname == "localhost" { String::new() } else { format!("127.0.1.1 {hostname}\n") };
    format!("127.0.0.1 localhost\n::1 localhost\n{own}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_three_servers_are_named() {
        let servers: Vec<Ipv4Addr> = (1..=4).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
        let text = resolv_conf(servers.iter(), Some("lab.example"));
        assert_eq!(
            text,
            "search lab.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"
        );
    }
}
