//! Disks for the VMs, and access to their content afterwards.

use crate::process::{self, QUICK};
use crate::scratch_directory;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// Bytes in a sector, the unit of the partition tables made here.
const SECTOR: u64 = 512;

/// A raw, sparse disk image, which is removed when the value is dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    _home: TempDir,
}

/// A partition to make.
#[derive(Debug)]
pub struct Part<'a> {
    /// Its size.
    pub mib: u64,
    /// Further fields of its line for sfdisk(8): `type=…, attrs=…`.
    pub row: &'a str,
    /// Its content.
    pub directory: &'a Path,
}

impl Disk {
    /// An empty disk of `mib` MiB.
    pub fn empty(mib: u64) -> Result<Disk> {
        let home = scratch_directory("disk")?;
        let image = home.path().join("disk.raw");
        File::create(&image)?.set_len(mib * MIB)?;
        Ok(Disk { image, _home: home })
    }

    /// A disk of `mib` MiB that is one ext4 file system with the content of `directory`.
    pub fn ext4(mib: u64, label: &str, directory: &Path) -> Result<Disk> {
        let disk = Disk::empty(mib)?;
        let mut mkfs = Command::new("/sbin/mke2fs");
        mkfs.args(["-q", "-t", "ext4", "-L", label, "-d"]).arg(directory).arg(&disk.image);
        process::run(&mut mkfs, QUICK)?;
        Ok(disk)
    }

    /// A disk with a GPT, each of its partitions an ext4 file system.
    pub fn gpt(parts: &[Part]) -> Result<Disk> {
        let disk = Disk::empty(parts.iter().map(|part| part.mib).sum::<u64>() + 2)?;
        let rows = parts.iter().map(|part| format!("size={}MiB, {}\n", part.mib, part.row));
        let script = format!("label: gpt\n{}", rows.collect::<String>());
        let mut sfdisk = Command::new("sh");
        sfdisk.args(["-c", r#"printf %s "$1" | /sbin/sfdisk --quiet "$0""#]).arg(&disk.image).arg(script);
        process::run(&mut sfdisk, QUICK)?;
        for (number, part) in (1..).zip(parts) {
            let offset = format!("offset={}", disk.partition(number)?);
            let mut mkfs = Command::new("/sbin/mke2fs");
            mkfs.args(["-q", "-F", "-t", "ext4", "-E", &offset, "-d"]).arg(part.directory).arg(&disk.image);
            process::run(mkfs.arg(format!("{}M", part.mib)), QUICK)?;
        }
        Ok(disk)
    }

    /// The image file.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The content of `path` in the ext4 file system of the partition `number`, counted from 1; 0 is the whole disk.
    pub fn read(&self, number: usize, path: &str) -> Result<String> {
        let place = match number {
            0 => self.image.display().to_string(),
            _ => format!("{}?offset={}", self.image.display(), self.partition(number)?),
        };
        let mut debugfs = Command::new("/sbin/debugfs");
        process::run(debugfs.args(["-R", &format!("cat {path}"), &place]), QUICK)
    }

    /// The start of the partition in bytes.
    fn partition(&self, number: usize) -> Result<u64> {
        let table = process::run(Command::new("/sbin/sfdisk").arg("--json").arg(&self.image), QUICK)?;
        let table: Value = serde_json::from_str(&table)?;
        let start = table["partitiontable"]["partitions"][number - 1]["start"].as_u64();
        Ok(start.with_context(|| format!("the disk has no partition {number}"))? * SECTOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_from_a_whole_disk_and_from_a_partition() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("name"), "iguana\n").unwrap();
        let whole = Disk::ext4(16, "whole", directory.path()).unwrap();
        assert_eq!(whole.read(0, "/name").unwrap(), "iguana\n");

        let parted = Disk::empty(20).unwrap();
        let script =
            format!("echo 'start=2048, type=linux' | sfdisk -q -X gpt {0}", parted.image().display());
        process::run(Command::new("sh").args(["-c", &script]), QUICK).unwrap();
        let copy = ["bs=1M", "seek=1", "conv=notrunc", "status=none"];
        let (from, to) =
            (format!("if={}", whole.image().display()), format!("of={}", parted.image().display()));
        process::run(Command::new("dd").args(copy).args([from, to]), QUICK).unwrap();
        assert_eq!(parted.read(1, "/name").unwrap(), "iguana\n");
        assert!(parted.read(2, "/name").is_err());
    }
}
