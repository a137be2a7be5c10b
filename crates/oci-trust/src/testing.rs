//! A signer for tests, also for the crates that use this one.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, clippy::new_without_default, reason = "tests only")]

use crate::der::{BIT_STRING, SEQUENCE};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::alg_id;

/// An ECDSA key on P-256.
#[derive(Debug)]
pub struct Signer(EcdsaKeyPair, SystemRandom);

impl Signer {
    /// Generates a key.
    #[must_use]
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap(), random)
    }

    /// Signs a message; the signature is in DER.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&self.1, message).unwrap().as_ref().to_vec()
    }

    /// The public key as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        let algorithm = alg_id::ECDSA_P256;
        let mut inner = vec![SEQUENCE, algorithm.as_ref().len() as u8];
        inner.extend_from_slice(algorithm.as_ref());
        let key = self.0.public_key().as_ref();
        inner.extend_from_slice(&[BIT_STRING, key.len() as u8 + 1, 0]);
        inner.extend_from_slice(key);
        let mut information = vec![SEQUENCE, inner.len() as u8];
        information.extend(inner);
        let text = BASE64_STANDARD.encode(information);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }
}
