//! `cargo xtask docs`: makes a book of the pages in `docs/`; warnings are errors.

use crate::cargo::{cargo, show};
use anyhow::{Context, Result, ensure};
use iguana_lab::source_tree;
use std::process::Command;

/// The program that makes the book. The version is pinned, because others may have other warnings.
const MDBOOK: &str = "mdbook";
const VERSION: &str = "0.4.52";

/// Makes the book below `target/book`.
pub(crate) fn run() -> Result<()> {
    let tools = source_tree().join("target/tools");
    let program = tools.join("bin").join(MDBOOK);
    if !program.exists() {
        let mut install =
            cargo(&["install", "--locked", "--no-default-features", "--version", VERSION, MDBOOK]);
        show(install.arg("--root").arg(&tools))?;
    }
    let made =
        Command::new(program).arg("build").arg(source_tree().join("docs")).output().context("no mdbook")?;
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    let complaints: Vec<&str> =
        said.lines().filter(|line| ["WARN", "ERROR"].iter().any(|word| line.contains(word))).collect();
    ensure!(made.status.success() && complaints.is_empty(), "mdbook says:\n{said}");
    println!("{}", source_tree().join("target/book/index.html").display());
    Ok(())
}
