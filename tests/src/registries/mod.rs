//! Registries and web servers, their certificates, and proxies that inject faults.

pub mod authority;
pub mod fake_server;
pub mod fault_proxy;
mod port;
pub mod registry;
pub mod web_server;
