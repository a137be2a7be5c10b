//! Output formats of a plan: a [`table`] of its jobs, the [`steps`] of a run, and [`json`] for programs.

mod json;
mod steps;
mod table;

pub use json::json;
pub use steps::steps;
pub use table::table;

use crate::{Job, VolumeSource};

/// The ids of the jobs that a job needs.
fn needs(job: &Job) -> Vec<&str> {
    job.needs.iter().map(|need| need.value.as_str()).collect()
}

/// The source of a volume, as in its short form; `None` for an anonymous volume.
fn source(source: &VolumeSource) -> Option<String> {
    match source {
        VolumeSource::Anonymous => None,
        VolumeSource::Named(name) => Some(name.clone()),
        VolumeSource::Host(path) => Some(path.display().to_string()),
        VolumeSource::Tmpfs(_) => Some("tmpfs".into()),
        VolumeSource::Image(image) => Some(image.name.source().to_owned()),
    }
}
