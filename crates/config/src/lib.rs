//! What the kernel command line asks for, and what the trust directory allows.
//!
//! Principles:
//!
//! 1. The command line becomes one [`cmdline::Settings`] value. Everything that is not understood becomes a warning
//!    in it.
//! 2. The trust directory has the same files as podman's configuration and one more, `iguana.conf`. An unknown key is
//!    an error.
//! 3. Nothing on the command line weakens what the trust demands.
//!
//! ```
//! use config::cmdline::Settings;
//!
//! let settings = Settings::parse("quiet rd.iguana.debug ip=dhcp");
//! assert!(settings.debug);
//! ```
//!
//! Errors: a file that cannot be read or has unknown content, and a workflow that the trust does not let run, each
//! with a [`hint`]. The command line causes warnings only, because a machine has to boot whatever it contains.
//!
//! Specifications: kernel-parameters.rst, dracut.cmdline(7), containers-policy.json(5) and its relatives.
#![forbid(unsafe_code)]

pub mod caller;
pub mod cmdline;
pub mod inheritance;
pub mod network_options;
pub mod rules;
mod system_options;
pub mod trust;
pub mod workflow_trust;

pub use trust::{OF_SYSTEMS, Trust};
