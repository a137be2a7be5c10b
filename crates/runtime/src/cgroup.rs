//! The cgroup of a container (cgroups(7)): it counts and limits the container's resources, and no descendant of the
//! container can leave it.
//!
//! The first process of a container is created in its cgroup of version 2. To move an existing process, the kernel
//! waits for all processors (measured: 5 to 16 ms, a third of a container's whole start). So a hierarchy of version 1
//! is used only where a limit needs it.

use super::group::Group;
use super::hierarchy::Controller;
use super::running::{LimitReached, MemoryShortage};
use anyhow::Context as _;
use hint::{WithHint as _, hinted};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, waitpid,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Has a line `oom_kill NUMBER`, since Linux 4.13.
const KILLS_OF_ALL: &str = "/proc/vmstat";

/// Time limit for the kernel to end killed processes. One that waits for a disk takes longer, and is left behind.
const END_LIMIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// The child cgroup of version 1 that holds the processes, and that of version 2 for an init system. A container with a cgroup namespace sees it as the root and
/// can write its files, so the limits are set one level above. In version 2 `nsdelegate` protects them (cgroups(7)).
pub(super) const INSIDE: &str = "inside";
/// The child cgroup of version 2 that holds the container's PID 1 beside an init system.
const OURS: &str = "ours";
/// Cgroups that a container may make below its own, and how deep below one another. One with systemd in it has some
/// hundred, less than ten deep. The kernel does not count the memory of all of them, and what lies deeper than the longest
/// path could not be removed.
const CGROUPS: u64 = 1000;
const DEPTH: u64 = 32;
/// PID 1 of a container is ours, with a thread, and does not count.
const OUR_PROCESSES: u64 = 2;

/// The resource limits of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ResourceLimits {
    /// Bytes of memory.
    pub(super) memory: Option<u64>,
    /// Processes and threads.
    pub(super) pids: Option<u64>,
}

/// The cgroup of one container. Dropping it kills every process in it, and removes it.
#[derive(Debug)]
pub(super) struct Cgroup {
    unified: Option<PathBuf>,
    /// The cgroups of the container in hierarchies of version 1.
    others: Vec<PathBuf>,
    /// The cgroup that is the root for the container's init system.
    of_init_system: Option<PathBuf>,
    memory: MemoryAccount,
    processes: ProcessAccount,
}

/// The memory use of a container. It can be read as long as the cgroup exists.
#[derive(Debug, Clone)]
pub(super) struct MemoryAccount {
    /// The directory of the cgroup that counts it, and the names of its files.
    counted: Option<(PathBuf, &'static MemoryFiles)>,
    limit: Option<u64>,
    /// The number of kills when the container was started.
    kills_before: u64,
    group: Arc<Group>,
    /// How often the limit of all containers had been reached when the container was started.
    refusals_before: u64,
}

/// How often a container could not create a process because of the limit of all containers.
#[derive(Debug, Clone)]
pub(super) struct ProcessAccount {
    group: Arc<Group>,
    /// The container's cgroup, unless it has a limit of its own.
    own: Option<PathBuf>,
}

impl ProcessAccount {
    pub(super) fn refusals(&self) -> u64 {
        self.group.process_refusals() + self.own.as_deref().map_or(0, process_refusals)
    }

    /// The process limit of all containers.
    pub(super) fn limit(&self) -> u64 {
        self.group.process_limit()
    }
}

/// The names of the files in one of the two versions.
#[derive(Debug)]
pub(super) struct MemoryFiles {
    pub(super) limit: &'static str,
    used: &'static str,
    /// Lines of `memory.stat` that count what the kernel takes for reclaimable, as in `MemAvailable`: page cache, and the names
    /// of files. Of a tmpfs it can reclaim no names: counted twice, they would not be in the limit of all containers.
    cached: &'static [&'static str],
    /// Counts how often the cgroup's own limit, and not that of a parent or child, led to a kill.
    refusals: &'static str,
    /// Has a line `oom_kill NUMBER`.
    kills: &'static str,
    /// Version 2: since Linux 5.19.
    peak: &'static str,
}

pub(super) const UNIFIED: MemoryFiles = MemoryFiles {
    limit: "memory.max",
    used: "memory.current",
    cached: &["active_file", "inactive_file", "slab_reclaimable"],
    refusals: "memory.events.local",
    kills: "memory.events",
    peak: "memory.peak",
};
pub(super) const VERSION_1: MemoryFiles = MemoryFiles {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: &["total_active_file", "total_inactive_file"],
    // Also counts the times when memory could be reclaimed.
    refusals: "memory.failcnt",
    // Counts kills in the cgroup of the killed process.
    kills: "inside/memory.oom_control",
    peak: "memory.max_usage_in_bytes",
};

impl MemoryFiles {
    /// Bytes in use, without what `MemAvailable` counts as available.
    pub(super) fn used(&self, directory: &Path) -> u64 {
        let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
        let cached: u64 = self.cached.iter().filter_map(|key| number_of(&stat, key)).sum();
        number_in(&directory.join(self.used)).unwrap_or(0).saturating_sub(cached)
    }

    /// How often the cgroup's own limit was reached.
    pub(super) fn refusals(&self, directory: &Path) -> u64 {
        let text = fs::read_to_string(directory.join(self.refusals)).unwrap_or_default();
        text.trim().parse().ok().or_else(|| number_of(&text, "oom")).unwrap_or(0)
    }
}

impl Cgroup {
    /// Creates it as a child of the group's cgroup; `name` is unique among the containers of this process.
    ///
    /// # Errors
    /// When a limit cannot be enforced here.
    pub(super) fn make(group: &Arc<Group>, name: &str, limits: ResourceLimits) -> anyhow::Result<Self> {
        let cgroups = group.cgroups();
        let name = format!("iguana-{}.{name}", std::process::id());
        let memory = MemoryAccount {
            counted: None,
            limit: limits.memory,
            kills_before: 0,
            group: Arc::clone(group),
            refusals_before: group.memory_refusals(),
        };
        let processes = ProcessAccount { group: Arc::clone(group), own: None };
        let mut cgroup = Self { unified: None, others: Vec::new(), of_init_system: None, memory, processes };
        if let Some(directory) = &cgroups.unified {
            let directory = make_directory(directory.join(&name))?;
            limit_cgroups_below(&directory, CGROUPS);
            cgroup.unified = Some(directory);
        }
        cgroup.memory.counted = match (&cgroups.memory, limits.memory) {
            (Some(Controller::Own(directory)), Some(_)) => {
                Some((cgroup.make_other(directory, &name)?, &VERSION_1))
            }
            // Without a limit of its own, it is counted together with all others.
            (Some(Controller::Own(_)), None) => cgroups.memory_directory(),
            (Some(Controller::Unified), _) => cgroup.unified.clone().zip(Some(&UNIFIED)),
            _ => None,
        };
        cgroup.memory.kills_before = cgroup.memory.kills();
        if let Some(limit) = limits.memory {
            cgroup.limit_memory(limit)?;
        }
        match limits.pids {
            Some(limit) => cgroup.limit_processes(limit, cgroups.pids.as_ref(), &name)?,
            None => cgroup.processes.own = cgroup.unified.clone(),
        }
        Ok(cgroup)
    }

    /// Makes a cgroup below it for an init system, with all controllers, and another one for the container's PID 1: an init
    /// system gives controllers to the cgroups that it makes, which the kernel allows only in a cgroup without processes.
    ///
    /// # Errors
    /// When there is no cgroup of version 2, or no other one can be made.
    pub(super) fn for_init_system(mut self) -> anyhow::Result<Self> {
        let directory = self.unified.as_ref().ok_or_else(no_cgroup_for_init_system)?;
        let offered = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
        for controller in offered.split_whitespace() {
            // Ignored: an init system works without controllers.
            let _ = write(&directory.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
        make_directory(directory.join(OURS))?;
        self.of_init_system = Some(make_directory(directory.join(INSIDE))?);
        Ok(self)
    }

    /// The directory of the cgroup that is the root for the container's init system.
    pub(super) fn of_init_system(&self) -> Option<&Path> {
        self.of_init_system.as_deref()
    }

    /// The cgroup of version 2 in which PID 1 starts.
    fn of_pid_1(&self) -> Option<PathBuf> {
        let below = |directory: &PathBuf| match self.of_init_system {
            Some(_) => directory.join(OURS),
            None => directory.clone(),
        };
        self.unified.as_ref().map(below)
    }

    fn make_other(&mut self, directory: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let directory = directory.join(name);
        if !self.others.contains(&directory) {
            self.others.push(make_directory(directory.clone())?);
            // Before Linux 5.11, a memory limit applies to child cgroups only if this is set. Other controllers have no
            // such file.
            let _ = write(&directory.join("memory.use_hierarchy"), "1");
            make_directory(directory.join(INSIDE))?;
        }
        Ok(directory)
    }

    fn limit_memory(&self, limit: u64) -> anyhow::Result<()> {
        let Some((directory, files)) = &self.memory.counted else {
            return Err(cannot_limit("memory", "CONFIG_MEMCG"));
        };
        let file = directory.join(files.limit);
        // Version 1 refuses a limit below the current use.
        if write(&file, &limit.to_string()).is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) {
            return Err(self.memory.too_little());
        }
        set(&file, limit)?;
        // When the kernel kills one process of a program, the rest is seldom of use. Version 1 has no such file.
        let _ = write(&directory.join("memory.oom.group"), "1");
        Ok(())
    }

    fn limit_processes(
        &mut self,
        limit: u64,
        controller: Option<&Controller>,
        name: &str,
    ) -> anyhow::Result<()> {
        let directory = match controller {
            Some(Controller::Unified) => self.unified.clone(),
            Some(Controller::Own(directory)) => Some(self.make_other(directory, name)?),
            None => None,
        };
        let directory = directory.ok_or_else(|| cannot_limit("pids", "CONFIG_CGROUP_PIDS"))?;
        set(&directory.join("pids.max"), limit + OUR_PROCESSES)
    }

    /// Starts a process in the cgroup. `start` gets the directory in which the kernel creates the process, if it
    /// supports that.
    pub(super) fn admit(&self, start: impl Fn(Option<&Path>) -> io::Result<Pid>) -> io::Result<Pid> {
        let mut to_join: Vec<PathBuf> = self.others.iter().map(|directory| directory.join(INSIDE)).collect();
        let started = self.of_pid_1().map(|directory| start(Some(&directory)));
        let process = match started {
            Some(Ok(process)) => process,
            Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
            // A kernel before 5.7.
            _ => {
                to_join.extend(self.of_pid_1());
                start(None)?
            }
        };
        let joined = to_join.into_iter().try_for_each(|directory| {
            write(&directory.join("cgroup.procs"), &process.as_raw_pid().to_string())
        });
        if joined.is_err() {
            // It is a child of this process and not known anywhere else yet.
            let _ = kill_process(process, Signal::KILL);
            let _ = rustix::io::retry_on_intr(|| waitpid(Some(process), WaitOptions::empty()));
        }
        joined.map(|()| process)
    }

    pub(super) fn memory(&self) -> &MemoryAccount {
        &self.memory
    }

    pub(super) fn processes(&self) -> &ProcessAccount {
        &self.processes
    }

    /// Whether PID 1 can be protected from the OOM killer: its container has a limit of its own, which the kernel
    /// enforces by killing all other processes of the container.
    pub(super) fn spares_init(&self) -> bool {
        self.memory.limit.is_some()
            && matches!(self.memory.counted, Some((_, files)) if files.limit == UNIFIED.limit)
    }
}

impl MemoryAccount {
    /// The number of OOM kills in the container; of the whole machine where nothing smaller is counted.
    pub(super) fn kills(&self) -> u64 {
        let counted = self.counted.as_ref().map(|(directory, files)| directory.join(files.kills));
        kills_in(counted.as_deref().unwrap_or(Path::new(KILLS_OF_ALL))) + self.group.kills()
    }

    /// Whether there was an OOM kill since its start.
    pub(super) fn has_killed(&self) -> bool {
        self.kills() > self.kills_before
    }

    /// The error when the limit leaves no room to start.
    pub(super) fn too_little(&self) -> anyhow::Error {
        let hint = match self.limit_reached() {
            LimitReached::Own(_) => "raise the container's `memory`: starting it needs a few MiB",
            _ => "give the machine more memory, or reduce the memory of concurrent containers and services",
        };
        hinted(self.memory_shortage().to_string(), hint)
    }

    /// What is known about the memory shortage behind a kill.
    pub(super) fn memory_shortage(&self) -> MemoryShortage {
        let peak = self.counted.as_ref().and_then(|(directory, files)| {
            fs::read_to_string(directory.join(files.peak)).ok()?.trim().parse().ok()
        });
        MemoryShortage { limit: self.limit_reached(), peak }
    }

    fn limit_reached(&self) -> LimitReached {
        let is_shared = self.group.memory_refusals() > self.refusals_before;
        let is_own = self.counted.as_ref().is_none_or(|(directory, files)| files.refusals(directory) > 0);
        match self.limit {
            Some(limit) if is_own || !is_shared => LimitReached::Own(limit),
            _ if is_shared => LimitReached::AllContainers(self.group.limit()),
            _ => LimitReached::Machine,
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.unified.iter().chain(&self.others).for_each(|directory| end(directory));
    }
}

fn make_directory(directory: PathBuf) -> anyhow::Result<PathBuf> {
    if directory.exists() {
        // The cgroup of an earlier container with this name, which the kernel could not end in time.
        end(&directory);
    }
    fs::create_dir(&directory)
        .with_context(|| format!("cannot create the cgroup `{}`", directory.display()))?;
    Ok(directory)
}

/// Has no more cgroups be made below one of version 2, and none too deep.
pub(super) fn limit_cgroups_below(directory: &Path, count: u64) {
    for (file, limit) in [("cgroup.max.descendants", count), ("cgroup.max.depth", DEPTH)] {
        // Since Linux 4.14.
        let _ = write(&directory.join(file), &limit.to_string());
    }
}

/// How often no more processes could be made there, for a limit of its own where the kernel tells that (since Linux 6.11).
pub(super) fn process_refusals(directory: &Path) -> u64 {
    let read = |name| fs::read_to_string(directory.join(name));
    let events = read("pids.events.local").or_else(|_| read("pids.events")).unwrap_or_default();
    number_of(&events, "max").unwrap_or(0)
}

/// Parses a file of the kernel that contains a number.
pub(super) fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Whether there are processes in a cgroup or its descendants.
pub(super) fn has_processes(directory: &Path) -> bool {
    !processes(directory).is_empty() || below(directory).iter().any(|inner| has_processes(inner))
}

fn no_cgroup_for_init_system() -> anyhow::Error {
    hinted(
        "its program is an init system, which needs cgroups of version 2, and this machine has none",
        "mount them (`mount -t cgroup2 none DIRECTORY`), or start it as any other program with `options: --systemd=false`",
    )
}

fn cannot_limit(key: &str, option: &str) -> anyhow::Error {
    hinted(
        format!("cannot enforce the limit `{key}`: no cgroup on this machine has the controller"),
        format!("remove `{key}`, or use a kernel with `{option}` and without `cgroup_disable={key}`"),
    )
}

fn set(file: &Path, limit: u64) -> anyhow::Result<()> {
    write(file, &limit.to_string())
        .with_context(|| format!("cannot set the limit `{}` to {limit}", file.display()))
        .hint("a parent cgroup may have a lower limit: check its file of that name")
}

/// Writes a file of the kernel, which is never created.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

fn kills_in(file: &Path) -> u64 {
    number_of(&fs::read_to_string(file).unwrap_or_default(), "oom_kill").unwrap_or(0)
}

fn number_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Kills every process in a cgroup and its descendants, and removes them.
pub(super) fn end(directory: &Path) {
    let start = Instant::now();
    while remove(directory).is_err() && start.elapsed() < END_LIMIT {
        kill(directory);
        thread::sleep(POLL_INTERVAL);
    }
}

/// Removes a cgroup and its descendants, if they have no processes.
fn remove(directory: &Path) -> io::Result<()> {
    below(directory).iter().try_for_each(|inner| remove(inner))?;
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

pub(super) fn kill(directory: &Path) {
    // Since Linux 5.14, in version 2: kills all at once, even if they fork quickly.
    if write(&directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    below(directory).iter().for_each(|inner| kill(inner));
    for process in processes(directory) {
        let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else { continue };
        // Checked again: before the pidfd was opened, the PID may have been reused.
        if processes(directory).contains(&process) {
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

fn processes(directory: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::Cgroups;
    use super::*;

    #[test]
    fn a_limit_without_its_controller_is_refused_with_a_hint() {
        let group = Group::begin(&Cgroups::default());
        let make = |limits| Cgroup::make(&group, "job", limits);
        let none = ResourceLimits::default();
        let unlimited = make(none).unwrap();
        assert!(unlimited.unified.is_none() && unlimited.others.is_empty());
        for limits in
            [ResourceLimits { memory: Some(1 << 20), ..none }, ResourceLimits { pids: Some(9), ..none }]
        {
            let error = make(limits).unwrap_err();
            assert!(error.to_string().contains("cannot enforce"), "{error:#}");
            assert!(hint::of(&error).unwrap().contains("cgroup_disable="));
        }
    }

    /// 190 MB of the names of empty files led to a kill of the boot's own process.
    #[test]
    fn the_names_of_files_count_for_the_limit_of_all_containers() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("memory.current"), "1000\n").unwrap();
        let stat = "anon 1\nactive_file 100\ninactive_file 200\nslab_reclaimable 400\nslab_unreclaimable 1\n";
        fs::write(home.path().join("memory.stat"), stat).unwrap();
        assert_eq!(UNIFIED.used(home.path()), 300);
    }

    #[test]
    fn kills_are_read_in_both_versions() {
        assert_eq!(
            number_of("low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 1\n", "oom_kill"),
            Some(1)
        );
        assert_eq!(number_of("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", "oom_kill"), Some(7));
        assert_eq!(number_of("oom_kill_disable 0\n", "oom_kill"), None);
    }
}
