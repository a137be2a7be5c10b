//! The network: waits for an interface, brings it up, and obtains an address.

mod arrivals;
mod channel;
mod dhcp;
mod firmware;
mod given;
mod interfaces;
mod ipv6;
mod netlink;
mod others;
mod resolver;
mod transaction;
mod warnings;

use crate::report::{Report, waiting};
use anyhow::Context as _;
use arrivals::Arrivals;
pub(crate) use others::wait_for_others;

use ::dhcp::{Learned, Lease};
use config::cmdline::Settings;
use config::network_options::{Method, NetworkOptions};
use dhcp::Taken;
use events::{Event, Text};
use given::{Chosen, FixedAddress};
use hint::hinted;
use interfaces::Interface;
use ipv6::Ipv6;
use netlink::Netlink;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};
use warnings::Warnings;

/// How long interface, carrier and address may take together.
const LIMIT: Duration = retry::DHCP_LEASE.total;
/// How long to wait if there is no interface at all; USB ones appear within a few seconds.
const INTERFACE_LIMIT: Duration = Duration::from_secs(30);
/// How often to check for new interfaces and carriers.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often the current wait is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);
/// How often the files of name resolution and the log follow changes: routers and servers may announce thousands of them
/// in a second.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// A network that is up. Leases are renewed until it is dropped.
pub(crate) struct Network {
    _renewing: Sender<()>,
}

/// An interface and what it got.
struct Configured {
    interface: Interface,
    gained: Gained,
}

/// What an interface got, from whom.
enum Gained {
    Ipv4(Lease),
    Ipv6(Ipv6),
    Fixed(FixedAddress),
}

impl Gained {
    /// Who gave it.
    fn from(&self) -> String {
        match self {
            Self::Ipv4(lease) => {
                lease.server.map_or("a DHCP server".into(), |server| format!("DHCP server {server}"))
            }
            Self::Ipv6(ipv6) => ipv6.from.clone(),
            Self::Fixed(_) => "`ip=`".into(),
        }
    }

    fn is_ipv4(&self) -> bool {
        match self {
            Self::Ipv4(_) => true,
            Self::Fixed(FixedAddress::Address(address, _)) => address.is_ipv4(),
            Self::Ipv6(_) | Self::Fixed(FixedAddress::OfLink) => false,
        }
    }
}

impl fmt::Display for Gained {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(lease) => lease.fmt(out),
            Self::Ipv6(ipv6) => out.write_str(&ipv6.address),
            Self::Fixed(address) => address.fmt(out),
        }
    }
}

/// What the interfaces have got so far.
#[derive(Default)]
struct Known(HashMap<u32, (Option<Lease>, Option<Ipv6>)>);

impl Known {
    fn add(&mut self, interface: &Interface, gained: &Gained) {
        let (lease, ipv6) = self.0.entry(interface.index).or_default();
        match gained {
            Gained::Ipv4(new) => *lease = Some(new.clone()),
            Gained::Ipv6(new) => *ipv6 = Some(new.clone()),
            Gained::Fixed(_) => {}
        }
    }

    /// What is known of the networks on an interface.
    fn learned<'a>(&'a self, interface: &'a Interface) -> Learned<'a> {
        let (lease, ipv6) = self
            .0
            .get(&interface.index)
            .map_or((None, None), |(lease, ipv6)| (lease.as_ref(), ipv6.as_ref()));
        Learned { interface: &interface.name, lease, network: ipv6.map(|ipv6| &ipv6.network) }
    }
}

/// Brings the network up, and returns when the first interface has an address, or that which the options name.
///
/// # Errors
/// When there is no interface, no carrier, or no answer in time.
pub(crate) fn bring_up(settings: &Settings, report: &Report) -> anyhow::Result<Network> {
    let (renewing, stop) = channel();
    let network = Network { _renewing: renewing };
    let mut netlink = Netlink::open()?;
    netlink.set_up(interfaces::LOOPBACK_INDEX).context("cannot bring up the loopback interface")?;
    resolver::write(settings, Learned::default(), report)?;
    for warning in &settings.network.warnings {
        report.warn(warning);
    }
    match settings.network.is_off {
        true => report.say("network: not configured (ip=off)"),
        false => ask_interfaces(netlink, settings, report, stop)?,
    }
    Ok(network)
}

/// Requests addresses on the interfaces until there is one to use, and goes on in the background.
fn ask_interfaces(
    mut netlink: Netlink,
    settings: &Settings,
    report: &Report,
    stop: Receiver<()>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let (found, leases) = channel();
    let mut asking = PendingLeases { options: settings.network.clone(), known: HashMap::new(), found };
    let name = settings.network.awaited().map(ToString::to_string);
    let mut told = start;
    let mut known = Known::default();
    let mut arrivals = Arrivals::default();
    loop {
        let interfaces = asking.look(&mut netlink, report);
        match leases.recv_timeout(POLL_INTERVAL) {
            Ok(configured) => {
                known.add(&configured.interface, &configured.gained);
                report.tell(Event::Network {
                    interface: Text::of(&configured.interface.name),
                    address: Text::of(&configured.gained),
                    from: Text::of(configured.gained.from()),
                    seconds: Some(start.elapsed().into()),
                });
                if let Some(chosen) = asking.chosen(&configured.interface) {
                    arrivals.add(&configured, chosen.is_awaited, chosen.options.method);
                }
                asking.add_routes(&mut netlink, &configured, report);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("all DHCP clients have ended"),
        }
        let limit = if interfaces.is_empty() { INTERFACE_LIMIT } else { LIMIT };
        let is_late = start.elapsed() > limit;
        if let Some(interface) = arrivals.enough(is_late) {
            if is_late && let Some(name) = &name {
                report.warn(format_args!("network: using {}, as {name} has no address", interface.name));
            }
            resolver::write(settings, known.learned(interface), report)?;
            let first_interface = interface.clone();
            let going = ActiveNetwork { netlink, asking, known, first_interface, settings: settings.clone() };
            going.keep(leases, report.clone(), stop);
            return Ok(());
        }
        if is_late {
            return Err(nothing_came(name.as_deref(), &interfaces, limit));
        }
        if told.elapsed() > REPORT_INTERVAL {
            told = Instant::now();
            let what = format!("network: waiting for {}", wanted(name.as_deref(), &interfaces));
            report.tell(waiting(what, start.elapsed(), limit));
        }
    }
}

/// The interfaces on which addresses are being requested.
struct PendingLeases {
    options: NetworkOptions,
    /// Every interface so far; `None` for those that are left alone.
    known: HashMap<u32, Option<Pending>>,
    found: Sender<Configured>,
}

/// An interface that is configured.
struct Pending {
    chosen: Chosen,
    is_asked: bool,
}

impl PendingLeases {
    /// Brings up new interfaces, and requests addresses on those that have a carrier now; returns the interfaces that the
    /// machine waits for. One that cannot be brought up must not prevent the others from being used.
    fn look(&mut self, netlink: &mut Netlink, report: &Report) -> Vec<Interface> {
        let mut awaited = Vec::new();
        for mut interface in interfaces::list() {
            if !self.known.contains_key(&interface.index) {
                let pending = self.meet(netlink, &mut interface, report);
                self.known.insert(interface.index, pending);
            }
            let Some(Some(pending)) = self.known.get_mut(&interface.index) else { continue };
            if interface.has_carrier && !pending.is_asked {
                pending.is_asked = true;
                ask(netlink, &interface, &pending.chosen, &self.found, report);
            }
            if pending.chosen.is_awaited {
                awaited.push(interface);
            }
        }
        awaited
    }

    /// Brings up an interface that has appeared; `None` if the options leave it alone.
    fn meet(&self, netlink: &mut Netlink, interface: &mut Interface, report: &Report) -> Option<Pending> {
        let chosen = given::choose(netlink, interface, &self.options, report)?;
        given::prepare(netlink, interface, &chosen.options, report);
        ipv6::prepare(interface);
        if let Err(error) = netlink.set_up(interface.index) {
            report.warn(format_args!("network: cannot bring up {}: {error}", interface.name));
        }
        Some(Pending { chosen, is_asked: false })
    }

    fn chosen(&self, interface: &Interface) -> Option<&Chosen> {
        self.known.get(&interface.index)?.as_ref().map(|pending| &pending.chosen)
    }

    fn add_routes(&self, netlink: &mut Netlink, configured: &Configured, report: &Report) {
        let Configured { interface, gained } = configured;
        let is_awaited = self.chosen(interface).is_some_and(|chosen| chosen.is_awaited);
        given::add_routes(netlink, interface, &self.options.routes, is_awaited, gained.is_ipv4(), report);
    }
}

/// Sets the fixed address of an interface, and asks for others of both kinds at once.
fn ask(
    netlink: &mut Netlink,
    interface: &Interface,
    chosen: &Chosen,
    found: &Sender<Configured>,
    report: &Report,
) {
    match given::configure(netlink, interface, &chosen.options) {
        Ok(None) => {}
        Ok(Some(address)) => {
            // The receiver lives as long as interfaces are asked.
            let _ = found.send(Configured { interface: interface.clone(), gained: Gained::Fixed(address) });
        }
        Err(error) => report.warn(format_args!("network: {}: {error:#}", interface.name)),
    }
    let method = chosen.options.method;
    if matches!(method, Method::Any | Method::Ipv6) {
        let (its, found, log) = (interface.clone(), found.clone(), report.clone());
        thread::spawn(move || {
            ipv6::follow(&its, &log, |ipv6| {
                found.send(Configured { interface: its.clone(), gained: Gained::Ipv6(ipv6) }).is_ok()
            });
        });
    }
    if method == Method::Any {
        let (interface, found, report) = (interface.clone(), found.clone(), report.clone());
        thread::spawn(move || {
            let warnings = Warnings::new(&interface.name, &report);
            let held = RefCell::new(None);
            dhcp::hold_lease(&interface, &report, |lease| take(&interface, &held, lease, &found, &warnings))
        });
    }
}

/// Configures the interface by a lease, and passes both on. What the kernel refuses is told, and the client asks on. `held`
/// is the lease before.
fn take(
    interface: &Interface,
    held: &RefCell<Option<Lease>>,
    lease: Lease,
    found: &Sender<Configured>,
    warnings: &Warnings<'_>,
) -> Taken {
    let change = |mut netlink: Netlink| {
        if let Some(old) = held.take() {
            remove_what_ends(&mut netlink, interface, &old, &lease);
        }
        configure(&mut netlink, interface, &lease, warnings)?;
        held.replace(Some(lease.clone()));
        Ok(())
    };
    if let Err(error) = Netlink::open().and_then(change) {
        warnings.tell(format!("{error:#}"));
        return Taken::Refused;
    }
    match found.send(Configured { interface: interface.clone(), gained: Gained::Ipv4(lease) }) {
        Ok(()) => Taken::Kept,
        Err(_) => Taken::NotWanted,
    }
}

/// Removes what a lease had and the next one has not. Before the new address is set, which might go with the old one as a
/// second one of the same network.
fn remove_what_ends(netlink: &mut Netlink, interface: &Interface, old: &Lease, new: &Lease) {
    // Ignored: the kernel may have removed them, at the end of the lease or together with the address.
    for route in old.routes.iter().filter(|route| !new.routes.contains(route)) {
        let _ = netlink.remove_route(interface.index, route);
    }
    if (old.address, old.prefix) != (new.address, new.prefix) {
        let _ = netlink.remove_address(interface.index, (old.address, old.prefix));
    }
}

/// The network after the first lease.
struct ActiveNetwork {
    netlink: Netlink,
    asking: PendingLeases,
    known: Known,
    /// The interface whose networks configure name resolution.
    first_interface: Interface,
    settings: Settings,
}

impl ActiveNetwork {
    /// Configures renewed leases and interfaces that appear later, until the network is dropped.
    fn keep(mut self, leases: Receiver<Configured>, report: Report, stop: Receiver<()>) {
        thread::spawn(move || {
            while !matches!(stop.try_recv(), Err(TryRecvError::Disconnected)) {
                let changes = changes(&leases);
                for configured in &changes {
                    self.asking.add_routes(&mut self.netlink, configured, &report);
                    if let Err(error) = self.take(configured, &report) {
                        report.warn(format_args!("network: {}: {error:#}", configured.interface.name));
                    }
                }
                self.asking.look(&mut self.netlink, &report);
                if !changes.is_empty() {
                    thread::sleep(CHANGE_INTERVAL);
                }
            }
        });
    }

    fn take(&mut self, Configured { interface, gained }: &Configured, report: &Report) -> anyhow::Result<()> {
        self.known.add(interface, gained);
        if interface.index == self.first_interface.index {
            resolver::write(&self.settings, self.known.learned(interface), report)?;
        }
        report.detail(format_args!("network: {} has {gained}", interface.name));
        Ok(())
    }
}

/// Waits for a change, at most [`REPORT_INTERVAL`]. Of all that are there, the last one of each interface and version of
/// IP counts.
fn changes(leases: &Receiver<Configured>) -> Vec<Configured> {
    let first = leases.recv_timeout(REPORT_INTERVAL).ok();
    let mut latest = HashMap::new();
    for configured in first.into_iter().chain(leases.try_iter()) {
        let is_ipv4 = matches!(configured.gained, Gained::Ipv4(_));
        latest.insert((configured.interface.index, is_ipv4), configured);
    }
    latest.into_values().collect()
}

/// Sets the address and routes of an interface. Only the address is required; other errors in a lease are reported.
fn configure(
    netlink: &mut Netlink,
    interface: &Interface,
    lease: &Lease,
    warnings: &Warnings<'_>,
) -> anyhow::Result<()> {
    netlink
        .set_address(interface.index, (lease.address, lease.prefix), Some(lease.end))
        .with_context(|| format!("the kernel rejects the address `{lease}`"))?;
    for ignored in &lease.ignored {
        warnings.tell(format!("ignoring in the DHCP lease: {ignored}"));
    }
    if let Some(mtu) = lease.mtu
        && let Err(error) = netlink.set_mtu(interface.index, mtu)
    {
        warnings.tell(format!("cannot set the MTU of {mtu} bytes: {error}"));
    }
    for route in &lease.routes {
        if let Err(error) = netlink.add_route(interface.index, route) {
            warnings.tell(format!("cannot add the route to {route}: {error}"));
        }
    }
    Ok(())
}

fn wanted(name: Option<&str>, interfaces: &[Interface]) -> String {
    let names = |wanted: &dyn Fn(&&Interface) -> bool| {
        let names: Vec<&str> =
            interfaces.iter().filter(wanted).map(|interface| interface.name.as_str()).collect();
        names.join(", ")
    };
    if interfaces.is_empty() {
        return name.map_or("a network interface".into(), |name| format!("the network interface `{name}`"));
    }
    match names(&|interface| interface.has_carrier) {
        connected if connected.is_empty() => format!("a carrier on {}", names(&|_| true)),
        connected => format!("a reply of a DHCP server or an IPv6 router on {connected}"),
    }
}

fn nothing_came(name: Option<&str>, interfaces: &[Interface], limit: Duration) -> anyhow::Error {
    let remedy = if interfaces.is_empty() && name.is_some() {
        "check the name in `ip=`, `bootdev=` or `BOOTIF=`, and that the initrd has the driver for the interface"
    } else if interfaces.is_empty() {
        "check that the machine has one, and that the initrd has the driver for it"
    } else if interfaces.iter().any(|interface| interface.has_carrier) {
        "check that the network has a DHCP server or an IPv6 router, or set a static address with `ip=`"
    } else {
        "check the cable and the switch"
    };
    hinted(
        format!("no network: timed out waiting for {} ({} s)", wanted(name, interfaces), limit.as_secs()),
        remedy,
    )
}

#[cfg(test)]
#[path = "tests/segment.rs"]
mod segment;

#[cfg(test)]
mod tests {
    use super::*;
    use ::dhcp::Route;
    use std::net::Ipv4Addr;

    fn interface(name: &str, has_carrier: bool) -> Interface {
        Interface { index: 2, name: name.into(), hardware_address: [0; 6], has_carrier }
    }

    #[test]
    fn of_many_changes_the_last_one_counts() {
        let (sender, leases) = channel();
        for number in 0..1000 {
            let ipv6 = Ipv6 {
                address: format!("2001:db8::{number}"),
                from: "a router".into(),
                network: Default::default(),
            };
            let configured = Configured { interface: interface("eth0", true), gained: Gained::Ipv6(ipv6) };
            sender.send(configured).unwrap();
        }
        let changes = changes(&leases);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].gained.to_string(), "2001:db8::999");
    }

    #[test]
    fn the_wait_names_the_next_missing_thing() {
        assert_eq!(wanted(None, &[]), "a network interface");
        assert_eq!(wanted(Some("eth1"), &[]), "the network interface `eth1`");
        assert_eq!(
            wanted(None, &[interface("eth0", false), interface("eth1", false)]),
            "a carrier on eth0, eth1"
        );
        let asked = wanted(None, &[interface("eth0", false), interface("eth1", true)]);
        assert_eq!(asked, "a reply of a DHCP server or an IPv6 router on eth1");
    }

    fn lease(address: [u8; 4], gateways: &[[u8; 4]]) -> Lease {
        let route = |(number, gateway): (usize, &[u8; 4])| Route {
            network: Ipv4Addr::new(198, 51, number as u8, 0),
            prefix: 24,
            gateway: Some((*gateway).into()),
        };
        let routes = gateways.iter().enumerate().map(route).collect();
        let long = Duration::from_secs(600);
        Lease {
            address: address.into(),
            prefix: 24,
            server: None,
            routes,
            name_servers: Vec::new(),
            search: Vec::new(),
            host_name: None,
            mtu: None,
            time_servers: Vec::new(),
            boot_url: None,
            captive_portal: None,
            renew: long,
            rebind: long,
            end: long,
            ignored: Vec::new(),
        }
    }

    #[test]
    fn what_a_renewed_lease_does_not_have_is_removed() {
        let Some(segment) = segment::Segment::enter() else { return };
        segment::run("ip link set v0 up");
        let report = Report::to_caller(crate::report::Level::Error);
        let (held, (found, _leases)) = (RefCell::new(None), channel());
        let interface = segment.interface();
        let warnings = Warnings::new("v0", &report);
        let take = |new| take(&interface, &held, new, &found, &warnings);
        let _ = take(lease([203, 0, 113, 5], &[[203, 0, 113, 1], [203, 0, 113, 1]]));
        let _ = take(lease([203, 0, 113, 5], &[[203, 0, 113, 2]]));
        let routes = segment::run("ip route");
        assert!(routes.contains("198.51.0.0/24 via 203.0.113.2"), "{routes}");
        assert_eq!(routes.matches("198.51.").count(), 1, "{routes}");
        let _ = take(lease([203, 0, 113, 6], &[]));
        let shown = segment::run("ip -4 address show dev v0");
        assert!(shown.contains("203.0.113.6") && !shown.contains("203.0.113.5"), "{shown}");
        assert!(!segment::run("ip route").contains("198.51."));
    }
}
