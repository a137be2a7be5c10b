//! The store's file system: a tmpfs of its own, so that a full store is an error and does not take the memory of PID 1.

use super::zram::{Zram, ZramContent};
use super::{Memory, read};
use crate::report::Report;
use anyhow::Context as _;
use hint::hinted;
use oci_layer::Capacity;
use rustix::mount::{MountFlags, mount, mount_remount};
use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// Where images are unpacked, and where containers write.
pub(crate) const STORE: &str = "/run/iguana/store";
/// The mode of its root. A container may create a setuid root program in it, which users of the machine must not reach.
const MODE: u32 = 0o700;
/// Bytes of memory that the store leaves free, besides what containers leave to the machine: for the kernel, this
/// program and the processes of containers. Measured: a boot of the tiny image uses less than 12 MiB besides the store.
/// With less, a container that fills its rootfs is killed at the limit of all containers before it gets an error.
const BESIDES: u64 = 12 << 20;
/// The same where the store may be swapped: data being unpacked or read must be in memory.
const RESERVE_OF_SWAP: u64 = 32 << 20;
/// Bytes of kernel memory that an empty file takes: its inode and its name.
const SMALLEST_FILE: u64 = 1024;
/// The compression ratio, in hundredths, that is assumed while too little was compressed to measure it (zram.rst, "we
/// expect a 2:1 compression ratio").
const EXPECTED: u64 = 200;
/// Bytes of compressed data from which on the measured ratio is used.
const RATIO_SAMPLE: u64 = 32 << 20;
/// The highest ratio that is assumed, in hundredths: the next data may be compressed already.
const RATIO_LIMIT: u64 = 300;

/// How often the limit is adapted to the measured ratio: a fast container writes some 100 MB in that time.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// The store's memory. Safe to use from several threads.
#[derive(Clone)]
pub(crate) struct StoreMemory(Arc<Shared>);

struct Shared {
    report: Report,
    may_swap: bool,
    swap: Mutex<Swap>,
}

enum Swap {
    Untried,
    On(Zram),
    No,
}

impl StoreMemory {
    /// Mounts the store, as large as the free memory allows. `may_swap` allows zram swap, if Iguana manages the
    /// machine.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no memory.
    pub(crate) fn mount(may_swap: bool, report: &Report) -> anyhow::Result<Self> {
        let (available, reserve) =
            read().map_or((0, BESIDES), |memory| (memory.available, reserve(memory.total)));
        // tmpfs treats a size of 0 as "no limit".
        let size = available.checked_sub(reserve).filter(|size| *size > 0).ok_or_else(|| {
            hinted(
                format!(
                    "not enough memory for images: {} MiB free, {} MiB reserved",
                    available >> 20,
                    reserve >> 20
                ),
                "give the machine more memory",
            )
        })?;
        fs::create_dir_all(STORE).with_context(|| format!("cannot create `{STORE}`"))?;
        mount("tmpfs", STORE, "tmpfs", MountFlags::empty(), limits(size)?.as_c_str())
            .with_context(|| format!("cannot mount the store at `{STORE}`"))?;
        Ok(Self(Arc::new(Shared { report: report.clone(), may_swap, swap: Mutex::new(Swap::Untried) })))
    }
}

impl Shared {
    fn swap(&self) -> MutexGuard<'_, Swap> {
        // A panic leaves no partial change, so the state stays valid.
        self.swap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn swap_on(&self, memory: Memory) -> Swap {
        match Zram::start(memory.total) {
            Ok(zram) => {
                self.report.say(format_args!(
                    "memory: {} MiB are not enough for the images: compressing them ({})",
                    memory.total >> 20,
                    zram.algorithm()
                ));
                Swap::On(zram)
            }
            Err(error) => {
                self.report.warn(format_args!("cannot compress memory: {error:#}"));
                Swap::No
            }
        }
    }

    /// The bytes that are left. With swap, also adapts the file system's limit to the measured compression ratio, so
    /// that a container that fills the store gets an error before the kernel has to kill a process.
    fn left(&self) -> u64 {
        let Some(memory) = read() else { return u64::MAX };
        let held = StoreUsage::read();
        match &*self.swap() {
            Swap::On(zram) => {
                let left = left_with(memory, zram.content());
                let size = limits(held.used.saturating_add(left).max(1));
                // The kernel refuses a limit below the current use; then nothing is left in any case.
                let _ = size.map(|size| mount_remount(STORE, MountFlags::empty(), size.as_c_str()));
                left
            }
            Swap::Untried | Swap::No => held.free.min(memory.available.saturating_sub(reserve(memory.total))),
        }
    }
}

impl Capacity for StoreMemory {
    fn left(&self) -> u64 {
        self.0.left()
    }

    fn stretch(&self) {
        let mut swap = self.0.swap();
        if let (Swap::Untried, true, Some(memory)) = (&*swap, self.0.may_swap, read()) {
            *swap = self.0.swap_on(memory);
            if let Swap::On(_) = *swap {
                follow(Arc::downgrade(&self.0));
            }
        }
    }
}

/// Adapts the limit as long as the store exists.
fn follow(shared: Weak<Shared>) {
    thread::spawn(move || {
        while let Some(shared) = shared.upgrade() {
            shared.left();
            drop(shared);
            thread::sleep(FOLLOW_INTERVAL);
        }
    });
}

/// Half of what is left in the store, for prefetched images. Never starts swapping.
pub(crate) struct SpareMemory<'a> {
    space: &'a StoreMemory,
    kept: u64,
    /// Once this is false, no memory is left for prefetching.
    has_time: &'a AtomicBool,
}

impl<'a> SpareMemory<'a> {
    pub(crate) fn of(space: &'a StoreMemory, has_time: &'a AtomicBool) -> Self {
        Self { space, kept: space.left() / 2, has_time }
    }
}

impl Capacity for SpareMemory<'_> {
    fn left(&self) -> u64 {
        if self.has_time.load(Ordering::Relaxed) { self.space.left().saturating_sub(self.kept) } else { 0 }
    }

    fn stretch(&self) {}
}

/// Bytes that the store leaves free on a machine with `total` bytes.
fn reserve(total: u64) -> u64 {
    BESIDES + runtime::memory_reserve(total)
}

/// Bytes that can still be unpacked if these and the present content may be compressed.
fn left_with(memory: Memory, content: Option<ZramContent>) -> u64 {
    let ratio = content.map_or(EXPECTED, ratio);
    let resident = memory.shared;
    let usable = (memory.available + resident).saturating_sub(RESERVE_OF_SWAP);
    let all = usable.saturating_mul(ratio) / 100;
    all.saturating_sub(resident).min(memory.swap_free.saturating_add(memory.available))
}

/// The compression ratio in hundredths.
fn ratio(content: ZramContent) -> u64 {
    if content.original < RATIO_SAMPLE {
        return EXPECTED;
    }
    (content.original.saturating_mul(100) / content.used.max(1)).clamp(100, RATIO_LIMIT)
}

/// The use of the store's file system, in bytes.
struct StoreUsage {
    used: u64,
    free: u64,
}

impl StoreUsage {
    fn read() -> Self {
        rustix::fs::statvfs(Path::new(STORE)).map_or(Self { used: 0, free: u64::MAX }, |stat| Self {
            used: (stat.f_blocks - stat.f_bfree) * stat.f_frsize,
            free: stat.f_bfree * stat.f_frsize,
        })
    }
}

/// The mount options (tmpfs(5)). The default number of inodes, half of all pages, is too low for many small files in
/// little memory.
fn limits(size: u64) -> anyhow::Result<CString> {
    Ok(CString::new(format!("mode={MODE:04o},size={size},nr_inodes={}", size / SMALLEST_FILE))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn memory(available: u64, shared: u64) -> Memory {
        Memory { total: 512 * MIB, available: available * MIB, shared: shared * MIB, swap_free: 1024 * MIB }
    }

    #[test]
    fn an_empty_store_takes_twice_what_is_free_but_for_the_reserve() {
        assert_eq!(left_with(memory(432, 0), None), 800 * MIB);
        // The resident 200 MiB take half when they are swapped.
        assert_eq!(left_with(memory(232, 200), None), 600 * MIB);
        assert_eq!(left_with(memory(20, 10), None), 0);
    }

    #[test]
    fn only_root_can_access_the_store() {
        assert_eq!(limits(MIB).unwrap().to_str().unwrap(), "mode=0700,size=1048576,nr_inodes=1024");
    }

    #[test]
    fn incompressible_content_leaves_the_free_memory() {
        let content = Some(ZramContent { original: 100 * MIB, used: 101 * MIB });
        assert_eq!(left_with(memory(132, 100), content), 100 * MIB);
        assert_eq!(ratio(ZramContent { original: 100 * MIB, used: 10 * MIB }), RATIO_LIMIT);
        assert_eq!(ratio(ZramContent { original: MIB, used: MIB }), EXPECTED);
    }
}
