//! A name server that answers as a test wants.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes before the question (RFC 1035, section 4.1.1).
pub const HEAD: usize = 12;

/// A pointer to the name in the question.
pub const ASKED: &[u8] = &[0xc0, HEAD as u8];

/// Flags of an answer without an error.
pub const FOUND: u16 = 0x8180;

/// The type of an IPv4 address.
pub const A: u16 = 1;

/// How often a server looks whether it should end.
const LOOK_UP_INTERVAL: Duration = Duration::from_millis(100);

/// The answer to `question` with these flags and records.
pub fn answer(question: &[u8], flags: u16, count: u16, records: &[u8]) -> Vec<u8> {
    let end = HEAD + question[HEAD..].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
    let mut answer = question[..end].to_vec();
    answer[2..4].copy_from_slice(&flags.to_be_bytes());
    answer[6..8].copy_from_slice(&count.to_be_bytes());
    answer[8..12].fill(0);
    [&answer[..], records].concat()
}

/// A record for a name, with its type and data (RFC 1035, section 4.1.3).
pub fn record(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    [name, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 9], &length.to_be_bytes(), data].concat()
}

/// The answer that every name is on loopback, and has no IPv6 address.
pub fn loopback(question: &[u8]) -> Vec<u8> {
    match question.get(question.len().saturating_sub(4)..) {
        Some([0, 1, ..]) => answer(question, FOUND, 1, &record(ASKED, A, &[127, 0, 0, 1])),
        _ => answer(question, FOUND, 0, &[]),
    }
}

/// A running server on an address of loopback; stopped when dropped.
pub struct NameServer {
    closing: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Serves on port 53 of `address`. `rule` gets the time since the start, and a question.
    pub fn start(
        address: Ipv4Addr,
        rule: impl Fn(Duration, &[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<NameServer> {
        let socket = UdpSocket::bind((address, 53)).with_context(|| format!("port 53 of {address}"))?;
        socket.set_read_timeout(Some(LOOK_UP_INTERVAL))?;
        let (closing, start) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let server = std::thread::spawn({
            let closing = closing.clone();
            move || {
                let mut question = [0; 512];
                while !closing.load(Ordering::SeqCst) {
                    let Ok((length, client)) = socket.recv_from(&mut question) else { continue };
                    if let Some(answer) = rule(start.elapsed(), &question[..length]) {
                        socket.send_to(&answer, client).ok();
                    }
                }
            }
        });
        Ok(NameServer { closing, server: Some(server) })
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        if let Some(server) = self.server.take() {
            server.join().ok();
        }
    }
}
