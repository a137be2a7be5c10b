//! Pulls images on a system that is up, with the files in `/etc/containers` that a test wants.

use crate::live::LiveSystem;
use crate::registry::Registry;
use crate::{HOST, program};
use anyhow::Result;
use std::fs;
use std::path::PathBuf;
use std::process::Output;

/// A system that pulls as its files in `/etc/containers` say.
pub struct Puller {
    system: LiveSystem,
    free_mib: Option<u64>,
}

impl Puller {
    /// One whose files say nothing.
    pub fn new() -> Result<Puller> {
        // The system wants a registry of its own; it is not asked.
        Ok(Puller { system: LiveSystem::new(Registry::plain_unlisted()?)?, free_mib: None })
    }

    /// One with this registries.conf.
    pub fn with(registries: &str) -> Result<Puller> {
        let puller = Puller::new()?;
        puller.file("registries.conf", registries)?;
        Ok(puller)
    }

    /// The same system, which the kernel tells that only so much memory is free.
    pub fn with_free_memory(mut self, mib: u64) -> Puller {
        self.free_mib = Some(mib);
        self
    }

    /// Puts a file below `/etc/containers`; its path on the system as this host sees it.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let target = self.system.room().join("containers").join(path);
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&target, content)?;
        Ok(target)
    }

    /// Puts a file beside the workflow, whose name is the workflow's and `ending`.
    pub fn beside_workflow(&self, ending: &str, content: impl AsRef<[u8]>) -> Result<()> {
        Ok(fs::write(self.system.room().join(format!("workflow.yaml{ending}")), content)?)
    }

    /// Runs the container of `image`, with `variables` in the environment.
    pub fn run(&self, image: &str, variables: &str) -> Result<Output> {
        self.run_workflow(&format!("jobs: {{pulled: {{container: '{image}'}}}}"), variables)
    }

    /// Runs a workflow, with `variables` in the environment.
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

/// All that was said.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// It succeeded, its container ran, and these words were said.
pub fn succeeds(output: &Output, words: &[&str]) {
    says(output, 0, words);
    assert!(text(output).contains("it runs"), "{}", text(output));
}

/// It failed with these words.
pub fn fails(output: &Output, words: &[&str]) {
    says(output, 1, words);
}

/// It ended with this status and said these words.
pub fn says(output: &Output, status: i32, words: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in\n{text}");
    }
}

/// Where a registry is on this host.
pub fn here(registry: &Registry) -> String {
    registry.address().replace(HOST, "127.0.0.1")
}

/// In registries.conf: a registry without TLS.
pub fn insecure(location: &str) -> String {
    format!("[[registry]]\nlocation = \"{location}\"\ninsecure = true\n")
}

/// The same for a mirror of the registry before it.
pub fn mirror(location: &str) -> String {
    format!("[[registry.mirror]]\nlocation = \"{location}\"\ninsecure = true\n")
}
