//! Fetching documents and streams over HTTP and TFTP: synchronous, with verified TLS and proxies.
//!
//! Principles:
//!
//! 1. TLS is always verified; there is no option to skip it. No redirect leads from https to http.
//! 2. Every wait has a limit: connecting, silence, and whole documents with their redirects. The message names the
//!    limit that was exceeded. The crate `retry` says what is retried, and how often.
//! 3. An error names the URL, the cause, and what to do about it ([`hint`]).
//! 4. Nothing is printed and there is no global state: a [`http::Client`] is a value.
//!
//! ```
//! use fetch::http::{Client, DOCUMENT_TIME_LIMIT, Deadline};
//! use fetch::tls::Roots;
//!
//! let client = Client::new(&Roots::default());
//! let deadline = Deadline::within(DOCUMENT_TIME_LIMIT);
//! let failure = client.fetch("ftp://boot.example.com/install.yaml", deadline).unwrap_err();
//! assert!(format!("{:#}", failure.error).contains("ftp://boot.example.com/install.yaml"));
//! ```
//!
//! Errors: [`http::Client`] returns [`anyhow::Error`] with the URL and a hint. The caller decides about retries.
//!
//! Specifications: RFC 9110 (HTTP), RFC 8446 and 5246 (TLS), RFC 1350 and 2347 to 2349 (TFTP), containers-certs.d(5).
#![forbid(unsafe_code)]

pub mod http;
mod resolve;
pub mod tftp;
pub mod tls;
