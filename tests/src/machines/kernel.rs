//! Debian's kernels, unpacked without installation.

use crate::process::{self, LONG};
use crate::{cached, packages};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A variant of Debian's amd64 kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// For VMs: `linux-image-cloud-amd64`.
    Cloud,
    /// For hardware: `linux-image-amd64`.
    Full,
}

impl Flavour {
    fn package(self) -> &'static str {
        match self {
            Flavour::Cloud => "linux-image-cloud-amd64",
            Flavour::Full => "linux-image-amd64",
        }
    }
}

/// A kernel with its modules and package.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its `uname -r`.
    pub release: String,
    /// The bootable file.
    pub image: PathBuf,
    /// `…/lib/modules/RELEASE`.
    pub modules: PathBuf,
    /// The package it came from.
    pub package: PathBuf,
}

impl Kernel {
    /// Debian's current kernel of that flavour; downloaded once, cached under `target/lab/kernel`.
    pub fn debian(flavour: Flavour) -> Result<Kernel> {
        Kernel::unpacked(&cached("kernel", flavour.package(), |directory| fetch(flavour, directory))?)
    }

    fn unpacked(home: &Path) -> Result<Kernel> {
        let modules = only_entry(&home.join("root/lib/modules"))?;
        let release = name_of(&modules);
        let image = home.join("root/boot").join(format!("vmlinuz-{release}"));
        Ok(Kernel { release, image, modules, package: home.join("package.deb") })
    }
}

fn fetch(flavour: Flavour, into: &Path) -> Result<()> {
    packages::update()?;
    let mut show = Command::new("apt-cache");
    let shown = process::run(show.args(["show", "--no-all-versions", flavour.package()]), LONG)?;
    let name = versioned_package(&shown).context("its description names no versioned package")?;
    eprintln!("downloading {name}");
    process::run(
        packages::apt().args(["-o", "APT::Sandbox::User=root", "download", name]).current_dir(into),
        LONG,
    )?;
    let package = into.join("package.deb");
    fs::rename(only_entry(into)?, &package)?;
    process::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(into.join("root")), LONG)?;
    Ok(())
}

/// Extracts `linux-image-6.1.0-13-amd64` from the meta package's `Depends:` line.
fn versioned_package(description: &str) -> Option<&str> {
    let depends = description.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    depends.split([' ', ',']).find(|word| word.starts_with("linux-image-"))
}

fn only_entry(directory: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(directory).with_context(|| format!("`{}`", directory.display()))?;
    let entry = entries.next().with_context(|| format!("`{}` is empty", directory.display()))??;
    Ok(entry.path())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versioned_package_is_read_from_the_meta_package() {
        let description = "Package: linux-image-amd64\nDepends: linux-image-6.1.0-13-amd64 (= 6.1.55-1)\n";
        assert_eq!(versioned_package(description), Some("linux-image-6.1.0-13-amd64"));
    }
}
