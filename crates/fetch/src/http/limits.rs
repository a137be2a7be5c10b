//! How long a body may take. A server that sends a byte now and then is never silent: without these it could keep a boot
//! waiting for ever.

use super::timed_out;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// How long a document may take, from its first byte to its last. Workflows and manifests have some kB; this takes
/// [`super::DOCUMENT_LIMIT`] at 28 kB/s.
pub const DOCUMENT_TIME_LIMIT: Duration = Duration::from_secs(300);

/// How long a large body may be slower than [`LEAST_RATE`]: a registry may have to fetch it from its own upstream.
pub const SLOWNESS_LIMIT: Duration = Duration::from_secs(300);
/// Bytes in a second that a large body has on the average behind that time. Layers come side by side, one for each
/// processor: sixteen of them still get through a line of 512 kbit/s.
pub const LEAST_RATE: u64 = 4 << 10;

/// A body that must be whole within a time.
pub(super) struct Timed<R> {
    pub(super) inner: R,
    pub until: Instant,
    pub limit: Duration,
}

impl<R: Read> Read for Timed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(timed_out(format!("it was not whole within {} s", self.limit.as_secs())));
        }
        self.inner.read(buffer)
    }
}

/// How fast something large comes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    start: Instant,
}

impl Pace {
    /// From now on.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Whether so many bytes are enough by now.
    ///
    /// # Errors
    /// When they are too few, of the kind [`io::ErrorKind::TimedOut`].
    pub fn check(self, received: u64) -> io::Result<()> {
        let seconds = self.start.elapsed().as_secs();
        if received >= least(seconds) {
            return Ok(());
        }
        Err(timed_out(format!(
            "{received} bytes came in {seconds} s; it must be {LEAST_RATE} a second, after {} s",
            SLOWNESS_LIMIT.as_secs()
        )))
    }
}

/// How long so many bytes may take on the whole.
pub fn longest(bytes: u64) -> Duration {
    SLOWNESS_LIMIT + Duration::from_secs(bytes / LEAST_RATE)
}

/// The bytes that must have come after so many seconds.
fn least(seconds: u64) -> u64 {
    seconds.saturating_sub(SLOWNESS_LIMIT.as_secs()).saturating_mul(LEAST_RATE)
}

/// A body that keeps a pace.
pub struct Paced<R> {
    inner: R,
    pace: Pace,
    received: u64,
}

impl<R> Paced<R> {
    /// Starts its time now.
    pub fn new(inner: R) -> Self {
        Self { inner, pace: Pace::start(), received: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pace.check(self.received)?;
        let count = self.inner.read(buffer)?;
        self.received += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_body_ends_and_says_why() {
        for (seconds, expected) in [(0, 0), (300, 0), (301, 4096), (1300, 4_096_000), (u64::MAX, u64::MAX)] {
            assert_eq!(least(seconds), expected, "{seconds}");
        }
        let Some(start) = Instant::now().checked_sub(Duration::from_secs(400)) else { return };
        let pace = Pace { start };
        assert!(pace.check(least(401)).is_ok());
        let mut body = Paced { inner: io::repeat(0), pace, received: 50 };
        let error = body.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().starts_with("50 bytes came in 40"), "{error}");
    }
}
