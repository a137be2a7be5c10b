//! Names of images, digests, and platforms.
//!
//! Principles:
//!
//! 1. A name is accepted exactly when distribution/reference accepts it, and is normalized at once: two spellings of
//!    one image are equal.
//! 2. A digest is a value of fixed size, made by hashing or by parsing, and never a string.
//! 3. Parsing does no I/O.
//!
//! ```
//! use oci_reference::{Digest, Reference};
//!
//! let short: Reference = "docker.io/busybox:1.36".parse().unwrap();
//! let long: Reference = "docker.io/library/busybox:1.36".parse().unwrap();
//! assert_eq!(short.to_string(), long.to_string());
//! assert!("registry.example:99999/x".parse::<Reference>().is_err());
//! assert!(Digest::of(b"").to_string().starts_with("sha256:e3b0c442"));
//! ```
//!
//! Errors: an invalid name, digest or platform, with the wrong part in backticks.
//!
//! Specifications: OCI distribution-spec ("Pulling manifests"), OCI image-spec (descriptor.md, "Digests";
//! image-index.md, "platform"), containers-transports(5).
#![forbid(unsafe_code)]

pub mod digest;
pub mod platform;
pub mod reference;

pub use digest::{Digest, Hasher};
pub use platform::Machine;
pub use reference::{Local, Named, Reference, ReferenceError, Transport, canonical_scope};
