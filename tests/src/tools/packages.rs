//! Debian packages: what the lab's tools come from, installed when lacking.

use crate::lab_directory;
use crate::process::{self, LONG, QUICK};
use crate::tools::cache::lock;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// What building Iguana and trying it in a VM needs.
pub const BUILD: &[&str] =
    &["busybox-static", "cpio", "kmod", "qemu-system-x86", "squashfs-tools", "zstd", "ca-certificates"];

/// What the scenarios need on top: a registry, makers of images, tools for disks and certificates.
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
    "kexec-tools",
    "socat",
    "whiptail",
    "python3",
];

/// What `iguana build` calls for images that machines boot from, and the firmware and servers that boot them.
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

/// What runs containers beside Iguana, to compare: another maker's engine and runtime.
pub const ORACLE: &[&str] = &["podman", "crun"];

/// What the fuzzing engine is built with.
pub const FUZZING: &[&str] = &["g++"];

/// What compares workflows with their JSON Schema: another maker's validator.
pub const VALIDATOR: &[&str] = &["python3-jsonschema", "python3-yaml"];

/// What making a whole Debian needs.
pub const DEBIAN: &[&str] = &["mmdebstrap", "debian-archive-keyring"];

/// Makes sure that all `wanted` packages are installed: installs them as root where apt is, else says how.
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

/// Refreshes apt's lists when this process may; else those that are there must do.
pub fn update() -> Result<()> {
    if is_root() {
        let _one_at_a_time = lock(&lab_directory("apt")?, "apt")?;
        process::run(apt().arg("update"), LONG).context("apt's lists cannot be refreshed")?;
    }
    Ok(())
}

/// `apt-get` that asks nothing and survives a busy mirror or another apt.
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
    fn what_every_debian_has_is_found_and_what_none_has_is_not() {
        if has_apt() {
            assert!(installed("dpkg"));
            assert!(!installed("no-such-package-as-this"));
        }
    }
}
