//! `cargo xtask check`: static checks of the source.

use crate::cargo::{cargo, show};
use crate::git::git;
use crate::{conventions, deny};
use anyhow::Result;
use iguana_lab::process::{self, QUICK};
use iguana_lab::{packages, source_tree};
use std::process::Command;

/// Format, lints, documentation, conventions, dependencies, shell scripts. The first failure ends it.
pub(crate) fn run() -> Result<()> {
    show(&mut cargo(&["fmt", "--all", "--check"]))?;
    show(&mut cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    documentation()?;
    conventions::check()?;
    deny::check()?;
    shell_scripts()
}

/// rustdoc without warnings, mainly about broken links, for the product's crates only.
fn documentation() -> Result<()> {
    let mut doc = cargo(&["doc", "--locked", "--no-deps"]);
    show(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn shell_scripts() -> Result<()> {
    let mut list = git();
    list.args(["grep", "-lE", "^#!.*(bash|/sh)$", "--", ":!*.rs", ":!*.md"]);
    // Without a match, or outside a git repository, git's exit status is not 0.
    let listed = process::run(&mut list, QUICK).unwrap_or_default();
    let scripts: Vec<&str> = listed.lines().collect();
    if scripts.is_empty() {
        return Ok(());
    }
    packages::ensure(&["shellcheck"])?;
    eprintln!("$ shellcheck {}", scripts.join(" "));
    process::show(Command::new("shellcheck").current_dir(source_tree()).args(scripts), QUICK)
}
