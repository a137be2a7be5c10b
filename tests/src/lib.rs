//! The lab: real kernels, registries, images and VMs for whole-system scenarios.
//!
//! What is slow to make is kept under `target/lab`, which may be deleted at any time. What a scenario
//! starts, it stops: every process and directory here belongs to a value and goes with it.
#![expect(clippy::print_stderr, reason = "what takes minutes to make is announced")]

pub mod authority;
pub mod bundle;
pub mod crafted_signature;
pub mod disk;
pub mod dracut;
pub mod equality;
pub mod escapes;
pub mod fake_server;
pub mod fault_proxy;
pub mod firmware;
pub mod fulcio;
pub mod image;
pub mod initrd;
mod kept;
pub mod kernel;
pub mod layout;
pub mod live;
pub mod marker;
pub mod monitor;
pub mod packages;
pub mod payload;
pub mod peer;
pub mod podman;
pub mod process;
pub mod puller;
pub mod registry;
pub mod scenario;
pub mod segment;
pub mod signing;
pub mod skopeo;
pub mod way;
pub mod web_server;

pub use kept::kept;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The host as a guest of QEMU's user network sees it.
pub const HOST: &str = "10.0.2.2";

/// The top of the source tree.
pub fn source_tree() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// What `cargo xtask dist` left: `iguana` or `iguana-init`.
pub fn program(name: &str) -> PathBuf {
    source_tree().join("target/dist").join(name)
}

/// The directory `target/lab/NAME`, made if need be.
pub fn room(name: &str) -> Result<PathBuf> {
    let path = source_tree().join("target/lab").join(name);
    std::fs::create_dir_all(&path).with_context(|| format!("directory `{}`", path.display()))?;
    // Without links, so that it is the same place in a root that is mounted elsewhere.
    Ok(path.canonicalize()?)
}

/// A directory under `target/lab/NAME` that goes with the value.
pub fn passing_room(name: &str) -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("run-").tempdir_in(room(name)?)?)
}
