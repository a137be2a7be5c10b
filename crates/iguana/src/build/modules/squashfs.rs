//! Packs a folder as a read-only file-system image.

use anyhow::{Context, Result};
use iguana_core::hint::{WithHint, hinted};
use iguana_vm::on_path;
use std::path::Path;
use std::process::Command;

/// The program that makes the image.
const PROGRAM: &str = "mksquashfs";

/// How it is told to. Measured: see `LEVEL`.
#[rustfmt::skip]
pub(crate) const OPTIONS: &[&str] = &[
    "-noappend", "-no-progress", "-quiet",
    // The same folder makes the same bytes, whoever packs it and when.
    "-all-root", "-no-xattrs", "-all-time", "0", "-mkfs-time", "0",
    "-comp", "zstd", "-Xcompression-level", "19", "-b", "1M",
];

/// Packs `folder` as the file `image`.
pub(crate) fn pack(folder: &Path, image: &Path) -> Result<()> {
    let program = on_path(PROGRAM).ok_or_else(|| {
        hinted(
            format!("`{PROGRAM}` is not on the PATH"),
            "install the package `squashfs-tools`: `apt install squashfs-tools`",
        )
    })?;
    let output = Command::new(program)
        .arg(folder)
        .arg(image)
        .args(OPTIONS)
        // It refuses this variable beside the options for times.
        .env_remove("SOURCE_DATE_EPOCH")
        .output()
        .with_context(|| format!("cannot run `{PROGRAM}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output
        .status
        .success()
        .then_some(())
        .with_context(|| format!("`{PROGRAM}` failed ({}): {}", output.status, said.trim()))
        .hint("version 4.4 or newer is needed, with zstd, and room in the temporary folder")
}
