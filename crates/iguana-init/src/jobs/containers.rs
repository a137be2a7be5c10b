//! Prepares and starts the containers of a workflow.

use super::Setup;
use super::images::Pulled;
use super::job_output::Hides;
use super::scope::{Scope, StringMap};
use anyhow::Context as _;
use exchange::StepFile;
use hint::hinted;
use oci_pull::{HealthCheck, VerifiedImage};
use runtime::{Ipc, Mount, MountSource, Plan, Program, ProgramCommand, Runtime, SharedIpc, Stdio};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use workflow::{Job, Systemd, Volume, VolumeSource};

/// Bytes of a `/dev/shm` that no privileged container shares; podman's default (`--shm-size`, 64000 KiB).
const SHARED_MEMORY_OF_FEWER_RIGHTS: u64 = 64_000 << 10;

/// The machine's shared memory, which `--ipc host` gives to a container.
const SHARED_MEMORY: &str = "/dev/shm";

/// Which container of which job it is. Its text is unique among the containers that run at the same time: the IDs of
/// jobs and the names of services contain no dots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) job: &'a str,
    pub(super) part: Part<'a>,
}

/// Which container of its job it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    Own,
    Service(&'a str),
    /// From 0.
    Step(usize),
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Own => write!(out, "{}", self.job),
            Part::Service(name) => write!(out, "{}.{name}", self.job),
            Part::Step(number) => write!(out, "{}.step.{}", self.job, number + 1),
        }
    }
}

/// Makes the IPC namespaces that containers of a job share: [`prepare`] finds them by [`made_ipc`].
pub(super) fn share_ipc(id: &str, job: &Job, setup: &Setup) -> anyhow::Result<Vec<SharedIpc>> {
    let mut users = BTreeMap::<PathBuf, Vec<bool>>::new();
    for container in job.containers() {
        if let Ipc::Shared(directory) = ipc(id, container, setup) {
            users.entry(directory).or_default().push(Rights::of(container, setup).privileged);
        }
    }
    let make = |(directory, users): (PathBuf, Vec<bool>)| {
        let size = (!users.contains(&true)).then_some(SHARED_MEMORY_OF_FEWER_RIGHTS);
        SharedIpc::make(&directory, size)
    };
    users.into_iter().filter(|(_, users)| users.len() > 1).map(make).collect()
}

/// The same as [`ipc`], but of its own for a container that shares with no other one: the memory of its `/dev/shm` is then
/// free when it ends, which saves a machine whose memory is full.
fn made_ipc(job: &str, container: &workflow::Container, setup: &Setup) -> Ipc {
    match ipc(job, container, setup) {
        Ipc::Shared(directory) if !directory.exists() => Ipc::Private,
        ipc => ipc,
    }
}

/// The IPC namespace of a container. By default only those of the same rights share one: who can write to the `/dev/shm`
/// of a program with more rights, or change its semaphores, has its rights.
fn ipc(job: &str, container: &workflow::Container, setup: &Setup) -> Ipc {
    let shared_by = match container.ipc {
        workflow::Ipc::SameRights => Rights::of(container, setup).name(),
        workflow::Ipc::Shareable => "shareable".into(),
        workflow::Ipc::Private => return Ipc::Private,
        workflow::Ipc::Machine => return Ipc::Machine,
    };
    Ipc::Shared(setup.store.join("ipc").join(format!("{job}.{shared_by}")))
}

/// Where values are hidden that the job asks to hide: everywhere only if it has no container with fewer rights.
pub(super) fn hides(job: &workflow::Job, setup: &Setup) -> Hides {
    match job.containers().all(|container| Rights::of(container, setup).privileged) {
        true => Hides::Everywhere,
        false => Hides::OwnOutput,
    }
}

/// What a container may do beyond its own files and volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rights {
    privileged: bool,
    /// Whether its result files count.
    handover: bool,
    pid_host: bool,
}

impl Rights {
    fn of(container: &workflow::Container, setup: &Setup) -> Self {
        let privileged = container.privileged && setup.privileged;
        let handover = container.handover.unwrap_or(privileged);
        Self { privileged, handover, pid_host: container.pid_host }
    }

    /// The same name only for the same rights. A privileged container could take the others, too.
    fn name(self) -> String {
        if self.privileged {
            return "privileged".into();
        }
        let more = [(self.handover, ".handover"), (self.pid_host, ".pid-host")];
        more.iter().fold("unprivileged".into(), |name, (has, more)| if *has { name + more } else { name })
    }
}

/// A container that can be started, and restarted after its end.
pub(super) struct Prepared {
    image: Arc<VerifiedImage>,
    plan: Plan,
    runtime: Runtime,
}

impl Prepared {
    /// The health check of its image.
    pub(super) fn health_check(&self) -> Option<&HealthCheck> {
        self.image.health_check()
    }

    /// Whether its main program is an init system.
    pub(super) fn has_init_system(&self) -> bool {
        self.plan.init_system
    }

    /// Starts the container, without a program in it yet.
    pub(super) fn start(&self) -> anyhow::Result<runtime::Container> {
        self.runtime.start(&self.image, &self.plan)
    }
}

/// Prepares a container and starts it.
pub(super) fn start(
    name: Name<'_>,
    container: &workflow::Container,
    volumes: &[Volume],
    scope: &Scope,
    pulled: &Pulled,
    setup: &Setup,
) -> anyhow::Result<runtime::Container> {
    prepare(name, container, volumes, scope, pulled, setup)?.start()
}

/// Prepares a container. `scope` is that of its job.
pub(super) fn prepare(
    name: Name<'_>,
    container: &workflow::Container,
    volumes: &[Volume],
    scope: &Scope,
    pulled: &Pulled,
    setup: &Setup,
) -> anyhow::Result<Prepared> {
    let scope = scope.with_env(&container.env);
    let mut plan = Plan::new(setup.store.join("containers").join(name.to_string()), setup.new_root.clone());
    plan.read_only = container.read_only;
    plan.writable_by_others = setup.writable_by_others.clone();
    let rights = Rights::of(container, setup);
    plan.keep = setup.debug;
    (plan.privileged, plan.handover, plan.pid_host) = (rights.privileged, rights.handover, rights.pid_host);
    plan.ipc = made_ipc(name.job, container, setup);
    let image = Arc::clone(pulled.get(&container.image)?);
    plan.init_system = has_init_system(container, &image, &own_command(container, &scope));
    if plan.init_system {
        // An image without a machine ID takes it over (systemd's Container Interface).
        plan.env.push(("container_uuid".into(), setup.machine_id.clone()));
    }
    (plan.memory, plan.pids) = (container.memory, container.pids);
    plan.env.extend(scope.env().clone());
    for file in StepFile::ALL {
        plan.env.extend(file.variables().iter().map(|name| ((*name).to_owned(), file.inside())));
    }
    for (number, volume) in volumes.iter().enumerate() {
        refuse_own_files(volume, plan.privileged)?;
        plan.mounts.push(mount(volume, number, &plan.scratch, pulled, &setup.store)?);
    }
    Ok(Prepared { image, plan, runtime: setup.runtime.clone() })
}

/// Host directories to which unprivileged containers can write: their volumes, and the store, which holds everything
/// else of theirs. `privileged` is whether containers may have all rights at all.
pub(crate) fn writable_by_others(plan: &workflow::Plan, store: &Path, privileged: bool) -> Vec<PathBuf> {
    let all = plan.jobs.iter().flat_map(|(_, job)| job.containers_with_volumes());
    let with_fewer_rights: Vec<_> =
        all.filter(|(container, _)| !(container.privileged && privileged)).collect();
    let shares_memory = with_fewer_rights.iter().any(|(it, _)| it.ipc == workflow::Ipc::Machine);
    let shared_memory = shares_memory.then(|| PathBuf::from(SHARED_MEMORY));
    let volumes =
        with_fewer_rights.into_iter().flat_map(|(_, volumes)| volumes).filter(|volume| !volume.read_only);
    let paths = volumes.filter_map(|volume| match &volume.source {
        VolumeSource::Host(path) => Some(path.clone()),
        _ => None,
    });
    [store.to_owned()].into_iter().chain(shared_memory).chain(paths).collect()
}

/// Refuses the scripts and files of other containers as a volume of one with fewer rights.
fn refuse_own_files(volume: &Volume, privileged: bool) -> anyhow::Result<()> {
    match &volume.source {
        VolumeSource::Host(path) if !privileged && exchange::is_own(path) => Err(hinted(
            format!("the volume `{}` is of Iguana's own files", path.display()),
            "it is not available with `privileged: false`: use another directory",
        )),
        _ => Ok(()),
    }
}

fn mount(
    volume: &Volume,
    number: usize,
    scratch: &Path,
    pulled: &Pulled,
    store: &Path,
) -> anyhow::Result<Mount> {
    let source = match &volume.source {
        VolumeSource::Anonymous => MountSource::Bind(scratch.join(format!("volume-{number}"))),
        VolumeSource::Named(name) => MountSource::Bind(store.join("volumes").join(name)),
        VolumeSource::Host(path) => MountSource::Bind(path.clone()),
        VolumeSource::Tmpfs(size) => MountSource::Tmpfs { size: *size },
        VolumeSource::Image(image) => {
            let image = pulled.get(image).context("cannot mount an image")?;
            MountSource::Image {
                layers: image.layers().iter().map(|layer| layer.path().to_owned()).collect(),
            }
        }
    };
    Ok(Mount { source, target: volume.target.clone(), read_only: volume.read_only })
}

/// Whether a container's main program is started as an init system. It cannot be PID 1 among the machine's processes.
fn has_init_system(container: &workflow::Container, image: &VerifiedImage, command: &ProgramCommand) -> bool {
    let is_named = || Runtime::arguments(image, command).is_ok_and(|words| workflow::is_init_system(&words));
    match container.systemd {
        _ if container.pid_host => false,
        Systemd::Always => true,
        Systemd::IfNamed => is_named(),
        Systemd::Never => false,
    }
}

/// The command of the container's main program; `scope` has the variables of the container.
fn own_command(container: &workflow::Container, scope: &Scope) -> ProgramCommand {
    let words = |words: &Option<Vec<_>>| words.as_ref().map(|words| scope.words(words));
    ProgramCommand::FromImage { entrypoint: words(&container.entrypoint), command: words(&container.command) }
}

/// The container's main program: that of the image, changed as the workflow says.
pub(super) fn own_program(container: &workflow::Container, scope: &Scope, stdio: Stdio) -> Program {
    Program {
        command: own_command(container, &scope.with_env(&container.env)),
        env: Vec::new(),
        directory: container.directory.clone(),
        user: container.user.clone(),
        stdio,
    }
}

/// Another program in the same container.
pub(super) fn other_program(container: &workflow::Container, words: Vec<String>, stdio: Stdio) -> Program {
    Program {
        command: ProgramCommand::Exactly(words),
        env: Vec::new(),
        directory: container.directory.clone(),
        user: container.user.clone(),
        stdio,
    }
}

/// Environment variables in the form that programs take.
pub(super) fn pairs(env: &StringMap) -> Vec<(String, String)> {
    env.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
