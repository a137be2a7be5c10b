//! A running system that tests may write to: this host's files under an overlay, in a mount namespace of its own.

use crate::registry::Registry;
use crate::{HOST, scratch_directory};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Makes the overlay at `$1`, with the registries.conf `$2`, and runs the remaining arguments in it. Everything
/// disappears with the mount namespace.
const ENTER: &str = r#"
set -e
room=$1 registries=$2
shift 2
mount -t tmpfs tmpfs "$room/live"
mkdir "$room/live/upper" "$room/live/work" "$room/live/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$room/live/upper,workdir=$room/live/work" "$room/live/root"
cd "$room/live/root"
for directory in proc sys dev; do mount --rbind "/$directory" "$directory"; done
mount --rbind "$room" ".$room"
mount -t tmpfs tmpfs run
mkdir -p etc/containers
cat "$registries" > etc/containers/registries.conf
exec chroot . "$@"
"#;

/// A system that may pull from a registry.
#[derive(Debug)]
pub struct LiveSystem {
    room: TempDir,
    registry: Registry,
}

impl LiveSystem {
    /// A new system; `registry` is on its loopback interface.
    pub fn new(registry: Registry) -> Result<LiveSystem> {
        let room = scratch_directory("live")?;
        fs::create_dir(room.path().join("live"))?;
        let location = registry.address().replace(HOST, "127.0.0.1");
        let text = format!("[[registry]]\nlocation = \"{location}\"\ninsecure = true\n");
        fs::write(room.path().join("registries.conf"), text)?;
        Ok(LiveSystem { room, registry })
    }

    /// Writes a workflow and returns its path. `REGISTRY` in the text is replaced by the registry's address.
    pub fn workflow(&self, text: &str) -> Result<String> {
        let path = self.room().join("workflow.yaml");
        fs::write(&path, text.replace("REGISTRY", &self.registry_address()))?;
        Ok(path.display().to_string())
    }

    /// The reference of an image in its registry.
    pub fn reference(&self, image: &str) -> String {
        format!("{}/{image}", self.registry_address())
    }

    /// A directory that has the same path on the system and on this host.
    pub fn room(&self) -> &Path {
        self.room.path()
    }

    fn registry_address(&self) -> String {
        self.registry.address().replace(HOST, "127.0.0.1")
    }

    /// Runs `program` as `name` with `arguments`; returns the output and the exit status.
    pub fn run(&self, program: &Path, name: &str, arguments: &[&str]) -> Result<Output> {
        self.command(program, name, arguments)?.output().context("`unshare` cannot be started")
    }

    /// A command that runs `program` as `name` with `arguments`.
    pub fn command(&self, program: &Path, name: &str, arguments: &[&str]) -> Result<Command> {
        let link = self.room.path().join(name);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(program, &link)?;
        let mut command = Command::new("timeout");
        command.args(["300", "unshare", "--mount", "sh", "-c", ENTER, "sh"]);
        command.arg(self.room.path()).arg(self.room.path().join("registries.conf")).arg(link).args(arguments);
        command.stdin(Stdio::null());
        Ok(command)
    }
}
