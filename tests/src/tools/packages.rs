//! Debian packages of the tools, installed when missing.

use crate::lab_directory;
use crate::process::{self, LONG, QUICK};
use crate::tools::cache::{cached, lock};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages for building Iguana and trying it in a VM.
pub const BUILD: &[&str] =
    &["busybox-static", "cpio", "kmod", "qemu-system-x86", "squashfs-tools", "zstd", "ca-certificates"];

/// Additional packages for the scenarios: a registry, image builders, tools for disks and certificates.
pub const SCENARIOS: &[&str] = &[
    "docker-registry",
    "skopeo",
    "buildah",
    "dbus-bin",
    "umoci",
    "openssl",
    "e2fsprogs",
    "fdisk",
    "dmsetup",
    "kbd",
    "iproute2",
    "kexec-tools",
    "socat",
    "whiptail",
    "python3",
    "radvd",
];

/// Packages that `iguana build` needs for bootable images, and the firmware and servers that boot them.
pub const MEDIA: &[&str] = &[
    "dnsmasq-base",
    "fdisk",
    "grub-common",
    "grub-pc-bin",
    "ipxe-qemu",
    "iproute2",
    "mtools",
    "ovmf",
    "sbsigntool",
    "systemd-boot-efi",
    "xorriso",
];

/// A third-party container engine and runtime for comparison.
pub const ORACLE: &[&str] = &["podman", "crun"];

/// Packages for building the fuzzing engine.
pub const FUZZING: &[&str] = &["g++"];

/// A third-party validator for JSON Schemas, for comparison.
pub const VALIDATOR: &[&str] = &["python3-jsonschema", "python3-yaml"];

/// Packages for making a whole Debian.
pub const DEBIAN: &[&str] = &["mmdebstrap", "debian-archive-keyring"];

/// Makes sure that all `wanted` packages are installed. Installs them if running as root with apt, otherwise says how
/// to.
pub fn ensure(wanted: &[&str]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install --no-install-recommends {}", missing.join(" "));
    if !has_apt() {
        bail!(
            "these Debian packages are missing: {}\n  hint: on Debian or Ubuntu: {by_hand}",
            missing.join(" ")
        );
    }
    if !is_root() {
        bail!("packages are missing and only root can install them\n  hint: as root: {by_hand}");
    }
    eprintln!("installing {}", missing.join(" "));
    update()?;
    let _one_at_a_time = lock(&lab_directory("apt")?, "apt")?;
    process::run(apt().args(["install", "-y", "--no-install-recommends"]).args(&missing), LONG)
        .with_context(|| format!("packages cannot be installed\n  hint: see what `{by_hand}` says"))?;
    Ok(())
}

/// Refreshes apt's lists if this process may; otherwise the existing ones are used.
pub fn update() -> Result<()> {
    if is_root() {
        let _one_at_a_time = lock(&lab_directory("apt")?, "apt")?;
        process::run(apt().arg("update"), LONG).context("apt's lists cannot be refreshed")?;
    }
    Ok(())
}

/// The files of a package of Debian 13, which this system does not have; downloaded once, cached under
/// `target/lab/debian-13`.
pub fn of_debian_13(package: &str) -> Result<PathBuf> {
    let home = cached("debian-13", package, |directory| {
        let at = |name: &str| directory.join(name);
        fs::create_dir_all(at("lists/partial"))?;
        fs::create_dir_all(at("cache/archives/partial"))?;
        fs::write(at("sources.list"), DEBIAN_13)?;
        let own_apt = |words: &[&str]| {
            let mut command = apt();
            command.current_dir(directory).args(["-o", "APT::Sandbox::User=root", "-o"]);
            command.arg(format!("Dir::Etc::SourceList={}", at("sources.list").display()));
            command.args(["-o", "Dir::Etc::SourceParts=/dev/null", "-o"]);
            command.arg(format!("Dir::State::Lists={}", at("lists").display())).arg("-o");
            command.arg(format!("Dir::Cache={}", at("cache").display())).args(words);
            process::run(&mut command, LONG)
        };
        own_apt(&["update"])?;
        own_apt(&["download", package])?;
        let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
        let found = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path())).find(is_package);
        let found = found.context("apt has downloaded no package")?;
        process::run(Command::new("dpkg-deb").arg("-x").arg(found).arg(at("root")), LONG)?;
        fs::remove_dir_all(at("lists"))?;
        Ok(fs::remove_dir_all(at("cache"))?)
    })?;
    Ok(home.join("root"))
}

/// Where apt finds Debian 13.
const DEBIAN_13: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main\n";

/// `apt-get` without questions, which tolerates a busy mirror and a concurrent apt.
pub fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["-qq", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

fn installed(name: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f=${db:Status-Status}", name]);
    process::run(&mut query, QUICK).is_ok_and(|status| status == "installed")
}

fn has_apt() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_found() {
        if has_apt() {
            assert!(installed("dpkg"));
            assert!(!installed("no-such-package-as-this"));
        }
    }
}
