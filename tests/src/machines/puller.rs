//! Pulls images on a running system, with the files in `/etc/containers` that a test needs.

use crate::live::LiveSystem;
use crate::registry::Registry;
use crate::{HOST, program};
use anyhow::Result;
use std::fs;
use std::path::PathBuf;
use std::process::Output;

/// A system that pulls according to its files in `/etc/containers`.
pub struct Puller {
    system: LiveSystem,
    free_mib: Option<u64>,
}

impl Puller {
    /// A system without such files.
    pub fn new() -> Result<Puller> {
        // A [`LiveSystem`] needs a registry; this one is not used.
        Ok(Puller { system: LiveSystem::new(Registry::plain_unlisted()?)?, free_mib: None })
    }

    /// A system with this registries.conf.
    pub fn with(registries: &str) -> Result<Puller> {
        let puller = Puller::new()?;
        puller.file("registries.conf", registries)?;
        Ok(puller)
    }

    /// Makes the system see only this amount of free memory.
    pub fn with_free_memory(mut self, mib: u64) -> Puller {
        self.free_mib = Some(mib);
        self
    }

    /// Writes a file below `/etc/containers`; returns its path on this host.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let target = self.system.room().join("containers").join(path);
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&target, content)?;
        Ok(target)
    }

    /// Writes a file beside the workflow, with the workflow's name and `ending`.
    pub fn beside_workflow(&self, ending: &str, content: impl AsRef<[u8]>) -> Result<()> {
        Ok(fs::write(self.system.room().join(format!("workflow.yaml{ending}")), content)?)
    }

    /// Runs the container of `image` with `variables` in the environment.
    pub fn run(&self, image: &str, variables: &str) -> Result<Output> {
        self.run_workflow(&format!("jobs: {{pulled: {{container: '{image}'}}}}"), variables)
    }

    /// Runs a workflow with `variables` in the environment.
    pub fn run_workflow(&self, workflow: &str, variables: &str) -> Result<Output> {
        let file = self.system.workflow(workflow)?;
        let (room, init) = (self.system.room().display(), program("iguana-init"));
        fs::create_dir_all(self.system.room().join("containers"))?;
        let little = self.free_mib.map_or(String::new(), |mib| {
            let kib = mib << 10;
            format!(
                "sed 's/^MemAvailable:.*/MemAvailable: {kib} kB/' /proc/meminfo > {room}/meminfo && \
                 mount --bind {room}/meminfo /proc/meminfo && "
            )
        });
        let script = format!(
            "{little}cp -r {room}/containers/. /etc/containers/ && exec env {variables} {} run {file}",
            init.display()
        );
        self.system.run("/bin/sh".as_ref(), "sh", &["-c", &script])
    }
}

/// The complete output.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Asserts that it succeeded, its container ran, and the output has these texts.
pub fn succeeds(output: &Output, words: &[&str]) {
    says(output, 0, words);
    assert!(text(output).contains("it runs"), "{}", text(output));
}

/// Asserts that it failed and the output has these texts.
pub fn fails(output: &Output, words: &[&str]) {
    says(output, 1, words);
}

/// Asserts this exit status and these texts in the output.
pub fn says(output: &Output, status: i32, words: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in\n{text}");
    }
}

/// The address of a registry on this host.
pub fn here(registry: &Registry) -> String {
    registry.address().replace(HOST, "127.0.0.1")
}

/// Lines of registries.conf for a registry without TLS.
pub fn insecure(location: &str) -> String {
    format!("[[registry]]\nlocation = \"{location}\"\ninsecure = true\n")
}

/// Lines of registries.conf for a mirror of the preceding registry.
pub fn mirror(location: &str) -> String {
    format!("[[registry.mirror]]\nlocation = \"{location}\"\ninsecure = true\n")
}
