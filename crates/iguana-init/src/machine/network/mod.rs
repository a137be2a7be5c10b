//! The network: waits for a card, brings it up, and gets it an address.

mod cards;
mod dhcp;
mod netlink;
mod others;
mod resolver;

use crate::report::{Report, Waiting};
use anyhow::Context as _;
pub(crate) use others::wait_for_others;

use ::dhcp::{Lease, Route};
use cards::Card;
use config::cmdline::{Addressing, Settings, StaticAddress};
use dhcp::Taken;
use hint::hinted;
use netlink::Netlink;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a card, its carrier and an address may take together. Switches that learn spanning
/// trees pass nothing for 30 s after a link comes up; servers answer within seconds then.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a machine may show no card at all; USB ones appear within a few seconds.
const CARD_LIMIT: Duration = Duration::from_secs(30);
/// How often new cards and carriers are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the person at the machine is told what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(3);

/// A network that is up. Leases are renewed until it is dropped.
pub(crate) struct Network {
    _renewing: Sender<()>,
}

/// What a card got, and from whom.
struct Configured {
    card: Card,
    lease: Lease,
}

/// Brings the network up: returns when the first card has an address.
///
/// # Errors
/// When there is no card, no carrier, or no answer in time.
pub(crate) fn bring_up(settings: &Settings, report: &Report) -> anyhow::Result<Network> {
    let (renewing, stop) = channel();
    let network = Network { _renewing: renewing };
    let mut netlink = Netlink::open()?;
    netlink.set_up(cards::LOOPBACK_INDEX).context("cannot bring up the loopback interface")?;
    resolver::write(settings, None, report)?;
    match &settings.addressing {
        Addressing::Off => report.say("network: left alone (ip=off)"),
        Addressing::Static(address) => set_static(&mut netlink, address, settings, report)?,
        Addressing::Dhcp => ask_all_cards(netlink, settings, report, stop)?,
    }
    Ok(network)
}

fn ask_all_cards(
    mut netlink: Netlink,
    settings: &Settings,
    report: &Report,
    stop: Receiver<()>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let (found, leases) = channel();
    let mut asking = Asking { known: HashSet::new(), asked: HashSet::new(), found };
    let mut told = start;
    loop {
        let cards = asking.look(&mut netlink, report);
        match leases.recv_timeout(LOOK_EVERY) {
            Ok(Configured { card, lease }) => {
                resolver::write(settings, Some(&lease), report)?;
                let server =
                    lease.server.map_or("a DHCP server".into(), |server| format!("DHCP server {server}"));
                let waited = start.elapsed().as_secs_f32();
                report.say(format_args!(
                    "network: {} has {lease} from {server} after {waited:.1} s",
                    card.name
                ));
                let going = Going { netlink, asking, first_card: card.index, settings: settings.clone() };
                going.keep(leases, report.clone(), stop);
                return Ok(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("all DHCP clients have ended"),
        }
        let limit = if cards.is_empty() { CARD_LIMIT } else { LIMIT };
        if start.elapsed() > limit {
            return Err(nothing_came(&cards, limit));
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            let (waited, limit) = (start.elapsed().as_secs(), limit.as_secs());
            report.say(format_args!("network: waiting for {} ({waited} s of {limit} s)", wanted(&cards)));
        }
    }
}

/// The cards that are being asked.
struct Asking {
    known: HashSet<u32>,
    asked: HashSet<u32>,
    found: Sender<Configured>,
}

impl Asking {
    /// Brings up cards that are new, and has an address asked for on those that have got a carrier.
    /// One that cannot be brought up must not keep the others from it.
    fn look(&mut self, netlink: &mut Netlink, report: &Report) -> Vec<Card> {
        let cards = cards::list();
        for card in &cards {
            if self.known.insert(card.index)
                && let Err(error) = netlink.set_up(card.index)
            {
                report.warn(format_args!("network: {} cannot be brought up: {error}", card.name));
            }
            if card.has_carrier && self.asked.insert(card.index) {
                let (card, found, report) = (card.clone(), self.found.clone(), report.clone());
                thread::spawn(move || {
                    dhcp::hold_lease(&card, &report, |lease| take(&card, lease, &found, &report))
                });
            }
        }
        cards
    }
}

/// Configures the card by a lease, and passes both on. What the kernel refuses is told, and the client asks on.
fn take(card: &Card, lease: Lease, found: &Sender<Configured>, report: &Report) -> Taken {
    if let Err(error) = Netlink::open().and_then(|mut netlink| configure(&mut netlink, card, &lease, report))
    {
        report.warn(format_args!("network: {}: {error:#}", card.name));
        return Taken::Refused;
    }
    match found.send(Configured { card: card.clone(), lease }) {
        Ok(()) => Taken::Kept,
        Err(_) => Taken::NotWanted,
    }
}

/// The network after the first lease.
struct Going {
    netlink: Netlink,
    asking: Asking,
    /// The card whose lease says what names mean.
    first_card: u32,
    settings: Settings,
}

impl Going {
    /// Configures renewed leases and cards that come later, until the network is dropped.
    fn keep(mut self, leases: Receiver<Configured>, report: Report, stop: Receiver<()>) {
        thread::spawn(move || {
            while !matches!(stop.try_recv(), Err(TryRecvError::Disconnected)) {
                if let Ok(configured) = leases.recv_timeout(TELL_EVERY)
                    && let Err(error) = self.take(&configured, &report)
                {
                    report.warn(format_args!("network: {}: {error:#}", configured.card.name));
                }
                self.asking.look(&mut self.netlink, &report);
            }
        });
    }

    fn take(&mut self, Configured { card, lease }: &Configured, report: &Report) -> anyhow::Result<()> {
        if card.index == self.first_card {
            resolver::write(&self.settings, Some(lease), report)?;
        }
        report.detail(format_args!("network: {} has {lease}", card.name));
        Ok(())
    }
}

/// Gives a card its address and routes. Nothing but the address is needed: what else is wrong with a lease is told.
fn configure(netlink: &mut Netlink, card: &Card, lease: &Lease, report: &Report) -> anyhow::Result<()> {
    netlink
        .set_address(card.index, lease.address, lease.prefix)
        .with_context(|| format!("the kernel does not take the address `{lease}`"))?;
    for ignored in &lease.ignored {
        report.warn(format_args!("network: {}: the DHCP server gave what is not used: {ignored}", card.name));
    }
    for route in &lease.routes {
        if let Err(error) = netlink.add_route(card.index, route) {
            report.warn(format_args!("network: {}: no route to {route}: {error}", card.name));
        }
    }
    Ok(())
}

fn set_static(
    netlink: &mut Netlink,
    fixed: &StaticAddress,
    settings: &Settings,
    report: &Report,
) -> anyhow::Result<()> {
    let card = wait_for_card(netlink, fixed.interface.as_deref(), report)?;
    netlink
        .set_address(card.index, fixed.address, fixed.prefix)
        .context("cannot set the address of `ip=`")?;
    if let Some(gateway) = fixed.gateway {
        let anywhere = Route { network: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway: Some(gateway) };
        netlink.add_route(card.index, &anywhere).context("cannot set the gateway of `ip=`")?;
    }
    resolver::write(settings, None, report)?;
    report.say(format_args!("network: {} has {}/{} from `ip=`", card.name, fixed.address, fixed.prefix));
    Ok(())
}

/// Waits for a carrier on the card of that name, or on any.
fn wait_for_card(netlink: &mut Netlink, name: Option<&str>, report: &Report) -> anyhow::Result<Card> {
    let what = format!("network: waiting for a carrier on {}", name.unwrap_or("a network card"));
    let _waiting = Waiting::start(report, what, CARD_LIMIT);
    let start = Instant::now();
    let mut known = HashSet::new();
    loop {
        let mut cards = cards::list();
        cards.retain(|card| name.is_none_or(|name| card.name == name));
        for card in cards.iter().filter(|card| known.insert(card.index)) {
            netlink.set_up(card.index).with_context(|| format!("cannot bring up `{}`", card.name))?;
        }
        if let Some(card) = cards.iter().find(|card| card.has_carrier) {
            return Ok(card.clone());
        }
        if start.elapsed() > CARD_LIMIT {
            return Err(nothing_came(&cards, CARD_LIMIT));
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn wanted(cards: &[Card]) -> String {
    let names = |wanted: &dyn Fn(&&Card) -> bool| {
        let names: Vec<&str> = cards.iter().filter(wanted).map(|card| card.name.as_str()).collect();
        names.join(", ")
    };
    if cards.is_empty() {
        return "a network card".into();
    }
    match names(&|card| card.has_carrier) {
        connected if connected.is_empty() => format!("a carrier on {}", names(&|_| true)),
        connected => format!("an answer of a DHCP server on {connected}"),
    }
}

fn nothing_came(cards: &[Card], limit: Duration) -> anyhow::Error {
    let remedy = if cards.is_empty() {
        "check that the machine has one, and that the initrd has its driver"
    } else if cards.iter().any(|card| card.has_carrier) {
        "check that the network has a DHCP server, or give a fixed address with `ip=`"
    } else {
        "check the cable and the switch"
    };
    hinted(format!("no network: {} did not come within {} s", wanted(cards), limit.as_secs()), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, has_carrier: bool) -> Card {
        Card { index: 2, name: name.into(), hardware_address: [0; 6], has_carrier }
    }

    #[test]
    fn what_is_waited_for_is_the_next_thing_that_is_missing() {
        assert_eq!(wanted(&[]), "a network card");
        assert_eq!(wanted(&[card("eth0", false), card("eth1", false)]), "a carrier on eth0, eth1");
        let asked = wanted(&[card("eth0", false), card("eth1", true)]);
        assert_eq!(asked, "an answer of a DHCP server on eth1");
    }
}
