//! IPv6 on one interface. The kernel makes an address and the default route of what a router advertises; this module asks
//! for the advertisement at once, reads what the kernel leaves to others, and starts DHCPv6 where the router says so.

mod addresses;
mod dhcp;

use super::interfaces::Interface;
use super::transaction::is_transient;
use super::warnings::Warnings;
use crate::report::Report;
use ::dhcp::router::{Advertisement, ROUTERS, SOLICITATION};
use ::dhcp::v6;
use addresses::State;
use anyhow::Context as _;
use retry::ROUTER_SOLICITATION;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Settings of the kernel (Documentation/networking/ip-sysctl.rst). An address is used while the kernel still looks for
/// another machine that has it (RFC 4429), which takes a second; without this, each IPv6 network costs that second.
const KERNEL_SETTINGS: [(&str, &str); 2] = [("optimistic_dad", "1"), ("use_optimistic", "1")];
/// How long the kernel may take to make an address: it does so while the advertisement is delivered, but one that it
/// does not use at once takes a second (`RetransTimer`).
const ADDRESS_LIMIT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How often a duplicate address is looked for; the kernel notices one within a second.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long an answer of DHCPv6 with name servers may take before the network counts as usable without.
const INFORMATION_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of the longest advertisement that is read: what an Ethernet frame holds.
const LONGEST: usize = 1500;

/// What IPv6 gave an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ipv6 {
    pub(super) address: String,
    pub(super) from: String,
    pub(super) network: v6::Network,
}

/// Prepares an interface before it comes up.
pub(super) fn prepare(interface: &Interface) {
    let settings = Path::new("/proc/sys/net/ipv6/conf").join(&interface.name);
    for (name, value) in KERNEL_SETTINGS {
        // A kernel without the setting, or without IPv6, only takes longer.
        let _ = fs::write(settings.join(name), value);
    }
}

/// Follows what routers and servers tell an interface, and passes on each change, until `tell` returns false.
pub(super) fn follow(interface: &Interface, report: &Report, tell: impl Fn(Ipv6) -> bool) {
    let warnings = Warnings::new(&interface.name, report);
    let Ok(socket) = open(&interface.name) else {
        // The kernel has no IPv6.
        return;
    };
    let mut follower =
        Follower { interface, warnings: &warnings, socket, router: None, dhcp: None, told: None };
    while follower.step().is_none_or(&tell) {}
}

struct Follower<'a> {
    interface: &'a Interface,
    warnings: &'a Warnings<'a>,
    socket: UdpSocket,
    /// The last advertisement and its router.
    router: Option<(Ipv6Addr, Advertisement)>,
    /// What DHCPv6 tells, once it was started.
    dhcp: Option<(Receiver<dhcp::Told>, Option<dhcp::Told>)>,
    told: Option<Ipv6>,
}

impl Follower<'_> {
    /// Waits for something new; `None` when there is nothing new to pass on.
    fn step(&mut self) -> Option<Ipv6> {
        match &self.router {
            None => self.router = Some(self.solicit()),
            Some(_) => {
                if let Some(found) = self.receive(CHECK_INTERVAL) {
                    self.router = Some(found);
                }
            }
        }
        if let Some(duplicate) = addresses::of(self.interface.index, State::Duplicate) {
            self.warnings.tell(format!("ignoring the address {duplicate}: another machine has it"));
        }
        self.ask_servers();
        let found = self.found()?;
        (self.told.as_ref() != Some(&found)).then(|| self.told.insert(found).clone())
    }

    /// Asks routers until one advertises itself.
    fn solicit(&self) -> (Ipv6Addr, Advertisement) {
        let to = SocketAddrV6::new(ROUTERS, 0, 0, self.interface.index);
        let mut tried = 0;
        loop {
            tried += 1;
            // Fails while the interface has no address of its own; the kernel soon makes one.
            let is_sent = self.socket.send_to(&SOLICITATION, to).is_ok();
            let pause = if is_sent { ROUTER_SOLICITATION.pause(tried) } else { POLL_INTERVAL };
            tried = if is_sent { tried } else { 0 };
            if let Some(found) = self.receive(pause) {
                return found;
            }
        }
    }

    /// The next advertisement. Only a router on the link has an address of the link, which no router passes on.
    fn receive(&self, wait: Duration) -> Option<(Ipv6Addr, Advertisement)> {
        let start = Instant::now();
        let mut buffer = [0; LONGEST];
        loop {
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return None;
            }
            self.socket.set_read_timeout(Some(left)).ok()?;
            match self.socket.recv_from(&mut buffer) {
                Ok((count, SocketAddr::V6(from))) if from.ip().is_unicast_link_local() => {
                    let message = buffer.get(..count).unwrap_or_default();
                    if let Some(advertisement) = Advertisement::parse(message) {
                        return Some((*from.ip(), advertisement));
                    }
                }
                Ok(_) => {}
                Err(error) if is_transient(error.kind()) => {}
                // The interface went down, or is gone.
                Err(_) => thread::sleep(left),
            }
        }
    }

    /// Starts DHCPv6 when the router says that there is a server, and takes what it told.
    fn ask_servers(&mut self) {
        let Some((_, advertisement)) = &self.router else { return };
        if self.dhcp.is_none() && (advertisement.is_managed || advertisement.has_other) {
            let (sender, receiver) = channel();
            dhcp::ask(self.interface, self.warnings.report(), advertisement.is_managed, sender);
            let first = receiver.recv_timeout(INFORMATION_LIMIT).ok();
            self.dhcp = Some((receiver, first));
        }
        if let Some((receiver, last)) = &mut self.dhcp
            && let Some(newest) = receiver.try_iter().last()
        {
            *last = Some(newest);
        }
    }

    /// What the interface has now; `None` while it cannot reach other networks.
    fn found(&self) -> Option<Ipv6> {
        let (router, advertisement) = self.router.as_ref().filter(|(_, it)| it.is_default)?;
        let told = self.dhcp.as_ref().and_then(|(_, told)| told.clone());
        let limit = if advertisement.makes_address { ADDRESS_LIMIT } else { Duration::ZERO };
        let Some(address) = await_address(self.interface.index, limit) else {
            // The kernel takes an address that it has made away again when another machine has it.
            if advertisement.makes_address {
                let what = "no advertised address is usable: another machine may have it";
                self.warnings.tell(what.to_owned());
            }
            return None;
        };
        let mut network = told.as_ref().map(|told| told.network.clone()).unwrap_or_default();
        let mut name_servers = advertisement.name_servers.clone();
        name_servers
            .extend(network.name_servers.iter().filter(|it| !advertisement.name_servers.contains(it)));
        let mut search = advertisement.search.clone();
        search.extend(network.search.iter().filter(|it| !advertisement.search.contains(it)).cloned());
        let portal = network.captive_portal.take().or_else(|| advertisement.captive_portal.clone());
        network = v6::Network { name_servers, search, captive_portal: portal, ..network };
        let from = match told.filter(|told| told.has_address) {
            Some(_) => format!("a DHCPv6 server by router {router}"),
            None => format!("router {router}"),
        };
        Some(Ipv6 { address, from, network })
    }
}

fn await_address(index: u32, limit: Duration) -> Option<String> {
    let start = Instant::now();
    loop {
        let found = addresses::of(index, State::Usable);
        if found.is_some() || start.elapsed() >= limit {
            return found;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// A socket for ICMPv6. The kernel computes checksums, and checks them.
fn open(interface: &str) -> anyhow::Result<UdpSocket> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET6,
        rustix::net::SocketType::RAW,
        rustix::net::SocketFlags::CLOEXEC,
        Some(rustix::net::ipproto::ICMPV6),
    )?;
    sys::bind_to_interface(&socket, interface).with_context(|| format!("cannot bind to `{interface}`"))?;
    // RFC 4861, section 4.1: routers drop solicitations that may come from elsewhere.
    rustix::net::sockopt::set_ipv6_multicast_hops(&socket, 255)?;
    Ok(UdpSocket::from(socket))
}

#[cfg(test)]
mod tests;
