//! What is believed, and why: for now the certificate authorities of TLS.

pub mod tls;
