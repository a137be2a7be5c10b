//! Reads the socket of a layer in a thread of its own, so that the receiver can stop at once, whatever the server does.

use super::blocks::fill;
use super::layers::Wanted;
use crate::retry::{Failure, LOOK_UP_INTERVAL};
use crate::source::ImageSource;
use oci_reference::digest::Digest;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Blocks that may be queued.
const BLOCKS_WAITING: usize = 1;

/// What arrives from the socket.
pub(super) enum Arrival {
    /// Some bytes.
    Block(Vec<u8>),
    /// The server ended the body.
    End,
    /// The request failed before the body.
    Unopened(Failure),
    /// The connection broke.
    Broken(io::Error),
    /// The pull was cancelled.
    Cancelled,
}

/// A blob that is being received.
pub(super) struct Incoming {
    arrivals: Receiver<Arrival>,
    empty: Sender<Vec<u8>>,
}

impl Incoming {
    /// Starts to receive a blob from the given offset.
    pub(super) fn start(source: &Arc<dyn ImageSource>, layer: &Wanted, start: u64) -> Self {
        let (sender, arrivals) = sync_channel(BLOCKS_WAITING);
        let (empty, emptied) = channel();
        let (source, digest, bytes) = (Arc::clone(source), layer.digest, layer.bytes);
        let read = {
            let sender = sender.clone();
            move || {
                let end = read(&*source, digest, bytes, start, &sender, &emptied);
                // Ignored: the receiver may have stopped.
                let _ = sender.send(end);
            }
        };
        if let Err(error) = thread::Builder::new().spawn(read) {
            let _ = sender.try_send(Arrival::Unopened(Failure::permanent(error.into())));
        }
        Self { arrivals, empty }
    }

    /// The next arrival.
    pub(super) fn next(&self, is_cancelled: &AtomicBool) -> Arrival {
        while !is_cancelled.load(Ordering::Relaxed) {
            match self.arrivals.recv_timeout(LOOK_UP_INTERVAL) {
                Ok(arrival) => return arrival,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Arrival::Broken(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Arrival::Cancelled
    }

    /// Returns a block for reuse: a new one costs a page fault for each of its 64 pages.
    pub(super) fn give_back(&self, block: Vec<u8>) {
        if block.capacity() > 0 {
            let _ = self.empty.send(block);
        }
    }
}

fn read(
    source: &dyn ImageSource,
    digest: Digest,
    bytes: u64,
    start: u64,
    sender: &SyncSender<Arrival>,
    emptied: &Receiver<Vec<u8>>,
) -> Arrival {
    let mut body = match source.blob(digest, bytes, start) {
        Ok(body) => body,
        Err(failure) => return Arrival::Unopened(failure),
    };
    loop {
        let mut block = emptied.try_recv().unwrap_or_default();
        // Bytes before a failure are kept: they need not be fetched again.
        let outcome = fill(&mut block, &mut body);
        let is_end = block.is_empty();
        if !is_end && sender.send(Arrival::Block(block)).is_err() {
            return Arrival::Cancelled;
        }
        match outcome {
            Err(error) => return Arrival::Broken(error),
            Ok(()) if is_end => return Arrival::End,
            Ok(()) => {}
        }
    }
}
