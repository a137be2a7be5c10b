//! What a container is to be, and what is to run in it, as data.

use super::cgroup::ResourceLimits;
use super::host_files;
use super::terminal;
use exchange::{OUTPUT, OUTPUT_INSIDE, SHARED as SHARED_DIRECTORY, STEP_INSIDE};
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The new system's root, told to every container.
pub(super) const NEWROOT: &str = "/sysroot";
/// What every container shares with the machine.
const SHARED: &[&str] = &[SHARED_DIRECTORY];
/// What one with all rights shares, too; others have their own.
const SHARED_BY_PRIVILEGED: &[&str] = &["/dev", "/sys"];
/// Where a container with a read-only root can write; podman's `--read-only-tmpfs`.
const WRITABLE: &[&str] = &["/run", "/tmp", "/var/tmp"];
/// Time between the request to stop and the end by force, unless the plan says otherwise; podman's default.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// Processes and threads of a container with fewer rights whose plan does not say; podman's default (containers.conf(5),
/// `pids_limit`). One with all rights has the machine's limit: installers are few, and know what they do.
const PROCESSES_OF_FEWER_RIGHTS: u64 = 2048;
/// The scripts and the output file of its steps, in its scratch directory.
pub(super) const STEP_FILES: &str = "steps";

/// Everything about one container besides its image.
#[derive(Debug, Clone)]
pub struct Plan {
    /// A directory of its own in the store's file system, for what it writes.
    pub scratch: PathBuf,
    /// What is mounted into its root, in order.
    pub mounts: Vec<Mount>,
    /// Variables for all its programs, after those of the image.
    pub env: Vec<(String, String)>,
    /// Its root takes no changes; only its mounts, and what podman leaves writable, do.
    pub read_only: bool,
    /// Directories of the machine in which containers with fewer rights write: no link there leads a volume elsewhere.
    pub writable_by_others: Vec<PathBuf>,
    /// It has all rights, and the machine's devices. Without: podman's default rights, and devices that
    /// only make or take bytes.
    pub privileged: bool,
    /// It may say what comes after the last job: its `/iguana` is the one in which the result files are.
    pub handover: bool,
    /// It sees the machine's processes.
    pub pid_host: bool,
    /// Time between the request to stop and the end by force.
    pub stop_grace: Duration,
    /// The most memory in bytes that it may use, files in its root included.
    pub memory: Option<u64>,
    /// The most processes and threads that it may have.
    pub pids: Option<u64>,
}

/// Something that is mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What it is.
    pub source: MountSource,
    /// Where it is in the container.
    pub target: PathBuf,
    /// Whether nothing can be written to it.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the machine; one that is missing is made as a directory.
    Bind(PathBuf),
    /// Memory. It has the owner and the mode of the directory that it covers.
    Tmpfs {
        /// Bytes at most; without, the kernel's limit: half of all memory.
        size: Option<u64>,
    },
    /// An image. Nothing can be written to it.
    Image {
        /// The directories of its layers, the lowest first.
        layers: Vec<PathBuf>,
    },
    /// What the kernel shows of the container's own namespaces. Where the kernel does not have it, or the
    /// machine no directory for it, there is nothing.
    Kernel(KernelFiles),
}

/// File systems of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KernelFiles {
    /// POSIX message queues (mq_overview(7)).
    MessageQueues,
    /// Its own cgroup as the root (cgroups(7), version 2).
    Cgroups,
}

impl KernelFiles {
    /// As mount(8) calls it.
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
    /// What is executed.
    pub command: ProgramCommand,
    /// Variables after those of the image and of the container's plan.
    pub env: Vec<(String, String)>,
    /// In place of the image's working directory.
    pub directory: Option<String>,
    /// In place of the image's user, and written as there.
    pub user: Option<String>,
    /// Where it reads and writes.
    pub stdio: Stdio,
}

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramCommand {
    /// What the image says, changed as podman's `--entrypoint` and arguments change it.
    FromImage {
        /// In place of the image's entrypoint; its command is then left out.
        entrypoint: Option<Vec<String>>,
        /// In place of the image's command.
        command: Option<Vec<String>>,
    },
    /// These words, whatever the image says.
    Exactly(Vec<String>),
}

/// Where a program reads and writes.
#[derive(Debug, Clone)]
pub enum Stdio {
    /// The terminal at this path, which controls it. One program of a container at a time can have it.
    Terminal(PathBuf),
    /// Writes to the console, reads nothing: there is no terminal.
    Console,
    /// Writes to this file, reads nothing.
    Log(Arc<OwnedFd>),
    /// Writes to this program's own standard output, reads nothing.
    Inherited,
}

impl Plan {
    /// A container with all rights and what the contract gives to every one.
    pub fn new(scratch: PathBuf) -> Self {
        Self {
            scratch,
            mounts: SHARED.iter().map(Mount::same).collect(),
            env: contract_env(&hostname()),
            read_only: false,
            writable_by_others: Vec::new(),
            privileged: true,
            handover: true,
            pid_host: false,
            stop_grace: STOP_GRACE,
            memory: None,
            pids: None,
        }
    }

    /// Where the copies of the host's files in `/etc` are.
    pub(super) fn host_files(&self) -> PathBuf {
        self.scratch.join("host-files")
    }

    /// Its name among those that run at the same time: that of its scratch directory.
    pub(super) fn name(&self) -> Cow<'_, str> {
        self.scratch.file_name().unwrap_or_default().to_string_lossy()
    }

    /// The limits that it asks for, and the default ones. Where nothing counts processes there is no default for them, as with
    /// podman.
    pub(super) fn limits(&self, processes_are_counted: bool) -> ResourceLimits {
        let default = (!self.privileged && processes_are_counted).then_some(PROCESSES_OF_FEWER_RIGHTS);
        ResourceLimits { memory: self.memory, pids: self.pids.or(default) }
    }

    /// All that is mounted, in order: what is planned may cover what every container has. With `unified` the kernel can show
    /// it its own cgroup.
    pub(super) fn all_mounts(&self, unified: bool) -> Vec<Mount> {
        let machine = if self.privileged { Self::of_machine(unified) } else { Vec::new() };
        let writable = if self.read_only { WRITABLE } else { &[] };
        let files = self.scratch.join(STEP_FILES);
        let output = Mount::bind(files.join(OUTPUT), OUTPUT_INSIDE);
        let files = Mount { read_only: true, ..Mount::bind(files, STEP_INSIDE) };
        let writable = writable.iter().map(Mount::memory);
        let host_files = host_files::mounts(&self.host_files()).collect::<Vec<_>>();
        machine
            .into_iter()
            .chain(writable)
            .chain(host_files)
            .chain(self.mounts.iter().cloned())
            .chain([files, output])
            .collect()
    }

    /// What one with all rights shares with the machine, without what in it is of namespaces.
    fn of_machine(unified: bool) -> Vec<Mount> {
        let shared = SHARED_BY_PRIVILEGED.iter().map(Mount::same);
        let own = [Mount::memory(&"/dev/shm"), Mount::kernel("/dev/mqueue", KernelFiles::MessageQueues)];
        let cgroups = Mount::kernel("/sys/fs/cgroup", KernelFiles::Cgroups);
        shared.chain(own).chain(unified.then_some(cgroups)).collect()
    }
}

impl Mount {
    /// A path of the machine at `target` in the container, where it can be written to.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: MountSource::Bind(source.into()), target: target.into(), read_only: false }
    }

    /// A path of the machine at the same path in the container.
    fn same(path: &&str) -> Self {
        Self::bind(*path, *path)
    }

    fn kernel(target: &str, files: KernelFiles) -> Self {
        Self { source: MountSource::Kernel(files), target: target.into(), read_only: false }
    }

    fn memory(target: &&str) -> Self {
        Self { source: MountSource::Tmpfs { size: None }, target: target.into(), read_only: false }
    }
}

impl Program {
    /// What the image says, unchanged.
    #[cfg(test)]
    pub(super) fn of_image(stdio: Stdio) -> Self {
        let command = ProgramCommand::FromImage { entrypoint: None, command: None };
        Self { command, env: Vec::new(), directory: None, user: None, stdio }
    }
}

impl Stdio {
    /// `TERM` for a program with a terminal; the container's plan and the program may change it.
    pub(super) fn env(&self) -> Option<(String, String)> {
        match self {
            Self::Terminal(path) => Some(("TERM".into(), terminal_type(path).into())),
            Self::Console | Self::Log(_) | Self::Inherited => None,
        }
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn contract_env(hostname: &str) -> Vec<(String, String)> {
    let env = [
        ("HOSTNAME", hostname),
        // systemd's Container Interface: by this programs know that they are in one, and whose.
        ("container", "iguana"),
        ("IGUANA", "true"),
        ("iguana", "true"),
        ("NEWROOT", NEWROOT),
    ];
    env.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

/// systemd's rule: `linux` on the machine's own screen, `vt220` on anything that may be far away.
fn terminal_type(path: &Path) -> &'static str {
    if terminal::is_screen(path) { "linux" } else { "vt220" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(plan: &Plan) -> Vec<String> {
        plan.all_mounts(false).iter().map(|mount| mount.target.display().to_string()).collect()
    }

    #[test]
    fn every_container_has_what_the_contract_says() {
        let plan = Plan::new("/store/job".into());
        let text: Vec<String> = plan.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert!(text[0].starts_with("HOSTNAME="), "{}", text[0]);
        assert_eq!(text[1..], ["container=iguana", "IGUANA=true", "iguana=true", "NEWROOT=/sysroot"]);
        let machine = ["/dev", "/sys", "/dev/shm", "/dev/mqueue"];
        let shared = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/iguana"];
        let of_steps = ["/run/iguana", "/run/iguana/output"];
        assert_eq!(targets(&plan), [&machine[..], &shared, &of_steps].concat());
    }

    #[test]
    fn one_with_less_rights_gets_no_devices_of_the_machine() {
        let plan = Plan { privileged: false, ..Plan::new("/store/job".into()) };
        assert!(!targets(&plan).iter().any(|target| target == "/dev" || target == "/sys"));
    }

    #[test]
    fn a_volume_covers_what_a_read_only_root_makes_writable_but_not_the_files_of_steps() {
        let mut plan = Plan { read_only: true, ..Plan::new("/store/job".into()) };
        plan.mounts.push(Mount::bind("/srv", "/run"));
        let targets = targets(&plan);
        let first = targets.iter().position(|target| target == "/run").unwrap();
        let last = targets.iter().rposition(|target| target == "/run").unwrap();
        assert!(
            first < last && targets.ends_with(&["/run/iguana".into(), "/run/iguana/output".into()]),
            "{targets:?}"
        );
    }

    #[test]
    fn only_fewer_rights_come_with_a_limit_and_only_where_processes_are_counted() {
        let plan = Plan::new("/store/job".into());
        let fewer = Plan { privileged: false, ..plan.clone() };
        assert_eq!((plan.name().as_ref(), plan.limits(true)), ("job", ResourceLimits::default()));
        assert_eq!(fewer.limits(true).pids, Some(PROCESSES_OF_FEWER_RIGHTS));
        assert_eq!(fewer.limits(false).pids, None);
        assert_eq!(Plan { pids: Some(9), ..fewer }.limits(false).pids, Some(9));
    }

    #[test]
    fn terminals_far_away_are_plain() {
        assert_eq!(terminal_type(Path::new("/dev/tty1")), "linux");
        assert_eq!(terminal_type(Path::new("/dev/ttyS0")), "vt220");
        assert_eq!(terminal_type(Path::new("/dev/hvc0")), "vt220");
    }
}
