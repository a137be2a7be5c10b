//! The machine: everything that must be set up before the first container.

pub(crate) mod clock;
pub(crate) mod devices;
pub(crate) mod facts;
pub(crate) mod media;
pub(crate) mod memory;
pub(crate) mod modules;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod random;
pub(crate) mod release;
