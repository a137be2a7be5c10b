//! Which images may run: containers-policy.json(5), sigstore signatures, lock files.
//!
//! Principles:
//!
//! 1. Everything is checked offline, against keys and certificates that the caller already has.
//! 2. What a policy does not allow is rejected. A policy that cannot be read, or that demands an unsupported check,
//!    rejects everything.
//! 3. The existence of an [`policy::Approval`] proves that a policy allows one manifest, by its digest, to run under
//!    one name. It does not prove that the layers have arrived; `VerifiedImage` of the crate `oci-pull` does.
//!
//! ```
//! use oci_trust::policy::{Policy, Subject};
//!
//! let policy = Policy::parse(br#"{"default": [{"type": "reject"}]}"#, "/".as_ref()).unwrap();
//! let image = "registry.example/installer:1".parse().unwrap();
//! assert!(policy.rule(&Subject::of(&image).unwrap()).rejects_all());
//! ```
//!
//! Errors: a rejection, with the scope and the requirement that decided; a file that cannot be read or understood,
//! which also rejects.
//!
//! Specifications: containers-policy.json(5), containers-registries.d(5), cosign's signature specification, Rekor's
//! bundle (RFC 6962), RFC 5280.
#![forbid(unsafe_code)]

pub mod attachments;
mod der;
#[cfg(feature = "keyless")]
mod fulcio;
mod json;
pub mod key;
pub mod pins;
pub mod policy;
mod rekor;
pub mod signature;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use key::PublicKey;
pub use signature::{PAYLOAD_TYPE, Signature};
