//! Asks the DNS servers of this system why a lookup failed, for messages: one query to each, of whose answer the first
//! eight bytes are read.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// The file that lists the servers (resolv.conf(5)).
const SERVERS: &str = "/etc/resolv.conf";
/// Bytes of the file that are read.
const SERVERS_LIMIT: u64 = 16 << 10;
/// Servers that are asked (resolv.conf(5), `MAXNS`).
const SERVERS_ASKED: usize = 3;
/// Time limit for each answer: getaddrinfo(3) has waited longer already.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// The port of DNS servers (RFC 1035, section 4.2).
const PORT: u16 = 53;
/// Bytes of a name, and of one of its labels (RFC 1035, section 2.3.4).
const NAME_LIMIT: usize = 253;
const LABEL_LIMIT: usize = 63;
/// The flag of a response (RFC 1035, section 4.1.1, QR).
const IS_ANSWER: u8 = 0x80;

/// The reply of one server.
pub(super) struct Reply {
    server: IpAddr,
    outcome: io::Result<Outcome>,
}

/// What the server sent, if the query could be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Silence,
    /// Packets, none of which answers the query.
    Noise,
    /// The response code, and whether the answer contains records.
    Answer(u8, bool),
    /// The name cannot be put into a query.
    NoQuestion,
}

impl Reply {
    /// Whether the server sent records for the name.
    pub(super) fn has_records(&self) -> bool {
        matches!(self.outcome, Ok(Outcome::Answer(0, true)))
    }
}

/// Queries each server for `host`.
pub(super) fn ask(host: &str) -> Vec<Reply> {
    let question = question(host);
    let reply = |server| {
        let outcome = match &question {
            Some(question) => converse(SocketAddr::new(server, PORT), question),
            None => Ok(Outcome::NoQuestion),
        };
        Reply { server, outcome }
    };
    servers().into_iter().map(reply).collect()
}

/// Describes the replies for a message.
pub(super) fn in_words(replies: &[Reply]) -> String {
    if replies.is_empty() {
        return format!("no DNS server is configured in `{SERVERS}`");
    }
    let told = replies.iter().map(|Reply { server, outcome }| {
        let did = match outcome {
            Ok(Outcome::Answer(code, _)) => code_in_words(*code),
            Ok(Outcome::Silence) => format!("does not answer within {} s", ANSWER_LIMIT.as_secs()),
            Ok(Outcome::Noise) => "sends invalid responses".into(),
            Ok(Outcome::NoQuestion) => "cannot be queried for such a name".into(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => "does not listen".into(),
            Err(error) => format!("cannot be reached: {error}"),
        };
        format!("DNS server `{server}` {did}")
    });
    told.collect::<Vec<_>>().join("; ")
}

fn servers() -> Vec<IpAddr> {
    let mut text = String::new();
    // A file that cannot be read names no servers.
    let _ = File::open(SERVERS).and_then(|file| file.take(SERVERS_LIMIT).read_to_string(&mut text));
    parse(&text)
}

fn parse(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        words.next()?.parse().ok()
    };
    text.lines().filter_map(address).take(SERVERS_ASKED).collect()
}

fn converse(server: SocketAddr, question: &[u8]) -> io::Result<Outcome> {
    let any: IpAddr =
        if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(question)?;
    let until = Instant::now() + ANSWER_LIMIT;
    let (mut buffer, mut outcome) = ([0; 512], Outcome::Silence);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(outcome);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(count) => match parse_answer(&buffer[..count], question) {
                Some(answer) => return Ok(answer),
                None => outcome = Outcome::Noise,
            },
            Err(error) if is_transient(error.kind()) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_transient(kind: io::ErrorKind) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted].contains(&kind)
}

/// A query for the IPv4 address of a name (RFC 1035, section 4.1). Its ID need not be secret: no address is taken from
/// the answer.
fn question(host: &str) -> Option<Vec<u8>> {
    let host = host.trim_end_matches('.');
    if host.is_empty() || host.len() > NAME_LIMIT {
        return None;
    }
    let mut message = vec![b'i', b'g', 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > LABEL_LIMIT {
            return None;
        }
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    Some(message)
}

/// Parses the head of an answer to this query (RFC 1035, section 4.1.1: ID, QR, RCODE, QDCOUNT and ANCOUNT).
fn parse_answer(answer: &[u8], question: &[u8]) -> Option<Outcome> {
    let [a, b, first, second, _, _, high, low] = *answer.first_chunk::<8>()?;
    let has_records = (high, low) != (0, 0);
    let is_answer = question.starts_with(&[a, b]) && first & IS_ANSWER != 0;
    is_answer.then_some(Outcome::Answer(second & 0xf, has_records))
}

fn code_in_words(code: u8) -> String {
    match code {
        0 => "has no usable records".into(),
        1 => "answers `FORMERR`".into(),
        2 => "answers `SERVFAIL`".into(),
        3 => "answers `NXDOMAIN`".into(),
        4 => "answers `NOTIMP`".into(),
        5 => "answers `REFUSED`".into(),
        other => format!("answers with code {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_resolv_conf_are_found() {
        let text = "# nameserver 9.9.9.9\nsearch example\nnameserver 10.0.0.1\nnameserver fe80::1\noptions edns0\n\
                    nameserver x\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";
        let servers: Vec<_> = parse(text).iter().map(IpAddr::to_string).collect();
        assert_eq!(servers, ["10.0.0.1", "fe80::1", "10.0.0.3"]);
    }

    #[test]
    fn each_label_of_a_question_has_its_length() {
        let message = question("a.example.").unwrap();
        assert_eq!(&message[12..], b"\x01a\x07example\0\0\x01\0\x01");
        for wrong in ["", ".", "a..b", &"x".repeat(64), &"x.".repeat(200)] {
            assert!(question(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn only_an_answer_to_the_question_has_a_code() {
        let question = question("a.example").unwrap();
        for (answer, expected) in [
            (&b"ig\x81\x82\0\x01\0\0"[..], Some(Outcome::Answer(2, false))),
            (b"ig\x81\x85\0\0\0\0\0", Some(Outcome::Answer(5, false))),
            (b"ig\x81\x80\0\x01\xff\xff", Some(Outcome::Answer(0, true))),
            (b"ig\x01\x82\0\x01\0\0", None),
            (b"xx\x81\x82\0\x01\0\0", None),
            (b"ig\x81\x82\0\x01\0", None),
            (b"", None),
        ] {
            assert_eq!(parse_answer(answer, &question), expected, "{answer:?}");
        }
    }
}
