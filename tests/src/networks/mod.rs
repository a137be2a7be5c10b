//! Networks for virtual machines.

pub mod segment;
