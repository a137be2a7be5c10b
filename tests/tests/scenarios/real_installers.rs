//! Installers of other makers, unmodified, each from an empty disk to a login prompt (docs/installers.md).
//! `cargo xtask installers` runs all of them, and writes the table of the page.

use anyhow::{Context, Result};
use iguana_lab::installers::INSTALLERS;

fn try_out(name: &str) -> Result<()> {
    let installer = INSTALLERS.iter().find(|installer| installer.name == name);
    let outcome = installer.with_context(|| format!("no installer `{name}`"))?.try_out()?;
    assert!(outcome.result.starts_with("login prompt"), "{}", outcome.result);
    Ok(())
}

#[test]
fn fai_installs_a_system() -> Result<()> {
    try_out("setup-storage, ftar, fcopy")
}

#[test]
#[ignore = "long"]
fn systemd_repart_installs_a_system() -> Result<()> {
    try_out("systemd-repart")
}

#[test]
fn bmaptool_installs_a_system() -> Result<()> {
    try_out("bmaptool")
}

#[test]
#[ignore = "long"]
fn coreos_installer_installs_a_system() -> Result<()> {
    try_out("coreos-installer")
}

#[test]
#[ignore = "long"]
fn grub_makes_a_disk_bootable_for_a_bios() -> Result<()> {
    try_out("grub-install")
}

/// The second boot is by the entry that `grub-install` has written to the firmware: the disk has no program by the name
/// that a firmware looks for.
#[test]
#[ignore = "long"]
fn the_firmware_starts_a_system_by_its_own_entry() -> Result<()> {
    try_out("grub-install, efibootmgr")
}

#[test]
#[ignore = "long"]
fn swupdate_installs_a_system() -> Result<()> {
    try_out("swupdate")
}

#[test]
#[ignore = "long"]
fn cloud_init_configures_a_system_at_its_first_boot() -> Result<()> {
    try_out("cloud-init, by a seed")
}

#[test]
#[ignore = "long"]
fn a_salt_master_installs_a_system() -> Result<()> {
    try_out("salt-call, with a master")
}
