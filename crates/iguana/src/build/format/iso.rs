//! The ISO image for optical discs and, copied byte by byte, for sticks. It boots with BIOS and with UEFI. xorriso
//! makes it, with the same layout as `grub-mkrescue`.

use super::files::stage;
use super::medium::{self, END, LABEL};
use super::parts::Parts;
use super::{bios, fat};
use crate::build::tool::{self, Tool};
use crate::temporary;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

const XORRISO: Tool = Tool { program: "xorriso", package: "xorriso" };

/// Path of GRUB for BIOS on the image.
const BIOS_PROGRAM: &str = "boot/grub/bios.img";

/// Label of the file system for UEFI, which holds only the UEFI program.
const UEFI_LABEL: &str = "IGUANA-EFI";

/// The bytes of the image of `parts`.
pub(super) fn image(parts: &Parts) -> Result<Vec<u8>> {
    XORRISO.command()?;
    let directory = temporary::directory()?;
    let at = |name: &str| directory.path().join(name);
    let mut more = parts.added.clone();
    more.push((BIOS_PROGRAM.into(), bios::for_disc()?));
    let files = medium::for_bios(parts, more);
    stage(&files, &at("tree"), parts.date)?;
    let uefi = fat::image(UEFI_LABEL, &medium::for_uefi(parts)?, parts.date)?;
    let beside = vec![("uefi".to_string(), uefi), ("record".to_string(), bios::hybrid_record()?)];
    stage(&beside, directory.path(), parts.date)?;
    tool::run(&mut command(directory.path(), parts.date)?)?;
    fs::read(at("image")).context("cannot read the output of `xorriso`")
}

/// The command that makes `image` from `tree`, `uefi` and `record`, which are all in `directory`.
fn command(directory: &Path, date: u32) -> Result<Command> {
    let mut command = XORRISO.command()?;
    command.current_dir(directory).env("SOURCE_DATE_EPOCH", date.to_string()).env("TZ", "UTC");
    command.args(["-as", "mkisofs", "-quiet", "-volid", LABEL, "-o", "image", "-r", "-J", "-iso-level", "3"]);
    command.arg("--set_all_file_dates").arg(format!("={date}"));
    // Sort everything before the file at the end of the ISO file system. The partition for UEFI comes after it,
    // because that program detects by itself that it was truncated.
    command.args(["--sort-weight", "-1"]).arg(format!("/{END}"));
    // BIOS: boot from a disc and from a stick.
    command.args(["-b", BIOS_PROGRAM, "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]);
    command.args(["--grub2-boot-info", "--grub2-mbr", "record", "-partition_offset", "16"]);
    // UEFI: a partition on a stick, and the same bytes on a disc. The type is that of an EFI system partition.
    command.args(["-append_partition", "2", "0xef", "uefi", "-appended_part_as_gpt"]);
    command.args(["-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot"]);
    command.arg("tree");
    Ok(command)
}
