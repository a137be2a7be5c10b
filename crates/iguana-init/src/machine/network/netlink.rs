//! Interfaces, addresses and routes by rtnetlink(7).

use anyhow::Context as _;
use dhcp::Route;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
/// The metric of a route is this plus the interface's index, so that interfaces do not replace each other's routes.
const ROUTE_METRIC: u32 = 100;

/// A netlink socket.
pub(super) struct Netlink {
    socket: Socket,
}

impl Netlink {
    pub(super) fn open() -> anyhow::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("cannot talk to the kernel about the network")?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    pub(super) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets the largest packet of an interface, in bytes.
    pub(super) fn set_mtu(&mut self, index: u32, mtu: u16) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![LinkAttribute::Mtu(mtu.into())];
        self.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets the address of an interface; may be repeated. The kernel removes it after `lifetime`; `None` is forever.
    pub(super) fn set_address(
        &mut self,
        index: u32,
        (address, prefix): (Ipv4Addr, u8),
        lifetime: Option<Duration>,
    ) -> io::Result<()> {
        let mut message = address_message(index, (address, prefix));
        if let Some(lifetime) = lifetime {
            let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
            let mut times = CacheInfo::default();
            (times.ifa_preferred, times.ifa_valid) = (seconds, seconds);
            message.attributes.push(AddressAttribute::CacheInfo(times));
        }
        if prefix < 31 {
            let broadcast = u32::from(address) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            message.attributes.push(AddressAttribute::Broadcast(broadcast.into()));
        }
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes an address from an interface, and the routes by way of it.
    pub(super) fn remove_address(&mut self, index: u32, address: (Ipv4Addr, u8)) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelAddress(address_message(index, address)), 0)
    }

    /// Sets an IPv6 address without a network, as DHCPv6 gives it, for so many seconds; may be repeated.
    pub(super) fn set_ipv6_address(
        &mut self,
        index: u32,
        address: Ipv6Addr,
        preferred: u32,
        valid: u32,
    ) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.prefix_len = 128;
        message.header.index = index;
        let mut times = CacheInfo::default();
        (times.ifa_preferred, times.ifa_valid) = (preferred, valid);
        message.attributes =
            vec![AddressAttribute::Address(IpAddr::V6(address)), AddressAttribute::CacheInfo(times)];
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Adds a route through an interface.
    pub(super) fn add_route(&mut self, index: u32, route: &Route) -> io::Result<()> {
        let message = route_message(index, route);
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes a route that was added.
    pub(super) fn remove_route(&mut self, index: u32, route: &Route) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelRoute(route_message(index, route)), 0)
    }

    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        match acknowledged(&answer)? {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

fn route_message(index: u32, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = route.prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Dhcp;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Oif(index), RouteAttribute::Priority(ROUTE_METRIC + index)];
    if route.prefix > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(route.network)));
    }
    match route.gateway {
        None => message.header.scope = RouteScope::Link,
        Some(gateway) => {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
            // The router of a /32 address is outside of the interface's network.
            message.header.flags = RouteFlags::Onlink;
        }
    }
    message
}

fn address_message(index: u32, (address, prefix): (Ipv4Addr, u8)) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    let ip = IpAddr::V4(address);
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

/// The error number in an acknowledgement, 0 for success (netlink(7), `NLMSG_ERROR`).
///
/// Parsed by hand, because the library's parser supports all messages and adds 300 kB.
fn acknowledged(answer: &[u8]) -> io::Result<i32> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(code)) => Ok(code),
        _ => Err(io::Error::other("the kernel's reply is malformed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_refusal_is_read() {
        let mut netlink = Netlink::open().unwrap();
        let error = netlink.set_up(u32::MAX >> 1).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{error}");
        assert!(acknowledged(&[0; 12]).is_err());
    }

    fn ip(arguments: &str) -> String {
        let output = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// An interface `v0` in a network of its own, with its index.
    fn interface() -> (Netlink, u32) {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ip("link add name v0 type veth peer name v1");
        ip("link set v1 up");
        let index = ip("-o link show v0").split(':').next().unwrap().parse().unwrap();
        let mut netlink = Netlink::open().unwrap();
        netlink.set_up(index).unwrap();
        (netlink, index)
    }

    #[test]
    fn an_address_expires_with_its_lease() {
        if !rustix::process::getuid().is_root() {
            return;
        }
        let (mut netlink, index) = interface();
        let [first, second] = [5, 6].map(|last| (Ipv4Addr::new(203, 0, 113, last), 24));
        let shown = || ip("-4 -o address show dev v0");
        netlink.set_address(index, first, Some(Duration::from_secs(600))).unwrap();
        assert!(shown().contains("203.0.113.5/24") && shown().contains("valid_lft 600sec"), "{}", shown());
        // A renewal.
        netlink.set_address(index, first, Some(Duration::from_secs(900))).unwrap();
        assert!(shown().contains("valid_lft 900sec"), "{}", shown());
        netlink.remove_address(index, first).unwrap();
        netlink.set_address(index, second, Some(Duration::from_secs(1))).unwrap();
        assert!(!shown().contains("203.0.113.5") && shown().contains("203.0.113.6"), "{}", shown());
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(shown(), "");
        assert!(netlink.remove_address(index, second).is_err(), "it is gone");
    }

    #[test]
    fn a_removed_route_is_gone() {
        if !rustix::process::getuid().is_root() {
            return;
        }
        let (mut netlink, index) = interface();
        netlink.set_address(index, (Ipv4Addr::new(203, 0, 113, 5), 24), None).unwrap();
        let to = |gateway: [u8; 4]| Route {
            network: Ipv4Addr::new(198, 51, 100, 0),
            prefix: 24,
            gateway: Some(gateway.into()),
        };
        let (first, second) = (to([203, 0, 113, 1]), to([203, 0, 113, 2]));
        netlink.add_route(index, &first).unwrap();
        assert!(netlink.remove_route(index, &second).is_err(), "it is another one");
        netlink.remove_route(index, &first).unwrap();
        assert!(!ip("route").contains("198.51.100.0"), "{}", ip("route"));
    }

    /// Cloud providers assign an address with a /32 prefix, and a router outside of it.
    #[test]
    fn the_router_of_an_address_without_a_network_is_reached() {
        if !rustix::process::getuid().is_root() {
            return;
        }
        let (mut netlink, index) = interface();
        netlink.set_address(index, (Ipv4Addr::new(203, 0, 113, 5), 32), None).unwrap();
        let gateway = Some(Ipv4Addr::new(198, 51, 100, 1));
        netlink.add_route(index, &Route { network: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway }).unwrap();
        assert!(ip("route show default").starts_with("default via 198.51.100.1 dev v0"));
    }
}
