//! A FAT file system for UEFI, made with mtools.

use super::files::{Files, directories, stage};
use crate::build::tool::{self, Tool};
use crate::temporary;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

const MFORMAT: Tool = Tool { program: "mformat", package: "mtools" };
const MMD: Tool = Tool { program: "mmd", package: "mtools" };
const MCOPY: Tool = Tool { program: "mcopy", package: "mtools" };

/// Bytes that a file system needs besides its files: its tables, the unused ends of clusters, and 4 MiB of free space
/// for files that the user adds.
const OVERHEAD: u64 = 4 << 20;

/// The tables take less than one hundredth of the content.
const TABLES: u64 = 100;

/// Bytes of the smallest file system. With more than 4,084 clusters it is FAT16; firmware may not support FAT12.
const SMALLEST: u64 = 32 << 20;

/// Sizes are multiples of this number of bytes: whole tracks, for firmware that still computes in cylinders.
const GRAIN: u64 = 1 << 20;

/// Bytes in a sector.
const SECTOR: u64 = 512;

/// Serial number of the file system, constant so that the same files make the same bytes. It is ASCII for `IGUA`.
const SERIAL: &str = "49475541";

/// A file system with the label `label` that holds `files`, each with the modification time `date`.
#[expect(clippy::disallowed_methods, reason = "only this user can write to a temporary directory")]
pub(super) fn image(label: &str, files: &Files, date: u32) -> Result<Vec<u8>> {
    let directory = temporary::directory()?;
    let (tree, image) = (directory.path().join("tree"), directory.path().join("image"));
    fs::create_dir(&tree).context("cannot create a temporary directory")?;
    stage(files, &tree, date)?;
    let size = size_for(files);
    File::create(&image).and_then(|file| file.set_len(size)).context("cannot create a temporary file")?;

    let call = |tool: Tool| mtool(tool, &image, date);
    let sectors = (size / SECTOR).to_string();
    let shape = ["-h", "64", "-s", "32", "-T", &sectors, "-N", SERIAL, "-v", label, "::"];
    tool::run(call(MFORMAT)?.args(shape))?;
    for path in directories(files) {
        tool::run(call(MMD)?.arg(format!("::{path}")))?;
    }
    for (path, _) in files {
        tool::run(call(MCOPY)?.arg("-m").arg(tree.join(path)).arg(format!("::{path}")))?;
    }
    fs::read(&image).context("cannot read the output of mtools")
}

/// A call of one of the mtools that does not depend on the configuration of this machine.
fn mtool(tool: Tool, image: &Path, date: u32) -> Result<Command> {
    let mut command = tool.command()?;
    command.arg("-i").arg(image).env("MTOOLSRC", "/dev/null").env("TZ", "UTC");
    command.env("SOURCE_DATE_EPOCH", date.to_string());
    Ok(command)
}

fn size_for(files: &Files) -> u64 {
    let content: u64 = files.iter().map(|(_, content)| content.len() as u64).sum();
    (content + content / TABLES + OVERHEAD).max(SMALLEST).next_multiple_of(GRAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        vec![
            ("EFI/BOOT/BOOTX64.EFI".into(), b"program".to_vec()),
            ("iguana/grub.cfg".into(), b"text".to_vec()),
        ]
    }

    #[test]
    fn two_file_systems_of_the_same_files_are_identical() {
        let first = image("IGUANA", &files(), 1_700_000_000).unwrap();
        // FAT stores times in units of two seconds.
        std::thread::sleep(std::time::Duration::from_millis(2100));
        assert!(first == image("IGUANA", &files(), 1_700_000_000).unwrap());
    }

    #[test]
    fn another_tool_reads_the_result() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        fs::write(&path, image("IGUANA", &files(), 1_700_000_000).unwrap()).unwrap();
        let mut read = Tool { program: "mtype", package: "mtools" }.command().unwrap();
        let said = tool::run(read.arg("-i").arg(&path).arg("::EFI/BOOT/BOOTX64.EFI")).unwrap();
        assert_eq!(said, "program");
    }

    #[test]
    fn the_size_depends_on_the_content() {
        assert_eq!(size_for(&files()), SMALLEST);
        let large = vec![("f".to_string(), vec![0; 100 << 20])];
        assert_eq!(size_for(&large), 105 << 20);
    }
}
