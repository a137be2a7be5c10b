//! Registries and web servers, their certificates, and proxies that inject faults.

pub mod authority;
pub mod fake_server;
pub mod fault_proxy;
pub mod other_makers;
mod port;
pub mod registry;
pub mod server;
pub mod web_server;
