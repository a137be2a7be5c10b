//! Packages for rpm, made with the spec file for the Open Build Service, and checked with rpm and rpmlint.

use super::ALL;
use anyhow::{Result, ensure};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::source_tree;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Errors of rpmlint that are intended: programs of an initrd are static; a kernel with its initrd is
/// architecture-dependent although it has no program of a system; and the build service adds the rest.
const INTENDED_ERRORS: &[&str] =
    &["statically-linked-binary", "no-binary", "no-changelogname-tag", "no-packager-tag", "no-signature"];

/// Makes the packages from the staged files.
pub(super) fn make(staged: &Path, home: &Path) -> Result<Vec<PathBuf>> {
    let top = home.join("rpm");
    let mut build = Command::new("rpmbuild");
    build.args(["-bb", "--define"]).arg(format!("_topdir {}", top.display()));
    build.arg("--define").arg(format!("iguana_stage {}", staged.display()));
    process::run(build.arg(source_tree().join("packaging/iguana.spec")), LONG)?;
    let made = super::files(&top.join("RPMS"), "rpm")?;
    ensure!(made.len() == ALL.len(), "{} packages were made, and {} are meant", made.len(), ALL.len());
    Ok(made)
}

/// Lists their files, and runs rpmlint.
pub(super) fn check(made: &[PathBuf]) -> Result<()> {
    for file in made {
        let files = process::run(Command::new("rpm").args(["-qlp"]).arg(file), QUICK)?;
        println!("{}:\n{}", file.file_name().unwrap_or_default().display(), files.trim_end());
    }
    let mut rpmlint = Command::new("rpmlint");
    let said = rpmlint.args(made).output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.contains(": E: ") && !INTENDED_ERRORS.iter().any(|meant| line.contains(meant)))
        .collect();
    println!("{}", said.lines().last().unwrap_or_default());
    ensure!(errors.is_empty(), "rpmlint finds:\n{}", errors.join("\n"));
    Ok(())
}
