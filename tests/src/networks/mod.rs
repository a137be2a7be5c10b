//! Networks for virtual machines.

pub mod name_server;
pub mod segment;
