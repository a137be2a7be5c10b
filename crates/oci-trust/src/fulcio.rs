//! Keyless signatures: the key is in a short-lived certificate from the authority Fulcio, which checked the signer's
//! identity. The transparency log proves when the signature was made (sigstore/fulcio,
//! docs/certificate-specification.md). Everything is checked offline, as in containers/image.

use super::der::{
    BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, UTC_TIME,
    UTF8_STRING, all, any, value,
};
use super::key::PublicKey;
use anyhow::{Context as _, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use timestamp::Timestamp;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};

/// The required extended key usage of the certificate: code signing (RFC 5280, section 4.2.1.12).
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
/// The extension with the OIDC issuer that authenticated the subject: 1.3.6.1.4.1.57264.1.1 as raw text, and the
/// newer 1.3.6.1.4.1.57264.1.8 as DER.
const ISSUER: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 1];
const ISSUER_AS_DER: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 8];
/// The subject alternative names, 2.5.29.17, which include e-mail addresses (RFC 5280, section 4.2.1.6).
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const MAIL: u8 = 0x81;
/// The list of extensions in a certificate (RFC 5280, section 4.1).
const EXTENSIONS: u8 = 0xa3;

/// Constraints of an authority, which webpki does not check for trust anchors: validity (RFC 5280, section 4.1.2.5),
/// whether it may issue certificates (4.2.1.3, 4.2.1.9), and for which purpose (4.2.1.12).
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0];
/// The bit of `keyCertSign` in the first byte of a key usage.
const CERTIFICATE_SIGN: u8 = 0x04;
/// The tag of the version, which precedes the other fields of a certificate (RFC 5280, section 4.1).
const VERSION: u8 = 0xa0;
/// Index of the validity among the fields after the version: it follows serial number, algorithm and issuer.
const VALIDITY: usize = 3;

/// An authority, and the identity that its certificates must have.
#[derive(Debug)]
pub struct Authority {
    roots: Vec<Root>,
    issuer: String,
    email: String,
}

/// A root certificate of the authority, with its constraints.
#[derive(Debug)]
struct Root {
    certificate: CertificateDer<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
    /// The largest number of intermediate authorities between the root and a signer.
    longest_path: usize,
}

impl Authority {
    /// An authority from its certificates in PEM.
    ///
    /// # Errors
    /// When there is no certificate, or one cannot be used.
    pub(super) fn new(pem: &[u8], issuer: &str, email: &str) -> anyhow::Result<Self> {
        let roots = certificates(pem)
            .and_then(|roots| roots.into_iter().map(Root::new).collect::<Result<Vec<_>, _>>());
        let roots = roots?;
        ensure!(!roots.is_empty(), "it contains no `BEGIN CERTIFICATE`");
        Ok(Self { roots, issuer: issuer.to_owned(), email: email.to_owned() })
    }

    /// The key in a certificate that was valid at `time` (Unix seconds). `chain` has the intermediate certificates.
    ///
    /// # Errors
    /// When the certificate was not valid, or has another identity.
    pub(super) fn key(&self, leaf: &[u8], chain: &[u8], time: i64) -> anyhow::Result<PublicKey> {
        let leaf = CertificateDer::from(leaf);
        let mut chain = certificates(chain).context("the chain of its certificate is malformed")?;
        // The last certificate is a root; the policy has its own roots.
        chain.pop();
        let parsed = EndEntityCert::try_from(&leaf)
            .map_err(|error| anyhow::anyhow!("its certificate is malformed: {error}"))?;
        let roots = self.roots_at(Timestamp::from_unix(time))?;
        let anchors = roots.iter().map(|root| anchor_from_trusted_cert(&root.certificate));
        let anchors = anchors.collect::<Result<Vec<TrustAnchor<'_>>, _>>();
        let anchors = anchors.map_err(|error| anyhow::anyhow!("the CA of `fulcio` is malformed: {error}"))?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(
            u64::try_from(time).context("the log's time is before 1970")?,
        ));
        let is_permitted = |path: &VerifiedPath<'_>| {
            let number = anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
            let longest = number.and_then(|number| roots.get(number)).map_or(0, |root| root.longest_path);
            let is_short = path.intermediate_certificates().count() <= longest;
            if is_short { Ok(()) } else { Err(webpki::Error::PathLenConstraintViolated) }
        };
        parsed
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &anchors,
                &chain,
                time,
                KeyUsage::required(CODE_SIGNING),
                None,
                Some(&is_permitted),
            )
            .map_err(|error| {
                anyhow::anyhow!(
                    "its certificate was not issued by the policy's CA, or was not \
                                              valid when it signed: {error}"
                )
            })?;
        let extensions = extensions(&leaf).context("the extensions of its certificate are malformed")?;
        self.check_issuer(&extensions)?;
        self.check_subject(&extensions)?;
        PublicKey::from_information(&parsed.subject_public_key_info())
    }

    /// The root certificates that were valid at that time.
    fn roots_at(&self, time: Timestamp) -> anyhow::Result<Vec<&Root>> {
        let good: Vec<_> =
            self.roots.iter().filter(|root| (root.not_before..=root.not_after).contains(&time)).collect();
        let spans: Vec<_> =
            self.roots.iter().map(|root| format!("from {} to {}", root.not_before, root.not_after)).collect();
        ensure!(
            !good.is_empty(),
            "the log recorded it at {time}, but the policy's CA is valid {}",
            spans.join(", and ")
        );
        Ok(good)
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
            ensure!(one == other, "its certificate names two OIDC issuers, `{one}` and `{other}`");
        }
        let issuer = as_der.or(bare).context("its certificate does not name an OIDC issuer")?;
        ensure!(
            issuer == self.issuer,
            "its OIDC issuer is `{issuer}`, but the policy requires `{}`",
            self.issuer
        );
        Ok(())
    }

    fn check_subject(&self, extensions: &[(&[u8], &[u8])]) -> anyhow::Result<()> {
        let names = find(extensions, ALTERNATIVE_NAMES)?.context("its certificate has no subject")?;
        let names =
            value(SEQUENCE, names).and_then(|(names, _)| all(names)).context("its subject is malformed")?;
        let mails: Vec<_> = names
            .iter()
            .filter(|(tag, _)| *tag == MAIL)
            .map(|(_, mail)| String::from_utf8_lossy(mail))
            .collect();
        ensure!(
            mails.iter().any(|mail| *mail == self.email),
            "it was signed by `{}`, but the policy requires `{}`",
            mails.join("`, `"),
            self.email
        );
        Ok(())
    }
}

impl Root {
    /// A root from a certificate, which must be allowed to issue code signing certificates.
    fn new(certificate: CertificateDer<'static>) -> anyhow::Result<Self> {
        anchor_from_trusted_cert(&certificate)
            .map_err(|error| anyhow::anyhow!("the certificate is malformed: {error}"))?;
        let (not_before, not_after) = validity(&certificate).context("its validity is malformed")?;
        let extensions = extensions(&certificate).context("it has no extensions, or malformed ones")?;
        let constraints = find(&extensions, BASIC_CONSTRAINTS)?.context("it is not a CA certificate")?;
        let longest_path = path_length(constraints).context("it is not a CA certificate")?;
        if let Some(usage) = find(&extensions, KEY_USAGE)? {
            let bits = value(BIT_STRING, usage).and_then(|(bits, _)| bits.get(1).copied());
            ensure!(bits.unwrap_or_default() & CERTIFICATE_SIGN != 0, "its key may not sign certificates");
        }
        if let Some(purposes) = find(&extensions, EXTENDED_KEY_USAGE)? {
            let purposes = value(SEQUENCE, purposes).and_then(|(purposes, _)| all(purposes));
            let is_meant = |id: &[u8]| [CODE_SIGNING, ANY_EXTENDED_KEY_USAGE].contains(&id);
            let purposes = purposes.context("its extended key usage is malformed")?;
            ensure!(
                purposes.iter().any(|(_, id)| is_meant(id)),
                "it may not issue code-signing certificates"
            );
        }
        Ok(Self { certificate, not_before, not_after, longest_path })
    }
}

/// The longest path below an authority with these constraints; `None` if it is not an authority.
fn path_length(constraints: &[u8]) -> Option<usize> {
    match all(value(SEQUENCE, constraints)?.0)?.as_slice() {
        [(BOOLEAN, [0xff])] => Some(usize::MAX),
        [(BOOLEAN, [0xff]), (INTEGER, [length @ 0..=0x7f])] => Some(usize::from(*length)),
        _ => None,
    }
}

fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (certificate, _) = value(SEQUENCE, certificate)?;
    let (signed, _) = value(SEQUENCE, certificate)?;
    let fields = all(signed)?;
    let fields = fields.strip_prefix(&[*fields.first().filter(|(tag, _)| *tag == VERSION)?])?;
    let (_, validity) = fields.get(VALIDITY).filter(|(tag, _)| *tag == SEQUENCE)?;
    let [from, to] = all(validity)?[..] else { return None };
    Some((time(from)?, time(to)?))
}

/// RFC 5280, section 4.1.2.5: two-digit years are 1950 to 2049, and all times are in UTC with seconds.
fn time((tag, value): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii())?;
    let text = match (tag, text.len()) {
        (UTC_TIME, 13) if text < "5" => format!("20{text}"),
        (UTC_TIME, 13) => format!("19{text}"),
        (GENERALIZED_TIME, 15) => text.to_owned(),
        _ => return None,
    };
    let part = |range| text.get(range);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, rest) = (part(8..10)?, part(10..12)?, part(12..15)?);
    format!("{year}-{month}-{day}T{hour}:{minute}:{rest}").parse().ok()
}

impl std::fmt::Display for Authority {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} of {}", self.email, self.issuer)
    }
}

/// The certificates in a PEM text; an empty text has none.
pub(super) fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?)
}

fn find<'a>(extensions: &[(&[u8], &'a [u8])], wanted: &[u8]) -> anyhow::Result<Option<&'a [u8]>> {
    let mut found = extensions.iter().filter(|(id, _)| *id == wanted).map(|(_, value)| *value);
    let first = found.next();
    ensure!(found.next().is_none(), "its certificate has an extension twice");
    Ok(first)
}

/// The extensions of a certificate: identifiers and values.
fn extensions(certificate: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (certificate, _) = value(SEQUENCE, certificate)?;
    let (signed, _) = value(SEQUENCE, certificate)?;
    let (_, list) = all(signed)?.into_iter().find(|(tag, _)| *tag == EXTENSIONS)?;
    let (list, _) = value(SEQUENCE, list)?;
    all(list)?.into_iter().map(|(tag, entry)| extension(entry).filter(|_| tag == SEQUENCE)).collect()
}

fn extension(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let (id, rest) = value(OBJECT_IDENTIFIER, entry)?;
    // An optional boolean `critical` may be in between.
    let (tag, first, rest) = any(rest)?;
    Some((id, if tag == OCTET_STRING { first } else { value(OCTET_STRING, rest)?.0 }))
}
