//! The disk image for a stick or a disk, bootable with BIOS and with UEFI: a GPT with a partition for GRUB, and one
//! with a FAT file system for everything else. Other systems can read and write that file system.

use super::medium;
use super::medium::LABEL;
use super::parts::Parts;
use super::{bios, fat};
use crate::build::tool;
use crate::build::tool::Tool;
use crate::temporary;
use anyhow::{Context, Result, ensure};
use oci_reference::Digest;
use std::fs::{self, File};

const SFDISK: Tool = Tool { program: "sfdisk", package: "fdisk" };

/// Bytes in a sector.
const SECTOR: u64 = 512;

/// First sectors of the BIOS boot partition and of the file system. Each is aligned to a MiB, as partitioning tools
/// do.
const BIOS_START: u64 = 2048;
const FILES_START: u64 = 4096;

/// Number of the partition with the file system.
const FILES_NUMBER: u32 = 2;

/// Sectors of the backup GPT at the end of the disk.
const TABLE: u64 = 33;

/// The bytes of the disk image of `parts`.
pub(super) fn image(parts: &Parts) -> Result<Vec<u8>> {
    SFDISK.command()?;
    let grub = bios::for_disk(BIOS_START, FILES_NUMBER)?;
    ensure!(
        grub.core.len() as u64 <= (FILES_START - BIOS_START) * SECTOR,
        "GRUB is larger than its partition"
    );
    let more = [medium::for_uefi(parts)?, parts.added.clone()].concat();
    let files = medium::for_bios(parts, more);
    let files = fat::image(LABEL, &files, parts.date)?;
    let mut disk = partitioned(files.len() as u64 / SECTOR, &Digest::of(&files).to_string())?;
    let mut place = |sector: u64, bytes: &[u8]| {
        let start = (sector * SECTOR) as usize;
        disk[start..start + bytes.len()].copy_from_slice(bytes);
    };
    place(0, &grub.record);
    place(BIOS_START, &grub.core);
    place(FILES_START, &files);
    Ok(disk)
}

/// An empty disk with the partitions, written by sfdisk(8).
#[expect(clippy::disallowed_methods, reason = "only this user can write to a temporary directory")]
fn partitioned(sectors: u64, seed: &str) -> Result<Vec<u8>> {
    let directory = temporary::directory()?;
    let (disk, table) = (directory.path().join("disk"), directory.path().join("table"));
    let size = (FILES_START + sectors + TABLE).next_multiple_of(BIOS_START) * SECTOR;
    File::create(&disk).and_then(|file| file.set_len(size)).context("cannot create a temporary file")?;
    fs::write(&table, rows(sectors, seed)).context("cannot create a temporary file")?;
    let input = File::open(&table).context("cannot read a temporary file")?;
    tool::run_with_input(SFDISK.command()?.arg("--quiet").arg(&disk), input)?;
    fs::read(&disk).context("cannot read the output of `sfdisk`")
}

/// The input of sfdisk(8). The UUIDs are derived from the content, so that the same files make the same disk.
fn rows(sectors: u64, seed: &str) -> String {
    let identity = |what: &str| uuid(&Digest::of(format!("{what} {seed}").as_bytes()).to_string());
    let grub = FILES_START - BIOS_START;
    format!(
        "label: gpt\nlabel-id: {}\n\
         start={BIOS_START}, size={grub}, type=21686148-6449-6E6F-744E-656564454649, uuid={}, name=bios\n\
         start={FILES_START}, size={sectors}, type=uefi, uuid={}, name={LABEL}\n",
        identity("disk"),
        identity("bios"),
        identity("files"),
    )
}

/// A UUID of version 8 (RFC 9562, section 5.8) from a digest, `sha256:…`.
fn uuid(digest: &str) -> String {
    let hex = digest.rsplit(':').next().unwrap_or_default();
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30])
}
