//! Public keys and the verification of signatures.

use super::der::{BIT_STRING, INTEGER, SEQUENCE, value};
use anyhow::{Context as _, bail, ensure};
use hint::hinted;
use oci_reference::Digest;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{AlgorithmIdentifier, SubjectPublicKeyInfoDer, alg_id};
use std::fmt;
use std::ops::RangeInclusive;

/// The key types that sigstore's tools make, and how each signs: always over SHA-256, or the message itself.
const KINDS: &[(AlgorithmIdentifier, &dyn VerificationAlgorithm, &str, KeyForm)] = &[
    (alg_id::ECDSA_P256, &signature::ECDSA_P256_SHA256_ASN1, "ECDSA P-256", KeyForm::Point(32)),
    (alg_id::ECDSA_P384, &signature::ECDSA_P384_SHA256_ASN1, "ECDSA P-384", KeyForm::Point(48)),
    (alg_id::ED25519, &signature::ED25519, "Ed25519", KeyForm::Bytes(32)),
    // PKCS#1 v1.5.
    (alg_id::RSA_ENCRYPTION, &signature::RSA_PKCS1_2048_8192_SHA256, "RSA", KeyForm::Rsa),
];
/// Bits of the modulus of an RSA key that ring accepts.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// What the `subjectPublicKey` of a type contains. ring looks at it only when it verifies a signature, and then cannot
/// say that it is the key that is damaged.
enum KeyForm {
    /// An uncompressed point of two coordinates with so many bytes each (RFC 5480, section 2.2).
    Point(usize),
    /// So many bytes (RFC 8032, section 5.1.5).
    Bytes(usize),
    /// Modulus and exponent (RFC 8017, appendix A.1.1).
    Rsa,
}

impl KeyForm {
    fn check(&self, key: &[u8]) -> anyhow::Result<()> {
        let is_whole = match self {
            Self::Point(bytes) => key.len() == 1 + 2 * bytes && key[0] == 4,
            Self::Bytes(bytes) => key.len() == *bytes,
            Self::Rsa => {
                let bits = bits_of_modulus(key).context(DAMAGED)?;
                ensure!(
                    RSA_BITS.contains(&bits),
                    "the RSA key has {bits} bits; {} to {} are supported",
                    RSA_BITS.start(),
                    RSA_BITS.end()
                );
                true
            }
        };
        ensure!(is_whole, DAMAGED);
        Ok(())
    }
}

/// The number of bits in the modulus of an RSA key; `None` if it is not two positive numbers.
fn bits_of_modulus(key: &[u8]) -> Option<usize> {
    let (numbers, rest) = value(SEQUENCE, key)?;
    let (modulus, exponent) = value(INTEGER, numbers)?;
    let (exponent, end) = value(INTEGER, exponent)?;
    let is_positive = |number: &[u8]| number.first().is_some_and(|first| *first < 0x80);
    let is_whole = rest.is_empty() && end.is_empty() && is_positive(modulus) && is_positive(exponent);
    let first = modulus.iter().position(|byte| *byte != 0).filter(|_| is_whole)?;
    Some((modulus.len() - first) * 8 - modulus[first].leading_zeros() as usize)
}

const DAMAGED: &str = "the public key is damaged";

/// A public key for signatures.
#[derive(Clone)]
pub struct PublicKey {
    algorithm: &'static dyn VerificationAlgorithm,
    kind: &'static str,
    /// The `SubjectPublicKeyInfo` (RFC 5280, section 4.1).
    information: Vec<u8>,
    /// The `subjectPublicKey` in it.
    key: Vec<u8>,
}

impl PublicKey {
    /// Reads `BEGIN PUBLIC KEY` (RFC 7468, section 13), as `cosign`, `skopeo` and `openssl pkey -pubout` write it.
    ///
    /// # Errors
    /// When the text has another format, or the type of the key is not supported.
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let Ok(information) = SubjectPublicKeyInfoDer::from_pem_slice(pem) else {
            return Err(hinted(
                "it contains no `BEGIN PUBLIC KEY`",
                "extract the public key with `cosign public-key --key KEY` or `openssl pkey -in KEY -pubout`",
            ));
        };
        Self::from_information(&information)
    }

    pub(super) fn from_information(information: &[u8]) -> anyhow::Result<Self> {
        let Some((algorithm, key)) = parts(information) else { bail!(DAMAGED) };
        let known = KINDS.iter().find(|(id, ..)| id.as_ref() == algorithm);
        let Some((_, algorithm, kind, form)) = known else {
            return Err(hinted(
                "the type of the public key is not supported",
                "use an ECDSA key on P-256 or P-384, an Ed25519 key, or an RSA key",
            ));
        };
        form.check(key)?;
        Ok(Self { algorithm: *algorithm, kind, information: information.to_vec(), key: key.to_vec() })
    }

    /// Whether `signature` is a signature of `message` by this key.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.key).verify(message, signature).is_ok()
    }

    /// Whether it is an ECDSA key.
    pub(super) fn is_ecdsa(&self) -> bool {
        self.kind.starts_with("ECDSA")
    }

    /// The `SubjectPublicKeyInfo` in DER, which PEM encodes.
    pub(super) fn information(&self) -> &[u8] {
        &self.information
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.information == other.information
    }
}

impl Eq for PublicKey {}

/// The type, and the digest of the `SubjectPublicKeyInfo`, by which other tools identify a key.
impl fmt::Display for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.kind, Digest::of(&self.information))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({self})")
    }
}

/// The contents of the algorithm and the key of a `SubjectPublicKeyInfo`.
fn parts(information: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inner, rest) = value(SEQUENCE, information)?;
    let (algorithm, bits) = value(SEQUENCE, inner)?;
    let (key, end) = value(BIT_STRING, bits)?;
    // The first byte counts unused bits (X.690, section 8.6).
    let key = key.strip_prefix(&[0])?;
    (rest.is_empty() && end.is_empty()).then_some((algorithm, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Signer;
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    #[test]
    fn a_public_key_verifies_what_its_private_key_signed() {
        let (signer, other) = (Signer::new(), Signer::new());
        let key = PublicKey::from_pem(signer.pem().as_bytes()).unwrap();
        assert!(key.has_signed(b"x", &signer.sign(b"x")));
        assert!(!key.has_signed(b"y", &signer.sign(b"x")));
        assert!(!key.has_signed(b"x", &other.sign(b"x")));
        assert!(!key.has_signed(b"x", b""));
        assert!(key.to_string().starts_with("ECDSA P-256 sha256:"));
    }

    #[test]
    fn malformed_and_unsupported_keys_are_refused() {
        let pem = |information: &[u8]| {
            let text = BASE64_STANDARD.encode(information);
            format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
        };
        // id-X25519 (RFC 8410), a type for key agreement, which cannot sign.
        let agreement = [&[0x30, 42, 0x30, 5, 0x06, 3, 0x2b, 0x65, 0x6e, 0x03, 33, 0][..], &[7; 32]].concat();
        let of = |id: AlgorithmIdentifier, key: &[u8]| {
            let id = id.as_ref();
            let inner = [&[0x30, id.len() as u8], id, &[0x03, key.len() as u8 + 1, 0], key].concat();
            pem(&[&[0x30, inner.len() as u8][..], &inner].concat())
        };
        let weak = [&[0x30, 71, 0x02, 64][..], &[0x7f; 64], &[0x02, 3, 1, 0, 1]].concat();
        for (text, expected) in [
            ("hello".into(), "BEGIN PUBLIC KEY"),
            ("-----BEGIN PUBLIC KEY-----\n".into(), "BEGIN PUBLIC KEY"),
            (pem(&[]), "damaged"),
            (pem(&agreement), "not supported"),
            (pem(&agreement[..20]), "damaged"),
            (of(alg_id::ECDSA_P256, &[4; 64]), "damaged"),
            (of(alg_id::ECDSA_P256, &[2; 33]), "damaged"),
            (of(alg_id::ECDSA_P384, &[4; 65]), "damaged"),
            (of(alg_id::ED25519, &[4; 31]), "damaged"),
            (of(alg_id::RSA_ENCRYPTION, &[0x30, 0]), "damaged"),
            (of(alg_id::RSA_ENCRYPTION, &weak), "the RSA key has 511 bits"),
            (pem(&[&agreement[..], &[0]].concat()), "damaged"),
        ] {
            let error = PublicKey::from_pem(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
