//! The certificate authorities that TLS servers are verified against, and the certificates of single registries.

use anyhow::Context as _;
use hint::hinted;
use std::collections::BTreeMap;
use trust_directory::Files;
use ureq::tls::{Certificate, ClientCert, PemItem, parse_pem};

/// Trusted certificate authorities.
///
/// An empty set trusts no server: every https connection then fails.
#[derive(Debug, Clone, Default)]
pub struct Roots(Vec<Certificate<'static>>);

impl Roots {
    /// Reads the certificates from PEM text (RFC 7468). Other PEM items are skipped.
    ///
    /// # Errors
    /// When an item is damaged, or the text has no certificate.
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            if let PemItem::Certificate(certificate) = item.context("invalid PEM")? {
                certificates.push(certificate);
            }
        }
        anyhow::ensure!(!certificates.is_empty(), "it contains no `BEGIN CERTIFICATE`");
        Ok(Self(certificates))
    }

    /// Reads all `*.pem` and `*.crt` files of a directory; a missing directory counts as empty.
    ///
    /// # Errors
    /// When a file cannot be read, or is not PEM.
    pub fn from_files(directory: &Files) -> anyhow::Result<Self> {
        let mut roots = Self::default();
        for name in directory.names()?.iter().filter(|name| name.ends_with(".pem") || name.ends_with(".crt"))
        {
            let pem = directory.read(name)?.unwrap_or_default();
            let more = Self::from_pem(&pem).with_context(|| {
                format!("cannot use the certificates in `{}`", directory.path(name).display())
            })?;
            roots.0.extend(more.0);
        }
        Ok(roots)
    }

    /// The number of trusted authorities.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no authority is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The union of this set and `more`.
    pub fn and(&self, more: &Self) -> Self {
        Self(self.0.iter().chain(&more.0).cloned().collect())
    }

    /// The certificates, in the type of rustls.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate<'static>] {
        &self.0
    }
}

/// A client certificate and its private key.
#[derive(Clone)]
pub struct Identity(ClientCert);

impl std::fmt::Debug for Identity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Identity(…)")
    }
}

impl Identity {
    /// Reads a certificate, with optional intermediate ones, and its key, both in PEM.
    ///
    /// # Errors
    /// When one of them is missing in its text, or is damaged.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        let chain = Roots::from_pem(certificate)?;
        let mut items = parse_pem(key).filter_map(Result::ok);
        let key = items.find_map(|item| match item {
            PemItem::PrivateKey(key) => Some(key),
            _ => None,
        });
        let key = key.context("the key contains no `BEGIN PRIVATE KEY`")?;
        Ok(Self(ClientCert::new_with_certs(&chain.0, key)))
    }

    /// The certificate and its key, in the type of ureq.
    #[must_use]
    pub fn certificate(&self) -> ClientCert {
        self.0.clone()
    }
}

/// The content of one directory of containers-certs.d(5).
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    authorities: Roots,
    identity: Option<Identity>,
}

impl Certificates {
    /// Reads the files of one directory by their names: `*.crt` are additional authorities for this registry;
    /// `NAME.cert` with `NAME.key` is the client certificate. Other files are ignored.
    ///
    /// # Errors
    /// When a file is damaged, or a certificate or a key has no counterpart.
    pub fn of_files(files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for (name, content) in files {
            let fails = || format!("cannot use `{name}`");
            if name.ends_with(".crt") {
                let more = Roots::from_pem(content).with_context(fails)?;
                found.authorities.0.extend(more.0);
            } else if let Some(stem) = name.strip_suffix(".cert") {
                let key = other_half(files, name, &format!("{stem}.key"))?;
                // Only the first one is used: there is no way to choose between several.
                found.identity.get_or_insert(Identity::from_pem(content, key).with_context(fails)?);
            } else if let Some(stem) = name.strip_suffix(".key") {
                other_half(files, name, &format!("{stem}.cert"))?;
            }
        }
        Ok(found)
    }

    /// The additional authorities for this registry.
    #[must_use]
    pub fn authorities(&self) -> &Roots {
        &self.authorities
    }

    /// The client certificate for this registry.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

fn other_half<'a>(
    files: &'a BTreeMap<String, Vec<u8>>,
    name: &str,
    other: &str,
) -> anyhow::Result<&'a Vec<u8>> {
    files.get(other).ok_or_else(|| {
        hinted(
            format!("`{name}` exists without `{other}`"),
            "a client certificate needs `NAME.cert` and `NAME.key`; a CA certificate is `NAME.crt`",
        )
    })
}

/// Certificates of single registries, by `HOST[:PORT]`: containers-certs.d(5).
#[derive(Debug, Clone, Default)]
pub struct RegistryCertificates(BTreeMap<String, Certificates>);

impl RegistryCertificates {
    /// Reads a directory of directories; a missing one counts as empty.
    ///
    /// # Errors
    /// When something in it cannot be read, or is damaged.
    pub fn from_files(directory: &Files) -> anyhow::Result<Self> {
        let mut all = BTreeMap::new();
        for registry in directory.names()?.into_iter().filter(|name| directory.has_directory(name)) {
            let certificates = Certificates::of_files(&files(&directory.directory(&registry))?);
            let certificates = certificates.with_context(|| {
                format!("cannot use the certificates in `{}`", directory.path(&registry).display())
            })?;
            all.insert(registry, certificates);
        }
        Ok(Self(all))
    }

    /// The certificates for a registry, by `HOST[:PORT]`.
    #[must_use]
    pub fn of(&self, registry: &str) -> Option<&Certificates> {
        self.0.get(registry)
    }
}

/// The files of one directory of certs.d, by name.
fn files(directory: &Files) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for name in directory.names()? {
        if let Some((_, "crt" | "cert" | "key")) = name.rsplit_once('.') {
            let content = directory.read(&name)?.unwrap_or_default();
            files.insert(name, content);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn text_without_a_certificate_is_refused() {
        let error = Roots::from_pem(b"hello").unwrap_err();
        assert!(error.to_string().contains("BEGIN CERTIFICATE"), "{error}");
    }

    #[test]
    fn the_certificate_and_key_of_an_identity_match() {
        let files = |names: &[&str]| names.iter().map(|name| (name.to_string(), Vec::new())).collect();
        for (names, missing) in
            [(&["me.key", "x.cert"][..], "`me.cert`"), (&["me.cert", "you.key"], "`me.key`")]
        {
            let error = Certificates::of_files(&files(names)).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
        let error = Certificates::of_files(&files(&["ca.crt"])).unwrap_err();
        assert!(format!("{error:#}").contains("`ca.crt`"), "{error:#}");
        let nothing = Certificates::of_files(&files(&["readme", "ca.pem"])).unwrap();
        assert!(nothing.authorities().is_empty() && nothing.identity().is_none());
    }

    #[test]
    fn a_missing_directory_trusts_nobody() {
        assert!(Roots::from_files(&Files::of(Path::new("/nonexistent")).unwrap()).unwrap().is_empty());
    }
}
