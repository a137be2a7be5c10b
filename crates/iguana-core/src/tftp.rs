//! Reads small files from a TFTP server (RFC 1350), in blocks of a size that both agree on (RFC 2347, RFC 2348): what
//! stands beside a boot loader where there is no other server.

use crate::hint::hinted;
use crate::http::{DOCUMENT_LIMIT, SILENCE_LIMIT};
use anyhow::{Context as _, ensure};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

/// How the address of a file begins (RFC 3617).
const SCHEME: &str = "tftp://";
/// Where servers listen (RFC 1350, section 4).
const PORT: u16 = 69;
/// Bytes of a block that fill a packet of Ethernet: 1500, without the headers of IPv6, UDP and TFTP.
const BLOCK: usize = 1500 - 40 - 8 - 4;
/// Bytes of a block that nothing was agreed about (RFC 1350, section 2).
const DEFAULT_BLOCK: usize = 512;
/// After this time without an answer the last packet is sent again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Fetches a document of at most [`DOCUMENT_LIMIT`] bytes from `tftp://HOST[:PORT]/PATH`.
///
/// # Errors
/// When the address is none, nobody answers for [`SILENCE_LIMIT`], the server refuses, or the document is too large.
pub fn fetch(url: &str) -> anyhow::Result<Vec<u8>> {
    let (server, path) = parse(url)?;
    let cannot = || format!("cannot have `{url}`");
    let socket =
        UdpSocket::bind(if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).with_context(cannot)?;
    socket.set_read_timeout(Some(RETRY_AFTER)).with_context(cannot)?;
    let transfer =
        Transfer { socket, peer: server, has_answered: false, last: request(path), heard: Instant::now() };
    transfer.run().with_context(cannot)
}

/// The server of an address, and the path there.
fn parse(url: &str) -> anyhow::Result<(SocketAddr, &str)> {
    let wrong = || hinted(format!("`{url}` is not the address of a file"), "write `tftp://HOST/PATH`");
    let (host, path) = url.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
    let path = path.strip_suffix(";mode=octet").unwrap_or(path);
    let has_port =
        host.rsplit_once(':').is_some_and(|(before, _)| !before.contains(':') || before.ends_with(']'));
    let place = if has_port { host.to_owned() } else { format!("{host}:{PORT}") };
    if path.is_empty() || path.contains('\0') || host.is_empty() {
        return Err(wrong());
    }
    let mut addresses =
        place.to_socket_addrs().with_context(|| format!("no address of `{host}` can be found"))?;
    Ok((addresses.next().ok_or_else(wrong)?, path))
}

/// A file on its way.
struct Transfer {
    socket: UdpSocket,
    /// The server, which answers from a port of its own for this file.
    peer: SocketAddr,
    has_answered: bool,
    /// What was sent last.
    last: Vec<u8>,
    /// When something new came last.
    heard: Instant,
}

impl Transfer {
    fn run(mut self) -> anyhow::Result<Vec<u8>> {
        let (mut content, mut size, mut next) = (Vec::new(), DEFAULT_BLOCK, 1_u16);
        self.send()?;
        loop {
            let (packet, is_first) = self.receive()?;
            match packet {
                Packet::Options(block) if is_first => {
                    size = block.unwrap_or(DEFAULT_BLOCK);
                    self.acknowledge(0)?;
                }
                Packet::Data(number, bytes) if number == next && bytes.len() <= size => {
                    content.extend_from_slice(&bytes);
                    ensure!(
                        content.len() as u64 <= DOCUMENT_LIMIT,
                        "it is larger than {DOCUMENT_LIMIT} bytes"
                    );
                    self.acknowledge(number)?;
                    if bytes.len() < size {
                        return Ok(content);
                    }
                    next = next.wrapping_add(1);
                }
                // Our answer got lost.
                Packet::Data(number, _) if number == next.wrapping_sub(1) => self.send()?,
                Packet::Error(message) => {
                    return Err(hinted(
                        format!("the server says `{message}`"),
                        "check the URL; the server was reached",
                    ));
                }
                _ => {}
            }
        }
    }

    fn acknowledge(&mut self, number: u16) -> io::Result<()> {
        self.heard = Instant::now();
        self.last = [&Packet::ACKNOWLEDGEMENT.to_be_bytes()[..], &number.to_be_bytes()].concat();
        self.send()
    }

    fn send(&self) -> io::Result<()> {
        self.socket.send_to(&self.last, self.peer).map(drop)
    }

    /// The next packet of the server, and whether it is its first one.
    fn receive(&mut self) -> anyhow::Result<(Packet, bool)> {
        let mut buffer = [0; BLOCK + 5];
        while self.heard.elapsed() < SILENCE_LIMIT {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let is_first = !self.has_answered && from.ip() == self.peer.ip();
                    let Some(packet) = Packet::parse(&buffer[..length]) else { continue };
                    if is_first || from == self.peer {
                        (self.peer, self.has_answered) = (from, true);
                        return Ok((packet, is_first));
                    }
                }
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) =>
                {
                    self.send()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(hinted(
            format!("`{}` has not answered for {} s", self.peer, SILENCE_LIMIT.as_secs()),
            "is there a TFTP server, and does no firewall stand between? It is reached by UDP",
        ))
    }
}

fn request(path: &str) -> Vec<u8> {
    let words = [path, "octet", "blksize", &BLOCK.to_string()].map(|word| format!("{word}\0"));
    [&Packet::REQUEST.to_be_bytes()[..], words.concat().as_bytes()].concat()
}

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
enum Packet {
    Data(u16, Vec<u8>),
    Error(String),
    /// What it agrees to: bytes of a block, if anything about that.
    Options(Option<usize>),
}

impl Packet {
    // RFC 1350, section 5, and RFC 2347.
    const REQUEST: u16 = 1;
    const DATA: u16 = 3;
    const ACKNOWLEDGEMENT: u16 = 4;
    const ERROR: u16 = 5;
    const OPTIONS: u16 = 6;

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first_chunk()?;
        Some(match u16::from_be_bytes(*kind) {
            Self::DATA => {
                let (number, bytes) = rest.split_first_chunk()?;
                Self::Data(u16::from_be_bytes(*number), bytes.to_vec())
            }
            Self::ERROR => {
                let text = rest.get(2..)?.split(|letter| *letter == 0).next().unwrap_or_default();
                Self::Error(String::from_utf8_lossy(text).escape_debug().to_string())
            }
            Self::OPTIONS => {
                let words: Vec<_> = rest.split(|letter| *letter == 0).map(String::from_utf8_lossy).collect();
                let block = words.chunks(2).find(|pair| pair[0].eq_ignore_ascii_case("blksize"));
                let block = block.and_then(|pair| pair.get(1)?.parse().ok());
                Self::Options(block.filter(|block| (1..=BLOCK).contains(block)))
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A server that sends these packets, each after it has got one, and what was fetched from it.
    fn served(answers: Vec<Vec<u8>>) -> anyhow::Result<Vec<u8>> {
        let [listening, sending] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let port = listening.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let mut got = [0; 600];
            let (length, client) = listening.recv_from(&mut got).unwrap();
            assert_eq!(got[..length], [&b"\0\x01a/b\0octet\0blksize\0"[..], b"1448\0"].concat());
            // Somebody else's is not taken for the server's.
            UdpSocket::bind("127.0.0.2:0").unwrap().send_to(&data(1, b"false"), client).unwrap();
            for answer in answers {
                sending.send_to(&answer, client).unwrap();
                sending.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                let _ = sending.recv_from(&mut got);
            }
        });
        let got = fetch(&format!("tftp://127.0.0.1:{port}/a/b"));
        server.join().unwrap();
        got
    }

    fn data(number: u16, bytes: &[u8]) -> Vec<u8> {
        [&[0, 3], &number.to_be_bytes()[..], bytes].concat()
    }

    #[test]
    fn blocks_are_of_the_size_that_was_agreed_on() {
        let agreed = b"\0\x06blksize\08\0".to_vec();
        let got = served(vec![agreed, data(1, b"12345678"), data(2, b"9")]);
        assert_eq!(got.unwrap(), b"123456789");
        let got = served(vec![data(1, &[7; 512]), data(2, b"")]);
        assert_eq!(got.unwrap(), [7; 512]);
    }

    #[test]
    fn what_comes_twice_is_taken_once() {
        let got = served(vec![data(1, &[1; 512]), data(1, &[1; 512]), data(3, b"late"), data(2, b"end")]);
        assert_eq!(got.unwrap(), [&[1; 512][..], b"end"].concat());
    }

    #[test]
    fn what_the_server_says_is_told() {
        let got = served(vec![b"\0\x05\0\x01File not found\0".to_vec()]).unwrap_err();
        assert!(format!("{got:#}").ends_with("the server says `File not found`"), "{got:#}");
    }

    #[test]
    fn addresses_are_read() {
        let read = |url| parse(url).map(|(server, path)| format!("{server} {path}"));
        assert_eq!(read("tftp://127.0.0.1/a/b.yaml").unwrap(), "127.0.0.1:69 a/b.yaml");
        assert_eq!(read("tftp://127.0.0.1:6969/a;mode=octet").unwrap(), "127.0.0.1:6969 a");
        assert_eq!(read("tftp://[::1]/a").unwrap(), "[::1]:69 a");
        assert_eq!(read("tftp://[::1]:70/a").unwrap(), "[::1]:70 a");
        for wrong in ["tftp://127.0.0.1", "tftp://127.0.0.1/", "tftp:///a"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_packet_panics() {
        for kind in 0..8 {
            for length in 0..12 {
                let _ = Packet::parse(&[&[0, kind][..], &vec![0; length]].concat());
                let _ = Packet::parse(&[0, kind][..length.min(2)]);
            }
        }
    }
}
