//! Swap in memory, compressed (the kernel's Documentation/admin-guide/blockdev/zram.rst): what of the store is not in
//! use takes less than half.
//!
//! The rules: it is made when an image does not fit without it, and never before. The device is twice as large as the
//! memory, since no more can be expected of compression. The algorithm is zstd where the kernel has it, because memory
//! is what lacks and not time; else the kernel's own choice.

use crate::machine::modules;
use anyhow::Context as _;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Best first. Measured on Debian's `/usr`: zstd 3.3, lzo-rle 2.2.
const ALGORITHM: &str = "zstd";
/// Times the memory.
const SIZE: u64 = 2;
/// The device that the module makes when it is loaded.
const FIRST: &str = "zram0";
/// Where others are made.
const ANOTHER: &str = "/sys/class/zram-control/hot_add";

/// The area's header (swap(5) has none; linux/swap.h, `union swap_header`): bytes of a page, and where in it what is.
const PAGE: usize = 4096;
const VERSION: usize = 1024;
const LAST_PAGE: usize = 1028;
const MAGIC: &[u8] = b"SWAPSPACE2";

/// A device in use as swap.
#[derive(Debug)]
pub(super) struct Zram {
    directory: PathBuf,
}

/// What a device holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ZramContent {
    /// Before it was compressed.
    pub(super) original: u64,
    /// All memory that it takes.
    pub(super) used: u64,
}

impl Zram {
    /// Makes one for a machine with so much memory, and has the kernel swap to it.
    pub(super) fn start(memory: u64) -> anyhow::Result<Self> {
        let name = fresh_device()?;
        let directory = Path::new("/sys/block").join(&name);
        let set = |file: &str, value: &str| {
            let path = directory.join(file);
            fs::write(&path, value).with_context(|| format!("cannot write `{value}` to `{}`", path.display()))
        };
        // A kernel without it has another.
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

    /// What it holds now.
    pub(super) fn content(&self) -> Option<ZramContent> {
        parse(&fs::read_to_string(self.directory.join("mm_stat")).ok()?)
    }

    /// The algorithm, for people.
    pub(super) fn algorithm(&self) -> String {
        let list = fs::read_to_string(self.directory.join("comp_algorithm")).unwrap_or_default();
        let chosen = list.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        chosen.map(|(name, _)| name.to_owned()).unwrap_or_default()
    }
}

/// A device that nobody uses.
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
        Err(_) => anyhow::bail!("the kernel has no zram"),
    }
}

/// As mkswap(8) writes it.
fn header(pages: u64) -> Vec<u8> {
    let mut header = vec![0; PAGE];
    header[VERSION..VERSION + 4].copy_from_slice(&1_u32.to_ne_bytes());
    let last = u32::try_from(pages.saturating_sub(1)).unwrap_or(u32::MAX);
    header[LAST_PAGE..LAST_PAGE + 4].copy_from_slice(&last.to_ne_bytes());
    header[PAGE - MAGIC.len()..].copy_from_slice(MAGIC);
    header
}

/// From the text of `mm_stat`: the first and the third number.
fn parse(stat: &str) -> Option<ZramContent> {
    let mut numbers = stat.split_ascii_whitespace();
    let original = numbers.next()?.parse().ok()?;
    Some(ZramContent { original, used: numbers.nth(1)?.parse().ok()? })
}

/// Ends all swapping to such devices, so that none of them holds memory in the new system. The store must be gone: its
/// pages would all come back.
pub(crate) fn stop() {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    for device in swaps.lines().filter_map(|line| line.split_ascii_whitespace().next()) {
        let Some(name) = device.strip_prefix("/dev/").filter(|name| name.starts_with("zram")) else {
            continue;
        };
        // What cannot be had back stays in use: the new system goes on with it.
        if sys::swap_off(Path::new(device)).is_ok() {
            let _ = fs::write(Path::new("/sys/block").join(name).join("reset"), "1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_mkswaps() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let pages = 64;
        file.as_file().set_len(pages * PAGE as u64).unwrap();
        file.as_file().write_all_at(&header(pages), 0).unwrap();
        let said = std::process::Command::new("blkid").arg("-p").arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("TYPE=\"swap\"") && said.contains("VERSION=\"1\""), "{said}");
    }

    #[test]
    fn what_a_device_holds_is_read() {
        let stat = "  4096000  1200000  1318912        0  1318912       12        3        0        0\n";
        assert_eq!(parse(stat), Some(ZramContent { original: 4_096_000, used: 1_318_912 }));
        assert_eq!(parse(""), None);
    }
}
