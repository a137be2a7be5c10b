//! Compressed swap in memory (the kernel's Documentation/admin-guide/blockdev/zram.rst): the unused part of the store
//! then takes less than half of its size.
//!
//! It is only started when an image does not fit otherwise. The device is twice as large as the memory, since
//! compression is not expected to save more. The algorithm is zstd if the kernel has it, because memory is scarcer than
//! time; else the kernel's default.

use crate::machine::modules;
use anyhow::Context as _;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The preferred algorithm. Measured on Debian's `/usr`: zstd 3.3, lzo-rle 2.2.
const ALGORITHM: &str = "zstd";
/// The device's size as a multiple of the memory.
const SIZE: u64 = 2;
/// The device that exists once the module is loaded.
const FIRST: &str = "zram0";
/// Reading this creates another device.
const ANOTHER: &str = "/sys/class/zram-control/hot_add";

/// The header of a swap area (linux/swap.h, `union swap_header`): bytes of a page, offsets of its fields, and the
/// magic.
const PAGE: usize = 4096;
const VERSION: usize = 1024;
const LAST_PAGE: usize = 1028;
const MAGIC: &[u8] = b"SWAPSPACE2";

/// A device in use as swap.
#[derive(Debug)]
pub(super) struct Zram {
    directory: PathBuf,
}

/// The content of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ZramContent {
    /// Before compression.
    pub(super) original: u64,
    /// All memory that the device takes.
    pub(super) used: u64,
}

impl Zram {
    /// Sets up a device for a machine with `memory` bytes, and enables swapping to it.
    pub(super) fn start(memory: u64) -> anyhow::Result<Self> {
        let name = fresh_device()?;
        let directory = Path::new("/sys/block").join(&name);
        let set = |file: &str, value: &str| {
            let path = directory.join(file);
            fs::write(&path, value).with_context(|| format!("cannot write `{value}` to `{}`", path.display()))
        };
        // If the kernel lacks the algorithm, its default stays.
        let _ = set("comp_algorithm", ALGORITHM);
        let pages = memory.saturating_mul(SIZE) / PAGE as u64;
        set("disksize", &(pages * PAGE as u64).to_string())?;
        let device = Path::new("/dev").join(&name);
        let cannot = || format!("cannot swap to `{}`", device.display());
        OpenOptions::new()
            .write(true)
            .open(&device)
            .and_then(|file| file.write_all_at(&header(pages), 0))
            .with_context(cannot)?;
        sys::swap_on(&device).with_context(cannot)?;
        Ok(Self { directory })
    }

    /// The current content.
    pub(super) fn content(&self) -> Option<ZramContent> {
        parse(&fs::read_to_string(self.directory.join("mm_stat")).ok()?)
    }

    /// The name of the algorithm, for messages.
    pub(super) fn algorithm(&self) -> String {
        let list = fs::read_to_string(self.directory.join("comp_algorithm")).unwrap_or_default();
        let chosen = list.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        chosen.map(|(name, _)| name.to_owned()).unwrap_or_default()
    }
}

/// The name of an unused device.
fn fresh_device() -> anyhow::Result<String> {
    let size = || fs::read_to_string(Path::new("/sys/block").join(FIRST).join("disksize"));
    if size().is_err() {
        modules::want("zram");
    }
    match size() {
        Ok(size) if size.trim() == "0" => Ok(FIRST.into()),
        Ok(_) => {
            let number = fs::read_to_string(ANOTHER).with_context(|| format!("cannot read `{ANOTHER}`"))?;
            Ok(format!("zram{}", number.trim()))
        }
        Err(_) => anyhow::bail!("the kernel lacks zram"),
    }
}

/// The header that mkswap(8) writes.
fn header(pages: u64) -> Vec<u8> {
    let mut header = vec![0; PAGE];
    header[VERSION..VERSION + 4].copy_from_slice(&1_u32.to_ne_bytes());
    let last = u32::try_from(pages.saturating_sub(1)).unwrap_or(u32::MAX);
    header[LAST_PAGE..LAST_PAGE + 4].copy_from_slice(&last.to_ne_bytes());
    header[PAGE - MAGIC.len()..].copy_from_slice(MAGIC);
    header
}

/// Parses `mm_stat`: the first and the third number.
fn parse(stat: &str) -> Option<ZramContent> {
    let mut numbers = stat.split_ascii_whitespace();
    let original = numbers.next()?.parse().ok()?;
    Some(ZramContent { original, used: numbers.nth(1)?.parse().ok()? })
}

/// Disables swapping to all zram devices, so that none of them uses memory in the new system. The store must be
/// unmounted before, or all its swapped pages would be read back into memory.
pub(crate) fn stop() {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    for device in swaps.lines().filter_map(|line| line.split_ascii_whitespace().next()) {
        let Some(name) = device.strip_prefix("/dev/").filter(|name| name.starts_with("zram")) else {
            continue;
        };
        // If its pages do not fit into memory, the device stays in use in the new system.
        if sys::swap_off(Path::new(device)).is_ok() {
            let _ = fs::write(Path::new("/sys/block").join(name).join("reset"), "1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_mkswap() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let pages = 64;
        file.as_file().set_len(pages * PAGE as u64).unwrap();
        file.as_file().write_all_at(&header(pages), 0).unwrap();
        let said = std::process::Command::new("blkid").arg("-p").arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("TYPE=\"swap\"") && said.contains("VERSION=\"1\""), "{said}");
    }

    #[test]
    fn the_usage_of_a_device_is_read() {
        let stat = "  4096000  1200000  1318912        0  1318912       12        3        0        0\n";
        assert_eq!(parse(stat), Some(ZramContent { original: 4_096_000, used: 1_318_912 }));
        assert_eq!(parse(""), None);
    }
}
