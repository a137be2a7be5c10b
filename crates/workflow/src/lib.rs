//! The workflow language: reads the YAML document, reports mistakes, and makes the plan.
//!
//! Principles:
//!
//! 1. Bytes become a tree (`yaml_tree`). The tree is compared with one table of keys ([`language`], [`schema`]), read
//!    into types (`model`), and ordered ([`Plan`]). Each stage reports all problems that it finds.
//! 2. Nothing runs before the whole plan is known to be good.
//! 3. Parsing does no I/O, and every size is bounded.
//!
//! ```
//! let checked = workflow::check(b"jobs: {install: {container: registry.example/installer}}");
//! assert!(checked.findings.is_empty());
//! assert_eq!(checked.plan.unwrap().images().count(), 1);
//! ```
//!
//! Errors: [`check`] returns findings with their positions, never an error. [`Checked::into_plan`] converts the first
//! findings to one error.
//!
//! Specifications: docs/workflow.md; GitHub's workflow syntax for keys with the same name.
#![forbid(unsafe_code)]

mod check;
mod commands;
pub mod duration;
pub mod expression;
mod failure_policy;
mod github;
mod init_system;
pub mod language;
mod model;
mod names;
mod nearest;
mod plan;
mod read;
pub mod render;
pub mod schema;
mod volume;

pub use check::{Checked, check};
pub use commands::{Command, WITHOUT_EFFECT};
pub use failure_policy::OnFailurePolicy;
pub use init_system::is_init_system;
pub use model::{
    Action, Container, Credentials, Env, Image, Ipc, Job, Limits, OnFailure, Ready, Restart, Service, Sign,
    Spanned, Step, Systemd, Workflow,
};
pub use names::{MACHINE, NEEDED};
pub use nearest::nearest;
pub use plan::Plan;
pub use volume::{Volume, VolumeSource};
pub use yaml_tree::document::LARGEST;
pub use yaml_tree::finding::{Finding, Position, Severity, SourceText};
