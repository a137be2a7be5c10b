//! The machine's memory, and its peak use.

mod store;
mod zram;

pub(crate) use store::{STORE, SpareMemory, StoreMemory};
pub(crate) use zram::stop as stop_swapping;

use events::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often memory use is sampled: often compared with the duration of a pull, and cheap enough for a whole boot.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);

/// The OOM score adjustment of this process and the zygote: when memory is full, containers are killed first, then
/// other programs. Not -1000 ("never"), because a kernel without a process to kill panics (proc_pid_oom_score_adj(5)).
const KILLED_LAST: &str = "-900";
/// Contains a line `oom_kill NUMBER` since Linux 4.13.
const COUNTS: &str = "/proc/vmstat";

/// Makes the kernel kill this process last when memory is full. Child processes inherit that.
pub(crate) fn protect_from_oom_killer() {
    // Fails without CAP_SYS_RESOURCE; then this process is treated like any other.
    let _ = std::fs::write(sys::OOM_SCORE, KILLED_LAST);
}

/// How many processes the kernel has killed since boot because memory, or a memory limit, was exhausted.
pub(crate) fn kills() -> u64 {
    std::fs::read_to_string(COUNTS).map_or(0, |text| kills_in(&text))
}

fn kills_in(vmstat: &str) -> u64 {
    let number = vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    number.unwrap_or(0)
}

/// Sizes in bytes (proc(5), `/proc/meminfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    /// What new programs can use without swapping.
    pub(crate) available: u64,
    /// Used by file systems in memory, and not swapped out.
    pub(crate) shared: u64,
    pub(crate) swap_free: u64,
}

/// The current values.
pub(crate) fn read() -> Option<Memory> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse(meminfo: &str) -> Option<Memory> {
    let bytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
    };
    Some(Memory {
        total: bytes("MemTotal")?,
        available: bytes("MemAvailable")?,
        shared: bytes("Shmem").unwrap_or_default(),
        swap_free: bytes("SwapFree").unwrap_or_default(),
    })
}

/// Records the peak use of memory.
pub(crate) struct Watch {
    peak: Arc<AtomicU64>,
}

impl Watch {
    /// Samples from now on until the process ends.
    pub(crate) fn start() -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let watched = Arc::clone(&peak);
        thread::spawn(move || {
            loop {
                sample(&watched);
                thread::sleep(SAMPLE_INTERVAL);
            }
        });
        Self { peak }
    }

    /// The peak so far, as an event.
    pub(crate) fn summary(&self) -> Event {
        sample(&self.peak);
        let total = read().map_or(0, |memory| memory.total);
        Event::Memory { peak: self.peak.load(Ordering::Relaxed), total }
    }
}

fn sample(peak: &AtomicU64) {
    if let Some(memory) = read() {
        peak.fetch_max(memory.total.saturating_sub(memory.available), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_read() {
        assert_eq!(kills_in("pgfault 7\noom_kill 3\noom_kill_disable 9\n"), 3);
        assert_eq!(kills_in("pgfault 7\n"), 0);
    }

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text =
            "MemTotal:         102400 kB\nMemFree:  1 kB\nMemAvailable:      51200 kB\nShmem: 1024 kB\n";
        let expected = Memory { total: 100 << 20, available: 50 << 20, shared: 1 << 20, swap_free: 0 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("MemTotal: 1 kB\n"), None);
    }
}
