//! Questions by UDP that are repeated until an answer comes, as DHCP's are.

use super::warnings::Warnings;
use anyhow::{Context as _, bail};
use dhcp::{LARGEST_MESSAGE, Unanswered};
use retry::Schedule;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Messages that belong together. An answer to any of them counts, however late it comes: a server may need longer than
/// the client waits for one message.
pub(super) struct Transaction<'a> {
    socket: &'a UdpSocket,
    warnings: &'a Warnings<'a>,
    begin: Instant,
}

impl<'a> Transaction<'a> {
    pub(super) fn begin(socket: &'a UdpSocket, warnings: &'a Warnings<'a>) -> Self {
        Self { socket, warnings, begin: Instant::now() }
    }

    /// Asks again and again, with the pauses and the total limit of `schedule`, until an answer comes. `question` makes a
    /// message from the time since the transaction began.
    pub(super) fn ask<T>(
        &self,
        to: SocketAddr,
        schedule: Schedule,
        question: impl Fn(Duration) -> Vec<u8>,
        read: impl Fn(&[u8]) -> Result<T, Unanswered>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        for tried in 1.. {
            let left = schedule.total.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            self.socket.send_to(&question(self.begin.elapsed()), to).context("cannot send")?;
            if let Some(answer) = self.await_answer(schedule.pause(tried).min(left), &read)? {
                return Ok(answer);
            }
        }
        bail!("no response within {} s", schedule.total.as_secs())
    }

    fn await_answer<T>(
        &self,
        wait: Duration,
        read: impl Fn(&[u8]) -> Result<T, Unanswered>,
    ) -> anyhow::Result<Option<T>> {
        let start = Instant::now();
        // One byte more than allowed, to detect messages that are too large.
        let mut buffer = [0; LARGEST_MESSAGE + 1];
        loop {
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let (packet, from) = match self.socket.recv_from(&mut buffer) {
                Ok((count, from)) => (buffer.get(..count).unwrap_or_default(), from),
                Err(error) if is_transient(error.kind()) => continue,
                Err(error) => return Err(error).context("cannot receive"),
            };
            match read(packet) {
                Ok(answer) => return Ok(Some(answer)),
                Err(Unanswered::NotForUs) => {}
                Err(why) => self.warnings.make(from, &why),
            }
        }
    }
}

/// Whether to retry at once after this socket error.
pub(super) fn is_transient(kind: ErrorKind) -> bool {
    [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&kind)
}
