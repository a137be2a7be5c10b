//! Registries and web servers, the certificates that they show, and proxies that disturb them.

pub mod authority;
pub mod fake_server;
pub mod fault_proxy;
pub mod registry;
pub mod web_server;
