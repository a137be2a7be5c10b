//! The workflow language: the YAML document, what is wrong with it, and the order it asks for.
//!
//! Bytes become a tree ([`mod@check`]: `document`), the tree is compared with the table of keys (`schema`,
//! [`language`]), read into types (`read`, `model`), and put in order (`plan`). Each stage notes all that it finds.

pub mod artifact;
mod check;
mod document;
pub mod duration;
pub mod expression;
mod finding;
pub mod language;
mod model;
mod names;
mod nearest;
mod plan;
mod read;
pub mod schema;
mod volume;
pub(crate) mod yaml;

pub use check::{Checked, check};
pub use document::LARGEST;
pub use finding::{Finding, Position, Severity, Source};
pub use model::{
    Action, Container, Credentials, Env, Image, Job, Limits, OnFailure, Placed, Ready, Restart, Service,
    Sign, Step, Workflow,
};
pub use names::MACHINE;
pub use nearest::nearest;
pub use plan::Plan;
pub use volume::{Volume, VolumeSource};
