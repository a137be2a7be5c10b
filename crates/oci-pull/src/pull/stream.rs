//! One layer on its way: from the socket through its digest, the decompressor, the digest of what was unpacked, and
//! into the store. Three threads with bounded buffers between them; the compressed layer is never kept.
//!
//! A connection that breaks is taken up again at the byte that was reached: both digests and the unpacker go on as if
//! nothing had happened.

use super::PullEvent;
use super::layers::{Compression, Wanted};
use super::window;
use crate::retry::{Failure, PullObserver, RetryPolicy};
use crate::source::ImageSource;
use anyhow::{Context as _, bail};
use fetch::http;
use fetch::http::Pace;
use hint::{WithHint as _, hinted};
use oci_layer::Capacity;
use oci_layer::layer::{LowerDependencies, unpack};
use oci_layer::{Layer, Store};
use oci_reference::digest::{Digest, Hasher};
use std::io::{self, BufRead, Read};
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Bytes handed on at once, from the network and from the decompressor.
const BLOCK: usize = 256 << 10;
/// Blocks that may wait between two threads: 1 MiB together with [`BLOCK`].
const BLOCKS_WAITING: usize = 4;

/// Bytes after which a place gets all of its tries again when the connection breaks: a window of TCP without scaling (RFC
/// 9293). Whoever sends a few bytes and hangs up is asked as often as one who sends none.
const RENEWED_BY: u64 = 64 << 10;
/// Unpacked bytes after which it is asked how much the store can still take.
const ASK_EVERY: u64 = 4 << 20;

/// Where layers go to.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) store: &'a Store,
    pub(super) capacity: &'a dyn Capacity,
    /// Layers that are unpacked side by side.
    pub(super) at_once: usize,
}

/// Where a layer may be had: the place that had the manifest, then the others.
pub(super) struct Sources<'a> {
    pub(super) first: &'a dyn ImageSource,
    pub(super) others: &'a [Box<dyn ImageSource>],
}

impl Sources<'_> {
    fn all(&self) -> Vec<&dyn ImageSource> {
        [self.first].into_iter().chain(self.others.iter().map(AsRef::as_ref)).collect()
    }
}

/// Fetches, verifies and unpacks one layer. It is reachable only when both of its digests are right.
pub(super) fn fetch(
    sources: &Sources<'_>,
    into: Target<'_>,
    layer: &Wanted,
    arrived: &AtomicU64,
    observer: &PullObserver<'_>,
) -> anyhow::Result<Arc<Layer>> {
    let incoming = into.store.incoming()?;
    let (compressed, unpacked) = thread::scope(|scope| {
        let (blocks, packed) = block_channel();
        let (inflated, arriving) = block_channel();
        let inflater = scope.spawn(move || inflate(packed, layer.compression, &inflated, into));
        let unpacker = scope.spawn(|| unpack_counted(arriving, &incoming));
        let mut download = Download { layer, arrived, hasher: Hasher::new(), received: 0, blocks };
        let received = download.take_from_any(sources, observer);
        // The end of the download is the end of the stream.
        let compressed = received.map(|()| download.finish());
        let inflated = inflater.join().unwrap_or_else(|_| bail!("the decompressor crashed"));
        let unpacked = unpacker.join().unwrap_or_else(|_| bail!("the unpacker crashed"));
        // What the decompressor finds wrong explains what the unpacker lacks.
        (compressed, inflated.and(unpacked))
    });
    match (compressed, unpacked) {
        (Ok(digest), unpacked) => {
            // A wrong digest explains a failed unpacking, not the other way round.
            layer.digest.expect("the layer", digest)?;
            let (digest, lower_dependencies) = unpacked?;
            layer.diff_id.expect("the unpacked layer", digest)?;
            Ok(into.store.admit(layer.diff_id, incoming, lower_dependencies))
        }
        (Err(Interrupted::Unpacker), unpacked) => {
            Err(unpacked.err().unwrap_or_else(|| anyhow::anyhow!("the layer goes on behind its end")))
        }
        (Err(Interrupted::Network(error)), _) => Err(error),
    }
}

/// Why not all of a layer was received.
enum Interrupted {
    /// The unpacker has given up; it says why.
    Unpacker,
    Network(anyhow::Error),
}

/// A layer that is being received.
struct Download<'a> {
    layer: &'a Wanted,
    arrived: &'a AtomicU64,
    hasher: Hasher,
    received: u64,
    blocks: BlockSender,
}

impl Download<'_> {
    /// Receives all of it, if need be from several places. Whoever has a successor is asked once; the last one is asked
    /// with retries.
    fn take_from_any(
        &mut self,
        sources: &Sources<'_>,
        observer: &PullObserver<'_>,
    ) -> Result<(), Interrupted> {
        let sources = sources.all();
        for (number, source) in (1..).zip(&sources) {
            let is_last = number == sources.len();
            let retry = if is_last { RetryPolicy::usual } else { RetryPolicy::none };
            match self.take_from_one(*source, retry, observer) {
                Err(Interrupted::Network(error)) if !is_last => {
                    (observer.tell)(PullEvent::Elsewhere { place: source.name(), why: format!("{error:#}") });
                }
                done => return done,
            }
        }
        Err(Interrupted::Network(anyhow::anyhow!("there is no place to fetch it from")))
    }

    /// Receives what is left, with new retry after each [`RENEWED_BY`].
    fn take_from_one(
        &mut self,
        source: &dyn ImageSource,
        retry: fn() -> RetryPolicy,
        observer: &PullObserver<'_>,
    ) -> Result<(), Interrupted> {
        let (mut left, pace, beginning) = (retry(), Pace::start(), self.received);
        loop {
            let before = self.received;
            let failure = match self.receive(source, observer) {
                Ok(()) => return Ok(()),
                Err(StreamEnd::Unpacker) => return Err(Interrupted::Unpacker),
                Err(StreamEnd::Network(failure)) => failure,
            };
            if self.received - before >= RENEWED_BY {
                left = retry();
            }
            // Connections that break again and again, each after a little, are not better than a slow one.
            if let Err(slow) = pace.check(self.received - beginning) {
                return Err(Interrupted::Network(failure.error.context(slow)));
            }
            left.wait_out(failure, observer).map_err(Interrupted::Network)?;
        }
    }

    /// Receives until the end, or until the connection breaks.
    fn receive(&mut self, source: &dyn ImageSource, observer: &PullObserver<'_>) -> Result<(), StreamEnd> {
        let mut body = source.blob(self.layer.digest, self.layer.bytes, self.received)?;
        loop {
            let mut block = self.blocks.take_empty();
            // What came before it broke counts: it need not come again.
            let outcome = fill(&mut block, &mut body);
            let is_end = block.is_empty();
            self.hand_on(block, observer)?;
            outcome
                .map_err(http::broken)
                .with_context(|| self.broken())
                .hint("check the network between this machine and the registry")?;
            if is_end {
                return self.check_length();
            }
        }
    }

    fn hand_on(&mut self, block: Vec<u8>, observer: &PullObserver<'_>) -> Result<(), StreamEnd> {
        if block.is_empty() {
            return Ok(());
        }
        self.received += block.len() as u64;
        self.arrived.store(self.received, Ordering::Relaxed);
        if self.received > self.layer.bytes {
            let error =
                anyhow::anyhow!("the layer is longer than the {} bytes of its manifest", self.layer.bytes);
            return Err(Failure::for_good(error).into());
        }
        if observer.is_cancelled.load(Ordering::Relaxed) {
            return Err(Failure::for_good(anyhow::anyhow!("stopped because another layer failed")).into());
        }
        self.hasher.update(&block);
        self.blocks.hand_on(block).map_err(|ReceiverClosed| StreamEnd::Unpacker)
    }

    /// A server that says "that was all" too early may have more at the next time.
    fn check_length(&self) -> Result<(), StreamEnd> {
        if self.received == self.layer.bytes {
            return Ok(());
        }
        let early = io::Error::new(io::ErrorKind::UnexpectedEof, "the server says that this is all");
        Err(Failure::from(anyhow::Error::from(early).context(self.broken())).into())
    }

    fn broken(&self) -> String {
        format!("the connection broke after {} of {} bytes", self.received, self.layer.bytes)
    }

    fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

/// Why one connection brought no more.
enum StreamEnd {
    Unpacker,
    Network(Failure),
}

impl<E: Into<Failure>> From<E> for StreamEnd {
    fn from(failure: E) -> Self {
        Self::Network(failure.into())
    }
}

/// Decompresses a layer for the unpacker, as long as there is room for it: the kernel says so only where the file system
/// is full, and not where memory is.
fn inflate(
    mut packed: Blocks,
    compression: Compression,
    inflated: &BlockSender,
    into: Target<'_>,
) -> anyhow::Result<()> {
    let mut largest_window = 0;
    let mut reader: Box<dyn Read> = match compression {
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
        filled.context("it cannot be decompressed")?;
        unasked += block.len() as u64;
        if unasked > ASK_EVERY {
            unasked = 0;
            if into.capacity.left() == 0 {
                return Err(hinted(FULL, MORE_MEMORY));
            }
        }
        // The unpacker says itself why it takes no more.
        if block.is_empty() || inflated.hand_on(block).is_err() {
            return Ok(());
        }
    }
}

/// Unpacks a layer, and says what the digest of its unpacked bytes is.
fn unpack_counted(inflated: Blocks, incoming: &Layer) -> anyhow::Result<(Digest, LowerDependencies)> {
    let mut hashed = Hashed { inner: inflated, hasher: Hasher::new() };
    let lower_dependencies = unpack(&mut hashed, incoming.directory(Path::new(""))?).map_err(explain_full)?;
    Ok((hashed.hasher.finish(), lower_dependencies))
}

const FULL: &str = "the memory for images is full";
const MORE_MEMORY: &str = "give the machine more memory, or use a smaller image";

fn explain_full(error: anyhow::Error) -> anyhow::Error {
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let by_io = cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::StorageFull);
        by_io || cause.downcast_ref() == Some(&rustix::io::Errno::NOSPC)
    };
    if !error.chain().any(is_full) {
        return error;
    }
    hint::attach(error.context(FULL), MORE_MEMORY)
}

/// Blocks on their way from one thread to another, and back when they are read: a new one costs a page fault for each
/// of its 64 pages.
fn block_channel() -> (BlockSender, Blocks) {
    let (full, arriving) = sync_channel(BLOCKS_WAITING);
    let (back, empty) = channel();
    (BlockSender { full, empty }, Blocks { arriving, back, block: Vec::new(), used: 0 })
}

/// The sending end.
struct BlockSender {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

/// Nobody reads any more.
struct ReceiverClosed;

impl BlockSender {
    fn take_empty(&self) -> Vec<u8> {
        self.empty.try_recv().unwrap_or_default()
    }

    fn hand_on(&self, block: Vec<u8>) -> Result<(), ReceiverClosed> {
        self.full.send(block).map_err(|_| ReceiverClosed)
    }
}

/// Reads until the block is full or there is no more; after a failure the block holds what came before it.
fn fill(block: &mut Vec<u8>, reader: &mut impl Read) -> io::Result<()> {
    block.resize(BLOCK, 0);
    let mut filled = 0;
    let outcome = loop {
        match reader.read(&mut block[filled..]) {
            Ok(0) => break Ok(()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    block.truncate(filled);
    outcome
}

/// The receiving end, as a reader.
struct Blocks {
    arriving: Receiver<Vec<u8>>,
    back: Sender<Vec<u8>>,
    block: Vec<u8>,
    used: usize,
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.block.len() {
            let read = mem::replace(&mut self.block, self.arriving.recv().unwrap_or_default());
            // Whoever fills blocks may have ended.
            let _ = self.back.send(read);
            self.used = 0;
        }
        Ok(&self.block[self.used..])
    }

    fn consume(&mut self, amount: usize) {
        self.used += amount;
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Hashes what is read, where it lies.
struct Hashed {
    inner: Blocks,
    hasher: Hasher,
}

impl BufRead for Hashed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        let rest = &self.inner.block[self.inner.used..];
        self.hasher.update(&rest[..amount]);
        self.inner.consume(amount);
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_read_as_one_stream() {
        let (sender, mut blocks) = block_channel();
        for block in ["hel", "lo ", "world"] {
            assert!(sender.hand_on(block.as_bytes().to_vec()).is_ok());
        }
        let mut text = [0; 8];
        blocks.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello wo");
        // The first one of all is of nobody.
        assert_eq!([sender.take_empty(), sender.take_empty()], [b"".to_vec(), b"hel".to_vec()]);
        drop(sender);
        let mut rest = String::new();
        blocks.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "rld");
    }

    #[test]
    fn a_block_keeps_what_came_before_a_failure() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let mut block = vec![1; 7];
        assert!(fill(&mut block, &mut b"abc".chain(Broken)).is_err());
        assert_eq!(block, b"abc");
        fill(&mut block, &mut io::repeat(2)).unwrap();
        assert_eq!(block.len(), BLOCK);
        assert!(fill(&mut block, &mut io::empty()).is_ok() && block.is_empty());
    }
}
