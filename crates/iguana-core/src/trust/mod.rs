//! What is believed, and why: the certificate authorities of TLS, the policy about images, and the keys in it.

pub mod attachments;
mod der;
pub mod files;
pub mod folder;
#[cfg(feature = "keyless")]
mod fulcio;
mod json;
mod key;
pub mod pins;
pub mod policy;
mod rekor;
pub mod rules;
mod signature;
pub mod tls;
pub mod workflow;

pub use files::Files;
pub use folder::{HOME, OF_SYSTEMS, Trust};
pub use key::PublicKey;
pub(crate) use signature::{PAYLOAD_TYPE, Signature};

use std::path::{Path, PathBuf};

/// Where a path of a trust folder is: relative ones, and those below [`HOME`], are in the folder itself, wherever it is.
fn place_in(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path.strip_prefix(HOME).unwrap_or(path))
}
