//! The workflow language: the YAML document, what is wrong with it, and the order it asks for.

mod model;
mod parse;
mod plan;
mod volume;

pub use model::{Container, Env, Job, Workflow};
pub use parse::parse;
pub use plan::{Plan, PlannedJob, plan};
pub use volume::{Volume, VolumeSource};
