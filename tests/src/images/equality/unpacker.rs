//! Third-party tools that unpack images. They do not decide what is right: each has known mistakes.

use super::{LISTING, Listing, Subject, listing};
use crate::process::{self, LONG};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A third-party tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpacker {
    /// `umoci unpack`.
    Umoci,
    /// podman, which pulls the image and mounts it with overlayfs.
    Podman,
}

/// Unpacks the layout `$1` below `$2` and writes a listing to `$3` with the script `$4`.
const UMOCI: &str = r#"
mkdir -p "$2/trees" "$3"
umoci unpack --image "$1:latest" "$2/bundle" >&2
mv "$2/bundle/rootfs" "$2/trees/tree"
python3 "$4" "$2/trees" "$3"
"#;

/// The same with podman, whose store is in memory, as Iguana's is.
const PODMAN: &str = r#"
mkdir -p "$2" "$3"
mount -t tmpfs tmpfs "$2"
mkdir "$2/trees" "$2/trees/tree"
cd "$2"
# Longer paths than 50 letters and capitals are refused.
mount -t tmpfs tmpfs /run
mkdir /run/layout
mount --bind "$1" /run/layout
engine="podman --root $2/root --runroot /run/podman --storage-driver overlay --events-backend none"
image=$($engine pull -q oci:/run/layout:latest)
mount --bind "$($engine image mount "$image")" "$2/trees/tree"
python3 "$4" "$2/trees" "$3"
"#;

impl Unpacker {
    /// The tree of an image as this tool unpacks it.
    pub(super) fn tree(self, room: &Path, subject: &Subject) -> Result<Listing> {
        let script = match self {
            Unpacker::Umoci => UMOCI,
            Unpacker::Podman => PODMAN,
        };
        let file = room.join("listing.py");
        fs::write(&file, LISTING)?;
        let (work, out) = (room.join(format!("{}-work", subject.name)), room.join(&subject.name));
        let script = format!("set -e\n{script}");
        let mut shell = Command::new("unshare");
        shell
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(&subject.layout)
            .arg(&work)
            .arg(&out)
            .arg(file);
        process::run(&mut shell, LONG)?;
        let text = fs::read_to_string(out.join("tree")).context("it listed nothing")?;
        let _ = fs::remove_dir_all(work);
        listing(&text)
    }
}
