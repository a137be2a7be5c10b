//! The socket that a layer comes from, read by a thread of its own: whoever takes the layer in can stop at once, whatever the server
//! does.

use super::blocks::fill;
use super::layers::Wanted;
use crate::retry::{Failure, LOOK_UP_EVERY};
use crate::source::ImageSource;
use oci_reference::digest::Digest;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Blocks that wait for whoever takes them.
const BLOCKS_WAITING: usize = 1;

/// What the socket gives.
pub(super) enum Arrival {
    /// Some bytes.
    Block(Vec<u8>),
    /// The server says that this was all.
    End,
    /// Nothing was sent.
    Unopened(Failure),
    /// Nothing more was sent.
    Broken(io::Error),
    /// Nobody wants it any more.
    Cancelled,
}

/// A blob on its way.
pub(super) struct Incoming {
    arrivals: Receiver<Arrival>,
    empty: Sender<Vec<u8>>,
}

impl Incoming {
    /// From one of its bytes on.
    pub(super) fn start(source: &Arc<dyn ImageSource>, layer: &Wanted, start: u64) -> Self {
        let (sender, arrivals) = sync_channel(BLOCKS_WAITING);
        let (empty, emptied) = channel();
        let (source, digest, bytes) = (Arc::clone(source), layer.digest, layer.bytes);
        let read = {
            let sender = sender.clone();
            move || {
                let end = read(&*source, digest, bytes, start, &sender, &emptied);
                // Nobody may be there any more.
                let _ = sender.send(end);
            }
        };
        if let Err(error) = thread::Builder::new().spawn(read) {
            let _ = sender.try_send(Arrival::Unopened(Failure::permanent(error.into())));
        }
        Self { arrivals, empty }
    }

    /// What comes next.
    pub(super) fn next(&self, is_cancelled: &AtomicBool) -> Arrival {
        while !is_cancelled.load(Ordering::Relaxed) {
            match self.arrivals.recv_timeout(LOOK_UP_EVERY) {
                Ok(arrival) => return arrival,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Arrival::Broken(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Arrival::Cancelled
    }

    /// Lets a block be used again: a new one costs a page fault for each of its 64 pages.
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
        // What came before it broke counts: it need not come again.
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
