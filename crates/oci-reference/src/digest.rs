//! Content addresses: `sha256:` and 64 hexadecimal digits (OCI image-spec, descriptor.md, "Digests").

use ring::digest::{Context, SHA256};
use std::fmt;
use std::str::FromStr;

/// A SHA-256 content address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Checks that `bytes` have this digest.
    ///
    /// # Errors
    /// When they do not; the error has both digests.
    pub fn verify(&self, what: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.expect(what, Self::of(bytes))
    }

    /// Checks that `found` equals this digest.
    ///
    /// # Errors
    /// When it does not; the error has both digests.
    pub fn expect(&self, what: &str, found: Self) -> anyhow::Result<()> {
        if *self == found {
            return Ok(());
        }
        Err(hint::hinted(
            format!("{what} has digest `{found}` instead of `{self}`"),
            "its content is damaged or modified: push or copy the image again",
        ))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let bad = || anyhow::anyhow!("`{text}` is not a digest of the form `sha256:` and 64 of [0-9a-f]");
        let hex = text.strip_prefix("sha256:").ok_or_else(bad)?.as_bytes();
        if hex.len() != 64 {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let (high, low) = (nibble(pair[0]).ok_or_else(bad)?, nibble(pair[1]).ok_or_else(bad)?);
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

fn nibble(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

/// Computes a [`Digest`] piece by piece.
#[derive(Clone)]
pub struct Hasher(Context);

impl fmt::Debug for Hasher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Hasher")
    }
}

impl Hasher {
    /// A hasher without input.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all added bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(bytes)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_and_back() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn a_digest_mismatch_is_reported() {
        let error = Digest::of(b"").verify("layer 1", b"x").unwrap_err().to_string();
        assert!(error.contains("layer 1") && error.contains(EMPTY), "{error}");
    }

    #[test]
    fn malformed_digests_are_refused() {
        for text in ["", "sha256:", "sha512:00", &EMPTY[..70], &EMPTY.to_uppercase(), "sha256:é"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
