//! The cgroup of all containers together. Whatever they do, the machine keeps the memory and the processes that it needs
//! to go on: to notice, to end the container, and to tell.
//!
//! Where memory is counted, the kernel enforces the limit; it follows what the rest of the machine takes. Where it is not,
//! containers are killed when the reserve is touched. Files in a tmpfs count for whoever wrote them (cgroup-v2.rst,
//! "Memory Ownership").

use super::cgroup::{self, MemoryFiles};
use super::hierarchy::Cgroups;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// Memory in bytes that containers leave to the machine: one part in so many of all of it, within bounds. The least is
/// what this program and the kernel's own bookkeeping were measured to take while a container runs, and a machine of
/// 128 MiB has no more to spare; the most is what pulling the next job's image takes (docs/memory.md), twice.
const RESERVE_PART: u64 = 64;
const LEAST_RESERVE: u64 = 4 << 20;
const MOST_RESERVE: u64 = 32 << 20;
/// A limit of fewer bytes lets not even PID 1 of a container begin.
const LEAST_LIMIT: u64 = 4 << 20;
/// How often the limit follows the rest of the machine, which takes some 10 MB in that time when it pulls.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
/// Bytes by which the limit must be wrong to be set again.
const TOLERANCE: u64 = 1 << 20;
/// What compressed swap is expected to save of what lies in it: a half (zram.rst, "we expect a 2:1 compression ratio").
const SAVED_PART: u64 = 2;
/// Of the processes that the kernel can have, so many quarters are for containers: the rest of the machine has less than
/// a hundred, and threads for each download.
const QUARTERS_OF_PROCESSES: u64 = 3;
/// Numbers of processes and threads, and how many there may be (proc_sys_kernel(5)).
const MACHINE_LIMITS: [&str; 2] = ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"];

/// Memory in bytes that all containers together leave to a machine that has `total` of it.
pub fn memory_reserve(total: u64) -> u64 {
    (total / RESERVE_PART).clamp(LEAST_RESERVE, MOST_RESERVE)
}

/// All containers of a [`super::Runtime`]. Dropping it ends what is left of them.
#[derive(Debug)]
pub(super) struct Group {
    /// Where the containers' own cgroups are made.
    inside: Cgroups,
    memory: Option<(PathBuf, &'static MemoryFiles)>,
    pids: Option<PathBuf>,
    /// All directories that are the group's.
    directories: Vec<PathBuf>,
    /// Bytes that all containers may use now; none where nothing limits them.
    limit: AtomicU64,
    /// The most processes, and threads, of all containers.
    process_limit: u64,
    /// How often it was killed because memory is not counted here.
    kills: AtomicU64,
    #[cfg(test)]
    held: std::sync::atomic::AtomicBool,
}

/// The machine's memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MachineMemory {
    total: u64,
    /// What could be used without anything being killed.
    available: u64,
}

impl Group {
    /// Makes the group among the cgroups of the machine, and has its limit follow what the machine needs.
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
            // A lower one further up counts all the same.
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

    /// Has the limit be this one from now on, whatever the machine has.
    #[cfg(test)]
    pub(super) fn hold_limit(&self, limit: u64) {
        let (directory, files) = self.memory.as_ref().unwrap();
        self.held.store(true, Ordering::Relaxed);
        // A look that had begun before has ended.
        thread::sleep(FOLLOW_EVERY);
        cgroup::write(&directory.join(files.limit), &limit.to_string()).unwrap();
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Where the cgroup of a container is made.
    pub(super) fn cgroups(&self) -> &Cgroups {
        &self.inside
    }

    /// Bytes that all containers may use now.
    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// The most processes, and threads, of all containers.
    pub(super) fn process_limit(&self) -> u64 {
        self.process_limit
    }

    /// How often all containers were killed because memory is not counted here.
    pub(super) fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    /// How often the limit of memory of all containers has led to a kill.
    pub(super) fn memory_refusals(&self) -> u64 {
        let counted = self.memory.as_ref().map_or(0, |(directory, files)| files.refusals(directory));
        counted + self.kills()
    }

    /// How often there were as many processes as all containers may have. Before Linux 6.11 that is counted where the
    /// process is that wanted another one.
    pub(super) fn process_refusals(&self) -> u64 {
        self.pids.as_ref().map_or(0, |directory| {
            cgroup::process_refusals(directory) + cgroup::process_refusals(&directory.join(cgroup::INSIDE))
        })
    }

    /// Has the limit follow the machine, or does what the limit would do.
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

    /// Kills all containers. Without any cgroup the kernel alone does that, one process after the other.
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
        thread::sleep(FOLLOW_EVERY);
    }
}

/// What containers that use so many bytes may use in all: that, and what is free, without the reserve.
fn limit(machine: MachineMemory, used: u64) -> u64 {
    (used + machine.available).saturating_sub(memory_reserve(machine.total)).max(LEAST_LIMIT)
}

fn process_limit(machine: [Option<u64>; 2]) -> u64 {
    /// What a 32-bit kernel has (proc_sys_kernel(5), `pid_max`).
    const USUAL: u64 = 32768;
    machine.into_iter().flatten().min().unwrap_or(USUAL) * QUARTERS_OF_PROCESSES / 4
}

impl MachineMemory {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/meminfo").ok()?)
    }

    /// From the text of proc_meminfo(5). What lies in a tmpfs can be swapped, at the price of its compressed half.
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
        // What they take from the machine changes nothing.
        assert_eq!(limit(machine(300), 100 * MIB), 392 * MIB);
        // What others take makes it lower, also than what they use already.
        assert_eq!(limit(machine(2), 100 * MIB), 94 * MIB);
        assert_eq!(limit(machine(0), 0), LEAST_LIMIT);
    }

    #[test]
    fn the_reserve_grows_with_the_machine_within_bounds() {
        assert_eq!([128, 1024, 65536].map(|total| memory_reserve(total * MIB) / MIB), [4, 16, 32]);
    }

    #[test]
    fn a_part_of_the_machines_processes_is_not_for_containers() {
        assert_eq!(process_limit([Some(4000), Some(32768)]), 3000);
        assert_eq!(process_limit([None, None]), 24576);
    }

    #[test]
    fn what_can_be_swapped_counts_by_half() {
        let text = "MemTotal: 102400 kB\nMemAvailable: 10240 kB\nShmem: 40960 kB\nSwapFree: 20480 kB\n";
        assert_eq!(MachineMemory::parse(text), Some(MachineMemory { total: 100 * MIB, available: 20 * MIB }));
        assert_eq!(MachineMemory::parse("MemTotal: 1 kB\n"), None);
    }
}
