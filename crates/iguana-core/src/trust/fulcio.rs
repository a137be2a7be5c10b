//! Signatures without a key of their own: the key is in a certificate of minutes that the authority Fulcio gave to whoever
//! showed who they are, and the transparency log says when that was (sigstore/fulcio, docs/certificate-specification.md).
//! All of it is checked offline, as containers/image does.

use super::der::{OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, UTF8_STRING, all, any, value};
use super::key::PublicKey;
use anyhow::{Context as _, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// What the certificate may be used for: code signing (RFC 5280, section 4.2.1.12).
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
/// Who vouched for the subject, 1.3.6.1.4.1.57264.1.1, as bare text; and the newer 1.3.6.1.4.1.57264.1.8, as DER.
const ISSUER: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 1];
const ISSUER_AS_DER: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 8];
/// The subject's other names, 2.5.29.17, and among them those of mail (RFC 5280, section 4.2.1.6).
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const MAIL: u8 = 0x81;
/// The list of extensions in a certificate (RFC 5280, section 4.1).
const EXTENSIONS: u8 = 0xa3;

/// An authority, and whom it has to have vouched for.
#[derive(Debug)]
pub(super) struct Authority {
    roots: Vec<CertificateDer<'static>>,
    issuer: String,
    email: String,
}

impl Authority {
    /// From its certificates in PEM.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn new(pem: &[u8], issuer: &str, email: &str) -> anyhow::Result<Self> {
        let roots = certificates(pem).context("cannot use the authority of `fulcio`")?;
        ensure!(!roots.is_empty(), "the authority of `fulcio` has no `BEGIN CERTIFICATE` in it");
        Ok(Self { roots, issuer: issuer.to_owned(), email: email.to_owned() })
    }

    /// The key in a certificate that was good at that time, in Unix seconds; `chain` leads to the authority.
    ///
    /// # Errors
    /// When it was not, or is of somebody else.
    pub(super) fn key(&self, leaf: &[u8], chain: &[u8], time: i64) -> anyhow::Result<PublicKey> {
        let leaf = CertificateDer::from(leaf);
        let mut chain = certificates(chain).context("the chain of its certificate is malformed")?;
        // The last one is a root, of whom the policy has its own idea.
        chain.pop();
        let parsed = EndEntityCert::try_from(&leaf)
            .map_err(|error| anyhow::anyhow!("its certificate is malformed: {error}"))?;
        let anchors =
            self.roots.iter().map(anchor_from_trusted_cert).collect::<Result<Vec<TrustAnchor<'_>>, _>>();
        let anchors =
            anchors.map_err(|error| anyhow::anyhow!("the authority of `fulcio` is malformed: {error}"))?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(
            u64::try_from(time).context("the log's time is before 1970")?,
        ));
        parsed
            .verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &chain, time, KeyUsage::required(CODE_SIGNING), None, None)
            .map_err(|error| anyhow::anyhow!("its certificate is not of the policy's authority, or was not good when it signed: {error}"))?;
        let extensions = extensions(&leaf).context("the extensions of its certificate are malformed")?;
        self.check_issuer(&extensions)?;
        self.check_subject(&extensions)?;
        PublicKey::from_information(&parsed.subject_public_key_info())
    }

    fn check_issuer(&self, extensions: &[(&[u8], &[u8])]) -> anyhow::Result<()> {
        let bare = find(extensions, ISSUER)?.map(|text| String::from_utf8_lossy(text).into_owned());
        let as_der = find(extensions, ISSUER_AS_DER)?.map(|der| {
            let text = value(UTF8_STRING, der).filter(|(_, rest)| rest.is_empty());
            text.map(|(text, _)| String::from_utf8_lossy(text).into_owned())
                .context("its issuer is malformed")
        });
        let as_der = as_der.transpose()?;
        if let (Some(one), Some(other)) = (&bare, &as_der) {
            ensure!(one == other, "its certificate names two issuers, `{one}` and `{other}`");
        }
        let issuer = as_der.or(bare).context("its certificate does not say who vouched for the subject")?;
        ensure!(
            issuer == self.issuer,
            "`{issuer}` vouched for the subject, and the policy wants `{}`",
            self.issuer
        );
        Ok(())
    }

    fn check_subject(&self, extensions: &[(&[u8], &[u8])]) -> anyhow::Result<()> {
        let names = find(extensions, ALTERNATIVE_NAMES)?.context("its certificate is of nobody")?;
        let names =
            value(SEQUENCE, names).and_then(|(names, _)| all(names)).context("its subject is malformed")?;
        let mails: Vec<_> = names
            .iter()
            .filter(|(tag, _)| *tag == MAIL)
            .map(|(_, mail)| String::from_utf8_lossy(mail))
            .collect();
        ensure!(
            mails.iter().any(|mail| *mail == self.email),
            "it is of `{}`, and the policy wants `{}`",
            mails.join("`, `"),
            self.email
        );
        Ok(())
    }
}

impl std::fmt::Display for Authority {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} of {}", self.email, self.issuer)
    }
}

/// The certificates of a text; none in an empty one.
pub(super) fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?)
}

fn find<'a>(extensions: &[(&[u8], &'a [u8])], wanted: &[u8]) -> anyhow::Result<Option<&'a [u8]>> {
    let mut found = extensions.iter().filter(|(id, _)| *id == wanted).map(|(_, value)| *value);
    let first = found.next();
    ensure!(found.next().is_none(), "its certificate has an extension twice");
    Ok(first)
}

/// Identifiers and values.
fn extensions(certificate: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (certificate, _) = value(SEQUENCE, certificate)?;
    let (signed, _) = value(SEQUENCE, certificate)?;
    let (_, list) = all(signed)?.into_iter().find(|(tag, _)| *tag == EXTENSIONS)?;
    let (list, _) = value(SEQUENCE, list)?;
    all(list)?.into_iter().map(|(tag, entry)| extension(entry).filter(|_| tag == SEQUENCE)).collect()
}

fn extension(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let (id, rest) = value(OBJECT_IDENTIFIER, entry)?;
    // Between them may stand whether it is critical.
    let (tag, first, rest) = any(rest)?;
    Some((id, if tag == OCTET_STRING { first } else { value(OCTET_STRING, rest)?.0 }))
}
