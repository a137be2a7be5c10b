//! DHCPv6 messages (RFC 8415) of a client that wants one address, or only to know about the network.

mod options;

use crate::message::Unanswered;
use crate::{name, text};
use options::Options;
use std::net::Ipv6Addr;
use std::time::Duration;

/// The UDP port of clients.
pub const CLIENT_PORT: u16 = 546;
/// The UDP port of servers and relays.
pub const SERVER_PORT: u16 = 547;
/// All servers and relays on a link.
pub const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// RFC 8415, section 7.3.
const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const REPLY: u8 = 7;
const INFORMATION_REQUEST: u8 = 11;
/// A client identifier made of a hardware address (RFC 8415, section 11.4), of an Ethernet.
const FROM_HARDWARE_ADDRESS: [u8; 4] = [0, 3, 0, 1];
/// Bytes of the longest identifier of a server (RFC 8415, section 11.1).
const LONGEST_IDENTIFIER: usize = 130;
/// Further servers and domains are left out.
const SERVERS_AT_MOST: usize = 8;
const DOMAINS_AT_MOST: usize = 6;
/// The shortest valid lifetime of an address that is accepted, in seconds, as for IPv4.
const SHORTEST_LEASE: u32 = 4;
/// The renewal time in seconds when the lifetime is infinite: once a day.
const DEFAULT_RENEWAL: u32 = 86_400;

/// What the client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Which server gives an address? One that is able to does so at once (`Rapid Commit`).
    Solicit,
    /// The address that this server has offered.
    Request(Offer),
    /// More time for the address, from its server.
    Renew(Offer),
    /// More time for the address, from any server.
    Rebind(Ipv6Addr),
    /// Everything but an address.
    Information,
}

/// A server and the address that it offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The server's identifier (DUID).
    pub server: Vec<u8>,
    /// The address.
    pub address: Ipv6Addr,
}

/// A message from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Matches answers to this request.
    pub transaction: [u8; 3],
    /// The MAC address of the interface.
    pub hardware_address: [u8; 6],
    /// What the client asks.
    pub question: Question,
    /// Time since the client began to ask.
    pub elapsed: Duration,
    /// The processor and firmware, as in [`crate::MachineKind`].
    pub architecture: u16,
}

/// The answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A server offers an address, which has to be requested.
    Offer(Offer),
    /// The address, and what else the server tells.
    Lease(Offer, Times, Network),
    /// What a server tells without an address.
    Information(Network),
}

/// How long an address may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Time until the lease is renewed with its server (T1).
    pub renew: Duration,
    /// Time until any server is asked to extend it (T2).
    pub rebind: Duration,
    /// Seconds during which new connections may use the address.
    pub preferred: u32,
    /// Seconds until the address is invalid.
    pub valid: u32,
}

/// What a server tells about its network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// The name servers, in the order in which they are asked.
    pub name_servers: Vec<Ipv6Addr>,
    /// The domains in which names without a dot are looked up.
    pub search: Vec<String>,
    /// Servers that tell the time (NTP).
    pub time_servers: Vec<Ipv6Addr>,
    /// What to boot (RFC 5970).
    pub boot_url: Option<String>,
    /// Where a person has to agree to something before the network can be used (RFC 8910).
    pub captive_portal: Option<String>,
}

impl Request {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.question {
            Question::Solicit => SOLICIT,
            Question::Request(_) => REQUEST,
            Question::Renew(_) => RENEW,
            Question::Rebind(_) => REBIND,
            Question::Information => INFORMATION_REQUEST,
        };
        let mut message = vec![kind];
        message.extend(self.transaction);
        let mut put = |code, value: &[u8]| options::put(&mut message, code, value);
        put(options::CLIENT_ID, &self.client_id());
        if let Question::Request(offer) | Question::Renew(offer) = &self.question {
            put(options::SERVER_ID, &offer.server);
        }
        if self.question == Question::Solicit {
            put(options::RAPID_COMMIT, &[]);
        }
        if self.question != Question::Information {
            put(options::ADDRESS_ASSOCIATION, &self.association());
        }
        let hundredths = u16::try_from(self.elapsed.as_millis() / 10).unwrap_or(u16::MAX);
        put(options::ELAPSED_TIME, &hundredths.to_be_bytes());
        let wanted: Vec<u8> = options::WANTED.iter().flat_map(|code| code.to_be_bytes()).collect();
        put(options::OPTION_REQUEST, &wanted);
        put(options::ARCHITECTURE, &self.architecture.to_be_bytes());
        message
    }

    /// The association of the address (IA_NA): the client's number of it, no wishes for times, the address.
    fn association(&self) -> Vec<u8> {
        let mut association = self.association_id().to_vec();
        association.extend([0; 8]);
        let address = match &self.question {
            Question::Request(offer) | Question::Renew(offer) => Some(offer.address),
            Question::Rebind(address) => Some(*address),
            Question::Solicit | Question::Information => None,
        };
        if let Some(address) = address {
            let value = [&address.octets()[..], &[0; 8]].concat();
            options::put(&mut association, options::ADDRESS, &value);
        }
        association
    }

    /// The address that is renewed.
    fn renewed(&self) -> Option<Ipv6Addr> {
        match &self.question {
            Question::Renew(held) => Some(held.address),
            Question::Rebind(held) => Some(*held),
            Question::Solicit | Question::Request(_) | Question::Information => None,
        }
    }

    fn client_id(&self) -> Vec<u8> {
        [&FROM_HARDWARE_ADDRESS[..], &self.hardware_address].concat()
    }

    fn association_id(&self) -> [u8; 4] {
        let [_, _, id @ ..] = self.hardware_address;
        id
    }

    /// Decodes a packet as the answer to this request.
    ///
    /// # Errors
    /// When it is for another client, is malformed, or has nothing that can be used.
    pub fn read_answer(&self, packet: &[u8]) -> Result<Answer, Unanswered> {
        let (head, rest) = packet.split_first_chunk::<4>().ok_or(Unanswered::NotForUs)?;
        let [kind, transaction @ ..] = *head;
        if transaction != self.transaction || !matches!(kind, ADVERTISE | REPLY) {
            return Err(Unanswered::NotForUs);
        }
        let options = Options::parse(rest).map_err(Unanswered::Malformed)?;
        if options.first(options::CLIENT_ID) != Some(&self.client_id()) {
            return Err(Unanswered::NotForUs);
        }
        let server =
            options.first(options::SERVER_ID).filter(|id| (3..=LONGEST_IDENTIFIER).contains(&id.len()));
        let server = server.ok_or(Unanswered::Malformed("it does not identify the server"))?;
        options.status()?;
        if self.question == Question::Information {
            return if kind == REPLY {
                Ok(Answer::Information(network(&options)))
            } else {
                Err(Unanswered::NotForUs)
            };
        }
        let (address, times) = self.address(&options)?;
        let offer = Offer { server: server.to_vec(), address };
        match (kind, &self.question) {
            (ADVERTISE, Question::Solicit) => Ok(Answer::Offer(offer)),
            // Whoever replies to a Solicit must say that it is a commitment.
            (REPLY, Question::Solicit) if options.first(options::RAPID_COMMIT).is_none() => {
                Err(Unanswered::NotForUs)
            }
            (REPLY, Question::Request(asked) | Question::Renew(asked)) if asked.server != server => {
                Err(Unanswered::NotForUs)
            }
            (REPLY, _) => Ok(Answer::Lease(offer, times, network(&options))),
            _ => Err(Unanswered::NotForUs),
        }
    }

    /// The first usable address of our association; in a renewal, the address that is renewed. A server that gives
    /// another with each renewal would have the interface collect them, for each may be valid for ever.
    fn address(&self, options: &Options<'_>) -> Result<(Ipv6Addr, Times), Unanswered> {
        const NONE: Unanswered = Unanswered::Malformed("it has no address");
        let ours = |value: &&[u8]| value.starts_with(&self.association_id());
        let association = options.all(options::ADDRESS_ASSOCIATION).find(ours).ok_or(NONE)?;
        let (times, inside) =
            association.get(4..).and_then(|rest| rest.split_first_chunk::<8>()).ok_or(NONE)?;
        let inside = Options::parse(inside).map_err(Unanswered::Malformed)?;
        inside.status()?;
        let [t1, t2] = [0, 4].map(|at| number(times, at));
        let usable = inside.all(options::ADDRESS).find_map(|value| {
            let (octets, _) = value.split_first_chunk::<16>()?;
            let [preferred, valid] = [16, 20].map(|at| number(value, at));
            let address = Ipv6Addr::from(*octets);
            let is_ours = self.renewed().is_none_or(|renewed| renewed == address);
            let is_valid = is_usable(address) && valid > 0 && preferred <= valid;
            (is_ours && is_valid).then_some((address, preferred, valid))
        });
        let none = || match self.renewed() {
            Some(renewed) => format!("it does not renew the address `{renewed}`"),
            None => "it has no usable address".into(),
        };
        let (address, preferred, valid) = usable.ok_or_else(|| Unanswered::Unusable(none()))?;
        Ok((address, Times::new(t1, t2, preferred, valid)))
    }
}

impl Times {
    /// Puts the times in order, whatever the server says (RFC 8415, section 14.2: 0 leaves T1 and T2 to the client).
    fn new(t1: u32, t2: u32, preferred: u32, valid: u32) -> Self {
        let valid = valid.max(SHORTEST_LEASE);
        let base = if preferred == 0 { valid } else { preferred };
        let said = |time: u32, otherwise: u32| if time == 0 || time >= valid { otherwise } else { time };
        let half = (base / 2).clamp(SHORTEST_LEASE / 2, DEFAULT_RENEWAL);
        let renew = said(t1, half).clamp(SHORTEST_LEASE / 2, DEFAULT_RENEWAL);
        let rebind = said(t2, (base / 5).saturating_mul(4)).clamp(renew, DEFAULT_RENEWAL.saturating_mul(2));
        let [renew, rebind] = [renew, rebind].map(|seconds| Duration::from_secs(seconds.into()));
        Self { renew, rebind, preferred, valid }
    }
}

fn network(options: &Options<'_>) -> Network {
    let url = |code| options.first(code).and_then(text::url);
    Network {
        name_servers: addresses(options.first(options::NAME_SERVERS)),
        search: options
            .first(options::SEARCH_LIST)
            .and_then(name::list)
            .map(first_domains)
            .unwrap_or_default(),
        time_servers: time_servers(options),
        boot_url: url(options::BOOT_FILE_URL),
        captive_portal: url(options::CAPTIVE_PORTAL),
    }
}

fn first_domains(mut domains: Vec<String>) -> Vec<String> {
    domains.truncate(DOMAINS_AT_MOST);
    domains
}

/// The servers of RFC 5908 that are given by address, else those of RFC 4075.
fn time_servers(options: &Options<'_>) -> Vec<Ipv6Addr> {
    const BY_ADDRESS: u16 = 1;
    let inside = options.first(options::NTP_SERVERS).and_then(|value| Options::parse(value).ok());
    let listed = inside.iter().flat_map(|inside| inside.all(BY_ADDRESS));
    let mut servers: Vec<_> = listed.flat_map(|value| addresses(Some(value))).collect();
    servers.truncate(SERVERS_AT_MOST);
    if servers.is_empty() { addresses(options.first(options::SNTP_SERVERS)) } else { servers }
}

fn addresses(value: Option<&[u8]>) -> Vec<Ipv6Addr> {
    let (addresses, _) = value.unwrap_or_default().as_chunks::<16>();
    addresses
        .iter()
        .map(|octets| Ipv6Addr::from(*octets))
        .filter(|it| is_usable(*it))
        .take(SERVERS_AT_MOST)
        .collect()
}

/// Whether `address` can belong to a machine on a network.
pub(crate) fn is_usable(address: Ipv6Addr) -> bool {
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && address.to_ipv4_mapped().is_none()
}

/// The number at a position; 0 beyond the end.
fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

#[cfg(test)]
mod tests;
