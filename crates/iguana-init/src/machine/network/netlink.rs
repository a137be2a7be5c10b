//! Interfaces, addresses and routes by rtnetlink(7).

mod request;

use anyhow::Context as _;
use dhcp::Route;
use libc::{IFA_ADDRESS, IFA_BROADCAST, IFA_LOCAL, IFF_UP, NLM_F_CREATE, NLM_F_REPLACE};
use libc::{IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU};
use libc::{RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PRIORITY};
use libc::{RTM_DELADDR, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWROUTE};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use request::{Request, RouteHeader};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
/// The origin of a route, and that its router is on the link even if no address says so: linux/rtnetlink.h.
const RTPROT_DHCP: u8 = 16;
const RTNH_F_ONLINK: u32 = 4;
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
        self.send(Request::of_link(index, IFF_UP))
    }

    /// Sets the largest packet of an interface, in bytes.
    pub(super) fn set_mtu(&mut self, index: u32, mtu: u16) -> io::Result<()> {
        self.send(Request::of_link(index, 0).with_number(IFLA_MTU, mtu.into()))
    }

    /// Renames an interface, which must be down.
    pub(super) fn set_name(&mut self, index: u32, name: &str) -> io::Result<()> {
        self.send(Request::of_link(index, 0).with_bytes(IFLA_IFNAME, format!("{name}\0").as_bytes()))
    }

    /// Gives an interface, which must be down, another hardware address.
    pub(super) fn set_hardware_address(&mut self, index: u32, address: [u8; 6]) -> io::Result<()> {
        self.send(Request::of_link(index, 0).with_bytes(IFLA_ADDRESS, &address))
    }

    /// Sets the address of an interface; may be repeated. The kernel removes it after `lifetime`; `None` is forever.
    pub(super) fn set_address(
        &mut self,
        index: u32,
        (address, prefix): (Ipv4Addr, u8),
        lifetime: Option<Duration>,
    ) -> io::Result<()> {
        let mut request = about_address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, (address, prefix));
        if let Some(lifetime) = lifetime {
            let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
            request = request.with_lifetime(seconds, seconds);
        }
        if prefix < 31 {
            let broadcast = u32::from(address) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            request = request.with_address(IFA_BROADCAST, Ipv4Addr::from(broadcast));
        }
        self.send(request)
    }

    /// Removes an address from an interface, and the routes by way of it.
    pub(super) fn remove_address(&mut self, index: u32, address: (Ipv4Addr, u8)) -> io::Result<()> {
        self.send(about_address(RTM_DELADDR, 0, index, address))
    }

    /// Sets an IPv6 address, preferred and valid for so many seconds ([`u32::MAX`] is forever); may be repeated. One that
    /// DHCPv6 gives is without a network: its prefix has 128 bits.
    pub(super) fn set_ipv6_address(
        &mut self,
        index: u32,
        (address, prefix): (Ipv6Addr, u8),
        preferred: u32,
        valid: u32,
    ) -> io::Result<()> {
        let network = (index, libc::AF_INET6, prefix);
        let request = Request::of_address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, network);
        self.send(request.with_address(IFA_ADDRESS, address).with_lifetime(preferred, valid))
    }

    /// Adds a route through an interface.
    pub(super) fn add_route(&mut self, index: u32, route: &Route) -> io::Result<()> {
        let gateway = route.gateway.map(IpAddr::V4);
        self.add_route_to(index, (route.network.into(), route.prefix), gateway)
    }

    /// Adds a route of either version of IP through an interface.
    pub(super) fn add_route_to(
        &mut self,
        index: u32,
        network: (IpAddr, u8),
        gateway: Option<IpAddr>,
    ) -> io::Result<()> {
        self.send(about_route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, index, network, gateway))
    }

    /// Removes a route that was added.
    pub(super) fn remove_route(&mut self, index: u32, route: &Route) -> io::Result<()> {
        let network = (route.network.into(), route.prefix);
        self.send(about_route(RTM_DELROUTE, 0, index, network, route.gateway.map(IpAddr::V4)))
    }

    /// Sends a request, and returns the kernel's answer to it.
    fn send(&mut self, request: Request) -> io::Result<()> {
        self.socket.send(&request.into_bytes(), 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        match acknowledged(&answer)? {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

fn about_route(
    kind: u16,
    flags: i32,
    index: u32,
    (network, prefix): (IpAddr, u8),
    gateway: Option<IpAddr>,
) -> Request {
    // The router of a /32 address is outside of the interface's network.
    let (scope, of_hop) = match gateway {
        None => (libc::RT_SCOPE_LINK, 0),
        Some(_) => (libc::RT_SCOPE_UNIVERSE, RTNH_F_ONLINK),
    };
    let family = if network.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let header = RouteHeader { family, prefix, protocol: RTPROT_DHCP, scope, flags: of_hop };
    let mut request = Request::of_route(kind, flags, &header)
        .with_number(RTA_OIF, index)
        .with_number(RTA_PRIORITY, ROUTE_METRIC + index);
    if prefix > 0 {
        request = request.with_address(RTA_DST, network);
    }
    match gateway {
        None => request,
        Some(gateway) => request.with_address(RTA_GATEWAY, gateway),
    }
}

fn about_address(kind: u16, flags: i32, index: u32, (address, prefix): (Ipv4Addr, u8)) -> Request {
    let request = Request::of_address(kind, flags, (index, libc::AF_INET, prefix));
    request.with_address(IFA_LOCAL, address).with_address(IFA_ADDRESS, address)
}

/// The error number in an acknowledgement, 0 for success (netlink(7), `NLMSG_ERROR`).
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

    #[test]
    fn an_interface_takes_its_mtu_and_a_route_without_a_router() {
        if !rustix::process::getuid().is_root() {
            return;
        }
        let (mut netlink, index) = interface();
        netlink.set_mtu(index, 1400).unwrap();
        assert!(ip("link show dev v0").contains("mtu 1400"), "{}", ip("link show dev v0"));
        netlink.set_address(index, (Ipv4Addr::new(203, 0, 113, 5), 24), None).unwrap();
        let address = ip("-4 -o address show dev v0");
        assert!(address.contains("brd 203.0.113.255") && address.contains("valid_lft forever"), "{address}");
        let network = Ipv4Addr::new(198, 51, 100, 0);
        netlink.add_route(index, &Route { network, prefix: 24, gateway: None }).unwrap();
        let route = ip("route show 198.51.100.0/24");
        assert!(route.contains("dev v0 proto dhcp scope link metric"), "{route}");
        netlink.set_ipv6_address(index, ("2001:db8::5".parse().unwrap(), 128), 300, 600).unwrap();
        let address = ip("-6 -o address show dev v0 scope global");
        assert!(address.contains("2001:db8::5/128"), "{address}");
        assert!(address.contains("valid_lft 600sec preferred_lft 300sec"), "{address}");
    }

    #[test]
    fn an_interface_is_renamed_and_has_routes_of_ipv6() {
        if !rustix::process::getuid().is_root() {
            return;
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ip("link add name v0 type veth peer name v1");
        let index = ip("-o link show v0").split(':').next().unwrap().parse().unwrap();
        let mut netlink = Netlink::open().unwrap();
        netlink.set_name(index, "lan0").unwrap();
        netlink.set_hardware_address(index, [2, 0, 0, 0, 0, 7]).unwrap();
        assert!(ip("link show dev lan0").contains("02:00:00:00:00:07"));
        ip("link set v1 up");
        netlink.set_up(index).unwrap();
        let (address, gateway) = ("2001:db8::5".parse().unwrap(), "2001:db8::1".parse().ok());
        netlink.set_ipv6_address(index, (address, 64), u32::MAX, u32::MAX).unwrap();
        netlink.add_route_to(index, (Ipv6Addr::UNSPECIFIED.into(), 0), gateway).unwrap();
        assert!(ip("-6 route").contains("default via 2001:db8::1 dev lan0"), "{}", ip("-6 route"));
        assert!(ip("-6 -o address show dev lan0").contains("2001:db8::5/64"));
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
