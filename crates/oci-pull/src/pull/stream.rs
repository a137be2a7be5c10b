//! The pipeline of one layer: from the socket through its digest, the decompressor, and the digest of the uncompressed
//! bytes into the store. Three threads with bounded buffers between them; the compressed layer is never stored.
//!
//! A fourth thread reads the socket. It is not waited for when the pull has failed elsewhere: it ends by itself, at the
//! latest after the stall limit without data.
//!
//! A broken connection is resumed at the byte that was reached; both digests and the unpacker continue.

use super::PullEvent;
use super::blocks::{BlockSender, Blocks, Hashed, block_channel, fill};
use super::compression::{Compression, explain_foreign};
use super::incoming::{Arrival, Incoming};
use super::layers::Wanted;
use super::window;
use crate::retry::{Failure, PullObserver, RetryPolicy};
use crate::source::ImageSource;
use anyhow::Context as _;
use fetch::http::Pace;
use hint::hinted;
use oci_layer::Capacity;
use oci_layer::layer::{LowerDependencies, Work, unpack};
use oci_layer::{Layer, Store};
use oci_reference::digest::{Digest, Hasher};
use std::io::{self, BufRead as _, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Bytes after which a source gets all of its retries again: a TCP window without scaling (RFC 9293). A server that
/// sends a few bytes and closes the connection gets no more attempts than one that sends none.
pub(super) const RENEWED_BY: u64 = 64 << 10;
/// Uncompressed bytes between two checks of the store's capacity.
const ASK_INTERVAL: u64 = 4 << 20;

/// The destination of layers.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) store: &'a Store,
    pub(super) capacity: &'a dyn Capacity,
    /// Layers that are unpacked in parallel.
    pub(super) at_once: usize,
    /// What unpacking all of them may take.
    pub(super) work: &'a Work,
}

/// The sources of a layer: the one that had the manifest, then the others.
pub(super) struct Sources(pub(super) Vec<Arc<dyn ImageSource>>);

impl Sources {
    /// The sources to try after the layer arrived damaged so many times: those that sent it are skipped, if there is
    /// another one.
    fn from(&self, damaged: usize) -> &[Arc<dyn ImageSource>] {
        &self.0[damaged.min(self.0.len().saturating_sub(1))..]
    }
}

/// Fetches, verifies and unpacks one layer. It enters the store only when both of its digests match. A damaged layer is
/// fetched again.
pub(super) fn fetch(
    sources: &Sources,
    into: Target<'_>,
    layer: &Wanted,
    arrived: &AtomicU64,
    observer: &PullObserver<'_>,
) -> anyhow::Result<Arc<Layer>> {
    let mut attempts = RetryPolicy::usual();
    let mut damaged = 0;
    loop {
        let sources = sources.from(damaged);
        match fetch_once(sources, into, layer, arrived, observer) {
            Ok(layer) => return Ok(layer),
            Err(Unfetched::Damaged(error)) if sources.iter().any(|source| source.is_remote()) => {
                attempts.wait_out(Failure::damaged(error), observer)?;
                damaged += 1;
            }
            Err(Unfetched::Damaged(error) | Unfetched::Failed(error)) => return Err(error),
        }
    }
}

/// Why a layer was not fetched.
enum Unfetched {
    /// The received bytes do not match their digest.
    Damaged(anyhow::Error),
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Unfetched {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn fetch_once(
    sources: &[Arc<dyn ImageSource>],
    into: Target<'_>,
    layer: &Wanted,
    arrived: &AtomicU64,
    observer: &PullObserver<'_>,
) -> Result<Arc<Layer>, Unfetched> {
    let incoming = into.store.incoming()?;
    let is_hopeless = AtomicBool::new(false);
    let mut unread = false;
    let (compressed, unpacked) = thread::scope(|scope| {
        let (blocks, packed) = block_channel();
        let (inflated, arriving) = block_channel();
        let inflater = scope.spawn(|| {
            let outcome = inflate(packed, layer.compression, inflated, into);
            outcome.inspect_err(|stopped| stopped.tell(&is_hopeless))
        });
        let unpacker = scope.spawn(|| {
            unpack_counted(arriving, &incoming, layer.compression, into)
                .inspect_err(|stopped| stopped.tell(&is_hopeless))
        });
        let mut download = Download {
            layer,
            arrived,
            hasher: Hasher::new(),
            received: 0,
            blocks,
            is_unread: false,
            is_hopeless: &is_hopeless,
            sender: String::new(),
        };
        let received = download.take_from_any(sources, observer);
        unread = download.is_unread;
        // Closes the channel: the end of the download is the end of the stream.
        let compressed = received.map(|()| download.finish());
        let crashed = |what| Stopped::Stream(anyhow::anyhow!("the {what} crashed"));
        let inflated = inflater.join().unwrap_or_else(|_| Err(crashed("decompressor")));
        let unpacked = unpacker.join().unwrap_or_else(|_| Err(crashed("unpacker")));
        // An error in the decompressor explains one in the unpacker. Each of them may have had the digest to compute.
        let unpacked = inflated.and_then(|digest| {
            let (of_unpacker, lower_dependencies) = unpacked?;
            Ok((digest.or(of_unpacker).context("the unpacked layer has no digest")?, lower_dependencies))
        });
        (compressed, unpacked)
    });
    // A wrong digest explains a failure of the unpacker, not the other way round; a lack of room on this machine
    // explains everything.
    let (digest, sender) = match (compressed, unpacked.as_ref()) {
        (_, Err(Stopped::Here(_))) | (Err(Interrupted::Unpacker), _) => {
            let goes_on = || anyhow::anyhow!("the layer continues after its end");
            return Err(Unfetched::Failed(unpacked.map_or_else(Stopped::into_error, |_| goes_on())));
        }
        (Err(Interrupted::Network(error)), _) => return Err(Unfetched::Failed(error)),
        (Err(Interrupted::TooLong(error)), _) => return Err(Unfetched::Damaged(error)),
        (Ok(received), _) => received,
    };
    let verified = layer.digest.expect("the layer", digest);
    verified.with_context(|| format!("`{sender}` arrived damaged")).map_err(Unfetched::Damaged)?;
    let (digest, lower_dependencies) = unpacked.map_err(Stopped::into_error)?;
    if unread {
        return Err(anyhow::anyhow!("the layer continues after its end").into());
    }
    layer.diff_id.expect("the unpacked layer", digest)?;
    Ok(into.store.admit(layer.diff_id, incoming, lower_dependencies)?)
}

/// Why a layer was not unpacked.
enum Stopped {
    /// There is no room for it, whatever else may be wrong with it.
    Here(anyhow::Error),
    /// Its content is invalid.
    Stream(anyhow::Error),
}

impl Stopped {
    fn tell(&self, is_hopeless: &AtomicBool) {
        is_hopeless.fetch_or(matches!(self, Self::Here(_)), Ordering::Relaxed);
    }

    fn into_error(self) -> anyhow::Error {
        match self {
            Self::Here(error) | Self::Stream(error) => error,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Stream(error.into())
    }
}

/// Why a layer was not received completely.
enum Interrupted {
    /// There is no room for it; the unpacker has the error.
    Unpacker,
    /// It is longer than its manifest says.
    TooLong(anyhow::Error),
    Network(anyhow::Error),
}

/// A layer that is being received.
struct Download<'a> {
    layer: &'a Wanted,
    arrived: &'a AtomicU64,
    hasher: Hasher,
    received: u64,
    blocks: BlockSender,
    /// Whether the unpacker has failed. The rest is received all the same: only the digest shows whether the layer was
    /// damaged in transit or is invalid by itself.
    is_unread: bool,
    /// Whether receiving the rest is pointless.
    is_hopeless: &'a AtomicBool,
    /// The source of the last bytes.
    sender: String,
}

impl Download<'_> {
    /// Receives the whole layer, if need be from several sources. Each is tried once, the last one with retries.
    fn take_from_any(
        &mut self,
        sources: &[Arc<dyn ImageSource>],
        observer: &PullObserver<'_>,
    ) -> Result<(), Interrupted> {
        for (number, source) in (1..).zip(sources) {
            let is_last = number == sources.len();
            let retry = if is_last { RetryPolicy::usual } else { RetryPolicy::none };
            self.sender = source.place_of(self.layer.digest);
            match self.take_from_one(source, retry, observer) {
                Err(Interrupted::Network(error)) if !is_last => {
                    (observer.tell)(PullEvent::Elsewhere { place: source.name(), why: format!("{error:#}") });
                }
                done => return done,
            }
        }
        Err(Interrupted::Network(anyhow::anyhow!("there is no source to fetch it from")))
    }

    /// Receives the rest from one source; the retries are renewed after each [`RENEWED_BY`].
    fn take_from_one(
        &mut self,
        source: &Arc<dyn ImageSource>,
        retry: fn() -> RetryPolicy,
        observer: &PullObserver<'_>,
    ) -> Result<(), Interrupted> {
        let (mut left, pace, beginning) = (retry(), Pace::start(), self.received);
        loop {
            let before = self.received;
            let failure = match self.receive(source, observer) {
                Ok(()) => return Ok(()),
                Err(StreamEnd::Final(interrupted)) => return Err(interrupted),
                Err(StreamEnd::Network(failure)) => failure,
            };
            if self.received - before >= RENEWED_BY {
                left = retry();
            }
            // Connections that keep breaking after a few bytes are no better than a slow one.
            if let Err(slow) = pace.check(self.received - beginning) {
                return Err(Interrupted::Network(failure.error.context(slow)));
            }
            left.wait_out(failure, observer).map_err(Interrupted::Network)?;
        }
    }

    /// Receives until the end, or until the connection breaks. A break after the last byte counts as the end.
    fn receive(
        &mut self,
        source: &Arc<dyn ImageSource>,
        observer: &PullObserver<'_>,
    ) -> Result<(), StreamEnd> {
        let incoming = Incoming::start(source, self.layer, self.received);
        loop {
            let error = match incoming.next(observer.is_cancelled) {
                Arrival::Block(block) => {
                    self.pass_on(block)?;
                    incoming.give_back(self.blocks.take_empty());
                    continue;
                }
                Arrival::Cancelled => {
                    let error = anyhow::anyhow!("stopped because another layer failed");
                    return Err(StreamEnd::Network(Failure::permanent(error)));
                }
                Arrival::Unopened(failure) if self.layer.is_foreign => {
                    return Err(StreamEnd::Network(explain_foreign(failure)));
                }
                Arrival::Unopened(failure) => return Err(StreamEnd::Network(failure)),
                Arrival::End | Arrival::Broken(_) if self.received == self.layer.bytes => return Ok(()),
                Arrival::Broken(error) => error,
                // A server that ended the body too early may send more on a retry.
                Arrival::End => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended the transfer early")
                }
            };
            let broken = anyhow::Error::from(error).context(self.broken());
            let hint = "check the network between this machine and the registry";
            return Err(StreamEnd::Network(hint::attach(broken, hint).into()));
        }
    }

    fn pass_on(&mut self, block: Vec<u8>) -> Result<(), StreamEnd> {
        self.received += block.len() as u64;
        self.arrived.store(self.received, Ordering::Relaxed);
        if self.received > self.layer.bytes {
            let (sender, bytes) = (&self.sender, self.layer.bytes);
            let error = anyhow::anyhow!(
                "the layer is longer than the {bytes} bytes stated in the manifest \
                                 (`{sender}`)"
            );
            return Err(StreamEnd::Final(Interrupted::TooLong(error)));
        }
        self.hasher.update(&block);
        if !self.is_unread && self.blocks.pass_on(block).is_err() {
            self.is_unread = true;
        }
        if self.is_unread && self.is_hopeless.load(Ordering::Relaxed) {
            return Err(StreamEnd::Final(Interrupted::Unpacker));
        }
        Ok(())
    }

    fn broken(&self) -> String {
        format!(
            "the connection was lost after {} of {} bytes of `{}`",
            self.received, self.layer.bytes, self.sender
        )
    }

    fn finish(self) -> (Digest, String) {
        (self.hasher.finish(), self.sender)
    }
}

/// Why a connection ended.
enum StreamEnd {
    Final(Interrupted),
    Network(Failure),
}

/// Whether the decompressor computes the digest of the unpacked layer, too, instead of the unpacker. Of both threads the one
/// with less to do should have it: to inflate a Debian takes 0.84 s by gzip and 0.35 s by zstd, to unpack it 0.6 s, and
/// its digest 0.45 s (`cargo xtask bench pull`).
fn is_hashed_early(compression: Compression) -> bool {
    compression != Compression::Gzip
}

/// Decompresses a layer for the unpacker, by its content, as long as there is room: the kernel reports a full file system,
/// but not that memory runs out. Returns the digest of the uncompressed bytes if that is its task, which depends on the
/// stated compression.
fn inflate(
    mut packed: Blocks,
    stated: Compression,
    inflated: BlockSender,
    into: Target<'_>,
) -> Result<Option<Digest>, Stopped> {
    let mut hasher = is_hashed_early(stated).then(Hasher::new);
    let mut largest_window = 0;
    let mut reader: Box<dyn Read> = match Compression::of_content(packed.fill_buf()?)? {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Zstd => {
            largest_window = window::admitted(packed.fill_buf()?, into.capacity, into.at_once)?;
            let mut decoder = zstd::Decoder::with_buffer(packed)?;
            decoder.window_log_max(largest_window)?;
            Box::new(decoder)
        }
    };
    let mut unasked = 0;
    loop {
        let mut block = inflated.take_empty();
        let filled = fill(&mut block, &mut reader).map_err(|error| window::explain(error, largest_window));
        filled.context("cannot decompress it")?;
        unasked += block.len() as u64;
        if unasked > ASK_INTERVAL {
            unasked = 0;
            if into.capacity.left() == 0 {
                let (full, hint) = into.capacity.full();
                return Err(Stopped::Here(hinted(full, hint)));
            }
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&block);
        }
        // The unpacker has the error.
        if block.is_empty() || inflated.pass_on(block).is_err() {
            return Ok(hasher.map(Hasher::finish));
        }
    }
}

/// Unpacks a layer, and returns the digest of its uncompressed bytes if the decompressor does not have it.
fn unpack_counted(
    mut inflated: Blocks,
    incoming: &Layer,
    compression: Compression,
    into: Target<'_>,
) -> Result<(Option<Digest>, LowerDependencies), Stopped> {
    let root = incoming.directory(Path::new(""))?;
    let explain = |error| explain_full(error, into.capacity);
    if is_hashed_early(compression) {
        return Ok((None, unpack(&mut inflated, root, into.work).map_err(explain)?));
    }
    let mut hashed = Hashed::new(inflated);
    let lower_dependencies = unpack(&mut hashed, root, into.work).map_err(explain)?;
    Ok((Some(hashed.finish()), lower_dependencies))
}

fn explain_full(error: anyhow::Error, capacity: &dyn Capacity) -> Stopped {
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let by_io = cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::StorageFull);
        by_io || cause.downcast_ref() == Some(&rustix::io::Errno::NOSPC)
    };
    if !error.chain().any(is_full) {
        return Stopped::Stream(error);
    }
    let (full, hint) = capacity.full();
    Stopped::Here(hint::attach(error.context(full), hint))
}

#[cfg(test)]
mod tests;
