//! The typed document. Positions are kept where a later check may report something.

use super::expression::{Expression, Template};
use super::volume::Volume;
use indexmap::IndexMap;
use oci_reference::Reference;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use timestamp::Timestamp;

/// Environment variables in the order written.
pub type Env = IndexMap<String, Template>;

/// A value with its span in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Span in bytes; empty for a value that is not from a document.
    pub span: Range<usize>,
}

/// A whole workflow document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workflow {
    /// Shown to the person at the machine.
    pub name: Option<String>,
    /// Version of the workflow; a trust can require a minimum.
    pub serial: Option<u64>,
    /// Time after which no machine runs it.
    pub valid_until: Option<Timestamp>,
    /// Variables of every container.
    pub env: Env,
    /// What to do after the failure of a job without `continue-on-error`.
    pub on_failure: OnFailure,
    /// Where the outcome is recorded.
    pub state: Option<String>,
    /// Whether a mount list with lines that would be skipped is refused.
    pub strict: bool,
    /// Size limit of `/iguana` in bytes.
    pub shared_size: Option<u64>,
    /// The jobs by their ids, in file order.
    pub jobs: IndexMap<String, Job>,
}

/// `on-failure:` of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Continue with what the result files say.
    #[default]
    Continue,
    /// Skip the handover and do this, instead of what the command line says.
    Do(crate::OnFailurePolicy),
}

/// One job: a container, perhaps with steps in it and services beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Span of its id.
    pub span: Range<usize>,
    /// Shown instead of the id.
    pub name: Option<Template>,
    /// The container, attached to the terminal.
    pub container: Container,
    /// Containers beside it, by name: detached, started before it and stopped after it.
    pub services: IndexMap<String, Service>,
    /// Jobs that must succeed before this one.
    pub needs: Vec<Spanned<String>>,
    /// Condition for running it.
    pub condition: Option<Expression>,
    /// Variables of its containers and steps.
    pub env: Env,
    /// What runs in the container, one after another. Without steps, the image's own program.
    pub steps: Vec<Step>,
    /// Outputs for jobs that need this one. If empty, all values in the output file.
    pub outputs: IndexMap<String, Template>,
    /// Time limit and number of retries.
    pub limits: Limits,
    /// Whether jobs that need this one run even if it fails.
    pub continue_on_error: bool,
}

/// Time limit and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// The longest time of one attempt.
    pub timeout: Option<Duration>,
    /// Number of further attempts.
    pub retries: u32,
    /// Pause before the next attempt.
    pub delay: Duration,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name in expressions.
    pub id: Option<String>,
    /// Shown to the person at the machine.
    pub name: Option<Template>,
    /// Condition for running it.
    pub condition: Option<Expression>,
    /// What it does.
    pub action: Action,
    /// Its variables.
    pub env: Env,
    /// Time limit and number of retries.
    pub limits: Limits,
    /// Whether the job continues even if the step fails.
    pub continue_on_error: bool,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A script in the job's container.
    Run {
        /// The script.
        script: Template,
        /// The shell, after the defaults of the job and the workflow.
        shell: Option<String>,
        /// The working directory, after the defaults.
        directory: Option<String>,
    },
    /// A container of its own.
    Use(Box<Container>),
}

/// A container with its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// The image to pull.
    pub image: Image,
    /// Variables of this container, which override the workflow's and the job's.
    pub env: Env,
    /// Shared directories and other mounts.
    pub volumes: Vec<Volume>,
    /// The program instead of the image's.
    pub entrypoint: Option<Vec<Template>>,
    /// Its arguments instead of the image's.
    pub command: Option<Vec<Template>>,
    /// `USER[:GROUP]` instead of the image's.
    pub user: Option<String>,
    /// The working directory instead of the image's.
    pub directory: Option<String>,
    /// Whether it gets the terminal, if it is allowed to.
    pub tty: bool,
    /// Whether it has all privileges.
    pub privileged: bool,
    /// Whether it may write result files. Privileged containers may, unless this is `false`.
    pub handover: Option<bool>,
    /// Whether its root file system is read-only.
    pub read_only: bool,
    /// Whether it sees the machine's processes.
    pub pid_host: bool,
    /// Whose IPC namespace it uses.
    pub ipc: Ipc,
    /// Whether its program is started as an init system.
    pub systemd: Systemd,
    /// Login for the registry.
    pub credentials: Option<Credentials>,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// Limit of processes and threads.
    pub pids: Option<u64>,
}

/// A namespace of System V IPC, POSIX message queues, and shared memory (`/dev/shm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ipc {
    /// One that the containers of the job with the same rights share: the privileged ones, or the others.
    #[default]
    SameRights,
    /// One that all containers of the job that ask for it share, whatever their rights.
    Shareable,
    /// Its own.
    Private,
    /// The machine's.
    Machine,
}

/// Whether the program of a container is started as an init system: podman's `--systemd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Systemd {
    /// If its name is that of one.
    #[default]
    IfNamed,
    /// Whatever its name is.
    Always,
    /// As any other program.
    Never,
}

/// The name of an image, which may contain expressions.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The name as written.
    pub name: Template,
    /// The reference, if the name has no expressions.
    pub reference: Option<Reference>,
    /// Its span.
    pub span: Range<usize>,
}

/// Login for a registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Credentials {
    /// The user name.
    pub username: Template,
    /// The password or token.
    pub password: Template,
}

/// A container beside a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// What runs.
    pub container: Container,
    /// When it counts as started.
    pub ready: Option<Ready>,
    /// What happens when it ends before its job.
    pub restart: Restart,
}

/// `restart:` of a service: what to do when it ends before its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Its end fails the job.
    #[default]
    Never,
    /// It is started again after a failure; it may end with success.
    OnFailure,
    /// It is started again in any case.
    Always,
}

/// When a service counts as started.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// What shows that it is ready.
    pub sign: Sign,
    /// How long to wait for it.
    pub limit: Duration,
}

/// What shows that a service is ready.
#[derive(Debug, Clone, PartialEq)]
pub enum Sign {
    /// A command in its container succeeds.
    Command(Vec<String>),
    /// A TCP port of the machine accepts connections.
    Port(u16),
    /// A path in its container appears.
    Path(PathBuf),
}

impl Workflow {
    /// The workflow for `rd.iguana.containers=`: the images one after another.
    #[must_use]
    pub fn from_images(images: Vec<Reference>) -> Self {
        let jobs = images.into_iter().enumerate();
        let jobs = jobs.map(|(n, image)| (format!("container-{}", n + 1), Job::of(Container::of(image))));
        Self { jobs: jobs.collect(), ..Self::default() }
    }
}

impl Job {
    /// A job with only a container.
    #[must_use]
    pub(super) fn of(container: Container) -> Self {
        Self {
            span: 0..0,
            name: None,
            container,
            services: IndexMap::new(),
            needs: Vec::new(),
            condition: None,
            env: Env::new(),
            steps: Vec::new(),
            outputs: IndexMap::new(),
            limits: Limits::default(),
            continue_on_error: false,
        }
    }
}

impl Container {
    fn of(image: Reference) -> Self {
        let name = Template::literal(image.to_string());
        Self::named(Image { name, reference: Some(image), span: 0..0 })
    }

    /// A container with only an image.
    #[must_use]
    pub(super) fn named(image: Image) -> Self {
        Self {
            image,
            env: Env::new(),
            volumes: Vec::new(),
            entrypoint: None,
            command: None,
            user: None,
            directory: None,
            tty: true,
            privileged: true,
            handover: None,
            read_only: false,
            pid_host: false,
            ipc: Ipc::SameRights,
            systemd: Systemd::IfNamed,
            credentials: None,
            memory: None,
            pids: None,
        }
    }

    /// [`Container::images`], mutable.
    pub fn images_mut(&mut self) -> impl Iterator<Item = &mut Image> {
        [&mut self.image].into_iter().chain(self.volumes.iter_mut().filter_map(Volume::image_mut))
    }

    /// The images that it needs: its own, and those that it mounts.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        [&self.image].into_iter().chain(self.volumes.iter().filter_map(Volume::image))
    }
}

impl Job {
    /// All its containers: services first, then its own, then those of steps.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        let services = self.services.values().map(|service| &service.container);
        let steps = self.steps.iter().filter_map(|step| match &step.action {
            Action::Use(container) => Some(&**container),
            Action::Run { .. } => None,
        });
        services.chain([&self.container]).chain(steps)
    }

    /// The same, each with its volumes. Containers of steps have those of their job.
    pub fn containers_with_volumes(&self) -> impl Iterator<Item = (&Container, &[Volume])> {
        let of_job = &self.container.volumes[..];
        let services = self.services.values().map(|service| &service.container);
        let services = services.map(|container| (container, &container.volumes[..]));
        services.chain(self.containers().skip(self.services.len()).map(move |container| (container, of_job)))
    }

    /// [`Job::containers`], mutable.
    pub fn containers_mut(&mut self) -> impl Iterator<Item = &mut Container> {
        let services = self.services.values_mut().map(|service| &mut service.container);
        let steps = self.steps.iter_mut().filter_map(|step| match &mut step.action {
            Action::Use(container) => Some(&mut **container),
            Action::Run { .. } => None,
        });
        services.chain([&mut self.container]).chain(steps)
    }
}
