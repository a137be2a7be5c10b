//! What both programs of Iguana need: the kernel command line, the workflow language, images and trust.
//!
//! Nothing here is unsafe, prints, or knows whether it runs in an initrd or on a workstation.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod cmdline;
pub mod hint;
pub mod http;
pub mod image;
mod resolve;
pub mod text;
pub mod tftp;
pub mod timestamp;
pub mod trust;
pub mod workflow;
