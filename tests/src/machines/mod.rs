//! Machines: kernels, initrds and firmware, virtual machines that boot them, and running systems.

pub mod dracut;
pub mod firmware;
pub mod initrd;
pub mod kernel;
pub mod live;
pub mod monitor;
pub mod podman;
pub mod puller;
pub mod scenario;
pub mod way;
