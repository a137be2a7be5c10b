//! Runs a plan: for each job its images, its services, itself, and then the cleaning up.

use crate::container::{self, Container, Ended, Plan as ContainerPlan, Stdio, Terminal};
use crate::machine::{memory, mounts};
use crate::report::{At as _, Failure, Report, Stage, Waiting};
use anyhow::Context as _;
use iguana_core::cmdline::Settings;
use iguana_core::hint::hinted;
use iguana_core::http;
use iguana_core::image::{PullEvent, Reference, Registries, Store, VerifiedImage, pull};
use iguana_core::workflow::{self, Env, Plan, PlannedJob};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Where the services' output is kept.
const SERVICE_LOGS: &str = "/run/iguana/services";
/// How much of a failed service's output is shown, in lines.
const LINES_SHOWN: usize = 10;

/// Where images come from and go to.
pub(crate) struct Images {
    pub(crate) http: http::Client,
    pub(crate) registries: Registries,
    pub(crate) store: Store,
}

type Pulled = HashMap<Reference, Arc<VerifiedImage>>;

/// Runs all jobs. One that fails does not stop later ones; those that need it are skipped.
/// Gives back the failures that were not allowed, the first one first.
pub(crate) fn run(plan: &Plan, images: &Images, settings: &Settings, report: &Report) -> Vec<Failure> {
    let mut pulled = Pulled::new();
    let mut unmet = HashSet::new();
    let mut failures = Vec::new();
    for (index, job) in plan.jobs.iter().enumerate() {
        if let Some(need) = job.needs.iter().find(|need| unmet.contains(need.as_str())) {
            report.say(format_args!("job {}: skipped: needs `{need}`", job.id));
            unmet.insert(job.id.as_str());
            continue;
        }
        let outcome = run_job(job, &plan.env, images, &mut pulled, report);
        if let Err(failure) = outcome {
            report.say(format_args!("job {}: failed: {:#}", job.id, failure.error));
            if job.continue_on_error {
                report.say(format_args!("job {}: going on all the same (continue_on_error)", job.id));
            } else {
                unmet.insert(job.id.as_str());
                failures.push(failure.of_job(&job.id));
            }
        }
        if !settings.debug {
            pulled.retain(|image, _| plan.needs_after(index, image));
        }
    }
    failures
}

fn run_job(
    job: &PlannedJob,
    env: &Env,
    images: &Images,
    pulled: &mut Pulled,
    report: &Report,
) -> Result<(), Failure> {
    for reference in job.images() {
        images.provide(reference, pulled, report).at(Stage::Image)?;
    }
    let mut services = Vec::new();
    for (name, service) in &job.services {
        let image = &pulled[&service.image];
        services.push(Service::start(job, name, service, image, env).at(Stage::Service)?);
        report.say(format_args!("service {name}: started"));
    }
    let ended = run_attached(job, &pulled[&job.container.image], env, report).at(Stage::Job);
    for service in services.iter_mut().rev() {
        service.stop(report);
    }
    ended
}

/// The job's own container, with the terminal, to its end.
fn run_attached(job: &PlannedJob, image: &VerifiedImage, env: &Env, report: &Report) -> anyhow::Result<()> {
    let terminal = Terminal::find();
    let stdio = terminal.as_ref().map_or(Stdio::Console, |terminal| Stdio::Terminal(terminal.path().into()));
    let plan = container_plan(&job.id, &job.container, env, stdio);
    let start = Instant::now();
    let mut container = container::start(image, &plan)?;
    report.say(format_args!("job {}: started", job.id));
    let ended = container.wait()?;
    if let Some(terminal) = terminal {
        terminal.restore();
    }
    if ended.is_success() {
        report.say(format_args!("job {}: succeeded in {:.1} s", job.id, start.elapsed().as_secs_f32()));
        return Ok(());
    }
    Err(hinted(ended.to_string(), "the container's own messages are above"))
}

fn container_plan(name: &str, container: &workflow::Container, env: &Env, stdio: Stdio) -> ContainerPlan {
    ContainerPlan::new(Path::new(mounts::STORE), name, &container.volumes, env, &container.env, stdio)
}

/// A container that runs detached beside a job.
struct Service {
    name: String,
    container: Container,
    log: PathBuf,
}

impl Service {
    fn start(
        job: &PlannedJob,
        name: &str,
        service: &workflow::Container,
        image: &VerifiedImage,
        env: &Env,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(SERVICE_LOGS)?;
        let log = Path::new(SERVICE_LOGS).join(format!("{}.{name}.log", job.id));
        let plan = container_plan(&format!("{}.{name}", job.id), service, env, Stdio::Log(log.clone()));
        let container =
            container::start(image, &plan).with_context(|| format!("cannot start the service `{name}`"))?;
        Ok(Self { name: name.into(), container, log })
    }

    fn stop(&mut self, report: &Report) {
        match self.container.try_wait() {
            Some(ended) if !ended.is_success() => self.tell_early_end(ended, report),
            Some(_) => {}
            None => {
                let what = format!("service {}: waiting for its end", self.name);
                let _waiting = Waiting::start(report, what, container::STOP_GRACE);
                self.container.stop();
            }
        }
        report.say(format_args!("service {}: stopped", self.name));
    }

    fn tell_early_end(&self, ended: Ended, report: &Report) {
        report.say(format_args!("warning: service {}: it had ended before its job: {ended}", self.name));
        let output = fs::read(&self.log).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let lines: Vec<&str> = output.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
            report.say(format_args!("service {}: | {line}", self.name));
        }
    }
}

impl Images {
    /// Pulls an image if it is not there yet.
    fn provide(&self, reference: &Reference, pulled: &mut Pulled, report: &Report) -> anyhow::Result<()> {
        if pulled.contains_key(reference) {
            return Ok(());
        }
        let start = Instant::now();
        report.say(format_args!("image {reference}: resolving"));
        let room = memory::read().map_or(u64::MAX, |memory| memory.available);
        let what = format!("image {reference}: waiting for the registry");
        let mut waiting = Some(Waiting::start(report, what, http::SILENCE_LIMIT));
        let mut watch = |event| {
            waiting = None;
            tell(reference, &event, start, report);
        };
        let image = pull(&self.http, &self.registries, &self.store, reference, room, &mut watch)
            .with_context(|| format!("cannot pull the image `{reference}`"))?;
        report.say(format_args!("image {reference}: ready after {:.1} s", start.elapsed().as_secs_f32()));
        pulled.insert(reference.clone(), Arc::new(image));
        Ok(())
    }
}

fn tell(reference: &Reference, event: &PullEvent, start: Instant, report: &Report) {
    let megabytes = |bytes: &u64| *bytes as f64 / 1e6;
    match event {
        PullEvent::Resolved { digest, layers, bytes } => {
            let plural = if *layers == 1 { "" } else { "s" };
            report.say(format_args!("image {reference}: {layers} layer{plural}, {:.1} MB", megabytes(bytes)));
            report.detail(format_args!("image {reference}: manifest {digest}"));
        }
        PullEvent::Progress { done, bytes } => report.say(format_args!(
            "image {reference}: {:.1} of {:.1} MB after {} s",
            megabytes(done),
            megabytes(bytes),
            start.elapsed().as_secs()
        )),
    }
}
