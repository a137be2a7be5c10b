//! Queries the uncompressed size of layers before they are fetched.

use super::compression::Compression;
use super::layers::Wanted;
use crate::source::ImageSource;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The assumed ratio of uncompressed to compressed bytes where a layer does not state its size, as in Debian's and
/// Fedora's images (measured: 2.4 to 3.4 for gzip, 2.7 to 3.9 for zstd).
const USUAL_RATIO: u64 = 3;
/// Bytes of gzip's last field, the uncompressed length (RFC 1952, section 2.3.1, ISIZE).
const GZIP_TRAILER: u64 = 4;
/// Bytes that show the compression: a header of an archive. The longest header of a zstd frame has 18 (RFC 8878, section
/// 3.1.1: magic number and frame header).
const BEGINNING: u64 = 512;
/// Time limit for the queries; sizes that are unknown by then are guessed. Nothing on the console shows this wait.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Parallel requests. They are small, and only wait for the network.
const AT_ONCE: usize = 8;

/// The uncompressed size of layers, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// The least that it can be.
    pub at_least: u64,
    /// The expected size. Equal to `at_least` if every layer states its size.
    pub about: u64,
}

impl Need {
    /// Whether the size is known and not guessed.
    #[must_use]
    pub fn is_known(self) -> bool {
        self.at_least == self.about
    }

    /// Guesses the size from the compressed bytes.
    pub(super) fn guess(packed: u64) -> Self {
        Self { at_least: packed, about: packed.saturating_mul(USUAL_RATIO) }
    }

    /// Of a layer that states its size. A size below that of the compressed layer is not used: gzip counts modulo 4
    /// GiB, and both formats may have several members, of which one is read.
    fn told(unpacked: u64, packed: u64) -> Self {
        if unpacked < packed { Self::guess(packed) } else { Self { at_least: unpacked, about: unpacked } }
    }

    fn and(self, other: Self) -> Self {
        Self {
            at_least: self.at_least.saturating_add(other.at_least),
            about: self.about.saturating_add(other.about),
        }
    }

    /// Queries each layer with one or two requests of a few bytes. If a query fails, the size is guessed: the pull will report
    /// the failure.
    pub(super) fn ask(source: &dyn ImageSource, layers: &[&Wanted]) -> Self {
        Self::ask_until(Instant::now() + TIME_LIMIT, source, layers)
    }

    fn ask_until(until: Instant, source: &dyn ImageSource, layers: &[&Wanted]) -> Self {
        let next = AtomicUsize::new(0);
        let sum = Mutex::new(Self::default());
        thread::scope(|scope| {
            for _ in 0..layers.len().min(AT_ONCE) {
                scope.spawn(|| {
                    while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let has_time = Instant::now() < until;
                        let need =
                            if has_time { Self::of_layer(source, layer) } else { Self::guess(layer.bytes) };
                        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                        *sum = sum.and(need);
                    }
                });
            }
        });
        sum.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_layer(source: &dyn ImageSource, layer: &Wanted) -> Self {
        let part = |start, count| source.part(layer.digest, layer.bytes, start, count).ok().flatten();
        // By its content, as it will be unpacked.
        let Some(beginning) = part(0, layer.bytes.min(BEGINNING)) else { return Self::guess(layer.bytes) };
        let unpacked = match Compression::of_content(&beginning) {
            Ok(Compression::None) => Some(layer.bytes),
            Ok(Compression::Gzip) => {
                let trailer = part(layer.bytes.saturating_sub(GZIP_TRAILER), GZIP_TRAILER);
                trailer.and_then(|trailer| gzip(&trailer))
            }
            Ok(Compression::Zstd) => zstd(&beginning),
            Err(_) => None,
        };
        unpacked.map_or_else(|| Self::guess(layer.bytes), |unpacked| Self::told(unpacked, layer.bytes))
    }
}

fn gzip(trailer: &[u8]) -> Option<u64> {
    Some(u32::from_le_bytes(trailer.try_into().ok()?).into())
}

fn zstd(header: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(header).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Failure;
    use fetch::http::Deadline;
    use flate2::write::GzEncoder;
    use oci_reference::digest::Digest;
    use std::io::{Read, Write as _};

    const CONTENT: &[u8] = &[b'x'; 100_000];

    #[test]
    fn the_size_is_read_from_the_gzip_trailer() {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(CONTENT).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(gzip(&packed[packed.len() - 4..]), Some(100_000));
        assert_eq!(gzip(&[1, 2]), None);
    }

    #[test]
    fn the_size_is_read_from_the_zstd_header_if_present() {
        let known = zstd::bulk::compress(CONTENT, 1).unwrap();
        assert_eq!(zstd(&known[..18]), Some(100_000));
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        CONTENT.chunks(70_000).for_each(|part| encoder.write_all(part).unwrap());
        let streamed = encoder.finish().unwrap();
        assert_eq!(zstd(&streamed[..18]), None);
        assert_eq!(zstd(b"no zstd"), None);
    }

    /// A source of layers that state a size of a thousand bytes.
    struct Asked(AtomicUsize);

    impl ImageSource for Asked {
        fn name(&self) -> String {
            "asked".into()
        }

        fn manifest(&self, _: &str, _: Deadline) -> Result<Vec<u8>, Failure> {
            unreachable!("only parts are asked for")
        }

        fn document(&self, _: Digest, _: Deadline) -> Result<Vec<u8>, Failure> {
            unreachable!("only parts are asked for")
        }

        fn blob(&self, _: Digest, _: u64, _: u64) -> Result<Box<dyn Read + '_>, Failure> {
            unreachable!("only parts are asked for")
        }

        fn part(&self, _: Digest, _: u64, start: u64, _: u64) -> Result<Option<Vec<u8>>, Failure> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let beginning = vec![0x1f, 0x8b];
            Ok(Some(if start == 0 { beginning } else { 1000_u32.to_le_bytes().into() }))
        }
    }

    /// With 500 layers and each answer as slow as allowed, this kept a boot for hours.
    #[test]
    fn fetching_layers_has_a_time_limit() {
        let digest = Digest::of(b"layer");
        let layer =
            Wanted { digest, diff_id: digest, compression: Compression::Gzip, is_foreign: false, bytes: 100 };
        let asked = Asked(AtomicUsize::new(0));
        let need = Need::ask_until(Instant::now(), &asked, &[&layer, &layer]);
        assert_eq!((need, asked.0.load(Ordering::Relaxed)), (Need::guess(200), 0));
        let need = Need::ask(&asked, &[&layer, &layer]);
        assert_eq!((need, asked.0.load(Ordering::Relaxed)), (Need::told(2000, 200), 4));
    }

    #[test]
    fn an_implausible_size_is_an_estimate() {
        assert_eq!(Need::told(100, 40), Need { at_least: 100, about: 100 });
        // A second member of gzip, or more than 4 GiB.
        assert_eq!(Need::told(7, 40), Need { at_least: 40, about: 120 });
        assert!(Need::told(40, 40).is_known() && !Need::guess(40).is_known());
        let sum = Need::guess(1).and(Need::told(5, 2));
        assert_eq!(sum, Need { at_least: 6, about: 8 });
    }
}
