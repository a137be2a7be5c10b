//! The description of a container, and of the programs in it, as data.

use super::cgroup::ResourceLimits;
use super::host_files;
use super::init_system;
use super::ipc;
use super::terminal::Terminal;
use exchange::{SHARED as SHARED_DIRECTORY, STEP_INSIDE, StepFile};
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The directories that every container shares with the host.
const SHARED: &[&str] = &[SHARED_DIRECTORY];
/// The directories that a privileged container shares, too; others have their own.
const SHARED_BY_PRIVILEGED: &[&str] = &["/dev", "/sys"];
/// Where every container has file systems of the kernel.
const KERNEL: &[&str] = &["/dev", "/proc", "/sys"];
/// Kernel modules, in a directory for each kernel.
const MODULES: &str = "/lib/modules";
/// POSIX shared memory (shm_overview(7)).
const SHARED_MEMORY: &str = "/dev/shm";
/// The writable directories of a container with a read-only root; podman's `--read-only-tmpfs`.
const WRITABLE: &[&str] = &["/run", "/tmp", "/var/tmp"];
/// Time between `SIGTERM` (or the image's stop signal) and the kill, unless the plan sets it; podman's default.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// Processes and threads of an unprivileged container, unless the plan sets a limit; podman's default
/// (containers.conf(5), `pids_limit`). A privileged one has the machine's limit: installers are few and trusted.
const PROCESSES_OF_FEWER_RIGHTS: u64 = 2048;
/// The name in the scratch directory of the scripts and the output file of steps.
pub(super) const STEP_FILES: &str = "steps";

/// Everything about one container besides its image.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its own directory in the store's file system, for what it writes.
    pub scratch: PathBuf,
    /// The mounts in its root, in order.
    pub mounts: Vec<Mount>,
    /// Environment variables for all its programs, after those of the image.
    pub env: Vec<(String, String)>,
    /// Its root is read-only, except for its mounts and what podman leaves writable.
    pub read_only: bool,
    /// The root of the new system, which programs get as `NEWROOT`. Links in it are resolved inside it.
    pub new_root: PathBuf,
    /// Directories of the host in which unprivileged containers write: links there are refused on the path of a volume, and
    /// of its target.
    pub writable_by_others: Vec<PathBuf>,
    /// It is privileged: it has all capabilities, and the host's devices. Otherwise: podman's default capabilities, and
    /// only harmless devices such as `/dev/null`.
    pub privileged: bool,
    /// It may hand over: its `/iguana` is the one with the result files.
    pub handover: bool,
    /// Whether what it wrote to its root stays after its end, in the directory `upper` of its scratch directory.
    pub keep: bool,
    /// It is in the host's PID namespace.
    pub pid_host: bool,
    /// Its own program is an init system, and gets what podman's `--systemd` gives it. Not together with `pid_host`.
    pub init_system: bool,
    /// Its IPC namespace.
    pub ipc: Ipc,
    /// Time between `SIGTERM` (or the image's stop signal) and the kill.
    pub stop_grace: Duration,
    /// Its memory limit in bytes, files in its root included.
    pub memory: Option<u64>,
    /// Its limit of processes and threads.
    pub pids: Option<u64>,
}

/// The IPC namespace of a container, and its `/dev/shm`; podman's `--ipc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ipc {
    /// Its own.
    Private,
    /// The host's.
    Machine,
    /// That of [`super::SharedIpc`] in this directory of the host.
    Shared(PathBuf),
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The source.
    pub source: MountSource,
    /// The path in the container.
    pub target: PathBuf,
    /// Whether the mount is read-only.
    pub read_only: bool,
}

/// The source of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host; a missing one is created as a directory.
    Bind(PathBuf),
    /// A new directory of the host, with what the image has at its target.
    Volume(PathBuf),
    /// A directory of the host that is the `/dev/shm` of several containers. Those with fewer rights execute no
    /// programs from it.
    SharedMemory(PathBuf),
    /// A tmpfs. It gets the owner and the mode of the directory that it covers.
    Tmpfs {
        /// Its size in bytes; by default the kernel's limit: half of all memory.
        size: Option<u64>,
    },
    /// An image, read-only.
    Image {
        /// The directories of its layers, the lowest first.
        layers: Vec<PathBuf>,
    },
    /// The host's kernel modules, read-only; not if the image has modules for this kernel, or the host has none.
    Modules(PathBuf),
    /// A file system of the kernel for the container's own namespaces. Skipped if the kernel lacks it, or the host has
    /// no directory for it.
    Kernel(KernelFiles),
}

/// A file system of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KernelFiles {
    /// POSIX message queues (mq_overview(7)).
    MessageQueues,
    /// Its own cgroup as the root (cgroups(7), version 2).
    Cgroups,
}

impl KernelFiles {
    /// Its type, as for mount(8).
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::MessageQueues => "mqueue",
            Self::Cgroups => "cgroup2",
        }
    }
}

/// One program to run in a container.
#[derive(Debug, Clone)]
pub struct Program {
    /// The command to execute.
    pub command: ProgramCommand,
    /// Environment variables, after those of the image and of the container's plan.
    pub env: Vec<(String, String)>,
    /// Overrides the image's working directory.
    pub directory: Option<String>,
    /// Overrides the image's user, in the same syntax.
    pub user: Option<String>,
    /// The standard input, output and error.
    pub stdio: Stdio,
}

/// The command of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramCommand {
    /// The image's command, overridden as by podman's `--entrypoint` and arguments.
    FromImage {
        /// Overrides the image's entrypoint; the image's command is then dropped.
        entrypoint: Option<Vec<String>>,
        /// Overrides the image's command.
        command: Option<Vec<String>>,
    },
    /// These arguments, whatever the image says.
    Exactly(Vec<String>),
}

/// The standard input, output and error of a program.
#[derive(Debug, Clone)]
pub enum Stdio {
    /// The machine's terminal, as its controlling terminal. Only one program of a container can have it at a time.
    Terminal(Terminal),
    /// Writes to the consoles and reads nothing.
    Console(Terminal),
    /// Writes to this file and reads nothing.
    Log(Arc<OwnedFd>),
    /// Writes to the standard output of this process and reads nothing.
    Inherited,
}

impl Plan {
    /// A privileged container with the defaults of the contract (docs/containers.md).
    pub fn new(scratch: PathBuf, new_root: PathBuf) -> Self {
        Self {
            scratch,
            mounts: SHARED.iter().map(Mount::same).collect(),
            env: contract_env(&hostname(), &new_root),
            read_only: false,
            new_root,
            writable_by_others: Vec::new(),
            privileged: true,
            handover: true,
            keep: false,
            pid_host: false,
            init_system: false,
            ipc: Ipc::Private,
            stop_grace: STOP_GRACE,
            memory: None,
            pids: None,
        }
    }

    /// The directory of the copies of the host's files in `/etc`.
    pub(super) fn host_files(&self) -> PathBuf {
        self.scratch.join("host-files")
    }

    /// Its name, unique among running containers: that of its scratch directory.
    pub(super) fn name(&self) -> Cow<'_, str> {
        self.scratch.file_name().unwrap_or_default().to_string_lossy()
    }

    /// Its limits, with defaults. Without a controller for processes there is no default limit, as in podman.
    pub(super) fn limits(&self, processes_are_counted: bool) -> ResourceLimits {
        let default = (!self.privileged && processes_are_counted).then_some(PROCESSES_OF_FEWER_RIGHTS);
        ResourceLimits { memory: self.memory, pids: self.pids.or(default) }
    }

    /// All mounts, in order: those of the plan come last, as they may cover the others. `volumes` are those that the image
    /// declares. With `unified` it can see its own cgroup.
    pub(super) fn all_mounts(&self, volumes: &[PathBuf], unified: bool) -> Vec<Mount> {
        let machine = if self.privileged { self.of_machine(unified) } else { Vec::new() };
        let writable = if self.read_only { WRITABLE } else { &[] }.iter();
        let of_init = if self.init_system { init_system::DIRECTORIES } else { &[] }.iter();
        let writable = writable.chain(of_init.filter(|it| !self.read_only || !WRITABLE.contains(it)));
        let files = self.scratch.join(STEP_FILES);
        let written = StepFile::ALL.map(|file| Mount::bind(files.join(file.name()), file.inside()));
        let files = Mount { read_only: true, ..Mount::bind(files, STEP_INSIDE) };
        let writable = writable.map(Mount::memory);
        let host_files = host_files::mounts(&self.host_files()).collect::<Vec<_>>();
        let others: Vec<Mount> = machine.into_iter().chain(self.shared_memory()).chain(writable).collect();
        let volumes = self.of_image(volumes, &others);
        others
            .into_iter()
            .chain(volumes)
            .chain(host_files)
            .chain(self.mounts.iter().cloned())
            .chain([files])
            .chain(written)
            .collect()
    }

    /// The volumes that the image declares; podman's `--image-volume=anonymous`. Not where there is another mount, above it
    /// or at it.
    fn of_image(&self, volumes: &[PathBuf], others: &[Mount]) -> Vec<Mount> {
        let is_covered = |path: &Path| {
            let mounts = others.iter().chain(&self.mounts).map(|mount| &*mount.target);
            let mut all = mounts.chain(KERNEL.iter().chain(SHARED).map(Path::new));
            path == Path::new("/") || all.any(|target| path.starts_with(target))
        };
        let directory = |number| self.scratch.join(format!("image-volume-{number}"));
        let mount = |(number, target): (usize, &PathBuf)| Mount {
            source: MountSource::Volume(directory(number)),
            target: target.clone(),
            read_only: false,
        };
        let mut volumes: Vec<&PathBuf> = volumes.iter().filter(|path| !is_covered(path)).collect();
        // The upper ones first: a lower one lies in them.
        volumes.sort();
        volumes.dedup();
        volumes.into_iter().enumerate().map(mount).collect()
    }

    /// The mounts that a privileged container shares with the host, except those of its own namespaces.
    fn of_machine(&self, unified: bool) -> Vec<Mount> {
        let shared = SHARED_BY_PRIVILEGED.iter().map(Mount::same);
        let own_memory = (self.ipc == Ipc::Private).then(|| Mount::memory(&SHARED_MEMORY));
        let queues = Mount::kernel("/dev/mqueue", KernelFiles::MessageQueues);
        let cgroups = Mount::kernel("/sys/fs/cgroup", KernelFiles::Cgroups);
        let modules = Mount::modules();
        // An init system has a cgroup namespace of its own, which is shown when it starts.
        let cgroups = (unified && !self.init_system).then_some(cgroups);
        shared.chain(own_memory).chain([queues]).chain(cgroups).chain([modules]).collect()
    }

    /// The `/dev/shm` that it shares with others.
    fn shared_memory(&self) -> Option<Mount> {
        let source = match &self.ipc {
            Ipc::Private => return None,
            Ipc::Machine => SHARED_MEMORY.into(),
            Ipc::Shared(directory) => ipc::shared_memory(directory),
        };
        Some(Mount {
            source: MountSource::SharedMemory(source),
            target: SHARED_MEMORY.into(),
            read_only: false,
        })
    }
}

impl Mount {
    /// A writable bind mount of a host path at `target` in the container.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: MountSource::Bind(source.into()), target: target.into(), read_only: false }
    }

    /// A bind mount of a host path at the same path in the container.
    fn same(path: &&str) -> Self {
        Self::bind(*path, *path)
    }

    fn kernel(target: &str, files: KernelFiles) -> Self {
        Self { source: MountSource::Kernel(files), target: target.into(), read_only: false }
    }

    /// The modules of the running kernel (modprobe(8)).
    fn modules() -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let directory = Path::new(MODULES).join(release);
        Self { source: MountSource::Modules(directory.clone()), target: directory, read_only: true }
    }

    fn memory(target: &&str) -> Self {
        Self { source: MountSource::Tmpfs { size: None }, target: target.into(), read_only: false }
    }
}

impl Program {
    /// The image's command, unchanged.
    #[cfg(test)]
    pub(super) fn of_image(stdio: Stdio) -> Self {
        let command = ProgramCommand::FromImage { entrypoint: None, command: None };
        Self { command, env: Vec::new(), directory: None, user: None, stdio }
    }
}

impl Stdio {
    /// `TERM` for a program with a terminal, and for an init system, which always has one; the container's plan and the
    /// program may override it.
    pub(super) fn env(&self, is_init: bool) -> Vec<(String, String)> {
        let kind = match self {
            Self::Terminal(terminal) => Some(terminal.kind()),
            Self::Console(_) | Self::Log(_) | Self::Inherited => is_init.then_some("dumb"),
        };
        kind.map(|kind| ("TERM".into(), kind.into())).into_iter().collect()
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn contract_env(hostname: &str, new_root: &Path) -> Vec<(String, String)> {
    let new_root = new_root.to_string_lossy();
    let env = [
        ("HOSTNAME", hostname),
        // systemd's Container Interface: programs recognize by it that they run in a container, and in which kind.
        ("container", "iguana"),
        ("IGUANA", "true"),
        ("iguana", "true"),
        ("NEWROOT", &*new_root),
    ];
    env.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_STEPS: [&str; 5] =
        ["/run/iguana", "/run/iguana/output", "/run/iguana/env", "/run/iguana/path", "/run/iguana/summary"];

    fn targets(plan: &Plan) -> Vec<String> {
        plan.all_mounts(&[], false).iter().map(|mount| mount.target.display().to_string()).collect()
    }

    #[test]
    fn every_container_has_what_the_contract_says() {
        let plan = Plan::new("/store/job".into(), "/sysroot".into());
        let text: Vec<String> = plan.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert!(text[0].starts_with("HOSTNAME="), "{}", text[0]);
        assert_eq!(text[1..], ["container=iguana", "IGUANA=true", "iguana=true", "NEWROOT=/sysroot"]);
        let modules = Mount::modules().target.display().to_string();
        let machine = ["/dev", "/sys", "/dev/shm", "/dev/mqueue", &modules];
        let shared = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/iguana"];
        assert_eq!(targets(&plan), [&machine[..], &shared, &OF_STEPS].concat());
    }

    #[test]
    fn an_unprivileged_container_gets_no_devices_of_the_machine() {
        let plan = Plan { privileged: false, ..Plan::new("/store/job".into(), "/sysroot".into()) };
        assert!(!targets(&plan).iter().any(|target| target == "/dev" || target == "/sys"));
        assert!(!targets(&plan).iter().any(|target| target.starts_with(MODULES)));
    }

    #[test]
    fn a_volume_covers_writable_directories_but_not_the_files_of_steps() {
        let mut plan = Plan { read_only: true, ..Plan::new("/store/job".into(), "/sysroot".into()) };
        plan.mounts.push(Mount::bind("/srv", "/run"));
        let targets = targets(&plan);
        let first = targets.iter().position(|target| target == "/run").unwrap();
        let last = targets.iter().rposition(|target| target == "/run").unwrap();
        assert!(first < last && targets.ends_with(&OF_STEPS.map(String::from)), "{targets:?}");
    }

    #[test]
    fn volumes_of_the_image_are_where_nothing_else_is() {
        let mut plan = Plan { init_system: true, ..Plan::new("/store/job".into(), "/sysroot".into()) };
        plan.mounts.push(Mount::bind("/srv", "/srv"));
        let declared =
            ["/data/below", "/data", "/", "/run", "/sys/fs/cgroup", "/proc", "/srv/x", "/iguana", "/data"];
        let mounts = plan.all_mounts(&declared.map(PathBuf::from), true);
        let of_image = mounts.iter().filter(|mount| matches!(mount.source, MountSource::Volume(_)));
        let targets: Vec<_> = of_image.map(|mount| mount.target.to_str().unwrap()).collect();
        assert_eq!(targets, ["/data", "/data/below"]);
    }

    #[test]
    fn only_unprivileged_containers_have_a_process_limit_where_supported() {
        let plan = Plan::new("/store/job".into(), "/sysroot".into());
        let fewer = Plan { privileged: false, ..plan.clone() };
        assert_eq!((plan.name().as_ref(), plan.limits(true)), ("job", ResourceLimits::default()));
        assert_eq!(fewer.limits(true).pids, Some(PROCESSES_OF_FEWER_RIGHTS));
        assert_eq!(fewer.limits(false).pids, None);
        assert_eq!(Plan { pids: Some(9), ..fewer }.limits(false).pids, Some(9));
    }
}
