//! Any packets as those of a TFTP server: nothing panics, what comes is bounded, and each packet has at most one answer.
//!
//! A packet is its length, in one byte, and its bytes; a byte of zero is the next block, whole, of the size that was
//! agreed on.
#![no_main]
#![allow(clippy::expect_used, reason = "a panic is how a target reports what it found")]

use fetch::http::DOCUMENT_LIMIT;
use fetch::tftp::{Step, Transfer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (mut transfer, request) = Transfer::begin("a");
    assert_eq!(request[..2], [0, 1]);
    let (mut rest, mut block, mut next) = (bytes, 512, 1_u16);
    while let Some((&length, behind)) = rest.split_first() {
        let (packet, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        let whole = [&[0, 3][..], &next.to_be_bytes(), &vec![7; block]].concat();
        match transfer.receive(if length == 0 { &whole } else { packet }) {
            Step::Send(answer) => {
                let [0, 4, high, low] = answer[..] else { panic!("{answer:?} is no acknowledgement") };
                next = u16::from_be_bytes([high, low]).wrapping_add(1);
                if packet.starts_with(&[0, 6]) {
                    block = agreed(packet);
                }
            }
            Step::Pass => {}
            Step::Finish(answer) => {
                assert_eq!(answer[..2], [0, 4]);
                break;
            }
            Step::Fail(error) => {
                // What the server says is in it as it came; the printers escape it.
                assert!(error.to_string().len() < 4096, "{error}");
                break;
            }
        }
    }
    assert!(transfer.into_content().len() as u64 <= DOCUMENT_LIMIT);
});

/// The size of blocks in an agreement that was taken.
fn agreed(packet: &[u8]) -> usize {
    let words: Vec<&[u8]> = packet[2..].split(|letter| *letter == 0).collect();
    let pairs = words.as_chunks::<2>().0;
    let said = pairs.iter().find(|[name, _]| name.eq_ignore_ascii_case(b"blksize"));
    said.map_or(512, |[_, value]| String::from_utf8_lossy(value).parse().expect("a number"))
}
