//! The cgroup of a container (cgroups(7)): what it uses is counted and limited there, and nothing that it has
//! started can get out of it.
//!
//! A container's first process is made in its cgroup of version 2. To move a process that is there already the
//! kernel waits for all processors (measured: 5 to 16 ms, a third of a container's whole start), so a hierarchy
//! of version 1 is used only where a limit needs it.

use super::running::MemoryShortage;
use anyhow::Context as _;
use hint::{WithHint as _, hinted};
use rustix::fs::{Access, access};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, waitpid,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const MOUNTS: &str = "/proc/self/mountinfo";
const OWN: &str = "/proc/self/cgroup";
/// Has a line `oom_kill NUMBER`, since Linux 4.13.
const KILLS_OF_ALL: &str = "/proc/vmstat";

/// How long the kernel may take to end what was killed. What waits for a disk takes longer, and is left.
const END_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Where the processes are of a cgroup of version 1. What the container sees as the root is this one, and its files it
/// can write, in namespaces of its own; the limits are above. In version 2 `nsdelegate` shuts them off (cgroups(7)).
const INSIDE: &str = "inside";
/// PID 1 of a container is ours, and does not count.
const OUR_PROCESSES: u64 = 1;

/// The most that a container may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ResourceLimits {
    /// Bytes of memory.
    pub(super) memory: Option<u64>,
    /// Processes and threads.
    pub(super) pids: Option<u64>,
}

/// Where in the machine's cgroups those of containers are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cgroups {
    /// The directory in the hierarchy of version 2.
    unified: Option<PathBuf>,
    memory: Option<Controller>,
    pids: Option<Controller>,
}

/// Where something is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Controller {
    /// In the hierarchy of version 2.
    Unified,
    /// In this directory of one of version 1.
    Own(PathBuf),
}

impl Cgroups {
    /// Those of this machine, with the controllers switched on that containers need.
    pub(super) fn open() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (mounts, own) = (read(MOUNTS), read(OWN));
        let is_writable = |directory: &PathBuf| access(directory, Access::WRITE_OK).is_ok();
        let mut cgroups = Self::default();
        if let Some(place) = CgroupPath::unified(&mounts, &own).filter(|place| is_writable(&place.own)) {
            let (directory, enabled) = place.enable();
            let is_enabled = |name: &str| enabled.contains(&name).then_some(Controller::Unified);
            (cgroups.memory, cgroups.pids) = (is_enabled("memory"), is_enabled("pids"));
            cgroups.unified = Some(directory);
        }
        let of_version_1 = |name: &str| {
            CgroupPath::of_version_1(name, &mounts, &own).map(|place| place.own).filter(is_writable)
        };
        cgroups.memory = cgroups.memory.or_else(|| of_version_1("memory").map(Controller::Own));
        cgroups.pids = cgroups.pids.or_else(|| of_version_1("pids").map(Controller::Own));
        cgroups
    }

    /// Whether a container has a view of its own at `/sys/fs/cgroup`.
    pub(super) fn are_unified(&self) -> bool {
        self.unified.is_some()
    }

    /// Whether processes are counted, and can be limited.
    pub(super) fn count_processes(&self) -> bool {
        self.pids.is_some()
    }

    /// One line for the log.
    pub(super) fn describe(&self) -> String {
        let say = |name: &str, controller: &Option<Controller>| match controller {
            Some(Controller::Unified) => format!("{name} is counted"),
            Some(Controller::Own(_)) => format!("{name} is counted where it is limited (version 1)"),
            None => format!("{name} is not counted"),
        };
        let what = [say("memory", &self.memory), say("the number of processes", &self.pids)].join(", ");
        match &self.unified {
            Some(directory) => format!("cgroups: made in `{}`; {what}", directory.display()),
            None => format!("cgroups: none of version 2; {what}"),
        }
    }
}

/// Where this process is in a hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct CgroupPath {
    mount: PathBuf,
    own: PathBuf,
}

impl CgroupPath {
    fn unified(mounts: &str, own: &str) -> Option<Self> {
        Self::find(mounts, own, |kind, _| kind == "cgroup2", "")
    }

    fn of_version_1(controller: &str, mounts: &str, own: &str) -> Option<Self> {
        let has = |options: &str| options.split(',').any(|option| option == controller);
        Self::find(mounts, own, |kind, options| kind == "cgroup" && has(options), controller)
    }

    /// From the texts of proc_pid_mountinfo(5) and of `/proc/self/cgroup`; `controller` is none for version 2.
    fn find(mounts: &str, own: &str, is_it: impl Fn(&str, &str) -> bool, controller: &str) -> Option<Self> {
        let (root, mount) = mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut kind = kind.split(' ');
            let (kind, options) = (kind.next()?, kind.nth(1)?);
            let mut place = place.split(' ').skip(3);
            is_it(kind, options).then_some((place.next()?, place.next()?))
        })?;
        let own = own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then_some(path)
        });
        let below = own.and_then(|own| Path::new(own).strip_prefix(root).ok());
        // What is outside of the mount, or of the cgroup namespace, cannot be seen.
        let below = below.filter(|below| !below.starts_with("..")).unwrap_or(Path::new(""));
        Some(Self { mount: mount.into(), own: Path::new(mount).join(below).components().collect() })
    }

    /// Switches on what the machine has of the controllers. Gives back where they are on for new cgroups, and
    /// which: mostly not where this process is, since a cgroup with processes of its own, but for the root of
    /// all, cannot have them on ("no internal processes").
    fn enable(&self) -> (PathBuf, Vec<&'static str>) {
        let offered = controllers(&self.mount.join("cgroup.controllers"));
        let wish: String = offered.iter().map(|name| format!("+{name} ")).collect();
        let directories = self.own.ancestors().take_while(|directory| directory.starts_with(&self.mount));
        for directory in directories {
            let file = directory.join("cgroup.subtree_control");
            // What the kernel refuses here it may allow further up.
            let _ = write(&file, &wish);
            if controllers(&file) == offered {
                return (directory.into(), offered);
            }
        }
        (self.own.clone(), controllers(&self.own.join("cgroup.subtree_control")))
    }
}

/// Which of those that containers need are in a list of the kernel's.
fn controllers(list: &Path) -> Vec<&'static str> {
    let list = fs::read_to_string(list).unwrap_or_default();
    ["memory", "pids"]
        .into_iter()
        .filter(|name| list.split_whitespace().any(|found| found == *name))
        .collect()
}

/// The cgroup of one container. Dropping it kills all that is in it, and removes it.
#[derive(Debug)]
pub(super) struct Cgroup {
    unified: Option<PathBuf>,
    /// The same in hierarchies of version 1.
    others: Vec<PathBuf>,
    memory: MemoryAccount,
}

/// What a container has used of the memory. It can be asked as long as there is the cgroup.
#[derive(Debug, Clone)]
pub(super) struct MemoryAccount {
    /// The directory of the cgroup that counts it, and what its files are called.
    counted: Option<(PathBuf, &'static MemoryFiles)>,
    limit: Option<u64>,
    /// What the whole machine's count was at the beginning.
    kills_before: u64,
}

/// What the two versions call the same.
#[derive(Debug)]
struct MemoryFiles {
    limit: &'static str,
    /// Has a line `oom_kill NUMBER`.
    kills: &'static str,
    /// Version 2: since Linux 5.19.
    peak: &'static str,
}

const UNIFIED: MemoryFiles = MemoryFiles { limit: "memory.max", kills: "memory.events", peak: "memory.peak" };
const VERSION_1: MemoryFiles = MemoryFiles {
    limit: "memory.limit_in_bytes",
    // It counts what was killed where that was.
    kills: "inside/memory.oom_control",
    peak: "memory.max_usage_in_bytes",
};

impl Cgroup {
    /// Makes it among those of the machine. `name` is its own among the containers of this process.
    ///
    /// # Errors
    /// When a limit cannot be enforced here.
    pub(super) fn make(cgroups: &Cgroups, name: &str, limits: ResourceLimits) -> anyhow::Result<Self> {
        let name = format!("iguana-{}.{name}", std::process::id());
        let memory = MemoryAccount {
            counted: None,
            limit: limits.memory,
            kills_before: kills_in(Path::new(KILLS_OF_ALL)),
        };
        let mut cgroup = Self { unified: None, others: Vec::new(), memory };
        if let Some(directory) = &cgroups.unified {
            cgroup.unified = Some(make_directory(directory.join(&name))?);
        }
        cgroup.memory.counted = match (&cgroups.memory, limits.memory) {
            (Some(Controller::Own(directory)), Some(_)) => {
                Some((cgroup.make_other(directory, &name)?, &VERSION_1))
            }
            (Some(Controller::Unified), _) => cgroup.unified.clone().zip(Some(&UNIFIED)),
            _ => None,
        };
        if let Some(limit) = limits.memory {
            cgroup.limit_memory(limit)?;
        }
        if let Some(limit) = limits.pids {
            cgroup.limit_processes(limit, cgroups.pids.as_ref(), &name)?;
        }
        Ok(cgroup)
    }

    fn make_other(&mut self, directory: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let directory = directory.join(name);
        if !self.others.contains(&directory) {
            self.others.push(make_directory(directory.clone())?);
            // Before Linux 5.11 a limit of memory is one of those below only if this says so. Other controllers have no such
            // file.
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
        // Version 1 takes no limit that is below what the cgroup itself uses.
        if write(&file, &limit.to_string()).is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) {
            return Err(self.memory.too_little());
        }
        set(&file, limit)?;
        // What is left of a program whose process was killed is seldom of use. Version 1 has no such file.
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

    /// Starts a process in it. `start` gets the directory in which the kernel is to make it, if it can do that.
    pub(super) fn admit(&self, start: impl Fn(Option<&Path>) -> io::Result<Pid>) -> io::Result<Pid> {
        let mut to_join: Vec<PathBuf> = self.others.iter().map(|directory| directory.join(INSIDE)).collect();
        let started = self.unified.as_ref().map(|directory| start(Some(directory)));
        let process = match started {
            Some(Ok(process)) => process,
            Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
            // A kernel before 5.7.
            _ => {
                to_join.extend(self.unified.clone());
                start(None)?
            }
        };
        let joined = to_join.into_iter().try_for_each(|directory| {
            write(&directory.join("cgroup.procs"), &process.as_raw_pid().to_string())
        });
        if joined.is_err() {
            // It is this process' own child, and is not known to anybody else yet.
            let _ = kill_process(process, Signal::KILL);
            let _ = rustix::io::retry_on_intr(|| waitpid(Some(process), WaitOptions::empty()));
        }
        joined.map(|()| process)
    }

    pub(super) fn memory(&self) -> &MemoryAccount {
        &self.memory
    }
}

impl MemoryAccount {
    /// How often the kernel has killed something in it for want of memory; on the whole machine, where nothing else
    /// is counted.
    pub(super) fn kills(&self) -> u64 {
        match &self.counted {
            Some((directory, files)) => kills_in(&directory.join(files.kills)),
            None => kills_in(Path::new(KILLS_OF_ALL)).saturating_sub(self.kills_before),
        }
    }

    /// The limit leaves no room to start.
    pub(super) fn too_little(&self) -> anyhow::Error {
        hinted(
            self.memory_shortage().to_string(),
            "raise the container's `memory`: some MiB are needed to start it",
        )
    }

    /// What is known of such a kill.
    pub(super) fn memory_shortage(&self) -> MemoryShortage {
        let peak = self.counted.as_ref().and_then(|(directory, files)| {
            fs::read_to_string(directory.join(files.peak)).ok()?.trim().parse().ok()
        });
        MemoryShortage { limit: self.limit, peak }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.unified.iter().chain(&self.others).for_each(|directory| end(directory));
    }
}

fn make_directory(directory: PathBuf) -> anyhow::Result<PathBuf> {
    if directory.exists() {
        // An earlier container of the name, which the kernel could not end in time.
        end(&directory);
    }
    fs::create_dir(&directory)
        .with_context(|| format!("cannot make the cgroup `{}`", directory.display()))?;
    Ok(directory)
}

fn cannot_limit(key: &str, option: &str) -> anyhow::Error {
    hinted(
        format!("the limit `{key}` cannot be enforced: no cgroup on this machine has the controller"),
        format!("remove `{key}`, or use a kernel with `{option}` and without `cgroup_disable={key}`"),
    )
}

fn set(file: &Path, limit: u64) -> anyhow::Result<()> {
    write(file, &limit.to_string())
        .with_context(|| format!("cannot set the limit `{}` to {limit}", file.display()))
        .hint("the kernel's own limit may be lower: see the file of that name further up")
}

/// Writes a file of the kernel's, which is never made.
fn write(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

fn kills_in(file: &Path) -> u64 {
    number_of(&fs::read_to_string(file).unwrap_or_default(), "oom_kill").unwrap_or(0)
}

fn number_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Kills all that is in a cgroup and in those below, and removes them.
fn end(directory: &Path) {
    let start = Instant::now();
    while remove(directory).is_err() && start.elapsed() < END_LIMIT {
        kill(directory);
        thread::sleep(LOOK_EVERY);
    }
}

/// Removes a cgroup and those below, if nothing is in them.
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

fn kill(directory: &Path) {
    // Since Linux 5.14, in version 2: at once, however fast they multiply.
    if write(&directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    below(directory).iter().for_each(|inner| kill(inner));
    for process in processes(directory) {
        let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else { continue };
        // Asked again: its number may have gone to another process before it was held.
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
    use super::*;

    const UNIFIED_MOUNTS: &str = "\
24 1 0:22 / /proc rw,relatime - proc proc rw
28 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
";
    const HYBRID_MOUNTS: &str = "\
28 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
29 28 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
30 28 0:28 /job /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 28 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    fn place(mount: &str, own: &str) -> Option<CgroupPath> {
        Some(CgroupPath { mount: mount.into(), own: own.into() })
    }

    #[test]
    fn a_process_finds_where_it_is() {
        let top = "/sys/fs/cgroup";
        assert_eq!(CgroupPath::unified(UNIFIED_MOUNTS, "0::/\n"), place(top, top));
        assert_eq!(CgroupPath::unified(UNIFIED_MOUNTS, "0::/a/b\n"), place(top, "/sys/fs/cgroup/a/b"));
        // Outside of what its cgroup namespace shows.
        assert_eq!(CgroupPath::unified(UNIFIED_MOUNTS, "0::/../a\n"), place(top, top));
        assert_eq!(CgroupPath::of_version_1("memory", UNIFIED_MOUNTS, "0::/\n"), None);
        let own = "3:memory:/job/inner\n2:cpu,cpuacct:/\n0::/x\n";
        assert_eq!(
            CgroupPath::of_version_1("memory", HYBRID_MOUNTS, own),
            place("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/inner")
        );
        let unified = "/sys/fs/cgroup/unified";
        assert_eq!(CgroupPath::unified(HYBRID_MOUNTS, own), place(unified, &format!("{unified}/x")));
        assert_eq!(CgroupPath::of_version_1("pids", HYBRID_MOUNTS, own), None);
        assert_eq!(CgroupPath::unified("", own), None);
    }

    #[test]
    fn a_limit_without_its_controller_is_refused_with_a_hint() {
        let make = |limits| Cgroup::make(&Cgroups::default(), "job", limits);
        let none = ResourceLimits::default();
        let unlimited = make(none).unwrap();
        assert!(unlimited.unified.is_none() && unlimited.others.is_empty());
        for limits in
            [ResourceLimits { memory: Some(1 << 20), ..none }, ResourceLimits { pids: Some(9), ..none }]
        {
            let error = make(limits).unwrap_err();
            assert!(error.to_string().contains("cannot be enforced"), "{error:#}");
            assert!(hint::of(&error).unwrap().contains("cgroup_disable="));
        }
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
