//! Blocks of a layer on their way between the threads that receive, decompress and unpack it.

use oci_reference::digest::{Digest, Hasher};
use std::io::{self, BufRead, Read};
use std::mem;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

/// Bytes passed on at once, from the network and from the decompressor.
const BLOCK: usize = 256 << 10;
/// Blocks that may be queued between two threads: 1 MiB together with [`BLOCK`].
const BLOCKS_WAITING: usize = 4;
/// A block is passed on after this time, even if it is not full.
const PASS_ON_AFTER: Duration = Duration::from_secs(1);

/// A channel of blocks from one thread to another. Blocks return when they are read: a new one costs a page fault for
/// each of its 64 pages.
pub(super) fn block_channel() -> (BlockSender, Blocks) {
    let (full, arriving) = sync_channel(BLOCKS_WAITING);
    let (back, empty) = channel();
    (BlockSender { full, empty }, Blocks { arriving, back, block: Vec::new(), used: 0 })
}

/// The sending end.
pub(super) struct BlockSender {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

/// The receiver no longer reads.
pub(super) struct ReceiverClosed;

impl BlockSender {
    pub(super) fn take_empty(&self) -> Vec<u8> {
        self.empty.try_recv().unwrap_or_default()
    }

    pub(super) fn pass_on(&self, block: Vec<u8>) -> Result<(), ReceiverClosed> {
        self.full.send(block).map_err(|_| ReceiverClosed)
    }
}

/// Reads until the block is full, the stream ends, or [`PASS_ON_AFTER`] passes; after a failure the block has the bytes
/// before it.
pub(super) fn fill(block: &mut Vec<u8>, reader: &mut impl Read) -> io::Result<()> {
    block.resize(BLOCK, 0);
    let (mut filled, start) = (0, Instant::now());
    let outcome = loop {
        match reader.read(&mut block[filled..]) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                filled += count;
                if filled == block.len() || start.elapsed() >= PASS_ON_AFTER {
                    break Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    block.truncate(filled);
    outcome
}

/// The receiving end, as a reader.
pub(super) struct Blocks {
    arriving: Receiver<Vec<u8>>,
    back: Sender<Vec<u8>>,
    block: Vec<u8>,
    used: usize,
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.block.len() {
            let read = mem::replace(&mut self.block, self.arriving.recv().unwrap_or_default());
            // Ignored: the sending thread may have ended.
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

/// Hashes what is read, in place.
pub(super) struct Hashed {
    inner: Blocks,
    hasher: Hasher,
}

impl Hashed {
    pub(super) fn new(inner: Blocks) -> Self {
        Self { inner, hasher: Hasher::new() }
    }

    pub(super) fn finish(self) -> Digest {
        self.hasher.finish()
    }
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
            assert!(sender.pass_on(block.as_bytes().to_vec()).is_ok());
        }
        let mut text = [0; 8];
        blocks.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello wo");
        // The very first block is new.
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
