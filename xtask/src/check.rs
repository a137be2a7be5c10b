//! `cargo xtask check`: what can be said about the source without running it.

use crate::cargo::{cargo, show};
use crate::{deny, house};
use anyhow::Result;
use iguana_lab::process::{self, QUICK};
use iguana_lab::{packages, source_tree};
use std::process::Command;

/// Format, lints, documentation, house rules, dependencies, shell scripts: the first that fails ends it.
pub(crate) fn run() -> Result<()> {
    show(&mut cargo(&["fmt", "--all", "--check"]))?;
    show(&mut cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    documentation()?;
    house::check()?;
    deny::check()?;
    shell_scripts()
}

/// rustdoc without warnings: above all, no link of a comment leads nowhere. Only of the product's crates.
fn documentation() -> Result<()> {
    let mut doc = cargo(&["doc", "--locked", "--no-deps"]);
    show(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn shell_scripts() -> Result<()> {
    let mut list = Command::new("git");
    list.current_dir(source_tree()).args(["grep", "-lE", "^#!.*(bash|/sh)$", "--", ":!*.rs", ":!*.md"]);
    // No match is an exit status of 1; so is a tree that is not git's.
    let listed = process::run(&mut list, QUICK).unwrap_or_default();
    let scripts: Vec<&str> = listed.lines().collect();
    if scripts.is_empty() {
        return Ok(());
    }
    packages::ensure(&["shellcheck"])?;
    eprintln!("$ shellcheck {}", scripts.join(" "));
    process::show(Command::new("shellcheck").current_dir(source_tree()).args(scripts), QUICK)
}
