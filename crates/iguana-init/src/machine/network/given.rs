//! What the command line gives an interface: its name, addresses and routes.

use super::interfaces::Interface;
use super::netlink::Netlink;
use crate::report::Report;
use anyhow::Context as _;
use config::network_options::{FixedRoute, InterfaceOptions, Method, NetworkOptions};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How an interface is configured, as decided when it appeared: its name and hardware address may be changed then.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) options: InterfaceOptions,
    /// Whether the machine waits for it.
    pub(super) is_awaited: bool,
}

/// The address that the command line gives an interface.
#[derive(Debug, Clone)]
pub(super) enum FixedAddress {
    /// The address, and the bits of its network.
    Address(IpAddr, u8),
    /// That which the kernel makes for the link.
    OfLink,
}

impl fmt::Display for FixedAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address, prefix) => write!(out, "{address}/{prefix}"),
            Self::OfLink => out.write_str("an IPv6 address of the link"),
        }
    }
}

/// Renames a new interface as the options say, and decides how it is configured; `None` if it is not.
pub(super) fn choose(
    netlink: &mut Netlink,
    interface: &mut Interface,
    options: &NetworkOptions,
    report: &Report,
) -> Option<Chosen> {
    let wanted = options.names.iter().find(|(_, address)| *address == interface.hardware_address);
    if let Some((name, _)) = wanted.filter(|(name, _)| *name != interface.name) {
        match netlink.set_name(interface.index, name) {
            Ok(()) => interface.name.clone_from(name),
            Err(error) => warn(interface, report, &format!("cannot be renamed to `{name}`"), &error),
        }
    }
    let chosen = options.of(&interface.name, interface.hardware_address)?;
    let is_awaited = options
        .awaited()
        .is_none_or(|selector| selector.selects(&interface.name, interface.hardware_address));
    Some(Chosen { options: chosen, is_awaited })
}

/// Sets what must be set before the interface comes up.
pub(super) fn prepare(
    netlink: &mut Netlink,
    interface: &mut Interface,
    options: &InterfaceOptions,
    report: &Report,
) {
    if let Some(address) = options.hardware_address {
        match netlink.set_hardware_address(interface.index, address) {
            Ok(()) => interface.hardware_address = address,
            Err(error) => warn(interface, report, "cannot have the MAC address of `ip=`", &error),
        }
    }
    if let Some(mtu) = options.mtu
        && let Err(error) = netlink.set_mtu(interface.index, mtu)
    {
        warn(interface, report, &format!("cannot have an MTU of {mtu} bytes"), &error);
    }
}

/// Sets the fixed address and the gateway of an interface; `None` if the options have no address.
///
/// # Errors
/// When the kernel refuses them.
pub(super) fn configure(
    netlink: &mut Netlink,
    interface: &Interface,
    options: &InterfaceOptions,
) -> anyhow::Result<Option<FixedAddress>> {
    let Some((address, prefix)) = options.address else {
        return Ok((options.method == Method::Link).then_some(FixedAddress::OfLink));
    };
    match address {
        IpAddr::V4(address) => netlink.set_address(interface.index, (address, prefix), None),
        IpAddr::V6(address) => {
            netlink.set_ipv6_address(interface.index, (address, prefix), u32::MAX, u32::MAX)
        }
    }
    .with_context(|| format!("cannot set the address `{address}/{prefix}` of `ip=`"))?;
    if let Some(gateway) = options.gateway {
        netlink
            .add_route_to(interface.index, everywhere(gateway), Some(gateway))
            .with_context(|| format!("cannot set the gateway `{gateway}` of `ip=`"))?;
    }
    Ok(Some(FixedAddress::Address(address, prefix)))
}

fn everywhere(gateway: IpAddr) -> (IpAddr, u8) {
    match gateway {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), 0),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

/// Adds the routes of `rd.route=` that go through an interface, which has an IPv4 address, or else an IPv6 address.
pub(super) fn add_routes(
    netlink: &mut Netlink,
    interface: &Interface,
    routes: &[FixedRoute],
    is_awaited: bool,
    is_ipv4: bool,
    report: &Report,
) {
    let is_through = |route: &&FixedRoute| {
        let is_its = match &route.interface {
            Some(selector) => selector.selects(&interface.name, interface.hardware_address),
            None => is_awaited,
        };
        is_its && route.network.0.is_ipv4() == is_ipv4
    };
    for route in routes.iter().filter(is_through) {
        if let Err(error) = netlink.add_route_to(interface.index, route.network, route.gateway) {
            let (address, prefix) = route.network;
            warn(interface, report, &format!("cannot have the route to {address}/{prefix}"), &error);
        }
    }
}

fn warn(interface: &Interface, report: &Report, what: &str, error: &io::Error) {
    report.warn(format_args!("network: {} {what}: {error}", interface.name));
}
