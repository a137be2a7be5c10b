//! The memory that decompressing a zstd layer takes: its window (RFC 8878, section 3.1.1.1.2).

use hint::hinted;
use oci_layer::Capacity;
use std::io;

/// Bytes of a window that are accepted whatever memory there is: "it is recommended for decoders to support a value of
/// at least 8 MB" (RFC 8878, section 3.1.1.1.2).
const USUAL: u64 = 8 << 20;
/// The largest window in bytes: that of libzstd's highest level, and the largest that its programs accept by default
/// (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`).
const LIMIT: u64 = 128 << 20;
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// The base-2 logarithm of the largest window that there is room for while `at_once` layers are unpacked in parallel.
///
/// # Errors
/// When the layer's first frame, whose first bytes are `beginning`, has a larger one.
pub(super) fn admitted(beginning: &[u8], capacity: &dyn Capacity, at_once: usize) -> anyhow::Result<u32> {
    let room = (capacity.left() / at_once.max(1) as u64).clamp(USUAL, LIMIT);
    match of_frame(beginning) {
        Some(window) if window > LIMIT => Err(too_large(&mebibytes(window), LIMIT)),
        Some(window) if window > room => Err(too_large(&mebibytes(window), room)),
        _ => Ok(room.ilog2()),
    }
}

/// Explains the decompressor's error for a later frame with a larger window than the first.
pub(super) fn explain(error: io::Error, admitted: u32) -> anyhow::Error {
    // libzstd's text of ZSTD_error_frameParameter_windowTooLarge; its bindings do not return the code.
    if error.to_string().contains("requires too much memory") {
        return too_large("an unknown size", 1 << admitted);
    }
    error.into()
}

fn too_large(window: &str, room: u64) -> anyhow::Error {
    hinted(
        format!("decompressing it needs a window of {window}; the limit is {}", mebibytes(room)),
        "give the machine more memory, or push the image with zstd at level 19 or lower, or with gzip",
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// The window of a frame, from its header; `None` if the bytes are not a header.
fn of_frame(header: &[u8]) -> Option<u64> {
    let (magic, rest) = header.split_at_checked(4)?;
    let (descriptor, rest) = rest.split_first()?;
    if magic != MAGIC {
        return None;
    }
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let window = rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single-segment frame: the window is the whole content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let (length, more) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let mut size = [0; 8];
    size[..length].copy_from_slice(rest.get(dictionary..dictionary + length)?);
    u64::from_le_bytes(size).checked_add(more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    struct Room(u64);

    impl Capacity for Room {
        fn left(&self) -> u64 {
            self.0
        }

        fn stretch(&self) {}
    }

    fn packed(log: u32) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        (0..100).for_each(|_| encoder.write_all(&[7; 70_000]).unwrap());
        encoder.finish().unwrap()
    }

    #[test]
    fn a_window_is_taken_up_to_its_limit_and_to_the_room() {
        let error =
            |log, room, at_once| format!("{:#}", admitted(&packed(log), &Room(room), at_once).unwrap_err());
        assert_eq!(admitted(&packed(27), &Room(u64::MAX), 4).unwrap(), 27);
        assert_eq!(admitted(&packed(23), &Room(0), 4).unwrap(), 23);
        assert!(error(28, u64::MAX, 1).contains("a window of 256 MiB; the limit is 128 MiB"));
        assert!(error(27, 200 << 20, 2).contains("a window of 128 MiB; the limit is 100 MiB"));
        assert_eq!(admitted(&packed(27), &Room(256 << 20), 2).unwrap(), 27);
    }

    #[test]
    fn the_window_of_a_frame_is_read_in_each_encoding() {
        let whole = |bytes: usize| zstd::bulk::compress(&vec![0; bytes], 1).unwrap();
        for bytes in [100, 255, 256, 70_000, 1 << 17] {
            assert_eq!(of_frame(&whole(bytes)), Some(bytes as u64), "{bytes}");
        }
        assert_eq!(of_frame(&packed(20)), Some(1 << 20));
        for other in
            [&b"\x28\xb5\x2f"[..], b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\0\0\0\0", b"no zstd at all"]
        {
            assert_eq!(of_frame(other), None);
        }
    }

    #[test]
    fn a_later_frame_with_a_larger_window_is_refused_by_name() {
        let mut frames = packed(20);
        frames.extend(packed(27));
        let log = admitted(&frames, &Room(0), 1).unwrap();
        let mut decoder = zstd::Decoder::with_buffer(&frames[..]).unwrap();
        decoder.window_log_max(log).unwrap();
        let error = explain(io::copy(&mut decoder, &mut io::sink()).unwrap_err(), log);
        assert!(error.to_string().contains("the limit is 8 MiB"), "{error}");
    }
}
