//! The lab: real images, registries, machines, networks and disks for whole-system scenarios. Its modules are grouped
//! by what they make.
//!
//! Principles:
//!
//! 1. Real components come before mocks: Debian's kernels, registries and tools.
//! 2. What is slow to make is cached below `target/lab`, which may be deleted at any time ([`cached`]).
//! 3. What a test starts, it stops: every process and directory belongs to a value, and ends or is removed with it.
//! 4. Every wait has a limit.
//!
//! What only benchmarks use is in `xtask/src/bench`.
#![expect(clippy::print_stderr, reason = "what takes minutes to make is announced")]

mod disks;
mod images;
pub mod installers;
mod machines;
mod networks;
mod registries;
pub mod soak;
mod tools;

pub use disks::{disk, layout};
pub use images::{bundle, crafted_image, equality, escapes, fulcio, image, payload, signing, skopeo, tree};
pub use machines::{dracut, firmware, initrd, kernel, live, monitor, podman, puller, scenario, way};
pub use networks::{name_server, segment};
pub use registries::{authority, fake_server, fault_proxy, other_makers, registry, server, web_server};
pub use tools::cache::cached;
pub use tools::{packages, process, python, test_names};

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The address of the host in QEMU's user network.
pub const HOST: &str = "10.0.2.2";

/// The root of the source tree.
pub fn source_tree() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// A program made by `cargo xtask dist`: `iguana` or `iguana-init`.
pub fn program(name: &str) -> PathBuf {
    source_tree().join("target/dist").join(name)
}

/// The directory `target/lab/NAME`, created if necessary.
pub fn lab_directory(name: &str) -> Result<PathBuf> {
    let path = source_tree().join("target/lab").join(name);
    std::fs::create_dir_all(&path).with_context(|| format!("directory `{}`", path.display()))?;
    // Without symbolic links, so that the path is the same in a root that is mounted elsewhere.
    Ok(path.canonicalize()?)
}

/// A directory under `target/lab/NAME` that is removed when the value is dropped.
pub fn scratch_directory(name: &str) -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("run-").tempdir_in(lab_directory(name)?)?)
}
