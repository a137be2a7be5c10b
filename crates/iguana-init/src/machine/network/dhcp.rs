//! A DHCPv4 client (RFC 2131) for one interface: obtains a lease and renews it.
//!
//! The crate `dhcp` encodes and decodes messages; states are here. The client asks servers to broadcast their
//! answers, as some cannot send to an address that the interface does not have yet.
//!
//! No packet may end this thread or the boot: an answer that cannot be used is reported, and the client waits for
//! another. In the shipped program a panic ends the whole boot, so nothing here may panic.

use super::channel::{Channel, Version};
use super::firmware;
use super::interfaces::Interface;
use super::transaction::Transaction;
use super::warnings::Warnings;
use crate::report::Report;
use anyhow::bail;
use dhcp::{Answer, CLIENT_PORT, Lease, MachineKind, Question, Request, SERVER_PORT};
use retry::{DHCP_LEASE, DHCP_RENEWAL, DHCP_SELECTION, Schedule};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

/// The delay after an immediate error: the interface may be coming up or be gone for good, or a server may refuse every
/// request.
const PAUSE: Duration = Duration::from_secs(1);
/// What happened to a lease.
pub(super) enum Taken {
    Kept,
    /// The kernel does not accept the address.
    Refused,
    /// No more leases are needed.
    NotWanted,
}

/// Obtains a lease for an interface and keeps renewing it. Passes each lease to `take`, until that returns
/// [`Taken::NotWanted`].
pub(super) fn hold_lease(interface: &Interface, report: &Report, take: impl Fn(Lease) -> Taken) {
    let warnings = Warnings::new(&interface.name, report);
    loop {
        let start = Instant::now();
        match get_and_renew(interface, &warnings, &take) {
            Ok(LeaseEnd::NotWanted) => return,
            Ok(LeaseEnd::Expired) => report.warn(format_args!(
                "network: {}: the lease has expired and no server renewed it; requesting a new one",
                interface.name
            )),
            // No server answered, or the interface went down. The caller that waits for the lease reports that.
            Err(_) => thread::sleep(PAUSE.saturating_sub(start.elapsed())),
        }
    }
}

enum LeaseEnd {
    NotWanted,
    Expired,
}

fn get_and_renew(
    interface: &Interface,
    warnings: &Warnings<'_>,
    take: &impl Fn(Lease) -> Taken,
) -> anyhow::Result<LeaseEnd> {
    let client = Client::open(interface, warnings)?;
    let mut lease = client.get()?;
    loop {
        let start = Instant::now();
        match take(lease.clone()) {
            Taken::Kept => {}
            Taken::Refused => bail!("the kernel rejects `{lease}`"),
            Taken::NotWanted => return Ok(LeaseEnd::NotWanted),
        }
        lease = match client.renew(&lease, start) {
            Some(renewed) => renewed,
            None => return Ok(LeaseEnd::Expired),
        };
    }
}

struct Client<'a> {
    channel: Channel,
    hardware_address: [u8; 6],
    machine: MachineKind,
    warnings: &'a Warnings<'a>,
}

impl<'a> Client<'a> {
    fn open(interface: &Interface, warnings: &'a Warnings<'a>) -> anyhow::Result<Self> {
        let channel = Channel::open(interface, Version::V4, CLIENT_PORT)?;
        Ok(Self {
            channel,
            hardware_address: interface.hardware_address,
            machine: firmware::kind(),
            warnings,
        })
    }

    /// One transaction: DISCOVER, OFFER, REQUEST, ACK.
    fn get(&self) -> anyhow::Result<Lease> {
        let transaction = Transaction::begin(&self.channel, self.warnings);
        let discover = self.request(Question::Discover);
        let Answer::Lease(offer) = ask(&transaction, discover, Ipv4Addr::BROADCAST, DHCP_LEASE)? else {
            bail!("the server refused (DHCPNAK)");
        };
        let question = Question::Select { address: offer.address, server: offer.server };
        match ask(&transaction, Request { question, ..discover }, Ipv4Addr::BROADCAST, DHCP_SELECTION)? {
            Answer::Lease(lease) => Ok(*lease),
            Answer::Refusal => bail!("the offer of `{offer}` was withdrawn"),
        }
    }

    /// Renews the lease: from T1 on with its server, from T2 on with any server (RFC 2131, section 4.4.5).
    fn renew(&self, held: &Lease, start: Instant) -> Option<Lease> {
        for (when, until, server) in [(held.renew, held.rebind, held.server), (held.rebind, held.end, None)] {
            thread::sleep(when.saturating_sub(start.elapsed()));
            let to = server.unwrap_or(Ipv4Addr::BROADCAST);
            let transaction = Transaction::begin(&self.channel, self.warnings);
            let request = self.request(Question::Renew { address: held.address, server });
            while start.elapsed() < until {
                let total = until.saturating_sub(start.elapsed());
                match ask(&transaction, request, to, Schedule { total, ..DHCP_RENEWAL }) {
                    Ok(Answer::Refusal) => return None,
                    Ok(Answer::Lease(lease)) => return Some(*lease),
                    Err(_) => thread::sleep(PAUSE.min(until.saturating_sub(start.elapsed()))),
                }
            }
        }
        None
    }

    fn request(&self, question: Question) -> Request {
        Request {
            // It need not be secret, so it does not wait for the kernel's random numbers. The hardware address makes it
            // differ between machines that start at the same time.
            transaction: RandomState::new().hash_one(self.hardware_address) as u32,
            hardware_address: self.hardware_address,
            question,
            seconds: 0,
            machine: self.machine,
        }
    }
}

fn ask(
    transaction: &Transaction<'_>,
    request: Request,
    to: Ipv4Addr,
    schedule: Schedule,
) -> anyhow::Result<Answer> {
    let at = |elapsed: Duration| {
        let seconds = elapsed.as_secs().try_into().unwrap_or(u16::MAX);
        Request { seconds, ..request }.encode()
    };
    let to = SocketAddrV4::new(to, SERVER_PORT).into();
    transaction.ask(to, schedule, at, |packet| request.read_answer(packet))
}

#[cfg(test)]
mod tests;
