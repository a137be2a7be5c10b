//! The common cgroup of all containers. Whatever they do, the machine keeps the memory and the processes that it needs
//! to notice the problem, end the container and report it.
//!
//! With a memory controller, the kernel enforces the limit, which follows the memory use of the rest of the machine.
//! Without one, the containers are killed when less than the reserve is free. Files in a tmpfs are charged to the
//! cgroup that wrote them (cgroup-v2.rst, "Memory Ownership").

use super::cgroup::{self, MemoryFiles};
use super::hierarchy::Cgroups;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// Bytes of memory that containers leave to the machine: this fraction of the whole, within bounds. The lower bound is
/// the measured use of this program and the kernel's own bookkeeping while a container runs; a machine of 128 MiB
/// cannot spare more. The upper bound is twice what pulling the image of the next job takes (docs/memory.md).
const RESERVE_PART: u64 = 64;
const LEAST_RESERVE: u64 = 4 << 20;
const MOST_RESERVE: u64 = 32 << 20;
/// The least limit in bytes: with less, not even the PID 1 of a container can start.
const LEAST_LIMIT: u64 = 4 << 20;
/// How often the limit is adjusted to the use of the rest of the machine, which takes some 10 MB in that time during a
/// pull.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);
/// The limit is written again when it differs by more bytes than this.
const TOLERANCE: u64 = 1 << 20;
/// The fraction of its content that compressed swap is expected to save: a half (zram.rst, "we expect a 2:1 compression
/// ratio").
const SAVED_PART: u64 = 2;
/// Containers get this many quarters of the processes that the kernel allows: the rest of the machine has less than a
/// hundred, and threads for each download.
const QUARTERS_OF_PROCESSES: u64 = 3;
/// The limits of processes and threads, and of PIDs (proc_sys_kernel(5)).
const MACHINE_LIMITS: [&str; 2] = ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"];

/// Bytes of memory that all containers together leave to a machine with `total` bytes.
pub fn memory_reserve(total: u64) -> u64 {
    (total / RESERVE_PART).clamp(LEAST_RESERVE, MOST_RESERVE)
}

/// All containers of a [`super::Runtime`]. Dropping it ends those that are left.
#[derive(Debug)]
pub(super) struct Group {
    /// The parents of the containers' own cgroups.
    inside: Cgroups,
    memory: Option<(PathBuf, &'static MemoryFiles)>,
    pids: Option<PathBuf>,
    /// All directories of the group.
    directories: Vec<PathBuf>,
    /// The current memory limit of all containers in bytes; 0 where there is no memory controller.
    limit: AtomicU64,
    /// The limit of processes and threads of all containers.
    process_limit: u64,
    /// How often the group was killed by this program, for lack of a memory controller.
    kills: AtomicU64,
    #[cfg(test)]
    held: std::sync::atomic::AtomicBool,
}

/// The memory of the machine in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MachineMemory {
    total: u64,
    /// Memory that can be used without killing anything.
    available: u64,
}

impl Group {
    /// Creates the group in the machine's cgroups, and keeps adjusting its limit to the memory use of the machine.
    pub(super) fn begin(found: &Cgroups) -> Arc<Self> {
        let group = Arc::new(Self::make(found));
        group.look();
        let followed = Arc::downgrade(&group);
        thread::spawn(move || follow(&followed));
        group
    }

    fn make(found: &Cgroups) -> Self {
        let inside = found.within(&format!("iguana-{}", std::process::id()));
        let (memory, pids) = (inside.memory_directory(), inside.pids_directory());
        let process_limit = process_limit(MACHINE_LIMITS.map(|file| cgroup::number_in(Path::new(file))));
        if let Some(directory) = &pids {
            // An error is ignored: a lower limit of a parent applies anyway.
            let _ = cgroup::write(&directory.join("pids.max"), &process_limit.to_string());
        }
        let directories = inside.directories();
        let (limit, kills) = (AtomicU64::default(), AtomicU64::default());
        Self {
            inside,
            memory,
            pids,
            directories,
            limit,
            process_limit,
            kills,
            #[cfg(test)]
            held: Default::default(),
        }
    }

    /// Fixes the limit, whatever the machine has.
    #[cfg(test)]
    pub(super) fn hold_limit(&self, limit: u64) {
        let (directory, files) = self.memory.as_ref().unwrap();
        self.held.store(true, Ordering::Relaxed);
        // Until an adjustment that has already begun is over.
        thread::sleep(FOLLOW_INTERVAL);
        cgroup::write(&directory.join(files.limit), &limit.to_string()).unwrap();
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The parents of the containers' own cgroups.
    pub(super) fn cgroups(&self) -> &Cgroups {
        &self.inside
    }

    /// The current memory limit of all containers in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// The limit of processes and threads of all containers.
    pub(super) fn process_limit(&self) -> u64 {
        self.process_limit
    }

    /// How often all containers were killed by this program, for lack of a memory controller.
    pub(super) fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    /// How often the memory limit of all containers has led to a kill.
    pub(super) fn memory_refusals(&self) -> u64 {
        let counted = self.memory.as_ref().map_or(0, |(directory, files)| files.refusals(directory));
        counted + self.kills()
    }

    /// How often the process limit of all containers was reached. Before Linux 6.11 the kernel counts that in the
    /// cgroup of the process that failed to fork.
    pub(super) fn process_refusals(&self) -> u64 {
        self.pids.as_ref().map_or(0, |directory| {
            cgroup::process_refusals(directory) + cgroup::process_refusals(&directory.join(cgroup::INSIDE))
        })
    }

    /// Adjusts the limit to the machine, or enforces it without a memory controller.
    fn look(&self) {
        #[cfg(test)]
        if self.held.load(Ordering::Relaxed) {
            return;
        }
        let Some(machine) = MachineMemory::read() else { return };
        match &self.memory {
            Some((directory, files)) => {
                let limit = limit(machine, files.used(directory));
                if limit.abs_diff(self.limit()) > TOLERANCE
                    && cgroup::write(&directory.join(files.limit), &limit.to_string()).is_ok()
                {
                    self.limit.store(limit, Ordering::Relaxed);
                }
            }
            None if machine.available < memory_reserve(machine.total) => self.kill(),
            None => {}
        }
    }

    /// Kills all containers. Without any cgroup only the kernel's OOM killer does that, one process after the other.
    fn kill(&self) {
        if let Some(directory) = self.inside.unified_directory()
            && cgroup::has_processes(directory)
        {
            self.kills.fetch_add(1, Ordering::Relaxed);
            cgroup::kill(directory);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.directories.iter().for_each(|directory| cgroup::end(directory));
    }
}

fn follow(group: &Weak<Group>) {
    while let Some(group) = group.upgrade() {
        group.look();
        drop(group);
        thread::sleep(FOLLOW_INTERVAL);
    }
}

/// The limit of containers that use `used` bytes: those, and what is available, without the reserve.
fn limit(machine: MachineMemory, used: u64) -> u64 {
    (used + machine.available).saturating_sub(memory_reserve(machine.total)).max(LEAST_LIMIT)
}

fn process_limit(machine: [Option<u64>; 2]) -> u64 {
    /// The limit of a 32-bit kernel (proc_sys_kernel(5), `pid_max`).
    const USUAL: u64 = 32768;
    machine.into_iter().flatten().min().unwrap_or(USUAL) * QUARTERS_OF_PROCESSES / 4
}

impl MachineMemory {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/meminfo").ok()?)
    }

    /// Parses the text of proc_meminfo(5). The content of a tmpfs can be swapped out, which saves half of it when
    /// compressed.
    fn parse(meminfo: &str) -> Option<Self> {
        let bytes = |key: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
        };
        let swappable = bytes("SwapFree").unwrap_or(0).min(bytes("Shmem").unwrap_or(0)) / SAVED_PART;
        Some(Self { total: bytes("MemTotal")?, available: bytes("MemAvailable")? + swappable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn containers_get_what_is_free_but_for_the_reserve() {
        let machine = |available: u64| MachineMemory { total: 512 * MIB, available: available * MIB };
        assert_eq!(limit(machine(400), 0), 392 * MIB);
        // The use by containers does not change the limit.
        assert_eq!(limit(machine(300), 100 * MIB), 392 * MIB);
        // The use by the rest of the machine lowers the limit, even below the use by containers.
        assert_eq!(limit(machine(2), 100 * MIB), 94 * MIB);
        assert_eq!(limit(machine(0), 0), LEAST_LIMIT);
    }

    #[test]
    fn the_reserve_grows_with_the_machine_within_bounds() {
        assert_eq!([128, 1024, 65536].map(|total| memory_reserve(total * MIB) / MIB), [4, 16, 32]);
    }

    #[test]
    fn containers_leave_a_part_of_the_processes() {
        assert_eq!(process_limit([Some(4000), Some(32768)]), 3000);
        assert_eq!(process_limit([None, None]), 24576);
    }

    #[test]
    fn swappable_memory_counts_half() {
        let text = "MemTotal: 102400 kB\nMemAvailable: 10240 kB\nShmem: 40960 kB\nSwapFree: 20480 kB\n";
        assert_eq!(MachineMemory::parse(text), Some(MachineMemory { total: 100 * MIB, available: 20 * MIB }));
        assert_eq!(MachineMemory::parse("MemTotal: 1 kB\n"), None);
    }
}
