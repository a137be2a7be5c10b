//! Layers of images: unpacked from tar, assembled into a rootfs, and kept in a store.
//!
//! Principles:
//!
//! 1. Every path of an archive is resolved by the kernel below the layer's root (openat2(2)); no path is made by
//!    joining strings and then opened.
//! 2. A layer is unpacked in one pass while it arrives, in bounded memory.
//! 3. An unpacked layer never changes. Dependencies on lower layers are resolved when an image is assembled.
//! 4. A layer is identified by its diff-ID, and enters the store only after both of its digests were verified.
//!
//! ```
//! let directory = tempfile::tempdir().unwrap();
//! let empty_archive = [0_u8; 1024];
//! let root = untrusted_fs::Directory::open(directory.path()).unwrap();
//! oci_layer::unpack(&empty_archive[..], root, &oci_layer::Work::of_image()).unwrap();
//! assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
//! ```
//!
//! Errors: an entry that leads out of the layer, an exceeded limit, a wrong digest, a full store. The unpacked layer is
//! then removed.
//!
//! Specifications: OCI image-spec (layer.md, config.md), POSIX pax, GNU tar, overlayfs (kernel documentation).
#![forbid(unsafe_code)]

mod capacity;
pub mod layer;
mod rootfs;
pub mod store;

pub use capacity::{Capacity, Unlimited};
pub use layer::{LowerDependencies, Work, take_after, unpack, unpack_all};
pub use rootfs::flatten;
pub use store::{Layer, Store};
