//! A DHCPv6 client (RFC 8415) for one interface: obtains an address and renews it, or only asks what the network is like.

use super::super::channel::{Channel, Version};
use super::super::firmware;
use super::super::interfaces::Interface;
use super::super::netlink::Netlink;
use super::super::transaction::Transaction;
use super::super::warnings::Warnings;
use crate::report::Report;
use anyhow::bail;
use dhcp::v6::{Answer, CLIENT_PORT, Network, Offer, Question, Request, SERVER_PORT, SERVERS, Times};
use retry::{DHCP_LEASE, DHCP_RENEWAL, DHCP_SELECTION, Schedule};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

/// The pause after an immediate error: the interface may be coming up, or have no address of the link yet.
const PAUSE: Duration = Duration::from_millis(200);
/// What is told without an address is asked for again so often (RFC 8415, section 21.23, `IRT_DEFAULT`).
const REFRESH: Duration = Duration::from_secs(86_400);

/// What a server told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) network: Network,
    pub(super) has_address: bool,
}

/// Asks on a thread of its own, for an address or without, until nobody wants to know any more.
pub(super) fn ask(interface: &Interface, report: &Report, wants_address: bool, told: Sender<Told>) {
    let (interface, report) = (interface.clone(), report.clone());
    thread::spawn(move || {
        let warnings = Warnings::new(&interface.name, &report);
        loop {
            let start = Instant::now();
            let asked = Client::open(&interface, &warnings)
                .and_then(|client| if wants_address { client.hold(&told) } else { client.inform(&told) });
            match asked {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => thread::sleep(PAUSE.saturating_sub(start.elapsed())),
            }
        }
    });
}

struct Client<'a> {
    channel: Channel,
    interface: &'a Interface,
    warnings: &'a Warnings<'a>,
}

impl<'a> Client<'a> {
    fn open(interface: &'a Interface, warnings: &'a Warnings<'a>) -> anyhow::Result<Self> {
        let channel = Channel::open(interface, Version::V6, CLIENT_PORT)?;
        Ok(Self { channel, interface, warnings })
    }

    /// Asks once; whether somebody still wants to know.
    fn inform(&self, told: &Sender<Told>) -> anyhow::Result<bool> {
        let Answer::Information(network) = self.ask(Question::Information, DHCP_LEASE)? else {
            bail!("the server sent a lease in reply to an information request");
        };
        let is_wanted = told.send(Told { network, has_address: false }).is_ok();
        if is_wanted {
            thread::sleep(REFRESH);
        }
        Ok(is_wanted)
    }

    /// Obtains an address and renews it until it expires; whether somebody still wants one.
    fn hold(&self, told: &Sender<Told>) -> anyhow::Result<bool> {
        let mut lease = match self.ask(Question::Solicit, DHCP_LEASE)? {
            Answer::Offer(offer) => self.ask(Question::Request(offer), DHCP_SELECTION)?,
            lease => lease,
        };
        loop {
            let start = Instant::now();
            let Answer::Lease(offer, times, network) = lease else { bail!("an offer instead of a lease") };
            self.configure(offer.address, times)?;
            if told.send(Told { network, has_address: true }).is_err() {
                return Ok(false);
            }
            lease = match self.renew(&offer, times, start) {
                Some(renewed) => renewed,
                None => return Ok(true),
            };
        }
    }

    fn configure(&self, address: Ipv6Addr, times: Times) -> anyhow::Result<()> {
        let set = Netlink::open().and_then(|mut netlink| {
            Ok(netlink.set_ipv6_address(
                self.interface.index,
                (address, 128),
                times.preferred,
                times.valid,
            )?)
        });
        if let Err(error) = &set {
            self.warnings.tell(format!("the kernel rejects the address `{address}`: {error:#}"));
        }
        set
    }

    fn renew(&self, offer: &Offer, times: Times, start: Instant) -> Option<Answer> {
        let end = Duration::from_secs(times.valid.into());
        let stages = [
            (times.renew, times.rebind, Question::Renew(offer.clone())),
            (times.rebind, end, Question::Rebind(offer.address)),
        ];
        for (when, until, question) in stages {
            thread::sleep(when.saturating_sub(start.elapsed()));
            while start.elapsed() < until {
                let total = until.saturating_sub(start.elapsed());
                match self.ask(question.clone(), Schedule { total, ..DHCP_RENEWAL }) {
                    Ok(lease) => return Some(lease),
                    Err(_) => thread::sleep(PAUSE.min(until.saturating_sub(start.elapsed()))),
                }
            }
        }
        None
    }

    fn ask(&self, question: Question, schedule: Schedule) -> anyhow::Result<Answer> {
        let [a, b, c, ..] = RandomState::new().hash_one(self.interface.hardware_address).to_be_bytes();
        let request = Request {
            transaction: [a, b, c],
            hardware_address: self.interface.hardware_address,
            question,
            elapsed: Duration::ZERO,
            architecture: firmware::kind().architecture,
        };
        let at = |elapsed| Request { elapsed, ..request.clone() }.encode();
        let to = SocketAddrV6::new(SERVERS, SERVER_PORT, 0, self.interface.index).into();
        let transaction = Transaction::begin(&self.channel, self.warnings);
        transaction.ask(to, schedule, at, |packet| request.read_answer(packet))
    }
}
