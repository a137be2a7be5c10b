//! The messages (RFC 2131, section 2).

use crate::lease::Lease;
use crate::options::{self, Options};
use std::fmt;
use std::net::Ipv4Addr;

/// Where servers listen, by UDP.
pub const SERVER_PORT: u16 = 67;
/// Where clients listen, by UDP.
pub const CLIENT_PORT: u16 = 68;
/// Bytes of the largest message that an Ethernet carries in one packet: 1500 without the headers of IPv4 and UDP. No
/// server may send a larger one unasked (RFC 2131, section 2: 576 bytes).
pub const LARGEST_MESSAGE: usize = 1500 - 20 - 8;

/// Older relays drop what is smaller (RFC 1542, section 2.1), in bytes.
const SMALLEST_MESSAGE: usize = 300;
const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
/// RFC 1700, "Address Resolution Protocol Parameters": hardware type and bytes of an address.
const ETHERNET: (u8, u8) = (1, 6);
/// Asks servers to broadcast their answers.
const BROADCAST: [u8; 2] = [0x80, 0];
const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
const CLASS: &[u8] = b"iguana";
/// What a server is asked to tell.
const WANTED: [u8; 9] = [
    options::SUBNET_MASK,
    options::ROUTER,
    options::NAME_SERVERS,
    options::HOST_NAME,
    options::DOMAIN_NAME,
    options::LEASE_TIME,
    options::RENEWAL_TIME,
    options::REBINDING_TIME,
    options::CLASSLESS_ROUTES,
];

// RFC 2132, section 9.6.
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Who gives an address?
    Discover,
    /// May this address be ours, which that server has offered?
    Select {
        /// The offered address.
        address: Ipv4Addr,
        /// Who offered it, if the offer says so.
        server: Option<Ipv4Addr>,
    },
    /// May this address stay ours?
    Renew {
        /// The address.
        address: Ipv4Addr,
        /// Who gave it; `None` asks any server.
        server: Option<Ipv4Addr>,
    },
}

/// A message of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Tells the answer from those to others. Need not be secret: the question goes to everybody on the wire.
    pub transaction: u32,
    /// The address of the interface.
    pub hardware_address: [u8; 6],
    /// What is asked.
    pub question: Question,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An offer to [`Question::Discover`], an agreement to the others.
    Lease(Lease),
    /// No: the client has to begin anew.
    Refusal,
}

/// Why a packet is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// It is for another machine, from another server, or to another question. The port is open to the whole wire.
    NotForUs,
    /// It is for us, and not as RFC 2131 has it.
    Malformed(&'static str),
    /// It is for us, and no machine can have what it gives.
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
        message.extend([0; 2]);
        message.extend(BROADCAST);
        message.extend(client.octets());
        message.extend([0; 4 * 3]);
        message.extend(self.hardware_address);
        // The rest of the hardware address; the server's name; the file's.
        message.extend([0; 10 + 64 + 128]);
        message.extend(MAGIC_COOKIE);
        message.extend([options::MESSAGE_TYPE, 1, kind]);
        for (code, address) in more {
            message.extend([code, 4]);
            message.extend(address.octets());
        }
        for (code, value) in
            [(options::PARAMETER_REQUEST_LIST, &WANTED[..]), (options::CLASS_IDENTIFIER, CLASS)]
        {
            message.extend([code, u8::try_from(value.len()).unwrap_or(0)]);
            message.extend(value);
        }
        message.push(options::END);
        let padded = message.len().max(SMALLEST_MESSAGE);
        message.resize(padded, 0);
        message
    }

    /// What a packet answers to this.
    ///
    /// # Errors
    /// When it is for somebody else, is malformed, or gives what cannot be used.
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
            return Err(Unanswered::Unusable(format!("it renews `{}`, which is not ours", reply.address)));
        }
        Lease::new(reply.address, reply.next_server, &reply.options)
            .map(Answer::Lease)
            .map_err(Unanswered::Unusable)
    }
}

/// The fixed fields of a message that a client looks at.
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
    /// Takes them from the front of a packet.
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

/// A message of a server to us, whose fixed fields are right.
struct Reply {
    kind: u8,
    address: Ipv4Addr,
    next_server: Ipv4Addr,
    options: Options,
}

impl Reply {
    fn parse(packet: &[u8], request: &Request) -> Result<Self, Unanswered> {
        let mut rest = packet;
        let fields = Fields::take(&mut rest).ok_or(Unanswered::NotForUs)?;
        if fields.operation != BOOT_REPLY || fields.transaction != request.transaction {
            return Err(Unanswered::NotForUs);
        }
        // Before anything is made of the address: lengths up to 255 fit into the field of the length.
        if (fields.hardware_type, fields.hardware_length) != ETHERNET {
            return Err(Unanswered::Malformed("its hardware address is not of an Ethernet"));
        }
        if !fields.hardware_address.starts_with(&request.hardware_address) {
            return Err(Unanswered::NotForUs);
        }
        if packet.len() > LARGEST_MESSAGE {
            return Err(Unanswered::Malformed("it is larger than a packet"));
        }
        if fields.cookie != MAGIC_COOKIE {
            return Err(Unanswered::Malformed("it has no options"));
        }
        let options = all_options(rest, &fields).map_err(Unanswered::Malformed)?;
        let kind = options.byte(options::MESSAGE_TYPE);
        let kind = kind.ok_or(Unanswered::Malformed("it does not say of which type it is"))?;
        Ok(Self { kind, address: fields.address, next_server: fields.next_server, options })
    }

    /// Whether `server` sent it. All say who they are (RFC 2131, table 3); who does not may still agree, but not refuse.
    fn is_from(&self, server: Ipv4Addr) -> bool {
        self.options.address(options::SERVER_IDENTIFIER).map_or(self.kind == ACK, |said| said == server)
    }
}

/// The options, and those in the fields of the file and the server's name, in this order (RFC 3396, section 5), when
/// the former say that there are some.
fn all_options(bytes: &[u8], fields: &Fields) -> Result<Options, &'static str> {
    const IN_FILE: u8 = 1;
    const IN_SERVER_NAME: u8 = 2;
    let mut options = Options::default();
    options.add(bytes)?;
    let overloaded = match options.bytes(options::OVERLOAD) {
        None => 0,
        Some([fields @ IN_FILE..=3]) => *fields,
        Some(_) => return Err("it does not say in which fields more options are"),
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
