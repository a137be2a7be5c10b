//! DHCP messages (RFC 2131, section 2).

use crate::lease::Lease;
use crate::options::{self, Options};
use std::fmt;
use std::net::Ipv4Addr;

/// The UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// The UDP port of clients.
pub const CLIENT_PORT: u16 = 68;
/// Bytes of the largest message that fits in one Ethernet frame: 1500 without the headers of IPv4 and UDP. A server may
/// not send more than 576 bytes unless asked to (RFC 2131, section 2).
pub const LARGEST_MESSAGE: usize = 1500 - 20 - 8;

/// Bytes of the smallest message: older relays drop shorter ones (RFC 1542, section 2.1).
const SMALLEST_MESSAGE: usize = 300;
/// The same limit with the headers, as servers count it (RFC 2132, section 9.10).
const LARGEST_SIZE: u16 = 1500;
const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
/// RFC 1700, "Address Resolution Protocol Parameters": the hardware type, and the bytes of an address.
const ETHERNET: (u8, u8) = (1, 6);
/// The flag that asks servers to broadcast their answers.
const BROADCAST: [u8; 2] = [0x80, 0];
const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
const CLASS: &[u8] = b"iguana";
/// The options that the client asks for (RFC 2132, section 9.8).
const WANTED: [u8; 14] = [
    options::SUBNET_MASK,
    options::ROUTER,
    options::NAME_SERVERS,
    options::HOST_NAME,
    options::DOMAIN_NAME,
    options::INTERFACE_MTU,
    options::TIME_SERVERS,
    options::LEASE_TIME,
    options::RENEWAL_TIME,
    options::REBINDING_TIME,
    options::BOOT_FILE,
    options::CAPTIVE_PORTAL,
    options::SEARCH_LIST,
    options::CLASSLESS_ROUTES,
];

// Message types: RFC 2132, section 9.6.
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// What the client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// DHCPDISCOVER: which server offers an address?
    Discover,
    /// DHCPREQUEST for an address that a server has offered.
    Select {
        /// The offered address.
        address: Ipv4Addr,
        /// The server that offered it, if the offer says so.
        server: Option<Ipv4Addr>,
    },
    /// DHCPREQUEST that extends the lease of an address.
    Renew {
        /// The address.
        address: Ipv4Addr,
        /// The server that gave the lease; `None` asks any server.
        server: Option<Ipv4Addr>,
    },
}

/// A message from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Matches answers to this request (`xid`). It need not be secret: the request is broadcast to the whole network.
    pub transaction: u32,
    /// The MAC address of the interface.
    pub hardware_address: [u8; 6],
    /// What the client asks.
    pub question: Question,
    /// Seconds since the client began to ask (`secs`). Relays and servers may leave the first messages to others.
    pub seconds: u16,
    /// What servers may choose by: they may give machines of another kind another boot file.
    pub machine: MachineKind,
}

/// The kind of a machine, as network boot programs tell it (RFC 4578).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MachineKind {
    /// The processor and firmware, a number of the IANA registry "Processor Architecture Types".
    pub architecture: u16,
    /// The UUID in the firmware's tables.
    pub uuid: Option<[u8; 16]>,
}

/// The answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A DHCPOFFER for [`Question::Discover`], a DHCPACK for the others.
    Lease(Box<Lease>),
    /// A DHCPNAK: the client has to start again with [`Question::Discover`].
    Refusal,
}

/// Why a packet is not an answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// It is for another machine, from another server, or for another request. Anybody on the network can send to the
    /// port.
    NotForUs,
    /// It is for this client but violates RFC 2131.
    Malformed(&'static str),
    /// It is for this client, but no machine can have the address in it.
    Unusable(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotForUs => out.write_str("it is not for this machine"),
            Self::Malformed(why) => out.write_str(why),
            Self::Unusable(why) => out.write_str(why),
        }
    }
}

impl std::error::Error for Unanswered {}

impl Request {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, client, more) = match self.question {
            Question::Discover => (DISCOVER, Ipv4Addr::UNSPECIFIED, Vec::new()),
            Question::Select { address, server } => {
                let server = server.map(|server| (options::SERVER_IDENTIFIER, server));
                let more = [(options::REQUESTED_ADDRESS, address)].into_iter().chain(server).collect();
                (REQUEST, Ipv4Addr::UNSPECIFIED, more)
            }
            Question::Renew { address, .. } => (REQUEST, address, Vec::new()),
        };
        let mut message = vec![BOOT_REQUEST, ETHERNET.0, ETHERNET.1, 0];
        message.extend(self.transaction.to_be_bytes());
        message.extend(self.seconds.to_be_bytes());
        message.extend(BROADCAST);
        message.extend(client.octets());
        message.extend([0; 4 * 3]);
        message.extend(self.hardware_address);
        // The rest of `chaddr`, then `sname` and `file`.
        message.extend([0; 10 + 64 + 128]);
        message.extend(MAGIC_COOKIE);
        message.extend([options::MESSAGE_TYPE, 1, kind]);
        for (code, address) in more {
            message.extend([code, 4]);
            message.extend(address.octets());
        }
        // The first byte of the identifier is its type, which is always 0.
        let uuid = self.machine.uuid.map(|uuid| [&[0], &uuid[..]].concat());
        for (code, value) in [
            (options::PARAMETER_REQUEST_LIST, &WANTED[..]),
            (options::LARGEST_SIZE, &LARGEST_SIZE.to_be_bytes()),
            (options::CLASS_IDENTIFIER, CLASS),
            (options::ARCHITECTURE, &self.machine.architecture.to_be_bytes()),
            (options::MACHINE_UUID, uuid.as_deref().unwrap_or_default()),
        ] {
            if !value.is_empty() {
                message.extend([code, u8::try_from(value.len()).unwrap_or(0)]);
                message.extend(value);
            }
        }
        message.push(options::END);
        let padded = message.len().max(SMALLEST_MESSAGE);
        message.resize(padded, 0);
        message
    }

    /// Decodes a packet as the answer to this request.
    ///
    /// # Errors
    /// When it is for another client, is malformed, or offers an address that cannot be used.
    pub fn read_answer(&self, packet: &[u8]) -> Result<Answer, Unanswered> {
        let reply = Reply::parse(packet, self)?;
        let (expected, from) = match self.question {
            Question::Discover => (&[OFFER][..], None),
            Question::Select { server, .. } | Question::Renew { server, .. } => (&[ACK, NAK][..], server),
        };
        if !expected.contains(&reply.kind) || from.is_some_and(|from| !reply.is_from(from)) {
            return Err(Unanswered::NotForUs);
        }
        if reply.kind == NAK {
            return Ok(Answer::Refusal);
        }
        if let Question::Renew { address, .. } = self.question
            && reply.address != address
        {
            return Err(Unanswered::Unusable(format!(
                "it renews `{}`, which is not our address",
                reply.address
            )));
        }
        Lease::new(reply.address, reply.next_server, &reply.boot_file, &reply.options)
            .map(|lease| Answer::Lease(lease.into()))
            .map_err(Unanswered::Unusable)
    }
}

/// The fixed fields of a message that a client reads.
struct Fields {
    operation: u8,
    hardware_type: u8,
    hardware_length: u8,
    transaction: u32,
    address: Ipv4Addr,
    next_server: Ipv4Addr,
    hardware_address: [u8; 16],
    server_name: [u8; 64],
    file: [u8; 128],
    cookie: [u8; 4],
}

impl Fields {
    /// Parses them from the start of a packet.
    fn take(rest: &mut &[u8]) -> Option<Self> {
        let [operation, hardware_type, hardware_length, _hops] = take(rest)?;
        let transaction = u32::from_be_bytes(take(rest)?);
        let (_seconds, _flags, _client) = (take::<2>(rest)?, take::<2>(rest)?, take::<4>(rest)?);
        let (address, next_server) = (take::<4>(rest)?.into(), take::<4>(rest)?.into());
        let _relay = take::<4>(rest)?;
        Some(Self {
            operation,
            hardware_type,
            hardware_length,
            transaction,
            address,
            next_server,
            hardware_address: take(rest)?,
            server_name: take(rest)?,
            file: take(rest)?,
            cookie: take(rest)?,
        })
    }
}

fn take<const COUNT: usize>(rest: &mut &[u8]) -> Option<[u8; COUNT]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

/// A message of a server to this client, whose fixed fields are valid.
struct Reply {
    kind: u8,
    address: Ipv4Addr,
    next_server: Ipv4Addr,
    /// The field `file`; empty when it holds options.
    boot_file: Vec<u8>,
    options: Options,
}

impl Reply {
    fn parse(packet: &[u8], request: &Request) -> Result<Self, Unanswered> {
        let mut rest = packet;
        let fields = Fields::take(&mut rest).ok_or(Unanswered::NotForUs)?;
        if fields.operation != BOOT_REPLY || fields.transaction != request.transaction {
            return Err(Unanswered::NotForUs);
        }
        // Checked before the address is used: the length field allows up to 255 bytes.
        if (fields.hardware_type, fields.hardware_length) != ETHERNET {
            return Err(Unanswered::Malformed("its hardware address is not an Ethernet address"));
        }
        if !fields.hardware_address.starts_with(&request.hardware_address) {
            return Err(Unanswered::NotForUs);
        }
        if packet.len() > LARGEST_MESSAGE {
            return Err(Unanswered::Malformed("it is larger than a UDP packet can be"));
        }
        if fields.cookie != MAGIC_COOKIE {
            return Err(Unanswered::Malformed("it has no options"));
        }
        let options = all_options(rest, &fields).map_err(Unanswered::Malformed)?;
        let kind = options.byte(options::MESSAGE_TYPE);
        let kind = kind.ok_or(Unanswered::Malformed("it has no message type"))?;
        let is_overloaded = options.byte(options::OVERLOAD).is_some_and(|field| field & IN_FILE != 0);
        let boot_file = if is_overloaded { Vec::new() } else { fields.file.to_vec() };
        Ok(Self { kind, address: fields.address, next_server: fields.next_server, boot_file, options })
    }

    /// Whether `server` sent the message. Servers must identify themselves (RFC 2131, table 3); one that does not may
    /// still acknowledge, but not refuse.
    fn is_from(&self, server: Ipv4Addr) -> bool {
        self.options.address(options::SERVER_IDENTIFIER).map_or(self.kind == ACK, |said| said == server)
    }
}

/// The bits of the option "overload" (RFC 2132, section 9.3).
const IN_FILE: u8 = 1;
const IN_SERVER_NAME: u8 = 2;

/// The options of the message, followed by those in the fields `file` and `sname`, in this order (RFC 3396, section 5),
/// when the option "overload" says that these hold some.
fn all_options(bytes: &[u8], fields: &Fields) -> Result<Options, &'static str> {
    let mut options = Options::default();
    options.add(bytes)?;
    let overloaded = match options.bytes(options::OVERLOAD) {
        None => 0,
        Some([fields @ IN_FILE..=3]) => *fields,
        Some(_) => return Err("its option overload is malformed"),
    };
    if overloaded & IN_FILE != 0 {
        options.add(&fields.file)?;
    }
    if overloaded & IN_SERVER_NAME != 0 {
        options.add(&fields.server_name)?;
    }
    Ok(options)
}

#[cfg(test)]
mod tests;
