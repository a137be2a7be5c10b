//! GRUB, for machines whose firmware is a BIOS.

use crate::build::tool::{self, Tool, packaged_file};
use crate::temporary;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// Directory of GRUB's parts for BIOS machines.
const HOME: &str = "/usr/lib/grub/i386-pc";

/// The Debian package that has them.
const PACKAGE: &str = "grub-pc-bin";

const MKIMAGE: Tool = Tool { program: "grub-mkimage", package: "grub-common" };

/// Bytes in a sector.
const SECTOR: usize = 512;

/// Bytes of code in a master boot record; the disk identifier and the partition table follow.
const CODE: usize = 440;

/// Offset in `boot.img` of the sector number of GRUB's core (`GRUB_BOOT_MACHINE_KERNEL_SECTOR` in its `boot.h`).
const CORE_SECTOR_OFFSET: usize = 0x5c;

/// Offset in `boot.img` of a jump. On a hard disk two `nop` must replace it, because some BIOSes pass a wrong drive
/// number (`GRUB_BOOT_MACHINE_DRIVE_CHECK`).
const DRIVE_CHECK: usize = 0x66;

const NOP: u8 = 0x90;

/// Offset in the core's first sector of the number of its second sector (`GRUB_BOOT_MACHINE_LIST_SIZE` before the end
/// of the sector).
const REST_SECTOR_OFFSET: usize = SECTOR - 12;

/// GRUB's configuration, in the medium's file system.
pub(super) const CONFIGURATION: &str = "boot/grub/grub.cfg";

/// The boot program for an optical disc, whose configuration is on the ISO 9660 file system.
pub(super) fn for_disc() -> Result<Vec<u8>> {
    core("i386-pc-eltorito", "/boot/grub", &["iso9660"])
}

/// The master boot record that boots an ISO image from a hard disk or a stick.
pub(super) fn hybrid_record() -> Result<Vec<u8>> {
    packaged_file(&Path::new(HOME).join("boot_hybrid.img"), PACKAGE)
}

/// GRUB on a disk.
pub(super) struct OnDisk {
    /// The code of the master boot record.
    pub(super) record: Vec<u8>,
    /// The content of the BIOS boot partition.
    pub(super) core: Vec<u8>,
}

/// GRUB for a disk whose BIOS boot partition begins at `sector`, and whose configuration is on a FAT file system in
/// the partition `number`.
pub(super) fn for_disk(sector: u64, number: u32) -> Result<OnDisk> {
    let mut record = packaged_file(&Path::new(HOME).join("boot.img"), PACKAGE)?;
    let mut core = core("i386-pc", &format!("(,gpt{number})/boot/grub"), &["part_gpt", "fat"])?;
    ensure!(
        record.len() == SECTOR && core.len() > SECTOR,
        "the files of the package `{PACKAGE}` are not as \
                                                            expected"
    );
    record[CORE_SECTOR_OFFSET..CORE_SECTOR_OFFSET + 8].copy_from_slice(&sector.to_le_bytes());
    record[DRIVE_CHECK..DRIVE_CHECK + 2].fill(NOP);
    record.truncate(CODE);
    core[REST_SECTOR_OFFSET..REST_SECTOR_OFFSET + 8].copy_from_slice(&(sector + 1).to_le_bytes());
    Ok(OnDisk { record, core })
}

/// GRUB's core for `target` with the file system `drivers`. It looks for its configuration in the directory `prefix`.
fn core(target: &str, prefix: &str, drivers: &[&str]) -> Result<Vec<u8>> {
    packaged_file(&Path::new(HOME).join("modinfo.sh"), PACKAGE)?;
    let directory = temporary::directory()?;
    let image = directory.path().join("core.img");
    let mut make = MKIMAGE.command()?;
    make.args(["--directory", HOME, "--format", target, "--prefix", prefix, "--output"]).arg(&image);
    tool::run(
        make.args(["biosdisk", "normal", "linux", "test", "configfile", "echo", "sleep", "reboot"])
            .args(drivers),
    )?;
    fs::read(&image).context("cannot read the output of `grub-mkimage`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_is_reproducible() {
        assert!(for_disc().unwrap() == for_disc().unwrap());
    }

    #[test]
    fn record_and_core_contain_their_own_location() {
        let made = for_disk(2048, 2).unwrap();
        assert_eq!(made.record.len(), CODE);
        assert_eq!(made.record[CORE_SECTOR_OFFSET..CORE_SECTOR_OFFSET + 4], [0, 8, 0, 0]);
        assert_eq!(made.core[REST_SECTOR_OFFSET..REST_SECTOR_OFFSET + 4], [1, 8, 0, 0]);
        let sectors =
            u16::from_le_bytes([made.core[REST_SECTOR_OFFSET + 8], made.core[REST_SECTOR_OFFSET + 9]]);
        assert_eq!(usize::from(sectors), made.core.len().div_ceil(SECTOR) - 1);
    }
}
