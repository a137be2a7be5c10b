//! The document as people write it, typed.

use super::volume::Volume;
use crate::image::Reference;
use indexmap::IndexMap;
use serde::Deserialize;

/// Environment variables in the order written.
pub type Env = IndexMap<String, String>;

/// A whole workflow document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workflow {
    /// Shown to the person at the machine.
    #[serde(default)]
    pub name: Option<String>,
    /// For the reader of the file.
    #[serde(default)]
    pub description: Option<String>,
    /// Variables of every container.
    #[serde(default)]
    pub env: Env,
    /// The jobs by their ids, in file order.
    pub jobs: IndexMap<String, Job>,
}

/// One job: a container, perhaps with services beside it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Shown instead of the id.
    #[serde(default)]
    pub name: Option<String>,
    /// What runs, attached to the terminal.
    pub container: Container,
    /// What runs detached beside it, by name: started before it and stopped after it.
    #[serde(default)]
    pub services: IndexMap<String, Container>,
    /// Jobs that must have succeeded before this one.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Jobs that need this one run even when it fails.
    #[serde(default)]
    pub continue_on_error: bool,
}

/// What to run and with what.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The image to pull.
    pub image: Reference,
    /// Variables of this container; they win over the workflow's.
    #[serde(default)]
    pub env: Env,
    /// Folders, files and sockets to share.
    #[serde(default)]
    pub volumes: Vec<Volume>,
}

impl Workflow {
    /// The workflow that `rd.iguana.containers=` stands for: the images one after the other.
    #[must_use]
    pub fn from_images(images: Vec<Reference>) -> Self {
        let job = |image| Job {
            name: None,
            container: Container { image, env: Env::new(), volumes: Vec::new() },
            services: IndexMap::new(),
            needs: Vec::new(),
            continue_on_error: false,
        };
        let jobs =
            images.into_iter().enumerate().map(|(n, image)| (format!("container-{}", n + 1), job(image)));
        Self { name: None, description: None, env: Env::new(), jobs: jobs.collect() }
    }
}
