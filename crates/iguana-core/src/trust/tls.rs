//! The certificate authorities that a TLS server's certificate must lead to.

use anyhow::Context as _;
use std::path::Path;
use ureq::tls::{Certificate, PemItem, parse_pem};

/// Trusted certificate authorities.
///
/// An empty set trusts nobody: every https connection then fails.
#[derive(Debug, Clone, Default)]
pub struct Roots(Vec<Certificate<'static>>);

impl Roots {
    /// Reads the certificates from PEM text (RFC 7468). Other PEM items are passed over.
    ///
    /// # Errors
    /// When an item is damaged, or no certificate is in the text.
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            if let PemItem::Certificate(certificate) = item.context("not a valid PEM text")? {
                certificates.push(certificate);
            }
        }
        anyhow::ensure!(!certificates.is_empty(), "no `BEGIN CERTIFICATE` in it");
        Ok(Self(certificates))
    }

    /// Reads all `*.pem` and `*.crt` files of a folder; a folder that is not there holds none.
    ///
    /// # Errors
    /// When a file cannot be read, or is not PEM.
    pub fn from_folder(folder: &Path) -> anyhow::Result<Self> {
        let mut roots = Self::default();
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(roots) };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "pem" || ending == "crt") {
                let pem =
                    std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
                let more = Self::from_pem(&pem)
                    .with_context(|| format!("cannot use the certificates in `{}`", path.display()))?;
                roots.0.extend(more.0);
            }
        }
        Ok(roots)
    }

    /// How many authorities are trusted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn certificates(&self) -> &[Certificate<'static>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_a_certificate_is_refused() {
        let error = Roots::from_pem(b"hello").unwrap_err();
        assert!(error.to_string().contains("BEGIN CERTIFICATE"), "{error}");
    }

    #[test]
    fn a_missing_folder_trusts_nobody() {
        assert!(Roots::from_folder(Path::new("/nonexistent")).unwrap().is_empty());
    }
}
