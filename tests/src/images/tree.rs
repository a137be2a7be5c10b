//! The tree of an image in a directory, as text to compare.

use crate::image::Image;
use crate::process::{self, LONG};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Lists every file below a directory, with all properties that a layer has.
pub fn listing(directory: &Path) -> Result<String> {
    let script = "find . -printf '%P %y %m %U:%G %T@ %l %n\\n' | sort
                  find . -type f -exec sha256sum {} + | sort -k 2
                  getfattr -R -h -d -m - . 2> /dev/null | sort";
    process::run(Command::new("sh").args(["-ec", script]).current_dir(directory), LONG)
}

/// The listing of the tree that umoci unpacks `image` to, below `room`.
pub fn unpacked_by_umoci(image: &Image, room: &Path) -> Result<String> {
    let source = format!("{}:latest", image.layout().display());
    process::run(Command::new("umoci").args(["unpack", "--image", &source]).arg(room.join("umoci")), LONG)?;
    listing(&room.join("umoci/rootfs"))
}
