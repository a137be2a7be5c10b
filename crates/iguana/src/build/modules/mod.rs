//! Kernel modules: which there are, which are taken, and how they are packed for the initrd.

mod closure;
mod index;
mod modinfo;
mod packed;
mod source;
mod squashfs;
mod staging;

pub(crate) use packed::Packed;
pub(crate) use source::Source;
