//! Disks, and layouts of whole disks.

pub mod disk;
pub mod layout;
