//! Bundles made with `iguana bundle` on a workstation.

use crate::process::{self, LONG};
use crate::puller::{here, insecure};
use crate::registry::Registry;
use crate::{program, scratch_directory};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A policy that lets everything run.
pub const ANYTHING: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;

/// A workstation with a trust directory that allows its registry without TLS.
pub struct Workstation(TempDir);

impl Workstation {
    /// A workstation that may use this registry.
    pub fn using(registry: &Registry) -> Result<Workstation> {
        let room = scratch_directory("bundle")?;
        fs::create_dir(room.path().join("trust"))?;
        fs::write(room.path().join("trust/registries.conf"), insecure(&here(registry)))?;
        fs::write(room.path().join("trust/policy.json"), ANYTHING)?;
        Ok(Workstation(room))
    }

    /// A path in the workstation's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file there.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Runs `iguana` with these arguments in the workstation's directory.
    pub fn iguana(&self, words: &[&str]) -> Result<Output> {
        let mut iguana = Command::new(program("iguana"));
        iguana.args(words).current_dir(self.0.path()).output().context("`iguana` cannot be started")
    }

    /// Bundles a workflow as `name`. `REGISTRY` in the workflow is replaced by the registry's address.
    pub fn bundle(&self, registry: &Registry, workflow: &str, name: &str) -> Result<PathBuf> {
        self.file("workflow.yaml", workflow.replace("REGISTRY", &here(registry)))?;
        let mut iguana = Command::new(program("iguana"));
        iguana.args(["bundle", "workflow.yaml", "--trust", "trust", "--output", name]);
        process::run(iguana.current_dir(self.0.path()), LONG)?;
        Ok(self.path(name))
    }
}

/// A directory with one file, as on a stick.
pub fn stick(file: &Path) -> Result<TempDir> {
    let room = scratch_directory("stick")?;
    fs::copy(file, room.path().join(file.file_name().context("no name")?))?;
    Ok(room)
}
