//! podman on a [`LiveSystem`]: the oracle for the environment of a container.

use crate::live::LiveSystem;
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Output;

/// Runs the remaining arguments with a single cgroup tree, as on every recent system: crun refuses the hybrid layout
/// that some machines still have.
const ONE_CGROUP_TREE: &str = r#"
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
exec "$@"
"#;

/// Images and volumes stay in the system's directory. `cgroupfs` and disabled events avoid systemd. crun passes on
/// all open descriptors, possibly a lock of the test run, so they are closed. podman has its own locks in `/dev/shm`,
/// and leaves cgroups behind. Some machines have nothing mounted at `/dev/mqueue`.
const SETUP: &str = r#"
exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
mount -t tmpfs tmpfs /dev/shm
mountpoint -q /dev/mqueue || mount -t mqueue -o nosuid,nodev,noexec mqueue /dev/mqueue
engine() {
    podman --root "$ROOM/podman" --runroot /run/podman --storage-driver overlay \
        --cgroup-manager cgroupfs --events-backend none "$@"
}
"#;

/// Runs podman with the remaining arguments.
const COMMAND: &str = r#"
engine "$@"
status=$?
find /sys/fs/cgroup/libpod_parent -depth -type d -exec rmdir {} + 2> /dev/null
exit $status
"#;

/// Copies the tree of the image `$1` to the directory `$2`.
const COPY_TREE: &str = r#"
tree=$(engine image mount "$1") && cp -a "$tree" "$2"
"#;

/// A root user without CAP_SYS_RESOURCE, as in many CI systems, cannot raise its limits to podman's defaults.
const ULIMIT_OPTIONS: &[&str] =
    &["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--pids-limit=-1"];

/// podman with the images that it has pulled.
#[derive(Debug)]
pub struct Podman<'a> {
    system: &'a LiveSystem,
}

impl<'a> Podman<'a> {
    /// Pulls `images` from the system's registry.
    pub fn with_images(system: &'a LiveSystem, images: &[&str]) -> Result<Podman<'a>> {
        let podman = Podman { system };
        for image in images {
            let pulled = podman.does(&["pull", "--quiet", &system.reference(image)])?;
            ensure!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
        }
        Ok(podman)
    }

    /// Runs a container of `image` to its end; returns the output and the exit status.
    pub fn run(&self, options: &[&str], image: &str, words: &[&str]) -> Result<Output> {
        let image = self.system.reference(image);
        let command = ["run", "--rm", "--network=host"];
        self.does(&[&command, ULIMIT_OPTIONS, options, &[&image], words].concat())
    }

    /// Copies the tree of `image` to a new directory, which is below the system's room.
    pub fn copy_tree(&self, image: &str, to: &Path) -> Result<()> {
        let (image, to) = (self.system.reference(image), to.display().to_string());
        let copied = self.runs(COPY_TREE, &[&image, &to])?;
        ensure!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        Ok(())
    }

    fn does(&self, words: &[&str]) -> Result<Output> {
        self.runs(COMMAND, words)
    }

    fn runs(&self, script: &str, words: &[&str]) -> Result<Output> {
        let script = format!("ROOM={}{SETUP}{script}", self.system.room().display());
        run_in_one_cgroup_tree(self.system, &[&["sh", "-c", &script, "podman"], words].concat())
    }
}

/// Runs `words` on the system with a single cgroup tree.
pub fn run_in_one_cgroup_tree(system: &LiveSystem, words: &[&str]) -> Result<Output> {
    system.run(Path::new("/bin/sh"), "sh", &[&["-c", ONE_CGROUP_TREE, "sh"], words].concat())
}
