//! Time limits for bodies. A server that sends a byte now and then never reaches the stall limit: without these limits
//! it could block a boot forever.

use super::explain::{broken, timed_out};
use std::io::{self, Read};
use std::time::{Duration, Instant};
use ureq::Body;
use ureq::http::Response;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport, time};

/// Time limit for a document, from the DNS lookup to its last byte. Workflows and manifests have some kB; at 28 kB/s
/// this is enough for [`super::DOCUMENT_LIMIT`].
pub const DOCUMENT_TIME_LIMIT: Duration = Duration::from_secs(300);

/// How long a large body may be slower than [`LEAST_RATE`]: a registry may have to fetch it from its own upstream.
pub const SLOWNESS_LIMIT: Duration = Duration::from_secs(300);
/// The least average rate of a large body after that time, in bytes per second. Layers are downloaded in parallel, one
/// for each processor: sixteen of them are still possible over a line of 512 kbit/s.
pub const LEAST_RATE: u64 = 4 << 10;

/// Interim answers to one request. A server sends one or two, a proxy perhaps one every few seconds while it waits.
const INTERIM_LIMIT: usize = 100;

/// A point in time by which something must have ended, and the length of the limit that it came from, which messages
/// name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    until: Instant,
    limit: Duration,
}

impl Deadline {
    /// The deadline that is `limit` from now.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self { until: Instant::now() + limit, limit }
    }

    /// The time that is left.
    #[must_use]
    pub fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// The whole limit, counted from its start.
    #[must_use]
    pub fn limit(self) -> Duration {
        self.limit
    }

    /// The error when the deadline has passed.
    pub(super) fn passed(self) -> io::Error {
        timed_out(format!("the transfer did not finish within {} s", self.limit.as_secs()))
    }
}

/// The properties of a request that are kept with its answer.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) url: String,
    pub(super) deadline: Deadline,
}

impl Request {
    pub(super) fn of(response: &Response<Body>) -> Self {
        let unknown = || Self { url: String::new(), deadline: Deadline::within(DOCUMENT_TIME_LIMIT) };
        response.extensions().get().cloned().unwrap_or_else(unknown)
    }
}

/// A body that must be complete by a deadline.
pub(super) struct Timed<R> {
    pub(super) inner: R,
    pub(super) deadline: Deadline,
}

impl<R: Read> Read for Timed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.deadline.left().is_zero() {
            return Err(self.deadline.passed());
        }
        self.inner.read(buffer).map_err(|error| broken(error, self.deadline))
    }
}

/// The pace of a large transfer.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    start: Instant,
}

impl Pace {
    /// Starts to measure now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Checks whether `received` bytes are enough by now.
    ///
    /// # Errors
    /// When they are too few, of the kind [`io::ErrorKind::TimedOut`].
    pub fn check(self, received: u64) -> io::Result<()> {
        let seconds = self.start.elapsed().as_secs();
        if received >= least(seconds) {
            return Ok(());
        }
        Err(timed_out(format!(
            "received only {received} bytes in {seconds} s; after {} s the minimum is {LEAST_RATE} bytes \
             per second",
            SLOWNESS_LIMIT.as_secs()
        )))
    }
}

/// The longest time in which `bytes` bytes may arrive.
pub fn longest(bytes: u64) -> Duration {
    SLOWNESS_LIMIT + Duration::from_secs(bytes / LEAST_RATE)
}

/// The bytes that must have arrived after so many seconds.
fn least(seconds: u64) -> u64 {
    seconds.saturating_sub(SLOWNESS_LIMIT.as_secs()).saturating_mul(LEAST_RATE)
}

/// A body that must keep a pace.
pub struct Paced<R> {
    inner: R,
    deadline: Deadline,
    pace: Pace,
    received: u64,
}

impl<R> Paced<R> {
    /// Starts to measure now; `deadline` is that of its request.
    pub fn new(inner: R, deadline: Deadline) -> Self {
        Self { inner, deadline, pace: Pace::start(), received: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pace.check(self.received)?;
        let count = self.inner.read(buffer).map_err(|error| broken(error, self.deadline))?;
        self.received += count as u64;
        Ok(count)
    }
}

/// Makes connections keep a pace, see [`PacedTransport`].
#[derive(Debug)]
pub(super) struct PacedConnector;

impl<In: Transport> Connector<In> for PacedConnector {
    type Out = PacedTransport<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        inner: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(inner.map(PacedTransport::new))
    }
}

/// A connection that must keep a pace in all bytes it receives, not only those of a body. The time limit of a body
/// follows from the size that a manifest claims, and its framing can arrive byte by byte during all that time.
#[derive(Debug)]
pub(super) struct PacedTransport<T> {
    inner: T,
    /// Counted since the last request.
    pace: Pace,
    received: u64,
    /// Interim answers to this request so far; `None` after the head of the final one has begun.
    interim: Option<usize>,
}

impl<T: Transport> PacedTransport<T> {
    fn new(inner: T) -> Self {
        Self { inner, pace: Pace::start(), received: 0, interim: Some(0) }
    }

    /// Drops interim answers (RFC 9110, section 15.2: "A client MUST be able to parse one or more 1xx responses received
    /// prior to a final response"). ureq counts them together with what follows as one head, which is then too large.
    fn drop_interim(&mut self) -> Result<(), ureq::Error> {
        while let Some(count) = self.interim {
            match Head::at(self.inner.buffers().input()) {
                Head::Unfinished => return Ok(()),
                Head::Final => self.interim = None,
                Head::Interim(_) if count == INTERIM_LIMIT => {
                    let message = format!("it sent {INTERIM_LIMIT} interim responses and no final one");
                    return Err(ureq::Error::Io(io::Error::new(io::ErrorKind::InvalidData, message)));
                }
                Head::Interim(bytes) => {
                    self.interim = Some(count + 1);
                    self.inner.buffers().input_consume(bytes);
                }
            }
        }
        Ok(())
    }
}

/// What an answer begins with.
enum Head {
    /// An interim answer of so many bytes.
    Interim(usize),
    Final,
    /// More bytes must come before it is known.
    Unfinished,
}

impl Head {
    fn at(input: &[u8]) -> Self {
        let Some(status) = input.get(..12) else { return Self::Unfinished };
        // 101 is final for us: nobody asks for another protocol.
        if !status.starts_with(b"HTTP/1.1 1") || status.ends_with(b"101") {
            return Self::Final;
        }
        let end = input.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        end.map_or(Self::Unfinished, |end| Self::Interim(end + 4))
    }
}

impl<T: Transport> Transport for PacedTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        (self.pace, self.received, self.interim) = (Pace::start(), 0, Some(0));
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        loop {
            self.pace.check(self.received)?;
            let before = self.inner.buffers().input().len();
            let outcome = self.inner.await_input(at_most(timeout, SLOWNESS_LIMIT));
            let has_come = if self.inner.is_tls() { outcome.map_err(cut_off) } else { outcome }?;
            let after = self.inner.buffers().input().len();
            self.received += after.saturating_sub(before) as u64;
            self.drop_interim()?;
            if !has_come || !self.inner.buffers().input().is_empty() {
                return Ok(has_come);
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Reports a TLS session that ended without `close_notify` as an error. ureq takes such an end for the end of an answer
/// without a length, and anyone on the network path can close the connection (RFC 8446, section 6.1).
fn cut_off(error: ureq::Error) -> ureq::Error {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        ureq::Error::Io(error)
            if matches!(error.kind(), UnexpectedEof | ConnectionAborted | ConnectionReset) =>
        {
            ureq::Error::Io(io::Error::new(BrokenPipe, "the connection was cut off"))
        }
        other => other,
    }
}

/// Limits the wait for one read: a TLS record cannot be read before it is complete.
fn at_most(timeout: NextTimeout, limit: Duration) -> NextTimeout {
    match timeout.after {
        time::Duration::Exact(after) if after <= limit => timeout,
        _ => NextTimeout { after: limit.into(), reason: ureq::Timeout::RecvBody, ..timeout },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;
    use crate::http::testing::serve;
    use crate::tls::Roots;
    use std::sync::{Arc, Mutex};
    use ureq::unversioned::transport::LazyBuffers;

    /// A connection that receives ten bytes at a time, and records the timeouts it is given.
    #[derive(Debug)]
    struct Dripping(LazyBuffers, Arc<Mutex<Vec<time::Duration>>>);

    impl Transport for Dripping {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.0
        }

        fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), ureq::Error> {
            Ok(())
        }

        fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
            self.1.lock().unwrap().push(timeout.after);
            self.0.input_append_buf()[..10].fill(b'x');
            self.0.input_appended(10);
            Ok(true)
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    /// Whatever size a manifest claims for a layer: bytes that are not part of the body cannot arrive one at a time for
    /// days.
    #[test]
    fn a_connection_keeps_its_pace_outside_bodies() {
        let Some(start) = Instant::now().checked_sub(Duration::from_secs(400)) else { return };
        let waits = Arc::<Mutex<Vec<_>>>::default();
        let inner = Dripping(LazyBuffers::new(100, 100), Arc::clone(&waits));
        let mut connection = PacedTransport::new(inner);
        let days = NextTimeout { after: Duration::from_secs(1 << 20).into(), ..NextTimeout::default() };
        let soon = NextTimeout { after: Duration::from_secs(30).into(), ..NextTimeout::default() };
        for timeout in [days, soon, NextTimeout::default()] {
            assert!(connection.await_input(timeout).unwrap());
        }
        assert_eq!(connection.received, 30);
        let limits = [SLOWNESS_LIMIT, Duration::from_secs(30), SLOWNESS_LIMIT].map(time::Duration::from);
        assert_eq!(*waits.lock().unwrap(), limits);
        connection.pace = Pace { start };
        let error = connection.await_input(days).unwrap_err();
        assert!(error.to_string().contains("received only 30 bytes in 40"), "{error}");
        assert!(
            retry::Failure::from(anyhow::Error::from(match error {
                ureq::Error::Io(error) => error,
                other => panic!("{other}"),
            }))
            .is_transient()
        );
        connection.transmit_output(1, soon).unwrap();
        assert!(connection.await_input(days).is_ok(), "the next request has a time of its own");
    }

    /// What a client gets from a server that sends this before an answer with a large body.
    fn after(interim: &str) -> Result<usize, String> {
        let body = vec![b'x'; 300_000];
        let head = format!("{interim}HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let (address, served) = serve([head.as_bytes(), &body].concat());
        let client = Client::new(&Roots::default());
        let fetched = client.fetch(&format!("http://{address}/x"), Deadline::within(DOCUMENT_TIME_LIMIT));
        served.join().unwrap();
        fetched.map(|document| document.len()).map_err(|failure| format!("{:#}", failure.error))
    }

    #[test]
    fn interim_responses_before_a_large_body_are_skipped() {
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n";
        for interim in ["", hints, "HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 100 Continue\r\nx: y\r\n\r\n"]
        {
            assert_eq!(after(interim), Ok(300_000), "{interim}");
        }
        assert_eq!(after(&hints.repeat(INTERIM_LIMIT)), Ok(300_000));
        let told = after(&hints.repeat(INTERIM_LIMIT + 1)).unwrap_err();
        assert!(told.contains("100 interim responses and no final one"), "{told}");
    }

    #[test]
    fn a_slow_body_ends_with_a_reason() {
        for (seconds, expected) in [(0, 0), (300, 0), (301, 4096), (1300, 4_096_000), (u64::MAX, u64::MAX)] {
            assert_eq!(least(seconds), expected, "{seconds}");
        }
        let Some(start) = Instant::now().checked_sub(Duration::from_secs(400)) else { return };
        let pace = Pace { start };
        assert!(pace.check(least(401)).is_ok());
        let mut body =
            Paced { inner: io::repeat(0), deadline: Deadline::within(SLOWNESS_LIMIT), pace, received: 50 };
        let error = body.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().starts_with("received only 50 bytes in 40"), "{error}");
    }
}
