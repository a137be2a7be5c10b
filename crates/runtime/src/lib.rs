//! Containers: from a verified image to programs and their exit statuses.
//!
//! Principles:
//!
//! 1. Only a [`VerifiedImage`] can be started.
//! 2. The description of a container is data: a [`Plan`], and a [`Program`] for each program. Everything that runs is a
//!    handle that ends it when dropped: [`Runtime`], [`Container`].
//! 3. A container's root is built in its own namespaces, and every path in it is resolved by the kernel inside that
//!    root.
//! 4. Nothing is printed here, and each wait has a limit.
//!
//! ```
//! use runtime::{Mount, Plan};
//!
//! let mut plan = Plan::new("/run/iguana/store/containers/install".into(), "/sysroot".into());
//! plan.privileged = false;
//! plan.memory = Some(256 << 20);
//! plan.mounts.push(Mount::bind("/srv/data", "/data"));
//! ```
//!
//! [`Runtime::start`] sends a plan to a copy of the zygote, which is the PID 1 of the container's namespaces
//! ([`init`]). PID 1 builds the root, starts the requested programs, and reaps. When the host side closes the socket or
//! dies, PID 1 ends together with every process of the container.
//!
//! Errors name the operation with the literal in backticks, and carry a hint where one helps (crate `hint`).
//!
//! Specifications: OCI image-spec (config.md) for the programs of an image; namespaces(7), cgroups(7), capabilities(7),
//! seccomp(2); podman's defaults where the workflow sets none.
#![cfg_attr(not(test), forbid(unsafe_code))]

mod cgroup;
mod copy;
mod group;
mod hierarchy;
mod host_files;
mod host_watch;
mod image;
mod init_system;
mod inside;
mod ipc;
mod link;
mod mounts;
mod plan;
mod privileges;
mod program;
mod protocol;
mod relay;
mod rootfs;
mod running;
mod seccomp;
mod terminal;
#[cfg(test)]
mod tests;
mod user;
mod zygote;

pub use group::memory_reserve;
pub use inside::init;
pub use ipc::SharedIpc;
pub use plan::{Ipc, KernelFiles, Mount, MountSource, Plan, Program, ProgramCommand, STOP_GRACE, Stdio};
pub use running::{KernelAction, MemoryShortage, ProgramExit, Running, StopToken};
pub use terminal::{Shown, Terminal, attach_to, attach_to_main_console};

use anyhow::Context as _;
use cgroup::Cgroup;
use exchange::StepFiles;
use group::Group;
use hierarchy::Cgroups;
use host_files::HostFiles;
use image::Image;
use link::Link;
use oci_pull::VerifiedImage;
use protocol::{Execution, Order};
use relay::{Relay, Relays};
use running::ShowRest;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use terminal::SharedTerminal;
use untrusted_fs::{Directory, Links};
use zygote::Zygote;

/// The process name of the zygote, and of the PID 1 of a container.
pub const INIT_NAME: &str = "iguana-container";
const INIT_NAME_C: &std::ffi::CStr = c"iguana-container";

/// A container. Dropping it ends it and frees its resources.
pub struct Container {
    image: Image,
    env: Vec<(String, String)>,
    privileged: bool,
    has_init_system: bool,
    stop_grace: Duration,
    step_files: StepFiles,
    // In this order: the files of the container can be removed only after its processes have ended.
    link: StopOnDrop,
    cgroup: Cgroup,
    host_files: HostFiles,
    /// Made for the first program that has it.
    terminal: Mutex<Option<SharedTerminal>>,
    relays: Relays,
    /// `None` if what the container wrote is kept.
    _scratch: Option<Scratch>,
}

/// Starts containers on this machine. It has the parents of their cgroups, and the zygote that the PID 1 of each is a
/// copy of. Clones share the zygote, which ends with the last of them.
#[derive(Debug, Clone)]
pub struct Runtime {
    // In this order: the zygote may be in the group's cgroup.
    zygote: Arc<Zygote>,
    group: Arc<Group>,
}

impl Runtime {
    /// Finds the machine's cgroups, enables the controllers that containers need, and creates the cgroup of all
    /// containers. No process is started before the first container.
    pub fn open() -> Self {
        let group = Group::begin(&Cgroups::open());
        Self { zygote: Zygote::new(group.cgroups().joined_by_copies()).into(), group }
    }

    /// The arguments of an image's program, changed as `command` says.
    ///
    /// # Errors
    /// When there are none.
    pub fn arguments(image: &VerifiedImage, command: &ProgramCommand) -> anyhow::Result<Vec<String>> {
        Image::of(image)?.arguments(command)
    }

    /// Describes in one line for the log which resources are counted and limited.
    pub fn describe(&self) -> String {
        self.group.cgroups().describe()
    }

    /// Starts a container. Returns when its root is built; no program runs in it yet.
    ///
    /// # Errors
    /// When its root cannot be built: with the reason.
    pub fn start(&self, image: &VerifiedImage, plan: &Plan) -> anyhow::Result<Container> {
        self.start_from(Image::of(image)?, plan)
    }

    fn start_from(&self, image: Image, plan: &Plan) -> anyhow::Result<Container> {
        let scratch = (!plan.keep).then(|| Scratch(plan.scratch.clone()));
        rootfs::make_scratch(&plan.scratch, &plan.host_files())?;
        let host_files = HostFiles::make(&plan.host_files())?;
        let step_files = StepFiles::create(&plan.scratch, plan::STEP_FILES)?;
        let cgroup =
            Cgroup::make(&self.group, &plan.name(), plan.limits(self.group.cgroups().count_processes()))?;
        let cgroup = if plan.init_system { cgroup.for_init_system()? } else { cgroup };
        let order = Order {
            layers: image.layers.clone(),
            ipc: plan.ipc.clone(),
            scratch: plan.scratch.clone(),
            mounts: plan.all_mounts(&image.volumes, self.group.cgroups().are_unified()),
            new_root: plan.new_root.clone(),
            writable_by_others: plan.writable_by_others.clone(),
            directory: image.directory.clone(),
            read_only: plan.read_only,
            privileged: plan.privileged,
            handover: plan.handover,
            cgroup_of_init: cgroup.of_init_system().map(Path::to_owned),
            spare_init: cgroup.spares_init(),
        };
        let link = StopOnDrop(Link::open(plan.pid_host, plan.handover, &cgroup, &self.zygote)?);
        link.0.build(&order).or_else(|error| attribute_to_limit(error, &cgroup))?;
        Ok(Container {
            image,
            env: plan.env.clone(),
            privileged: plan.privileged,
            has_init_system: plan.init_system,
            stop_grace: plan.stop_grace,
            step_files,
            link,
            cgroup,
            host_files,
            terminal: Mutex::new(None),
            relays: Relays::default(),
            _scratch: scratch,
        })
    }
}

/// Replaces an error by that of the memory limit, if the kernel has killed something for it.
fn attribute_to_limit(error: anyhow::Error, cgroup: &Cgroup) -> anyhow::Result<()> {
    if cgroup.memory().has_killed() { Err(cgroup.memory().too_little()) } else { Err(error) }
}

impl Container {
    /// Starts a program. Returns when it runs.
    ///
    /// # Errors
    /// When it cannot be executed: with the reason.
    pub fn run(&self, program: &Program) -> anyhow::Result<Running> {
        self.host_files.refresh();
        let is_own = matches!(program.command, ProgramCommand::FromImage { .. });
        let is_init = self.has_init_system && is_own;
        let env = [&self.image.env, &program.stdio.env(is_init), &self.env, &program.env];
        let execution = Execution {
            id: 0,
            arguments: self.image.arguments(&program.command)?,
            env: env.into_iter().flatten().cloned().collect(),
            directory: self.image.directory_for(program.directory.as_deref()),
            user: program.user.clone().unwrap_or_else(|| self.image.user.clone()),
            has_terminal: matches!(program.stdio, Stdio::Terminal(_)),
            is_init,
        };
        let (memory, processes) = (self.cgroup.memory().clone(), self.cgroup.processes().clone());
        let before = (memory.kills(), processes.refusals());
        let (id, show_rest) = self.run_with_output(execution, &program.stdio)?;
        let accounts = (memory, processes);
        let stop = (self.stop_signal_of(&program.command), self.stop_grace);
        let is_beside_init = self.has_init_system && !is_init;
        Ok(Running::new(Arc::clone(&self.link.0), id, stop, is_beside_init, accounts, before, show_rest))
    }

    /// podman's default for an init system is systemd's signal to halt (systemd(1)).
    fn stop_signal(&self) -> i32 {
        let default = if self.has_init_system { init_system::STOP_SIGNAL } else { libc::SIGTERM };
        self.image.stop_signal.unwrap_or(default)
    }

    /// The image's stop signal is meant for the image's own program.
    fn stop_signal_of(&self, command: &ProgramCommand) -> i32 {
        match command {
            ProgramCommand::FromImage { .. } => self.stop_signal(),
            ProgramCommand::Exactly(_) => libc::SIGTERM,
        }
    }

    /// Runs a program; returns its number, and what is to be called after its end.
    fn run_with_output(
        &self,
        execution: Execution,
        stdio: &Stdio,
    ) -> anyhow::Result<(u64, Option<ShowRest>)> {
        let run = |output: OwnedFd| self.link.0.run(execution, output.as_fd());
        let relay = match stdio {
            Stdio::Terminal(terminal) => return self.run_attached(terminal, run),
            Stdio::Console(terminal) => {
                Relay::begin(terminal.printer().context("cannot write to the console")?)
            }
            Stdio::Log(file) if self.privileged => return Ok((run(file.try_clone()?)?, None)),
            Stdio::Log(file) => Relay::begin(relay::write_to(file.try_clone()?)),
            Stdio::Inherited => {
                let output = io::stdout().as_fd().try_clone_to_owned()?;
                if self.privileged {
                    return Ok((run(output)?, None));
                }
                Relay::begin(relay::write_to(output))
            }
        };
        let (relay, input) = relay.context("cannot create a pipe for the program's output")?;
        self.relays.add(&relay)?;
        Ok((run(input)?, Some(Box::new(move || relay.finish()))))
    }

    /// Runs a program with the terminal, which is made for the first one. It is kept for what stays in the background.
    fn run_attached(
        &self,
        terminal: &Terminal,
        run: impl FnOnce(OwnedFd) -> anyhow::Result<u64>,
    ) -> anyhow::Result<(u64, Option<ShowRest>)> {
        let mut shared = self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = match &mut *shared {
            Some(shared) => shared,
            none => {
                // In the container's devpts its descriptors would keep a privileged program from `umount -a`.
                let root = (!self.privileged).then(|| self.root()).transpose()?;
                none.insert(SharedTerminal::begin(terminal, root.as_ref())?)
            }
        };
        let (id, attached) = shared.attach(run)?;
        Ok((id, Some(Box::new(move || attached.finish()))))
    }

    /// The container's `/`, for looking up paths in it (openat2(2), `RESOLVE_IN_ROOT`).
    ///
    /// # Errors
    /// When the container has ended.
    pub fn root(&self) -> io::Result<OwnedFd> {
        let ended = || io::Error::other("the container has ended");
        let pid = self.link.0.pid().ok_or_else(ended)?;
        let path = format!("/proc/{}/root", pid.as_raw_pid());
        let root = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // Checked again: the container may have ended meanwhile, and its PID been reused.
        self.link.0.pid().map(|_| root).ok_or_else(ended)
    }

    /// Whether its own program is an init system, which runs before and beside all others.
    pub fn has_init_system(&self) -> bool {
        self.has_init_system
    }

    /// Whether this path exists in the container.
    pub fn has_path(&self, path: &Path) -> bool {
        let found = |root| Directory::from_descriptor(root, "/").locate(path, Links::Inside);
        self.root().is_ok_and(|root| found(root).is_ok())
    }

    /// The directories in which its programs look for others (`PATH`).
    pub fn search_path(&self) -> &str {
        let mut env = self.image.env.iter().chain(&self.env);
        env.rfind(|(name, _)| name == "PATH").map_or(program::DEFAULT_PATH, |(_, path)| path)
    }

    /// The scripts of its steps, and the files that they write to.
    pub fn step_files(&self) -> &StepFiles {
        &self.step_files
    }

    /// Sends all programs the stop signal, and kills those that do not end within the plan's `stop_grace`.
    pub fn stop(&mut self) {
        for program in self.link.0.running() {
            self.link.0.signal(program, self.stop_signal());
        }
        self.link.0.wait_until_quiet(self.stop_grace);
        self.link.0.close();
    }
}

/// Ends the container when it is dropped.
struct StopOnDrop(Arc<Link>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        // Ignored: a process that the kernel cannot end keeps its resources.
        self.0.close();
    }
}

/// A directory that is removed when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Ignored: its mounts ended with the namespaces, and the rest is only memory.
        let _ = rootfs::remove_scratch(&self.0);
    }
}
