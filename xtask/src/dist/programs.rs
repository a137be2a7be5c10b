//! Builds the shipped programs.

use crate::cargo::{cargo, show};
use anyhow::{Context, Result};
use iguana_lab::program;
use std::fs;
use std::path::Path;

/// An explicit target, so that build scripts and macros are not linked statically too.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Static and small: packed relocations (-0.16 MB, and the program stays position-independent), identical functions
/// merged (-0.05 MB), and no unwind tables for our code (-0.4 MB), because a panic aborts. The build script of
/// `iguana-init` removes the remaining ones.
const RUSTFLAGS: &[&str] = &[
    "-Ctarget-feature=+crt-static",
    "-Cforce-unwind-tables=no",
    "-Clink-arg=-Wl,-z,pack-relative-relocs,--icf=all",
];

/// The shipped programs.
const PROGRAMS: &[&str] = &["iguana", "iguana-init"];

/// Makes `target/dist/iguana` and `target/dist/iguana-init`, small and static.
pub(crate) fn run() -> Result<()> {
    let mut build = cargo(&["build", "--locked", "--profile", "dist", "--target", TARGET]);
    build.args(PROGRAMS.iter().flat_map(|name| ["--package", name]));
    build.env("RUSTFLAGS", RUSTFLAGS.join(" "));
    build.env("CARGO_TARGET_DIR", "target");
    show(&mut build)?;
    for name in PROGRAMS {
        install(name).with_context(|| format!("program `{name}`"))?;
    }
    Ok(())
}

fn install(name: &str) -> Result<()> {
    let target = program(name);
    if let Some(directory) = target.parent() {
        fs::create_dir_all(directory)?;
        let built = directory.with_file_name(TARGET).join("dist").join(name);
        replace(&built, &target)?;
    }
    let bytes = target.metadata()?.len();
    eprintln!("{} ({:.1} MB)", target.display(), bytes as f64 / 1e6);
    Ok(())
}

/// Copies atomically: the old program may be running.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh).with_context(|| format!("copy of `{}`", from.display()))?;
    fs::rename(fresh, to)?;
    Ok(())
}
