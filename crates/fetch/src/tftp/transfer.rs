//! The transfer of one file as a state machine without I/O: a received packet leads to the packet that is sent next.

use super::BLOCK;
use crate::http::DOCUMENT_LIMIT;
use hint::hinted;

/// Bytes of a block when no size was negotiated (RFC 1350, section 2).
const DEFAULT_BLOCK: usize = 512;
/// Bytes of the smallest block that a server may choose (RFC 2348, "Blocksize Option Specification").
const SMALLEST_BLOCK: usize = 8;

// Opcodes: RFC 1350, section 5, and RFC 2347.
const REQUEST: u16 = 1;
const DATA: u16 = 3;
const ACKNOWLEDGEMENT: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

/// The transfer of one file.
#[derive(Debug)]
pub struct Transfer {
    content: Vec<u8>,
    block: usize,
    /// The number of the next block; numbers wrap around after 65535.
    next: u16,
    has_begun: bool,
}

/// What follows from a packet.
#[derive(Debug)]
pub enum Step {
    /// The transfer continues: send this.
    Send(Vec<u8>),
    /// The packet is a duplicate or invalid and is ignored.
    Pass,
    /// The file is complete: send this.
    Finish(Vec<u8>),
    /// The transfer has failed.
    Fail(anyhow::Error),
}

impl Transfer {
    /// Begins the transfer of the file at `path`; returns also its first packet, the read request.
    #[must_use]
    pub fn begin(path: &str) -> (Self, Vec<u8>) {
        let words = [path, "octet", "blksize", &BLOCK.to_string()].map(|word| format!("{word}\0"));
        let request = [&REQUEST.to_be_bytes()[..], words.concat().as_bytes()].concat();
        (Self { content: Vec::new(), block: DEFAULT_BLOCK, next: 1, has_begun: false }, request)
    }

    /// Handles a packet of the server.
    pub fn receive(&mut self, packet: &[u8]) -> Step {
        let Some(packet) = Packet::parse(packet) else { return Step::Pass };
        match packet {
            Packet::Options(block) if !self.has_begun => self.agree(block),
            Packet::Data(number, bytes) if number == self.next => self.take(bytes),
            Packet::Error(message) => Step::Fail(hinted(
                format!("the server replied `{message}`"),
                "the server was reached: check the URL",
            )),
            // Also duplicates, which come when our acknowledgement was lost. Only the timer sends it again, never a
            // received packet.
            Packet::Options(_) | Packet::Data(..) => Step::Pass,
        }
    }

    /// The bytes received so far.
    #[must_use]
    pub fn into_content(self) -> Vec<u8> {
        self.content
    }

    fn agree(&mut self, block: Block) -> Step {
        self.block = match block {
            Block::Unsaid => DEFAULT_BLOCK,
            Block::Said(size) if (SMALLEST_BLOCK..=BLOCK).contains(&size) => size,
            Block::Said(_) | Block::NoNumber => {
                return Step::Fail(hinted(
                    format!("the server chose a block size above the requested maximum of {BLOCK} bytes"),
                    "this violates RFC 2348: use another TFTP server",
                ));
            }
        };
        self.has_begun = true;
        Step::Send(acknowledgement(0))
    }

    fn take(&mut self, bytes: &[u8]) -> Step {
        if bytes.len() > self.block {
            return Step::Fail(hinted(
                format!("the server sent a block larger than the negotiated {} bytes", self.block),
                "use another TFTP server",
            ));
        }
        if self.content.len().saturating_add(bytes.len()) as u64 > DOCUMENT_LIMIT {
            return Step::Fail(anyhow::anyhow!("it is larger than {DOCUMENT_LIMIT} bytes"));
        }
        self.has_begun = true;
        self.content.extend_from_slice(bytes);
        let acknowledgement = acknowledgement(self.next);
        self.next = self.next.wrapping_add(1);
        if bytes.len() < self.block { Step::Finish(acknowledgement) } else { Step::Send(acknowledgement) }
    }
}

fn acknowledgement(number: u16) -> Vec<u8> {
    [ACKNOWLEDGEMENT.to_be_bytes(), number.to_be_bytes()].concat()
}

/// A packet of a server.
#[derive(Debug, PartialEq, Eq)]
enum Packet<'a> {
    Data(u16, &'a [u8]),
    Error(String),
    Options(Block),
}

/// The block size that a server chooses.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    Unsaid,
    Said(usize),
    NoNumber,
}

impl<'a> Packet<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first_chunk()?;
        Some(match u16::from_be_bytes(*kind) {
            DATA => {
                let (number, bytes) = rest.split_first_chunk()?;
                Self::Data(u16::from_be_bytes(*number), bytes)
            }
            ERROR => {
                let text = rest.get(2..)?.split(|letter| *letter == 0).next().unwrap_or_default();
                Self::Error(String::from_utf8_lossy(text).into_owned())
            }
            OPTIONS => Self::Options(block(rest)),
            _ => return None,
        })
    }
}

/// Parses the block size, the only option that the request has. Other options in the answer are ignored.
fn block(options: &[u8]) -> Block {
    let mut words = options.split(|letter| *letter == 0);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        if name.eq_ignore_ascii_case(b"blksize") {
            let number = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            return number.map_or(Block::NoNumber, Block::Said);
        }
    }
    Block::Unsaid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(number: u16, bytes: &[u8]) -> Vec<u8> {
        [&[0, 3], &number.to_be_bytes()[..], bytes].concat()
    }

    fn begun() -> Transfer {
        Transfer::begin("a").0
    }

    fn failure(step: Step) -> String {
        match step {
            Step::Fail(error) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_must_send_the_requested_block() {
        for lie in ["1449", "65464", "7", "0", "-1", "", "99999999999999999999"] {
            let agreed = format!("\0\x06blksize\0{lie}\0");
            let failed = failure(begun().receive(agreed.as_bytes()));
            assert!(failed.contains("maximum of 1448 bytes"), "{lie}: {failed}");
        }
        for good in [
            "\0\x06BLKSIZE\x008\0",
            "\0\x06tsize\x0099999999\0blksize\x001448\0",
            "\0\x06tsize\0-1\0",
            "\0\x06",
        ] {
            assert!(matches!(begun().receive(good.as_bytes()), Step::Send(_)), "{good:?}");
        }
        let mut transfer = begun();
        transfer.receive(b"\0\x06blksize\08\0");
        assert!(failure(transfer.receive(&data(1, &[0; 9]))).contains("larger than the negotiated 8 bytes"));
        assert!(
            failure(begun().receive(&data(1, &[0; 513]))).contains("larger than the negotiated 512 bytes")
        );
    }

    #[test]
    fn a_file_ends_at_the_limit() {
        let mut transfer = begun();
        transfer.receive(b"\0\x06blksize\x001448\0");
        let blocks = DOCUMENT_LIMIT / 1448;
        for number in 1..=blocks {
            assert!(matches!(transfer.receive(&data(number as u16, &[7; 1448])), Step::Send(_)), "{number}");
        }
        let rest = (DOCUMENT_LIMIT % 1448) as usize;
        let last = (blocks + 1) as u16;
        assert!(
            failure(transfer.receive(&data(last, &vec![7; rest + 1]))).contains("larger than 8388608 bytes")
        );
        assert!(matches!(transfer.receive(&data(last, &vec![7; rest])), Step::Finish(_)));
        assert_eq!(transfer.into_content().len() as u64, DOCUMENT_LIMIT);
    }

    #[test]
    fn numbers_of_blocks_begin_anew() {
        let mut transfer = begun();
        transfer.receive(b"\0\x06blksize\08\0");
        for number in (1..=70_000_u32).map(|number| number as u16) {
            assert!(matches!(transfer.receive(&data(number, &[7; 8])), Step::Send(_)), "{number}");
        }
    }

    #[test]
    fn old_and_late_packets_change_nothing() {
        let mut transfer = begun();
        for early in [data(0, b"0"), data(2, b"2"), vec![0, 4, 0, 1], vec![0, 9], vec![], vec![0, 3, 1]] {
            assert!(matches!(transfer.receive(&early), Step::Pass), "{early:?}");
        }
        assert!(matches!(transfer.receive(b"\0\x06blksize\08\0"), Step::Send(_)));
        assert!(matches!(transfer.receive(b"\0\x06blksize\x00512\0"), Step::Pass));
        assert!(matches!(transfer.receive(&data(1, b"12345678")), Step::Send(_)));
        assert!(matches!(transfer.receive(&data(1, b"87654321")), Step::Pass));
        assert!(matches!(transfer.receive(b"\0\x06blksize\x00512\0"), Step::Pass));
        assert!(matches!(transfer.receive(&data(3, b"late")), Step::Pass));
        assert!(matches!(transfer.receive(&data(2, b"9")), Step::Finish(_)));
        assert_eq!(transfer.into_content(), b"123456789");
    }

    #[test]
    fn the_message_of_a_server_ends_at_the_first_zero_byte() {
        let said = failure(begun().receive(b"\0\x05\0\x01\x1b[2J\niguana: done\0more"));
        assert_eq!(said, "the server replied `\u{1b}[2J\niguana: done`");
    }
}
