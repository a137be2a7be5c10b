//! `cargo xtask release`: collects the files to publish for a version in one directory.

use crate::cargo::{cargo, show};
use crate::{conventions, dist};
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
    conventions::program_is_small()?;
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
    for name in PROGRAMS {
        let manifest = source_tree().join("crates").join(name).join("Cargo.toml");
        let file = format!("{name}-{VERSION}.cdx");
        let mut generate = Command::new(&generator);
        generate.args(["cyclonedx", "--format", "json", "--target", "x86_64-unknown-linux-gnu"]);
        generate.args(["--no-build-deps", "--override-filename", &file, "--manifest-path"]).arg(&manifest);
        process::run(&mut generate, LONG)?;
        // The generator writes one beside each manifest of the workspace.
        for made in find(&source_tree().join("crates"), &format!("{file}.json"))? {
            if made.parent() == manifest.parent() {
                fs::copy(&made, directory.join(format!("{file}.json")))?;
            }
            fs::remove_file(made)?;
        }
    }
    Ok(())
}

fn find(directory: &Path, name: &str) -> Result<Vec<std::path::PathBuf>> {
    let crates = fs::read_dir(directory)?.flatten().map(|entry| entry.path().join(name));
    Ok(crates.filter(|path| path.exists()).collect())
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
