//! A DHCPv4 client (RFC 2131) for one card: gets a lease and keeps it.
//!
//! The messages' format is dhcproto's; the states and sockets are ours. Servers are asked to
//! broadcast their answers, so that an ordinary UDP socket gets them before the card has an address.

use super::cards::Card;
use crate::sys;
use anyhow::Context as _;
use dhcproto::v4::{
    CLIENT_PORT, Decodable as _, Decoder, DhcpOption, Encodable as _, Encoder, Flags, Message, MessageType,
    OptionCode, SERVER_PORT,
};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Time until the first repetition; each further one takes twice as long (RFC 2131, section 4.1,
/// begins with 4 s, but a switch that drops the first packet is more common than a slow server).
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// The longest time between repetitions for a machine that waits for its first address: short against
/// the 30 s in which a switch learns its spanning tree.
const LONGEST_PATIENCE: Duration = Duration::from_secs(4);
/// Time between repetitions while a lease is held (RFC 2131, section 4.4.5, asks for at least this).
const RENEWAL_PATIENCE: Duration = Duration::from_secs(60);
/// Pause after a message that could not be sent: the card may be coming up, or gone for good.
const SEND_PAUSE: Duration = Duration::from_secs(1);
/// Shortest lease that is believed, in seconds.
const SHORTEST_LEASE: u32 = 4;
/// A lease without a time, or with an endless one, is renewed once a day, in seconds.
const DEFAULT_LEASE: u32 = 86_400;
/// Larger than any message that an Ethernet carries unfragmented.
const LARGEST_MESSAGE: usize = 1500;

/// What a server gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
    pub(super) server: Ipv4Addr,
    /// Network, bits of its mask, gateway.
    pub(super) routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    pub(super) nameservers: Vec<Ipv4Addr>,
    pub(super) domain: Option<String>,
    pub(super) hostname: Option<String>,
    /// When to ask for a longer lease, when to ask any server, when it ends.
    renew: Duration,
    rebind: Duration,
    end: Duration,
}

impl fmt::Display for Lease {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

/// Gets a lease for a card and keeps renewing it; gives each to `take`, until that says no.
pub(super) fn hold_lease(card: &Card, take: impl Fn(Lease) -> bool) {
    let mut patience = FIRST_PATIENCE;
    loop {
        match get_and_renew(card, patience, &take) {
            Ok(Ended::NotWanted) => return,
            Ok(Ended::Expired) => patience = FIRST_PATIENCE,
            // Nobody answered, or the card went down; who waits for the lease says so.
            Err(_) => patience = (patience * 2).min(LONGEST_PATIENCE),
        }
    }
}

enum Ended {
    NotWanted,
    Expired,
}

fn get_and_renew(card: &Card, patience: Duration, take: &impl Fn(Lease) -> bool) -> anyhow::Result<Ended> {
    let client = Client::open(card)?;
    let mut lease = client.get(patience)?;
    loop {
        let start = Instant::now();
        if !take(lease.clone()) {
            return Ok(Ended::NotWanted);
        }
        lease = match client.renew(&lease, start) {
            Some(renewed) => renewed,
            None => return Ok(Ended::Expired),
        };
    }
}

struct Client {
    socket: UdpSocket,
    hardware_address: [u8; 6],
}

impl Client {
    fn open(card: &Card) -> anyhow::Result<Self> {
        let socket = bind(&card.name).with_context(|| format!("cannot open a socket on `{}`", card.name))?;
        Ok(Self { socket, hardware_address: card.hardware_address })
    }

    /// DISCOVER, OFFER, REQUEST, ACK.
    fn get(&self, patience: Duration) -> anyhow::Result<Lease> {
        let mut discover = self.message(MessageType::Discover);
        discover.opts_mut().insert(DhcpOption::ParameterRequestList(wanted()));
        let offer = self.ask(&discover, Ipv4Addr::BROADCAST, patience)?;
        let mut request = self.message(MessageType::Request);
        request.set_xid(discover.xid());
        request.opts_mut().insert(DhcpOption::ParameterRequestList(wanted()));
        request.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.yiaddr()));
        if let Some(server) = offer.opts().get(OptionCode::ServerIdentifier) {
            request.opts_mut().insert(server.clone());
        }
        lease(&self.ask(&request, Ipv4Addr::BROADCAST, patience)?)
    }

    /// Asks the server for more time at T1, any server at T2 (RFC 2131, section 4.4.5).
    fn renew(&self, lease_held: &Lease, start: Instant) -> Option<Lease> {
        for (when, until, server) in [
            (lease_held.renew, lease_held.rebind, lease_held.server),
            (lease_held.rebind, lease_held.end, Ipv4Addr::BROADCAST),
        ] {
            thread::sleep(when.saturating_sub(start.elapsed()));
            while start.elapsed() < until {
                let mut request = self.message(MessageType::Request);
                request.set_ciaddr(lease_held.address);
                request.opts_mut().insert(DhcpOption::ParameterRequestList(wanted()));
                let patience = RENEWAL_PATIENCE.min(until.saturating_sub(start.elapsed()));
                match self.ask(&request, server, patience) {
                    Ok(answer) if answer.opts().has_msg_type(MessageType::Nak) => return None,
                    Ok(answer) => return lease(&answer).ok(),
                    Err(_) => {}
                }
            }
        }
        None
    }

    fn message(&self, kind: MessageType) -> Message {
        let mut message = Message::default();
        message.set_flags(Flags::default().set_broadcast());
        message.set_chaddr(&self.hardware_address);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        message.opts_mut().insert(DhcpOption::ClassIdentifier(b"iguana".to_vec()));
        message
    }

    /// Sends a message and waits for what answers it.
    fn ask(&self, question: &Message, to: Ipv4Addr, patience: Duration) -> anyhow::Result<Message> {
        let mut bytes = Vec::new();
        question.encode(&mut Encoder::new(&mut bytes))?;
        if let Err(error) = self.socket.send_to(&bytes, SocketAddrV4::new(to, SERVER_PORT)) {
            thread::sleep(SEND_PAUSE);
            return Err(error).context("cannot send");
        }
        let start = Instant::now();
        let mut buffer = [0; LARGEST_MESSAGE];
        loop {
            let left = patience.saturating_sub(start.elapsed());
            anyhow::ensure!(!left.is_zero(), "no answer within {} s", patience.as_secs());
            self.socket.set_read_timeout(Some(left))?;
            let Ok(count) = self.socket.recv(&mut buffer) else { continue };
            // What is not understood is somebody else's: the port is open to the whole wire.
            let Ok(answer) = Message::decode(&mut Decoder::new(&buffer[..count])) else { continue };
            if answers(question, &answer) {
                return Ok(answer);
            }
        }
    }
}

fn bind(card: &str) -> anyhow::Result<UdpSocket> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // Several cards are asked at once, each on its own wire.
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    sys::bind_to_card(&socket, card)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
    let socket = UdpSocket::from(socket);
    socket.set_broadcast(true)?;
    Ok(socket)
}

fn wanted() -> Vec<OptionCode> {
    vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::DomainNameServer,
        OptionCode::Hostname,
        OptionCode::DomainName,
        OptionCode::AddressLeaseTime,
        OptionCode::Renewal,
        OptionCode::Rebinding,
        OptionCode::ClasslessStaticRoute,
    ]
}

fn answers(question: &Message, answer: &Message) -> bool {
    let expected: &[MessageType] = match question.opts().msg_type() {
        Some(MessageType::Discover) => &[MessageType::Offer],
        _ => &[MessageType::Ack, MessageType::Nak],
    };
    answer.xid() == question.xid()
        && answer.chaddr() == question.chaddr()
        && expected.iter().any(|kind| answer.opts().has_msg_type(*kind))
}

fn lease(ack: &Message) -> anyhow::Result<Lease> {
    let option = |code| ack.opts().get(code);
    let mask = match option(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => u32::from(*mask).leading_ones() as u8,
        _ => 24,
    };
    let server = match option(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server,
        _ => ack.siaddr(),
    };
    let seconds = match option(OptionCode::AddressLeaseTime) {
        Some(DhcpOption::AddressLeaseTime(seconds)) if *seconds < u32::MAX => (*seconds).max(SHORTEST_LEASE),
        _ => DEFAULT_LEASE,
    };
    let renew = match option(OptionCode::Renewal) {
        Some(DhcpOption::Renewal(renew)) if *renew > 0 && *renew < seconds => *renew,
        _ => seconds / 2,
    };
    let rebind = match option(OptionCode::Rebinding) {
        Some(DhcpOption::Rebinding(rebind)) if *rebind >= renew && *rebind < seconds => *rebind,
        _ => (seconds - seconds / 8).max(renew),
    };
    anyhow::ensure!(!ack.yiaddr().is_unspecified(), "the server gave no address");
    Ok(Lease {
        address: ack.yiaddr(),
        prefix: mask,
        server,
        routes: routes(ack),
        nameservers: match option(OptionCode::DomainNameServer) {
            Some(DhcpOption::DomainNameServer(servers)) => servers.clone(),
            _ => Vec::new(),
        },
        domain: match option(OptionCode::DomainName) {
            Some(DhcpOption::DomainName(name)) => host_name(name),
            _ => None,
        },
        hostname: match option(OptionCode::Hostname) {
            Some(DhcpOption::Hostname(name)) => host_name(name),
            _ => None,
        },
        renew: Duration::from_secs(renew.into()),
        rebind: Duration::from_secs(rebind.into()),
        end: Duration::from_secs(seconds.into()),
    })
}

/// RFC 3442: the classless routes count alone when there are any.
fn routes(ack: &Message) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    if let Some(DhcpOption::ClasslessStaticRoute(routes)) = ack.opts().get(OptionCode::ClasslessStaticRoute) {
        return routes.iter().map(|(net, gateway)| (net.network(), net.prefix_len(), *gateway)).collect();
    }
    match ack.opts().get(OptionCode::Router) {
        Some(DhcpOption::Router(gateways)) => {
            gateways.first().map(|gateway| (Ipv4Addr::UNSPECIFIED, 0, *gateway)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// A name that may be written into files: whoever answers on the wire must not add lines to them.
fn host_name(name: &str) -> Option<String> {
    let name = name.trim_end_matches('\0');
    let is_harmless = !name.is_empty()
        && name.len() <= 253
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter));
    is_harmless.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(options: Vec<DhcpOption>) -> Message {
        let mut message = Message::default();
        message.set_yiaddr(Ipv4Addr::new(10, 0, 2, 15));
        for option in options {
            message.opts_mut().insert(option);
        }
        message
    }

    #[test]
    fn a_lease_has_what_the_server_gave() {
        let lease = lease(&ack(vec![
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 254, 0)),
            DhcpOption::Router(vec![Ipv4Addr::new(10, 0, 2, 2)]),
            DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 2, 3)),
            DhcpOption::AddressLeaseTime(800),
            DhcpOption::Hostname("one".into()),
        ]))
        .unwrap();
        assert_eq!(lease.to_string(), "10.0.2.15/23");
        assert_eq!(lease.routes, [(Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 2, 2))]);
        assert_eq!(lease.hostname.as_deref(), Some("one"));
        let times = [lease.renew, lease.rebind, lease.end].map(|time| time.as_secs());
        assert_eq!(times, [400, 700, 800]);
    }

    #[test]
    fn an_endless_lease_is_renewed_daily() {
        let lease = lease(&ack(vec![DhcpOption::AddressLeaseTime(u32::MAX)])).unwrap();
        assert_eq!(lease.end.as_secs(), u64::from(DEFAULT_LEASE));
    }

    #[test]
    fn names_that_would_add_lines_are_dropped() {
        assert_eq!(host_name("a\nnameserver 6.6.6.6"), None);
        assert_eq!(host_name("host.example\0").as_deref(), Some("host.example"));
    }

    #[test]
    fn answers_to_others_are_passed_over() {
        let mut question = Message::default();
        question.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
        let mut answer = question.clone();
        answer.opts_mut().insert(DhcpOption::MessageType(MessageType::Offer));
        assert!(answers(&question, &answer));
        answer.set_xid(question.xid().wrapping_add(1));
        assert!(!answers(&question, &answer));
    }

    /// A server that gives leases of four seconds: real ones give at least two minutes.
    fn serve_short_leases(socket: &UdpSocket) {
        let mut buffer = [0; LARGEST_MESSAGE];
        while let Ok(count) = socket.recv(&mut buffer) {
            let question = Message::decode(&mut Decoder::new(&buffer[..count])).unwrap();
            let kind = match question.opts().msg_type() {
                Some(MessageType::Discover) => MessageType::Offer,
                _ => MessageType::Ack,
            };
            let mut answer = ack(vec![
                DhcpOption::MessageType(kind),
                DhcpOption::ServerIdentifier(Ipv4Addr::LOCALHOST),
                DhcpOption::AddressLeaseTime(4),
            ]);
            answer.set_xid(question.xid()).set_chaddr(question.chaddr());
            let mut bytes = Vec::new();
            answer.encode(&mut Encoder::new(&mut bytes)).unwrap();
            socket.send_to(&bytes, (Ipv4Addr::BROADCAST, CLIENT_PORT)).unwrap();
        }
    }

    #[test]
    fn a_lease_is_renewed_before_it_ends() {
        if !rustix::process::getuid().is_root() {
            return; // A network of one's own is root's alone.
        }
        sys::enter_empty_network().unwrap();
        super::super::netlink::Netlink::open().unwrap().set_up(1).unwrap();
        let server = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SERVER_PORT)).unwrap();
        sys::bind_to_card(&server, "lo").unwrap();
        server.set_broadcast(true).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        thread::spawn(move || serve_short_leases(&server));
        let card = Card { index: 1, name: "lo".into(), hardware_address: [2; 6], has_carrier: true };
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            hold_lease(&card, |lease| sender.send((lease.address, Instant::now())).is_ok())
        });
        let next = || receiver.recv_timeout(Duration::from_secs(8)).expect("no lease within 8 s");
        let leases = [next(), next(), next()];
        assert!(leases.iter().all(|(address, _)| *address == Ipv4Addr::new(10, 0, 2, 15)), "{leases:?}");
        let between = leases[2].1 - leases[1].1;
        assert!((1.5..3.5).contains(&between.as_secs_f32()), "renewed after {between:?} instead of 2 s");
    }
}
