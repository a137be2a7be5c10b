//! How a plan is written: as a [`table`] of its jobs, as the [`steps`] of a run, and as [`json`] for programs.

mod json;
mod steps;
mod table;

pub use json::json;
pub use steps::steps;
pub use table::table;

use crate::{Job, VolumeSource};

/// The jobs that one waits for, by their ids.
fn needs(job: &Job) -> Vec<&str> {
    job.needs.iter().map(|need| need.value.as_str()).collect()
}

/// What is mounted, as the short form of a volume names it. Nothing for a volume of its own.
fn source(source: &VolumeSource) -> Option<String> {
    match source {
        VolumeSource::Anonymous => None,
        VolumeSource::Named(name) => Some(name.clone()),
        VolumeSource::Host(path) => Some(path.display().to_string()),
        VolumeSource::Tmpfs(_) => Some("tmpfs".into()),
        VolumeSource::Image(image) => Some(image.name.source().to_owned()),
    }
}
