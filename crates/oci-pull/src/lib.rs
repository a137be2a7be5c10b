//! A synchronous client of registries, layouts and bundles: it finds, judges, pulls, verifies and unpacks images in one
//! pass.
//!
//! Principles:
//!
//! 1. The configuration files are those of podman: registries.conf, auth.json, certs.d, policy.json, registries.d.
//! 2. The policy judges the manifest before the first byte of a layer is fetched.
//! 3. A layer goes from the socket through digest, decompressor and untar in one pass; the compressed layer is never
//!    stored.
//! 4. A login is sent to its registry and to that registry's token server, and never along a redirect.
//! 5. The existence of a [`VerifiedImage`] proves that the policy approved the manifest and that every byte matched the
//!    digests in the manifest. Only [`Puller::pull`] makes one. It does not prove that the image is harmless.
//!
//! ```
//! use oci_pull::Registries;
//!
//! let registries = Registries::parse("[[registry]]\nlocation = \"mirror.example\"\ninsecure = true\n").unwrap();
//! let image = "mirror.example/installer:1".parse::<oci_reference::Reference>().unwrap();
//! assert!(registries.sources(image.named().unwrap()).unwrap()[0].insecure());
//! ```
//!
//! Errors: each location that was tried, with the cause; a rejection by the policy; an exceeded limit. The hint is for
//! the author of the workflow or of the trust directory.
//!
//! Specifications: OCI distribution-spec and image-spec, Docker's registry token authentication,
//! containers-registries.conf(5), containers-auth.json(5).
#![forbid(unsafe_code)]

mod ambiguity;
pub mod artifact;
mod auth;
pub mod bundle;
mod caller;
mod challenge;
mod document;
mod local;
mod pull;
mod refusal;
mod registries;
mod registry;
mod retry;
mod source;
mod spelling;
mod web_page;

pub use auth::{CredentialHelpers, Login, Logins, PROGRAM as CREDENTIAL_HELPER};
pub use caller::Caller;
pub use pull::{
    Artifact, BundleCheck, Finder, HealthCheck, LayerProgress, Need, PullEvent, Puller, VerifiedImage,
};
pub use registries::{Endpoint, Registries};
pub use registry::Credentials;

use untrusted_fs::Directory;

/// Moves the image's tree into `root`, a directory in the same file system as the store. No other image may hold its
/// layers.
///
/// # Errors
/// When the file system refuses, or a name exists already.
pub fn settle(image: VerifiedImage, root: &Directory) -> anyhow::Result<()> {
    oci_layer::flatten(image.layers(), root)
}
