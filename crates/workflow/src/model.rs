//! The document as it was meant, typed. Places are kept where a later check may have something to say.

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

/// A value, and the bytes of the document that it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands; nothing for what is from nowhere.
    pub span: Range<usize>,
}

/// A whole workflow document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workflow {
    /// Shown to the person at the machine.
    pub name: Option<String>,
    /// Which version it is, for a trust that runs no old one.
    pub serial: Option<u64>,
    /// After when no machine runs it.
    pub valid_until: Option<Timestamp>,
    /// Variables of every container.
    pub env: Env,
    /// What follows a failed job that was not allowed to fail.
    pub on_failure: OnFailure,
    /// Where it is noted what became of it.
    pub state: Option<String>,
    /// The most that `/iguana` may hold, in bytes.
    pub shared_size: Option<u64>,
    /// The jobs by their ids, in file order.
    pub jobs: IndexMap<String, Job>,
}

/// `on-failure:` of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The result files decide.
    #[default]
    Continue,
    /// No handover; this instead of what the command line says.
    Do(crate::OnFailurePolicy),
}

/// One job: a container, perhaps with steps in it and services beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Where its id stands.
    pub span: Range<usize>,
    /// Shown instead of the id.
    pub name: Option<Template>,
    /// What runs, attached to the terminal.
    pub container: Container,
    /// What runs detached beside it, by name: started before it and stopped after it.
    pub services: IndexMap<String, Service>,
    /// Jobs that must have succeeded before this one.
    pub needs: Vec<Spanned<String>>,
    /// When it runs at all.
    pub condition: Option<Expression>,
    /// Variables of its containers and steps.
    pub env: Env,
    /// What runs in the container, one after the other; the image's own program when there are none.
    pub steps: Vec<Step>,
    /// Texts for jobs that need this one; all that were written to the output file when none are named.
    pub outputs: IndexMap<String, Template>,
    /// How long it may take and how often it may be tried.
    pub limits: Limits,
    /// Jobs that need this one run even when it fails.
    pub continue_on_error: bool,
}

/// Time and tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// The longest time that one try may take.
    pub timeout: Option<Duration>,
    /// How many times to try again.
    pub retries: u32,
    /// How long to wait before trying again.
    pub delay: Duration,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name in expressions.
    pub id: Option<String>,
    /// Shown to the person at the machine.
    pub name: Option<Template>,
    /// When it runs at all.
    pub condition: Option<Expression>,
    /// What it does.
    pub action: Action,
    /// Its variables.
    pub env: Env,
    /// How long it may take and how often it may be tried.
    pub limits: Limits,
    /// The job goes on even when it fails.
    pub continue_on_error: bool,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A script in the job's container.
    Run {
        /// The script.
        script: Template,
        /// The shell; the job's or the workflow's default is filled in.
        shell: Option<String>,
        /// The directory in which it starts; the default is filled in.
        directory: Option<String>,
    },
    /// A container of its own.
    Use(Box<Container>),
}

/// What to run and with what.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// The image to pull.
    pub image: Image,
    /// Variables of this container; they win over the workflow's and the job's.
    pub env: Env,
    /// What it shares, and what is mounted into it.
    pub volumes: Vec<Volume>,
    /// The program instead of the image's.
    pub entrypoint: Option<Vec<Template>>,
    /// Its arguments instead of the image's.
    pub command: Option<Vec<Template>>,
    /// `USER[:GROUP]` instead of the image's.
    pub user: Option<String>,
    /// The directory in which it starts, instead of the image's.
    pub directory: Option<String>,
    /// Whether it has the terminal, if it may.
    pub tty: bool,
    /// Whether it has all rights.
    pub privileged: bool,
    /// Whether it may say what comes after the last job; containers with all rights may, unless this is `false`.
    pub handover: Option<bool>,
    /// Whether its root file system is read-only.
    pub read_only: bool,
    /// Whether it sees the machine's processes.
    pub pid_host: bool,
    /// For a registry that demands a name.
    pub credentials: Option<Credentials>,
    /// The most memory that it may use, in bytes.
    pub memory: Option<u64>,
    /// The most processes and threads that it may have.
    pub pids: Option<u64>,
}

/// The name of an image, perhaps one that only the run decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The name as written.
    pub name: Template,
    /// The image that it names, when that is known beforehand.
    pub reference: Option<Reference>,
    /// Where it stands.
    pub span: Range<usize>,
}

/// Who pulls.
#[derive(Debug, Clone, PartialEq)]
pub struct Credentials {
    /// The name.
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

/// `restart:` of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Its end fails the job.
    #[default]
    Never,
    /// It is started again after a failure; an end with success is allowed.
    OnFailure,
    /// It is started again.
    Always,
}

/// When a service counts as started.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// What shows it.
    pub sign: Sign,
    /// How long to wait for it.
    pub limit: Duration,
}

/// What shows that a service is ready.
#[derive(Debug, Clone, PartialEq)]
pub enum Sign {
    /// A command in its container succeeds.
    Command(Vec<String>),
    /// A TCP port of the machine takes connections.
    Port(u16),
    /// A path in its container appears.
    Path(PathBuf),
}

impl Workflow {
    /// The workflow that `rd.iguana.containers=` stands for: the images one after the other.
    #[must_use]
    pub fn from_images(images: Vec<Reference>) -> Self {
        let jobs = images.into_iter().enumerate();
        let jobs = jobs.map(|(n, image)| (format!("container-{}", n + 1), Job::of(Container::of(image))));
        Self { jobs: jobs.collect(), ..Self::default() }
    }
}

impl Job {
    /// A job of a container and nothing else.
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

    /// A container of an image and nothing else.
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
            credentials: None,
            memory: None,
            pids: None,
        }
    }

    /// [`Container::images`], to be changed.
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

    /// The same, each with the volumes that it gets: those of steps have their job's.
    pub fn containers_with_volumes(&self) -> impl Iterator<Item = (&Container, &[Volume])> {
        let of_job = &self.container.volumes[..];
        let services = self.services.values().map(|service| &service.container);
        let services = services.map(|container| (container, &container.volumes[..]));
        services.chain(self.containers().skip(self.services.len()).map(move |container| (container, of_job)))
    }

    /// [`Job::containers`], to be changed.
    pub fn containers_mut(&mut self) -> impl Iterator<Item = &mut Container> {
        let services = self.services.values_mut().map(|service| &mut service.container);
        let steps = self.steps.iter_mut().filter_map(|step| match &mut step.action {
            Action::Use(container) => Some(&mut **container),
            Action::Run { .. } => None,
        });
        services.chain([&mut self.container]).chain(steps)
    }
}
