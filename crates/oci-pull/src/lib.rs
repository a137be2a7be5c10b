//! A synchronous client of registries, layouts and bundles: find, judge, pull, verify and unpack in one pass.
//!
//! Principles:
//!
//! 1. The configuration files are those of podman: registries.conf, auth.json, certs.d, policy.json, registries.d.
//! 2. The policy judges the manifest before the first byte of a layer is fetched.
//! 3. A layer goes from the socket through digest, decompressor and untar in one pass; the compressed layer is never kept.
//! 4. A login goes to the registry that it is for and to its token server, and never along a redirect.
//! 5. The existence of a [`VerifiedImage`] proves that the policy approved the manifest and that every byte had the digest that the
//!    manifest says. Only [`Puller::pull`] makes one. It does not prove that the image is harmless.
//!
//! ```
//! use oci_pull::Registries;
//!
//! let registries = Registries::parse("[[registry]]\nlocation = \"mirror.example\"\ninsecure = true\n").unwrap();
//! let image = "mirror.example/installer:1".parse::<oci_reference::Reference>().unwrap();
//! assert!(registries.sources(image.named().unwrap()).unwrap()[0].insecure());
//! ```
//!
//! Errors: each place that was tried, with its cause; a rejection by the policy; a limit that is passed. The hint is for whoever wrote
//! the workflow or the trust directory.
//!
//! Specifications: OCI distribution-spec and image-spec, Docker's registry token authentication, containers-registries.conf(5),
//! containers-auth.json(5).
#![forbid(unsafe_code)]

mod ambiguity;
pub mod artifact;
mod auth;
pub mod bundle;
mod local;
mod pull;
mod refusal;
mod registries;
mod registry;
mod retry;
mod source;
mod spelling;

pub use auth::{Login, Logins};
pub use pull::{Artifact, Finder, LayerProgress, Need, PullEvent, Puller, VerifiedImage};
pub use registries::{Endpoint, Registries};
pub use registry::Credentials;

use untrusted_fs::Directory;

/// Moves the image's tree into `root`, a directory in the same file system as the store. No other image may hold its layers.
///
/// # Errors
/// When the file system refuses, or something of the same name is there already.
pub fn settle(image: VerifiedImage, root: &Directory) -> anyhow::Result<()> {
    oci_layer::flatten(image.layers(), root)
}
