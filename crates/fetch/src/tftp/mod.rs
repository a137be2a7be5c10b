//! Reads small files from a TFTP server (RFC 1350) with a negotiated block size (RFC 2347, RFC 2348). For networks
//! where the TFTP server of the boot loader is the only server.

mod transfer;

pub use transfer::{Step, Transfer};

use crate::http::{Deadline, RESOLVE_LIMIT, SILENCE_LIMIT};
use crate::resolve;
use anyhow::Context as _;
use hint::{WithHint as _, hinted};
use retry::Failure;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// The scheme of a TFTP URL (RFC 3617).
const SCHEME: &str = "tftp://";
/// The port of servers (RFC 1350, section 4).
const PORT: u16 = 69;
/// Bytes of a block that fills an Ethernet frame: 1500, without the headers of IPv6, UDP and TFTP.
const BLOCK: usize = 1500 - 40 - 8 - 4;
/// The last packet is sent again after this time without an answer.
const RETRY_AFTER: Duration = retry::TFTP_PACKET.first_pause;

/// Fetches a document of at most [`crate::http::DOCUMENT_LIMIT`] bytes from `tftp://HOST[:PORT]/PATH` by `deadline`.
///
/// # Errors
/// When the URL is invalid, no new block arrives for [`SILENCE_LIMIT`], the deadline passes, the server refuses, or the
/// document is too large. The failure says whether a retry may help.
pub fn fetch(url: &str, deadline: Deadline) -> Result<Vec<u8>, Failure> {
    Ok(fetch_within(url, SILENCE_LIMIT, deadline)?)
}

fn fetch_within(url: &str, silence: Duration, deadline: Deadline) -> anyhow::Result<Vec<u8>> {
    let (server, path) = parse(url, deadline.left().min(RESOLVE_LIMIT))?;
    let cannot = || format!("cannot fetch `{url}`");
    let socket =
        UdpSocket::bind(if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).with_context(cannot)?;
    socket.set_read_timeout(Some(RETRY_AFTER)).with_context(cannot)?;
    let (transfer, request) = Transfer::begin(path);
    let conversation = Conversation { socket, peer: server, has_answered: false, last: request };
    conversation.run(transfer, silence, deadline).with_context(cannot)
}

/// The server of a URL, and the path there.
fn parse(url: &str, limit: Duration) -> anyhow::Result<(SocketAddr, &str)> {
    let wrong = || hinted(format!("`{url}` does not name a file"), "write `tftp://HOST/PATH`");
    let (host, path) = url.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
    let path = path.strip_suffix(";mode=octet").unwrap_or(path);
    let has_port =
        host.rsplit_once(':').is_some_and(|(before, _)| !before.contains(':') || before.ends_with(']'));
    let place = if has_port { host.to_owned() } else { format!("{host}:{PORT}") };
    if path.is_empty() || path.contains('\0') || host.is_empty() {
        return Err(wrong());
    }
    let addresses = resolve::addresses(&place, limit)
        .map_err(resolve::LookupError::into_error)
        .with_context(|| format!("cannot fetch `{url}`"))
        .hint("check the name in the URL and the DNS servers of this network (`nameserver` in `/etc/resolv.conf`)")?;
    Ok((addresses.into_iter().next().ok_or_else(wrong)?, path))
}

/// The exchange of packets with a server.
struct Conversation {
    socket: UdpSocket,
    /// The server, which answers each transfer from a new port.
    peer: SocketAddr,
    has_answered: bool,
    /// The packet that was sent last.
    last: Vec<u8>,
}

impl Conversation {
    fn run(
        mut self,
        mut transfer: Transfer,
        silence: Duration,
        deadline: Deadline,
    ) -> anyhow::Result<Vec<u8>> {
        let (mut heard, mut sent) = (Instant::now(), Instant::now());
        self.send()?;
        while !deadline.left().is_zero() {
            if heard.elapsed() >= silence {
                return Err(hinted(
                    format!("no new data from `{}` for {} s", self.peer, silence.as_secs()),
                    "check that a TFTP server is running there and that no firewall blocks UDP",
                ));
            }
            if sent.elapsed() >= RETRY_AFTER {
                self.send()?;
                sent = Instant::now();
            }
            match self.receive(&mut transfer)? {
                Step::Send(packet) => {
                    self.last = packet;
                    self.send()?;
                    (heard, sent) = (Instant::now(), Instant::now());
                }
                Step::Pass => {}
                Step::Finish(packet) => {
                    self.last = packet;
                    // Ignored: the file is complete, even if the last acknowledgement is lost.
                    let _ = self.send();
                    return Ok(transfer.into_content());
                }
                Step::Fail(error) => return Err(error),
            }
        }
        Err(hinted(
            format!("`{}` did not send the whole file within {} s", self.peer, deadline.limit().as_secs()),
            "use a server that is closer, or HTTP",
        ))
    }

    fn send(&self) -> io::Result<()> {
        self.socket.send_to(&self.last, self.peer).map(drop)
    }

    /// Handles the next packet of the server. The first valid one fixes the port of the server.
    fn receive(&mut self, transfer: &mut Transfer) -> anyhow::Result<Step> {
        // The extra byte shows whether a block is too large.
        let mut buffer = [0; 4 + BLOCK + 1];
        let (packet, from) = match self.socket.recv_from(&mut buffer) {
            Ok((length, from)) => (&buffer[..length], from),
            Err(error) if is_transient(error.kind()) => return Ok(Step::Pass),
            Err(error) => return Err(error.into()),
        };
        let is_known = from == self.peer || (!self.has_answered && from.ip() == self.peer.ip());
        if !is_known {
            return Ok(Step::Pass);
        }
        let step = transfer.receive(packet);
        if !matches!(step, Step::Pass) {
            (self.peer, self.has_answered) = (from, true);
        }
        Ok(step)
    }
}

/// Whether a receive that failed with this may be repeated.
fn is_transient(kind: io::ErrorKind) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted].contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::RecvTimeoutError;
    use std::thread;

    /// A server that sends these packets, one for each packet that it receives; returns what was fetched from it.
    fn served(answers: Vec<Vec<u8>>) -> anyhow::Result<Vec<u8>> {
        let [listening, sending] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let port = listening.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let mut got = [0; 600];
            let (length, client) = listening.recv_from(&mut got).unwrap();
            assert_eq!(got[..length], [&b"\0\x01a/b\0octet\0blksize\0"[..], b"1448\0"].concat());
            // A packet from another sender is ignored.
            UdpSocket::bind("127.0.0.2:0").unwrap().send_to(&data(1, b"false"), client).unwrap();
            for answer in answers {
                sending.send_to(&answer, client).unwrap();
                sending.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                let _ = sending.recv_from(&mut got);
            }
        });
        let got = fetch(&format!("tftp://127.0.0.1:{port}/a/b"), Deadline::within(SILENCE_LIMIT));
        server.join().unwrap();
        got.map_err(|failure| failure.error)
    }

    fn data(number: u16, bytes: &[u8]) -> Vec<u8> {
        [&[0, 3], &number.to_be_bytes()[..], bytes].concat()
    }

    #[test]
    fn blocks_have_the_negotiated_size() {
        let agreed = b"\0\x06blksize\08\0".to_vec();
        let got = served(vec![agreed, data(1, b"12345678"), data(2, b"9")]);
        assert_eq!(got.unwrap(), b"123456789");
        let got = served(vec![data(1, &[7; 512]), data(2, b"")]);
        assert_eq!(got.unwrap(), [7; 512]);
    }

    #[test]
    fn duplicate_blocks_are_accepted_once() {
        let got = served(vec![data(1, &[1; 512]), data(1, &[1; 512]), data(3, b"late"), data(2, b"end")]);
        assert_eq!(got.unwrap(), [&[1; 512][..], b"end"].concat());
    }

    #[test]
    fn the_message_of_the_server_is_reported() {
        let got = served(vec![b"\0\x05\0\x01File not found\0".to_vec()]).unwrap_err();
        assert!(format!("{got:#}").ends_with("the server replied `File not found`"), "{got:#}");
    }

    #[test]
    fn addresses_are_read() {
        let read = |url| parse(url, SILENCE_LIMIT).map(|(server, path)| format!("{server} {path}"));
        assert_eq!(read("tftp://127.0.0.1/a/b.yaml").unwrap(), "127.0.0.1:69 a/b.yaml");
        assert_eq!(read("tftp://127.0.0.1:6969/a;mode=octet").unwrap(), "127.0.0.1:6969 a");
        assert_eq!(read("tftp://[::1]/a").unwrap(), "[::1]:69 a");
        assert_eq!(read("tftp://[::1]:70/a").unwrap(), "[::1]:70 a");
        for wrong in ["tftp://127.0.0.1", "tftp://127.0.0.1/", "tftp:///a"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// A server that keeps sending `answer` of the packet's number; returns the error of the fetch.
    fn never_done(silence: u64, total: u64, answer: impl Fn(u32) -> Vec<u8> + Send + 'static) -> String {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let server = thread::spawn(move || {
            let mut got = [0; 600];
            let (_, client) = server.recv_from(&mut got).unwrap();
            for number in 0.. {
                server.send_to(&answer(number), client).ok();
                if ended.recv_timeout(Duration::from_millis(20)) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        });
        let [silence, total] = [silence, total].map(Duration::from_secs);
        let got = fetch_within(&format!("tftp://127.0.0.1:{port}/a"), silence, Deadline::within(total));
        drop(end);
        server.join().unwrap();
        format!("{:#}", got.unwrap_err())
    }

    #[test]
    fn a_server_that_is_never_done_is_given_up() {
        let said = never_done(9, 1, |number| data(number as u16 + 1, &[7; 512]));
        assert!(said.ends_with("did not send the whole file within 1 s"), "{said}");
        // A flood of other packets than the next block counts as silence.
        let said = never_done(1, 9, |_| data(9, &[7; 512]));
        assert!(said.contains("no new data from") && said.ends_with("for 1 s"), "{said}");
    }

    #[test]
    fn packets_of_another_server_are_ignored() {
        let listening = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = listening.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let [sending, hijacking] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
            let mut got = [0; 600];
            let (_, client) = listening.recv_from(&mut got).unwrap();
            // A packet that does not begin a transfer does not make its sender the server.
            hijacking.send_to(&data(7, b"false"), client).unwrap();
            sending.send_to(&data(1, &[1; 512]), client).unwrap();
            sending.recv_from(&mut got).unwrap();
            for false_packet in [data(2, b"false"), b"\0\x05\0\x01false\0".to_vec()] {
                hijacking.send_to(&false_packet, client).unwrap();
            }
            sending.send_to(&data(2, b"end"), client).unwrap();
        });
        let got = fetch(&format!("tftp://127.0.0.1:{port}/a"), Deadline::within(SILENCE_LIMIT)).unwrap();
        server.join().unwrap();
        assert_eq!(got, [&[1; 512][..], b"end"].concat());
    }
}
