//! Questions by UDP that are repeated until an answer comes, as DHCP's are.

use super::channel::Channel;
use super::warnings::Warnings;
use anyhow::{Context as _, bail};
use dhcp::Unanswered;
use retry::Schedule;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Messages that belong together. An answer to any of them counts, however late it comes: a server may need longer than
/// the client waits for one message.
pub(super) struct Transaction<'a> {
    channel: &'a Channel,
    warnings: &'a Warnings<'a>,
    begin: Instant,
}

impl<'a> Transaction<'a> {
    pub(super) fn begin(channel: &'a Channel, warnings: &'a Warnings<'a>) -> Self {
        Self { channel, warnings, begin: Instant::now() }
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
            self.channel.send(&question(self.begin.elapsed()), to).context("cannot send")?;
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
        loop {
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            let answer = |from, message: &[u8]| match read(message) {
                Ok(answer) => Some(answer),
                Err(Unanswered::NotForUs) => None,
                Err(why) => {
                    self.warnings.make(from, &why);
                    None
                }
            };
            match self.channel.receive(left, answer) {
                Ok(None) => {}
                Ok(answer) => return Ok(answer),
                Err(error) if is_transient(error.kind()) => {}
                Err(error) => return Err(error).context("cannot receive"),
            }
        }
    }
}

/// Whether to retry at once after this socket error.
pub(super) fn is_transient(kind: ErrorKind) -> bool {
    [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&kind)
}
