//! Whole Debians, made by mmdebstrap: one to install, and one to install it from.

use crate::kernel::Kernel;
use crate::process::{self, LONG};
use crate::room;
use anyhow::{Context, Result};
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;

/// The release of Debian that everything here is made of.
const SUITE: &str = "bookworm";

/// What an installed Debian has beyond the essential: it boots by itself, has a network and a login.
const INSTALLED: &str = "systemd-sysv,udev,dbus,kmod,linux-base,initramfs-tools,e2fsprogs,fdisk,iproute2,\
    ifupdown,isc-dhcp-client,login,passwd,nano,less";

/// What the installation container needs: partitions, a file system, the archive.
const INSTALLER: &str = "fdisk,e2fsprogs,zstd,tar,mount";

/// Documentation and translations are a third of a small Debian.
const NO_DOCUMENTATION: &[&str] = &[
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
];

/// A bootable Debian with systemd and `kernel`, as a tar file packed by zstd.
pub fn installed_debian(kernel: &Kernel) -> Result<PathBuf> {
    let package = kernel.package.display();
    let hooks = [
        format!("copy-in {package} /var/cache/apt/archives"),
        r#"chroot "$1" dpkg -i /var/cache/apt/archives/package.deb"#.into(),
        r#"echo iguana-demo > "$1/etc/hostname""#.into(),
        r#"printf '127.0.0.1 localhost iguana-demo\n' > "$1/etc/hosts""#.into(),
        r#"chroot "$1" passwd -d root"#.into(),
        r#"printf 'auto lo\niface lo inet loopback\n' > "$1/etc/network/interfaces""#.into(),
        r#"rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1/etc/resolv.conf""#.into(),
        r#": > "$1/etc/machine-id""#.into(),
    ];
    debian("installed", INSTALLED, &hooks, "tar.zst", &kernel.release)
}

/// A small Debian to run an installation in, as a tar file.
pub fn installer() -> Result<PathBuf> {
    let hooks = [r#"rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*"#.to_owned()];
    debian("installer", INSTALLER, &hooks, "tar", "")
}

/// Makes a Debian, or finds the one that was made from the same words.
fn debian(name: &str, packages: &str, hooks: &[String], suffix: &str, kernel: &str) -> Result<PathBuf> {
    let mut key = DefaultHasher::new();
    (SUITE, packages, hooks, NO_DOCUMENTATION, kernel).hash(&mut key);
    let file = room("payload")?.join(format!("{name}-{:016x}.{suffix}", key.finish()));
    if !file.exists() {
        let options = hooks.iter().map(|hook| format!("--customize-hook={hook}").into());
        eprintln!("making the Debian `{name}` with mmdebstrap");
        let fresh = tempfile::Builder::new().prefix("make-").tempdir_in(room("payload")?)?;
        let made = fresh.path().join("debian").with_extension(suffix);
        mmdebstrap(packages, options, &made).with_context(|| format!("the Debian `{name}`"))?;
        fs::rename(made, &file)?;
    }
    Ok(file)
}

/// Runs mmdebstrap to its end.
pub fn mmdebstrap(
    packages: &str,
    options: impl Iterator<Item = OsString>,
    target: &std::path::Path,
) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", &format!("--include={packages}")]).args(NO_DOCUMENTATION);
    process::run(command.args(options).arg(SUITE).arg(target), LONG)?;
    Ok(())
}
