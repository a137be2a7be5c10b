//! What can happen to the bytes of an answer on their way.

use rustix::net::sockopt::set_socket_linger;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::Duration;

/// Bytes that are passed on at once where it matters: a few packets.
const BLOCK: usize = 8 << 10;

/// Bytes that arrive twice with [`Impairment::Duplicate`].
const TWICE: usize = 512;

/// An impairment of the network. Offsets count from the first byte of the answer, head included, unless stated
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impairment {
    /// The first byte comes late.
    Delay(Duration),
    /// Blocks come after pauses of different lengths, at most this long.
    Jitter(Duration),
    /// At most so many bytes come in a second.
    Rate(usize),
    /// The connection is closed after this number of bytes.
    Cut(usize),
    /// The connection is reset after this number of bytes.
    Reset(usize),
    /// The server's direction is closed after this number of bytes, and the client's stays open.
    HalfClose(usize),
    /// After this number of bytes nothing comes any more.
    Stall(usize),
    /// A bit at this offset of the body is changed.
    Damage(usize),
    /// Some bytes from this offset of the body on come twice.
    Duplicate(usize),
}

impl Impairment {
    /// Passes on an answer, impaired.
    pub(super) fn carry(self, head: &[u8], mut body: impl Read, client: &mut TcpStream) -> io::Result<()> {
        let mut answer = head.chain(&mut body);
        match self {
            Self::Delay(time) => {
                sleep(time);
                io::copy(&mut answer, client).map(drop)
            }
            Self::Jitter(longest) => {
                in_blocks(answer, client, |number| longest * u32::from(number.wrapping_mul(37) % 8) / 8)
            }
            Self::Rate(bytes) => {
                let pause = Duration::from_secs_f64(BLOCK as f64 / bytes as f64);
                in_blocks(answer, client, |_| pause)
            }
            Self::Cut(at) => first(&mut answer, at, client),
            Self::Reset(at) => {
                first(&mut answer, at, client)?;
                // With this option, closing the connection resets it (socket(7), `SO_LINGER`).
                Ok(set_socket_linger(client, Some(Duration::ZERO))?)
            }
            Self::HalfClose(at) => {
                first(&mut answer, at, client)?;
                client.shutdown(Shutdown::Write)?;
                until_closed(client)
            }
            Self::Stall(at) => {
                first(&mut answer, at, client)?;
                until_closed(client)
            }
            Self::Damage(at) => {
                first(&mut answer, head.len() + at, client)?;
                let mut byte = [0];
                answer.read_exact(&mut byte)?;
                client.write_all(&[byte[0] ^ 1])?;
                io::copy(&mut answer, client).map(drop)
            }
            Self::Duplicate(at) => {
                first(&mut answer, head.len() + at, client)?;
                let mut bytes = Vec::new();
                (&mut answer).take(TWICE as u64).read_to_end(&mut bytes)?;
                client.write_all(&bytes.repeat(2))?;
                io::copy(&mut answer, client).map(drop)
            }
        }
    }
}

fn first(answer: &mut impl Read, bytes: usize, client: &mut TcpStream) -> io::Result<()> {
    io::copy(&mut answer.take(bytes as u64), client).map(drop)
}

fn in_blocks(
    mut answer: impl Read,
    client: &mut TcpStream,
    pause: impl Fn(u8) -> Duration,
) -> io::Result<()> {
    for number in (0..=u8::MAX).cycle() {
        let mut block = Vec::new();
        if (&mut answer).take(BLOCK as u64).read_to_end(&mut block)? == 0 {
            break;
        }
        sleep(pause(number));
        client.write_all(&block)?;
    }
    Ok(())
}

/// Waits until the client closes the connection.
fn until_closed(client: &mut TcpStream) -> io::Result<()> {
    io::copy(client, &mut io::sink()).map(drop)
}
