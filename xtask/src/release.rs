//! `cargo xtask release`: collects the files to publish for a version in one directory.

use crate::cargo::{cargo, show};
use crate::conventions::{program_is_small, tracked_files};
use crate::dist;
use crate::git::git;
use anyhow::{Context, Result, ensure};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::{program, source_tree};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The generator of the bills of materials and its version.
const CYCLONEDX: &str = "cargo-cyclonedx";
const CYCLONEDX_VERSION: &str = "0.5.9";
/// The published programs. The bill of materials of each crate is published with it.
const PROGRAMS: &[&str] = &["iguana", "iguana-init"];
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes `target/release-VERSION`: programs, bills of materials (CycloneDX), and their checksums.
pub(crate) fn run() -> Result<()> {
    check_changes(&fs::read_to_string(source_tree().join("CHANGELOG.md"))?)?;
    dist::run()?;
    program_is_small()?;
    let directory = source_tree().join(format!("target/release-{VERSION}"));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).with_context(|| format!("cannot create `{}`", directory.display()))?;
    for name in PROGRAMS {
        let to = directory.join(format!("{name}-{VERSION}-x86_64-linux"));
        fs::copy(program(name), &to).with_context(|| format!("cannot copy `{name}`"))?;
    }
    bills_of_materials(&directory)?;
    checksums(&directory)?;
    println!("{}", directory.display());
    Ok(())
}

/// Fails unless the changelog has a section of this version, and no changes that are in none.
fn check_changes(changes: &str) -> Result<()> {
    let hint = format!("give the changes under `Unreleased` the heading `## {VERSION} - YYYY-MM-DD`");
    ensure!(
        changes.contains(&format!("\n## {VERSION} - ")),
        "CHANGELOG.md has no section of version `{VERSION}`\n  hint: {hint}"
    );
    let (_, unreleased) = changes.split_once("\n## Unreleased\n").unwrap_or_default();
    let unreleased = unreleased.split("\n## ").next().unwrap_or_default();
    ensure!(
        unreleased.trim().is_empty(),
        "CHANGELOG.md has changes under `Unreleased` that no version has\n  hint: {hint}; if that version has been \
         published, raise `version` in Cargo.toml first"
    );
    Ok(())
}

fn bills_of_materials(directory: &Path) -> Result<()> {
    let tools = source_tree().join("target/tools");
    let generator = tools.join("bin").join(CYCLONEDX);
    if !generator.exists() {
        let mut install =
            cargo(&["install", "--locked", "--debug", "--version", CYCLONEDX_VERSION, CYCLONEDX]);
        show(install.arg("--root").arg(&tools))?;
    }
    let time = commit_time()?;
    for name in PROGRAMS {
        let file = format!("{name}-{VERSION}.cdx");
        let mut generate = Command::new(&generator);
        generate.args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--no-build-deps"]);
        generate.args(["--target", "x86_64-unknown-linux-gnu", "--override-filename", &file]);
        generate.arg("--manifest-path").arg(source_tree().join("crates").join(name).join("Cargo.toml"));
        process::run(generate.env("SOURCE_DATE_EPOCH", &time), LONG)?;
        let file = format!("{file}.json");
        let bill = take(name, &file)?;
        fs::write(directory.join(&file), bill).with_context(|| format!("cannot write `{file}`"))?;
    }
    Ok(())
}

/// The time of the commit, which makes the bills of materials reproducible.
fn commit_time() -> Result<String> {
    Ok(process::run(git().args(["log", "-1", "--format=%ct"]), QUICK)?.trim().to_owned())
}

/// The bill of materials of the crate `name`. The generator writes one beside each manifest of the workspace; all are
/// removed.
fn take(name: &str, file: &str) -> Result<String> {
    let mut bill = None;
    for manifest in tracked_files(&["*Cargo.toml"])? {
        let made = source_tree().join(&manifest).with_file_name(file);
        if manifest == format!("crates/{name}/Cargo.toml") {
            bill =
                Some(fs::read_to_string(&made).with_context(|| format!("cannot read `{}`", made.display()))?);
        }
        let _ = fs::remove_file(made);
    }
    let bill = bill.with_context(|| format!("the crate `{name}` has no manifest"))?;
    Ok(without_directory(&bill, source_tree()))
}

/// Names the workspace's own crates without the directory in which they were built.
fn without_directory(bill: &str, tree: &Path) -> String {
    bill.replace(&format!("path+file://{}/", tree.display()), "path+file:///")
}

/// Checksums in the format of `sha256sum --check`.
fn checksums(directory: &Path) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(directory)?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let sums = process::run(Command::new("sha256sum").current_dir(directory).args(&names), QUICK)?;
    fs::write(directory.join("SHA256SUMS"), sums).context("cannot write `SHA256SUMS`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_of_materials_does_not_name_the_build_directory() {
        let bill = r#"{"bom-ref": "path+file:///home/me/iguana/crates/hint#0.1.0"}"#;
        let expected = r#"{"bom-ref": "path+file:///crates/hint#0.1.0"}"#;
        assert_eq!(without_directory(bill, Path::new("/home/me/iguana")), expected);
    }

    #[test]
    fn a_release_has_a_section_with_all_changes() {
        let section = format!("## {VERSION} - 2026-01-02\n\n- It\n");
        for (changes, expected) in [
            (format!("# Changelog\n\n{section}"), ""),
            (format!("# Changelog\n\n## Unreleased\n\n{section}"), ""),
            (format!("# Changelog\n\n## Unreleased\n\n- More\n\n{section}"), "that no version has"),
            ("# Changelog\n\n## Unreleased\n\n- It\n".into(), "no section of version"),
        ] {
            let error = check_changes(&changes).err().map_or(String::new(), |error| error.to_string());
            assert!(
                error.contains(expected) && error.is_empty() == expected.is_empty(),
                "{changes}: {error}"
            );
        }
    }
}
