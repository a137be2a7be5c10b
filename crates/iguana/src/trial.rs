//! `iguana try`: a workflow in a virtual machine, on the terminal that we were called from.

use crate::build::{self, Recipe};
use anyhow::{Context, Result, ensure};
use iguana_core::hint::WithHint;
use iguana_vm::{Disk, Machine, Qemu, Serial};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Where the kernel's messages and the workflow's go: the terminal.
const CONSOLE: &str = "console=ttyS0";

/// How files in QEMU's own disk format begin (docs/interop/qcow2.txt in its sources).
const QCOW2_MAGIC: &[u8] = b"QFI\xfb";

/// The virtual machine that the workflow is tried in.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
    /// The disks, each a size or a file.
    pub(crate) disks: Vec<String>,
    /// What is added to the kernel's command line.
    pub(crate) append: String,
}

/// Builds an initrd with `workflow` and boots it.
pub(crate) fn run(recipe: &Recipe, workflow: &Path, trial: &Trial) -> Result<()> {
    let qemu = Qemu::find().hint("it runs the virtual machine: `apt install qemu-system-x86`")?;
    let disks = trial.disks.iter().map(|disk| TrialDisk::open(disk)).collect::<Result<Vec<_>>>()?;
    let kernel = recipe.kernel()?;
    let image = kernel.readable_image()?;
    let built = build::make(&kernel, recipe, Some(workflow))?;
    for fact in &built.facts {
        println!("{fact}");
    }
    let mut initrd = tempfile::tempfile().context("cannot make a temporary file")?;
    initrd.write_all(&built.bytes).context("cannot write the initrd to a temporary file")?;
    let machine = Machine {
        initrd: Some(path_of(&initrd)),
        append: format!("{CONSOLE} {}", trial.append).trim_end().to_string(),
        memory_mib: trial.memory_mib,
        disks: disks.iter().map(TrialDisk::disk).collect(),
        serial: Serial::Terminal,
        ..Machine::new(image)
    };
    println!("starting the virtual machine ({}); Ctrl-A X ends it", qemu.accelerator.argument());
    qemu.run(&machine)
}

/// A path to a temporary file without a name, for QEMU to open while we live.
fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
}

/// A disk of the virtual machine.
#[derive(Debug)]
enum TrialDisk {
    /// Empty at the start; has no name, so it is gone when we are, however we end.
    Temporary(File),
    /// A person's own.
    Own(Disk),
}

impl TrialDisk {
    fn open(text: &str) -> Result<Self> {
        match parse_size(text) {
            Some(bytes) => Self::empty(bytes).with_context(|| format!("cannot make a disk of `{text}`")),
            None => Self::file(Path::new(text)),
        }
    }

    fn empty(bytes: u64) -> Result<Self> {
        let file = tempfile::tempfile()?;
        file.set_len(bytes)?;
        Ok(Self::Temporary(file))
    }

    fn file(path: &Path) -> Result<Self> {
        let mut magic = Vec::new();
        let file = File::open(path)
            .with_context(|| format!("cannot open the disk `{}`", path.display()))
            .hint("`--disk` takes a size such as `8G`, or a file")?;
        file.take(QCOW2_MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .with_context(|| format!("cannot read the disk `{}`", path.display()))?;
        Ok(Self::Own(if magic == QCOW2_MAGIC { Disk::qcow2(path) } else { Disk::raw(path) }))
    }

    fn disk(&self) -> Disk {
        match self {
            Self::Temporary(file) => Disk::raw(path_of(file)).throw_away(),
            Self::Own(disk) => disk.clone(),
        }
    }
}

/// `8G` in bytes: a number and one of K, M, G, T for powers of 1024.
fn parse_size(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let power = "KMGT".find(unit.to_ascii_uppercase())? as u32 + 1;
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    number.checked_mul(1024_u64.checked_pow(power)?)
}

/// Reads `--memory`.
pub(crate) fn memory(text: &str) -> Result<u32> {
    let mib = text.parse().context("it is not a number of MiB")?;
    ensure!(mib >= 96, "Debian's smallest kernel needs at least 96 MiB to unpack any initrd");
    Ok(mib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        assert_eq!(parse_size("8G"), Some(8 << 30));
        assert_eq!(parse_size("512m"), Some(512 << 20));
        assert_eq!(parse_size("disk"), None);
        assert_eq!(parse_size("8"), None);
        assert_eq!(parse_size("G"), None);
        assert_eq!(parse_size(""), None);
        assert_eq!(parse_size("99999999999T"), None);
    }

    #[test]
    fn a_size_is_a_disk_without_a_name() {
        let disk = TrialDisk::open("3M").unwrap();
        let path = disk.disk().path;
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 3 << 20);
        assert!(disk.disk().throw_away);
        drop(disk);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_is_what_its_first_bytes_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let format = || TrialDisk::open(path.to_str().unwrap()).unwrap().disk().format;
        std::fs::write(&path, b"QFI\xfb\0\0\0\x03").unwrap();
        assert_eq!(format(), iguana_vm::DiskFormat::Qcow2);
        std::fs::write(&path, b"").unwrap();
        assert_eq!(format(), iguana_vm::DiskFormat::Raw);
        std::fs::remove_file(&path).unwrap();
        let error = TrialDisk::open(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("cannot open the disk `"), "{error}");
    }
}
