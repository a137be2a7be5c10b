//! Documents that a server has compressed for the way (RFC 9110, section 8.4).

use super::too_large;
use anyhow::Context as _;
use std::io::Read as _;
use ureq::http::{HeaderMap, header};

/// The first bytes of gzip (RFC 1952, section 2.3.1). No document begins so.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// A document without the encoding that its headers name. Identity is asked for, but some proxies compress all the same.
pub(super) fn decoded(bytes: Vec<u8>, headers: &HeaderMap, largest: u64) -> anyhow::Result<Vec<u8>> {
    let encoding =
        headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_gzip = ["gzip", "x-gzip"].iter().any(|name| encoding.trim().eq_ignore_ascii_case(name));
    if !is_gzip || !bytes.starts_with(GZIP) {
        return Ok(bytes);
    }
    let mut document = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(&bytes[..]);
    decoder
        .take(largest.saturating_add(1))
        .read_to_end(&mut document)
        .context("it is not gzip although its header says so")?;
    if document.len() as u64 > largest { Err(too_large(largest)) } else { Ok(document) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_document_compressed_in_transit_is_decompressed() {
        let text = b"{\"schemaVersion\": 2}";
        for (encoding, bytes, expected) in [
            ("gzip", packed(text), Some(&text[..])),
            ("X-GZIP ", packed(text), Some(text)),
            // The label of storage that holds what was compressed already, or of nothing.
            ("gzip", text.to_vec(), Some(text)),
            ("identity", text.to_vec(), Some(text)),
            ("gzip", packed(text)[..12].to_vec(), None),
            ("gzip", packed(&[b'x'; 101]), None),
        ] {
            let headers = [(header::CONTENT_ENCODING, encoding.parse().unwrap())].into_iter().collect();
            let document = decoded(bytes, &headers, 100);
            assert_eq!(document.as_deref().ok(), expected, "{encoding}: {document:?}");
        }
    }
}
