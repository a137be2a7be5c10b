//! The lease that a server gives, reduced to the parts that can be used.

use crate::address::{defect, is_broadcast, is_usable, mask, prefix};
use crate::name;
use crate::options::{self, Options};
use crate::text;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// The prefix length when the server sends no subnet mask, or an invalid one.
const DEFAULT_PREFIX: u8 = 24;
/// The shortest lease time that is accepted, in seconds: half of it is the pause between two renewals.
const SHORTEST_LEASE: u32 = 4;
/// The lease time in seconds when the server sends none, or an infinite one: such a lease is renewed once a day.
const DEFAULT_LEASE: u32 = 86_400;
/// RFC 2131, section 3.3: this number of seconds means an infinite lease.
const FOR_EVER: u32 = u32::MAX;
/// Further servers, domains and routes are left out: each route is a request to the kernel.
const SERVERS_AT_MOST: usize = 8;
/// resolv.conf(5) had this limit until glibc 2.26.
const DOMAINS_AT_MOST: usize = 6;
const ROUTES_AT_MOST: usize = 64;
/// Bytes of the smallest packet size that is accepted: every host takes that much (RFC 791, section 3.1). A smaller one
/// would only slow the machine down.
const SMALLEST_MTU: u16 = 576;

/// A lease, of which every part can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address of the machine.
    pub address: Ipv4Addr,
    /// The prefix length of its network.
    pub prefix: u8,
    /// The server that gave the lease; `None` when the address it sends as its own cannot be one.
    pub server: Option<Ipv4Addr>,
    /// The routes to other networks.
    pub routes: Vec<Route>,
    /// The name servers, in the order in which they are asked.
    pub name_servers: Vec<Ipv4Addr>,
    /// The domains in which names without a dot are looked up.
    pub search: Vec<String>,
    /// The host name.
    pub host_name: Option<String>,
    /// The largest packet that the network takes, in bytes.
    pub mtu: Option<u16>,
    /// Servers that tell the time (NTP).
    pub time_servers: Vec<Ipv4Addr>,
    /// What to boot, if the server names it by a URL. It often names a boot loader's file instead, which is left out.
    pub boot_url: Option<String>,
    /// Where a person has to agree to something before the network can be used (RFC 8910).
    pub captive_portal: Option<String>,
    /// Time until the lease is renewed with its server (T1).
    pub renew: Duration,
    /// Time until any server is asked to extend it (T2).
    pub rebind: Duration,
    /// Time until the lease expires.
    pub end: Duration,
    /// What the server sent but cannot be used, and why: one sentence each.
    pub ignored: Vec<String>,
}

/// A route to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The address of the network.
    pub network: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// The gateway; `None` when the network is on the link itself.
    pub gateway: Option<Ipv4Addr>,
}

impl fmt::Display for Route {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.network, self.prefix)?;
        self.gateway.map_or(Ok(()), |gateway| write!(out, " via {gateway}"))
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

impl Lease {
    /// The lease in a DHCPOFFER or DHCPACK; an error when the machine cannot have the address.
    pub(crate) fn new(
        address: Ipv4Addr,
        next_server: Ipv4Addr,
        boot_file: &[u8],
        options: &Options,
    ) -> Result<Self, String> {
        if let Some(defect) = defect(address) {
            return Err(format!("the address `{address}` {defect}"));
        }
        let mut reader = Reader { options, ignored: Vec::new() };
        let prefix = reader.prefix();
        if is_broadcast(address, prefix) {
            return Err(format!("the address `{address}/{prefix}` is its network's broadcast address"));
        }
        let [renew, rebind, end] = reader.times().map(|seconds| Duration::from_secs(seconds.into()));
        Ok(Self {
            address,
            prefix,
            server: reader.server(next_server),
            routes: reader.routes(),
            name_servers: reader.servers(options::NAME_SERVERS, "name servers"),
            search: reader.search(),
            host_name: reader.name(options::HOST_NAME, "host name", name::host),
            mtu: reader.mtu(),
            time_servers: reader.servers(options::TIME_SERVERS, "time servers"),
            boot_url: text::url(options.bytes(options::BOOT_FILE).unwrap_or(boot_file)),
            captive_portal: options.bytes(options::CAPTIVE_PORTAL).and_then(text::url),
            renew,
            rebind,
            end,
            ignored: reader.ignored,
        })
    }
}

/// Reads options, and notes those that cannot be used.
struct Reader<'a> {
    options: &'a Options,
    ignored: Vec<String>,
}

impl Reader<'_> {
    fn prefix(&mut self) -> u8 {
        let Some(bytes) = self.options.bytes(options::SUBNET_MASK) else { return DEFAULT_PREFIX };
        self.options.address(options::SUBNET_MASK).and_then(prefix).unwrap_or_else(|| {
            self.ignored.push(format!("the subnet mask {bytes:?} is invalid; using /{DEFAULT_PREFIX}"));
            DEFAULT_PREFIX
        })
    }

    fn server(&mut self, next_server: Ipv4Addr) -> Option<Ipv4Addr> {
        match self.options.address(options::SERVER_IDENTIFIER) {
            Some(server) => {
                let defect = defect(server);
                let note = defect.map(|defect| format!("the server's address `{server}` {defect}"));
                self.ignored.extend(note);
                defect.is_none().then_some(server)
            }
            None => is_usable(next_server).then_some(next_server),
        }
    }

    /// Seconds to T1, T2 and the end, in this order (RFC 2131, section 4.4.5).
    fn times(&self) -> [u32; 3] {
        let end = match self.options.number(options::LEASE_TIME) {
            None | Some(FOR_EVER) => DEFAULT_LEASE,
            Some(seconds) => seconds.max(SHORTEST_LEASE),
        };
        let said = |code| self.options.number(code).filter(|seconds| *seconds < end);
        let renew = said(options::RENEWAL_TIME).filter(|renew| *renew > 0).unwrap_or(end / 2);
        let renew = renew.max(SHORTEST_LEASE / 2);
        let usual = end.saturating_sub(end / 8);
        let rebind = said(options::REBINDING_TIME).filter(|rebind| *rebind >= renew);
        [renew, rebind.unwrap_or(usual.max(renew)), end]
    }

    fn servers(&mut self, code: u8, what: &str) -> Vec<Ipv4Addr> {
        let Some(servers) = self.options.addresses(code) else {
            self.ignored.push(format!("the list of {what} is malformed"));
            return Vec::new();
        };
        let (mut good, bad): (Vec<_>, Vec<_>) = servers.into_iter().partition(|server| is_usable(*server));
        if let Some(first) = bad.first() {
            self.ignored.push(format!("{} {what} with impossible addresses, such as `{first}`", bad.len()));
        }
        self.shorten(&mut good, SERVERS_AT_MOST, what);
        good
    }

    /// The search list, which takes the place of the domain name.
    fn search(&mut self) -> Vec<String> {
        let listed = self.options.bytes(options::SEARCH_LIST).map(name::list);
        if let Some(Some(mut domains)) = listed {
            self.shorten(&mut domains, DOMAINS_AT_MOST, "search domains");
            return domains;
        }
        if listed.is_some() {
            self.ignored.push("the domain search list is malformed".into());
        }
        self.name(options::DOMAIN_NAME, "domain name", name::domain).into_iter().collect()
    }

    fn mtu(&mut self) -> Option<u16> {
        self.options.bytes(options::INTERFACE_MTU)?;
        let mtu = self.options.short(options::INTERFACE_MTU).filter(|mtu| *mtu >= SMALLEST_MTU);
        if mtu.is_none() {
            self.ignored.push(format!("the MTU is less than {SMALLEST_MTU} bytes"));
        }
        mtu
    }

    fn name(&mut self, code: u8, what: &str, read: fn(&[u8]) -> Option<String>) -> Option<String> {
        let bytes = self.options.bytes(code)?;
        let name = read(bytes);
        if name.is_none() {
            self.ignored.push(format!("the {what} `{}` is invalid", bytes.escape_ascii()));
        }
        name
    }

    /// RFC 3442: if there are classless routes, the other routing options are ignored.
    fn routes(&mut self) -> Vec<Route> {
        let mut routes = match self.options.bytes(options::CLASSLESS_ROUTES).map(classless_routes) {
            Some(Some(routes)) => routes,
            Some(None) => {
                self.ignored.push("the list of classless routes is malformed".into());
                self.router()
            }
            None => self.router(),
        };
        let all = routes.len();
        routes.retain(|route| is_destination(route) && route.gateway.is_none_or(is_usable));
        let bad = all.saturating_sub(routes.len());
        if bad > 0 {
            self.ignored.push(format!("{bad} routes with an impossible destination or gateway"));
        }
        self.shorten(&mut routes, ROUTES_AT_MOST, "routes");
        routes
    }

    fn router(&mut self) -> Vec<Route> {
        let Some(routers) = self.options.addresses(options::ROUTER) else {
            self.ignored.push("the list of routers is malformed".into());
            return Vec::new();
        };
        let anywhere = |gateway| Route { network: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway: Some(gateway) };
        routers.into_iter().take(1).map(anywhere).collect()
    }

    fn shorten<T>(&mut self, list: &mut Vec<T>, limit: usize, what: &str) {
        if list.len() > limit {
            self.ignored.push(format!("all but the first {limit} of {} {what}", list.len()));
            list.truncate(limit);
        }
    }
}

/// RFC 3442, "Classless Route Option Format"; `None` when the bytes do not follow it.
fn classless_routes(mut bytes: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let Some((&prefix, rest)) = bytes.split_first() {
        let (network, rest) = rest.split_at_checked(usize::from(prefix.div_ceil(8)))?;
        let (gateway, rest) = rest.split_first_chunk::<4>()?;
        let mut octets = [0; 4];
        // Fails for a prefix of more than 32 bits.
        octets.get_mut(..network.len())?.copy_from_slice(network);
        let network = u32::from_be_bytes(octets) & mask(prefix);
        let gateway = Some(Ipv4Addr::from(*gateway)).filter(|gateway| !gateway.is_unspecified());
        routes.push(Route { network: network.into(), prefix, gateway });
        bytes = rest;
    }
    Some(routes)
}

/// Whether packets may be sent to that network; 0.0.0.0/0 counts as one.
fn is_destination(route: &Route) -> bool {
    route.prefix <= 32 && (route.network.is_unspecified() || is_usable(route.network))
}

#[cfg(test)]
mod tests;
