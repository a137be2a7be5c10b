//! A DHCPv4 client (RFC 2131) for one interface: obtains a lease and renews it.
//!
//! The crate `dhcp` encodes and decodes messages; states and sockets are here. The client asks servers to broadcast
//! their answers, so that an ordinary UDP socket receives them before the interface has an address.
//!
//! No packet may end this thread or the boot: an answer that cannot be used is reported, and the client waits for
//! another. In the shipped program a panic ends the whole boot, so nothing here may panic.

use super::interfaces::Interface;
use crate::report::Report;
use anyhow::{Context as _, bail, ensure};
use dhcp::{Answer, CLIENT_PORT, LARGEST_MESSAGE, Lease, Question, Request, SERVER_PORT, Unanswered};
use retry::{DHCP_LEASE, DHCP_RENEWAL};
use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// The delay after an immediate error: the interface may be coming up or be gone for good, or a server may refuse every
/// request.
const PAUSE: Duration = Duration::from_secs(1);
/// How many different unusable answers are reported per interface. There is a limit because anyone on the network can
/// send them.
const COMPLAINTS_AT_MOST: usize = 8;

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
    let complaints = Complaints::new(&interface.name, report);
    let mut tried = 1;
    loop {
        let start = Instant::now();
        match get_and_renew(interface, &complaints, DHCP_LEASE.pause(tried), &take) {
            Ok(LeaseEnd::NotWanted) => return,
            Ok(LeaseEnd::Expired) => tried = 1,
            // No server answered, or the interface went down. The caller that waits for the lease reports that.
            Err(_) => {
                tried += 1;
                thread::sleep(PAUSE.saturating_sub(start.elapsed()));
            }
        }
    }
}

enum LeaseEnd {
    NotWanted,
    Expired,
}

fn get_and_renew(
    interface: &Interface,
    complaints: &Complaints<'_>,
    wait: Duration,
    take: &impl Fn(Lease) -> Taken,
) -> anyhow::Result<LeaseEnd> {
    let client = Client::open(interface, complaints)?;
    let mut lease = client.get(wait)?;
    loop {
        let start = Instant::now();
        match take(lease.clone()) {
            Taken::Kept => {}
            Taken::Refused => bail!("the kernel does not take `{lease}`"),
            Taken::NotWanted => return Ok(LeaseEnd::NotWanted),
        }
        lease = match client.renew(&lease, start) {
            Some(renewed) => renewed,
            None => return Ok(LeaseEnd::Expired),
        };
    }
}

/// What was told of answers or leases that cannot be used, each once: who answers as often as he likes must not fill the console.
pub(super) struct Complaints<'a> {
    interface: &'a str,
    report: &'a Report,
    made: RefCell<HashSet<String>>,
}

impl<'a> Complaints<'a> {
    pub(super) fn new(interface: &'a str, report: &'a Report) -> Self {
        Self { interface, report, made: RefCell::default() }
    }

    fn make(&self, from: SocketAddr, why: &Unanswered) {
        let what = format!("the answer of DHCP server {} is not used: ", from.ip());
        self.once(&what, why.to_string());
    }

    /// Warns of something, unless that was done, or too much else; whether it was told.
    pub(super) fn tell(&self, text: String) -> bool {
        self.once("", text)
    }

    fn once(&self, before: &str, text: String) -> bool {
        let mut made = self.made.borrow_mut();
        let is_told = made.len() < COMPLAINTS_AT_MOST && !made.contains(&text);
        if is_told {
            self.report.warn(format_args!("network: {}: {before}{text}", self.interface));
            made.insert(text);
        }
        is_told
    }
}

struct Client<'a> {
    socket: UdpSocket,
    hardware_address: [u8; 6],
    complaints: &'a Complaints<'a>,
}

impl<'a> Client<'a> {
    fn open(interface: &Interface, complaints: &'a Complaints<'a>) -> anyhow::Result<Self> {
        let socket =
            bind(&interface.name).with_context(|| format!("cannot open a socket on `{}`", interface.name))?;
        Ok(Self { socket, hardware_address: interface.hardware_address, complaints })
    }

    /// One transaction: DISCOVER, OFFER, REQUEST, ACK.
    fn get(&self, wait: Duration) -> anyhow::Result<Lease> {
        let discover = self.request(Question::Discover);
        let Answer::Lease(offer) = self.ask(&discover, Ipv4Addr::BROADCAST, wait)? else {
            bail!("a refusal is no offer");
        };
        let question = Question::Select { address: offer.address, server: offer.server };
        match self.ask(&Request { question, ..discover }, Ipv4Addr::BROADCAST, wait)? {
            Answer::Lease(lease) => Ok(lease),
            Answer::Refusal => bail!("the offer of `{offer}` was taken back"),
        }
    }

    /// Renews the lease: from T1 on with its server, from T2 on with any server (RFC 2131, section 4.4.5).
    fn renew(&self, held: &Lease, start: Instant) -> Option<Lease> {
        for (when, until, server) in [(held.renew, held.rebind, held.server), (held.rebind, held.end, None)] {
            thread::sleep(when.saturating_sub(start.elapsed()));
            let to = server.unwrap_or(Ipv4Addr::BROADCAST);
            while start.elapsed() < until {
                let request = self.request(Question::Renew { address: held.address, server });
                let wait = DHCP_RENEWAL.first_pause.min(until.saturating_sub(start.elapsed()));
                match self.ask(&request, to, wait) {
                    Ok(Answer::Refusal) => return None,
                    Ok(Answer::Lease(lease)) => return Some(lease),
                    Err(_) => {}
                }
            }
        }
        None
    }

    fn request(&self, question: Question) -> Request {
        // The transaction ID need not be secret, so it does not wait for the kernel's random numbers. The hardware
        // address makes it differ between machines that start at the same time.
        let transaction = RandomState::new().hash_one(self.hardware_address) as u32;
        Request { transaction, hardware_address: self.hardware_address, question }
    }

    /// Sends a message and waits for the answer.
    fn ask(&self, request: &Request, to: Ipv4Addr, wait: Duration) -> anyhow::Result<Answer> {
        if let Err(error) = self.socket.send_to(&request.encode(), SocketAddrV4::new(to, SERVER_PORT)) {
            thread::sleep(PAUSE);
            return Err(error).context("cannot send");
        }
        let start = Instant::now();
        // One byte more than allowed, to detect messages that are too large.
        let mut buffer = [0; LARGEST_MESSAGE + 1];
        loop {
            let left = wait.saturating_sub(start.elapsed());
            ensure!(!left.is_zero(), "no answer within {} s", wait.as_secs());
            self.socket.set_read_timeout(Some(left))?;
            let (packet, from) = match self.socket.recv_from(&mut buffer) {
                Ok((count, from)) => (buffer.get(..count).unwrap_or_default(), from),
                Err(error) if is_passing(error.kind()) => continue,
                Err(error) => return Err(error).context("cannot receive"),
            };
            match request.read_answer(packet) {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::NotForUs) => {}
                Err(why) => self.complaints.make(from, &why),
            }
        }
    }
}

/// Whether to retry at once after this socket error.
fn is_passing(kind: ErrorKind) -> bool {
    [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&kind)
}

fn bind(interface: &str) -> anyhow::Result<UdpSocket> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // Several interfaces are configured at once, each with its own socket.
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    sys::bind_to_interface(&socket, interface)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
    let socket = UdpSocket::from(socket);
    socket.set_broadcast(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
