//! Runs a plan: for each job its images, its services, its container, and the cleanup.

mod commands;
mod containers;
mod images;
mod init_system;
mod job_output;
mod outputs;
mod prefetch;
mod scope;
mod service_output;
mod services;
mod steps;
mod streams;

pub(crate) use containers::writable_by_others;
pub(crate) use images::Images;
pub(crate) use streams::{JobTerminal, Streams};

use crate::report::{At as _, Failure, Report, Stage, Waiting};
use containers::{Name, Part};
use events::{Event, Seconds, Text};
use exchange::Shared;
use hint::hinted;
use images::Pulled;
use indexmap::IndexMap;
use job_output::JobOutput;
use runtime::{Program, ProgramExit, Runtime};
use scope::{JobFailure, JobResult, Outcome, Scope, StringMap};
use services::{Service, ServiceFailureSignal};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use steps::Steps;
use workflow::expression::Value;
use workflow::{Job, Limits, Plan};

/// What is needed to run a plan.
pub(crate) struct Setup {
    pub(crate) images: Arc<Images>,
    /// The directory at which the store is mounted.
    pub(crate) store: PathBuf,
    /// Directories to which unprivileged containers can write: [`writable_by_others`].
    pub(crate) writable_by_others: Vec<PathBuf>,
    /// The `machine` context of expressions.
    pub(crate) machine: Value,
    /// The `cmdline` context of expressions.
    pub(crate) cmdline: Value,
    /// The root of the new system: `NEWROOT` in containers.
    pub(crate) new_root: PathBuf,
    /// The machine ID that containers see.
    pub(crate) machine_id: String,
    /// Whether containers may have all rights.
    pub(crate) privileged: bool,
    /// Whether images and what containers wrote are kept, and the output of services is shown.
    pub(crate) debug: bool,
    /// The runtime that starts containers.
    pub(crate) runtime: Runtime,
    /// `/iguana`.
    pub(crate) shared: Shared,
    pub(crate) terminal: JobTerminal,
    /// Called after the containers of a job have ended: the content of disks may have changed.
    pub(crate) job_ended: Box<dyn Fn() + Send + Sync>,
}

/// Runs all jobs. A failed job does not stop later ones; jobs that need it are skipped unless their condition says
/// otherwise. Returns the failures that were not allowed, in order.
pub(crate) fn run(plan: &Plan, setup: &Setup, report: &Report) -> Vec<Failure> {
    report.detail(setup.runtime.describe());
    let scope = Scope::new(setup.machine.clone(), setup.cmdline.clone()).with_env(&plan.env);
    let pulled = Pulled::default();
    let mut runner = Runner { setup, report, scope, pulled, results: IndexMap::new(), next: None };
    let mut failures = Vec::new();
    for (index, (id, job)) in plan.jobs.iter().enumerate() {
        runner.next = plan.jobs.get(index + 1).map(|(_, next)| next);
        failures.extend(runner.job(id, job));
        (setup.job_ended)();
        // Unmounting the store after the last job frees it at once; deleting its files one by one would take long.
        let is_last = index + 1 == plan.jobs.len();
        if !setup.debug && !is_last {
            runner.pulled.keep(|image| plan.needs_after(index, image));
        }
    }
    runner.pulled.leave();
    failures
}

struct Runner<'a> {
    setup: &'a Setup,
    report: &'a Report,
    /// The contexts that every job sees.
    scope: Scope,
    pulled: Pulled,
    results: IndexMap<String, JobResult>,
    /// The job after this one, if there is one.
    next: Option<&'a Job>,
}

impl Runner<'_> {
    /// Runs or skips one job. Returns its failure, unless it may fail.
    fn job(&mut self, id: &str, job: &Job) -> Option<Failure> {
        let ancestors = self.ancestors(job);
        let scope = self.scope_of(job, &ancestors);
        if !scope.allows(job.condition.as_ref()) {
            let why = Text::of(self.why_skipped(job, &ancestors));
            self.report.tell(job_end(id, Outcome::Skipped, None, Some(why)));
            self.note(id, Outcome::Skipped, None, StringMap::new(), ancestors);
            return None;
        }
        let scope = scope.with_env(&job.env);
        let name = job.name.as_ref().map(|name| Text::of(name.evaluate(&scope)));
        self.report.tell(Event::JobBegin { job: Text::of(id), name });
        let report = self.report;
        let mut attempt = Attempt::default();
        let ended = images::resolved(job, &scope).at(Stage::Image).and_then(|job| {
            let is_last = || false;
            attempts(&job.limits, is_last, &format!("job {id}"), report, || {
                attempt = Attempt::default();
                self.run_job(id, &job, &scope, &mut attempt)
            })
        });
        let Err(failure) = ended else {
            self.note(id, Outcome::Success, None, attempt.outputs, ancestors);
            return None;
        };
        let reason = format!("{:#}", failure.error);
        let failed = Some(JobFailure { reason, step: attempt.failed_step, exit_status: attempt.exit_status });
        let why = Text::of(format_args!("{:#}", failure.error));
        report.tell(job_end(id, Outcome::Failure, None, Some(why)));
        if job.continue_on_error {
            report.say(format_args!("job {id}: continuing (continue-on-error)"));
            self.note(id, Outcome::Success, failed, attempt.outputs, ancestors);
            return None;
        }
        self.note(id, Outcome::Failure, failed, attempt.outputs, ancestors);
        Some(failure.of_job(id))
    }

    /// All jobs that this one needs, directly or not.
    fn ancestors(&self, job: &Job) -> Vec<String> {
        let mut ancestors: Vec<String> = Vec::new();
        for need in &job.needs {
            let further = self.results.get(&need.value).map(|result| &result.ancestors[..]);
            for id in [&need.value].into_iter().chain(further.unwrap_or_default()) {
                if !ancestors.contains(id) {
                    ancestors.push(id.clone());
                }
            }
        }
        ancestors
    }

    fn scope_of(&self, job: &Job, ancestors: &[String]) -> Scope {
        let needs = job.needs.iter().filter_map(|need| self.results.get_key_value(&need.value));
        let outcome = |id: &String| self.results.get(id).map(|result| result.conclusion);
        let outcomes: Vec<Outcome> = ancestors.iter().filter_map(outcome).collect();
        self.scope.with_needs(needs, &outcomes)
    }

    fn why_skipped(&self, job: &Job, ancestors: &[String]) -> String {
        let is_unmet =
            |id: &&String| self.results.get(*id).is_some_and(|result| result.conclusion != Outcome::Success);
        match (ancestors.iter().find(is_unmet), &job.condition) {
            (Some(need), _) => format!("needs `{need}`"),
            (None, Some(condition)) => format!("`{}` is false", condition.source().trim()),
            (None, None) => "no job needs it".into(),
        }
    }

    fn note(
        &mut self,
        id: &str,
        conclusion: Outcome,
        failure: Option<JobFailure>,
        outputs: StringMap,
        ancestors: Vec<String>,
    ) {
        self.results.insert(id.to_owned(), JobResult { conclusion, failure, outputs, ancestors });
    }

    /// Pulls images, starts services, runs the job, and stops the services.
    fn run_job(&mut self, id: &str, job: &Job, scope: &Scope, attempt: &mut Attempt) -> Result<(), Failure> {
        self.pulled.settle(job, self.report);
        for container in job.containers() {
            self.setup.images.provide(container, scope, &mut self.pulled, self.report).at(Stage::Image)?;
        }
        if let Some(next) = self.next {
            self.pulled.look_ahead(&self.setup.images, next, self.report);
        }
        let _ipc = containers::share_ipc(id, job, self.setup).at(Stage::Job)?;
        let alarm = Arc::new(ServiceFailureSignal::default());
        let (services, started) = self.start_services(id, job, scope, &alarm);
        let ended = match started {
            Ok(()) => {
                let output = JobOutput::new(id, self.report, containers::hides(job, self.setup));
                let ended = self.run_attached(id, job, scope, &alarm, &output, attempt).at(Stage::Job);
                ended.map_err(|failure| failure.with_output(output.last_lines()))
            }
            Err(error) => Err(error).at(Stage::Service),
        };
        services.into_iter().rev().for_each(Service::stop);
        self.setup.terminal.restore();
        let noted = self.note_kernel_action(id, &alarm).at(Stage::Job);
        ended.and(noted)
    }

    /// A container that calls reboot(2) means the kernel action of that name: it is carried out after the last job.
    fn note_kernel_action(&self, id: &str, alarm: &ServiceFailureSignal) -> anyhow::Result<()> {
        let Some((action, who)) = alarm.asked() else { return Ok(()) };
        let word = action.word();
        self.report.say(format_args!("job {id}: {who} asked for `{word}` by reboot(2): after the last job"));
        self.setup.shared.ask_for(word)
    }

    /// Starts the services in order, each when the previous ones are ready. Also returns those that run if a later one
    /// fails.
    fn start_services(
        &self,
        id: &str,
        job: &Job,
        scope: &Scope,
        alarm: &Arc<ServiceFailureSignal>,
    ) -> (Vec<Service>, anyhow::Result<()>) {
        let mut services = Vec::new();
        for (name, service) in &job.services {
            let prepared = Service::prepare(id, name, service, scope, &self.pulled, self.setup);
            match prepared.and_then(|prepared| prepared.start(service, alarm, self.report)) {
                Ok(service) => services.push(service),
                Err(error) => return (services, Err(error)),
            }
        }
        (services, Ok(()))
    }

    /// Runs the job's own container, with the terminal, to its end.
    fn run_attached(
        &self,
        id: &str,
        job: &Job,
        scope: &Scope,
        alarm: &ServiceFailureSignal,
        output: &JobOutput,
        attempt: &mut Attempt,
    ) -> anyhow::Result<()> {
        alarm.check()?;
        // A job takes as long as its workflow allows, so the activity check must not apply.
        let _attended = self.report.begin_silent_operation();
        let own = &job.container;
        let name = Name { job: id, part: Part::Own };
        let mut container = containers::start(name, own, &own.volumes, scope, &self.pulled, self.setup)?;
        let start = Instant::now();
        let deadline = Deadline { start, limit: job.limits.timeout };
        self.report.tell(Event::JobStarted { job: Text::of(id) });
        let scope = scope.with_env(&own.env);
        if job.steps.is_empty() {
            let stdio = self.setup.terminal.stdio(own.tty, output);
            let program = containers::own_program(own, &scope, stdio);
            let ran = run_program(&container, &program, &deadline, alarm);
            attempt.exit_status = ran.as_ref().ok().and_then(|ended| ended.status());
            let ran = ran.and_then(steps::success);
            let read = outputs::read(container.step_files());
            // The outputs of a failed program count too, but its failure is what is reported.
            let written = read.as_ref().cloned().unwrap_or_default();
            output.show_summary(&written.summary);
            attempt.outputs = outputs_of(job, &scope, written.outputs);
            ran.and(read)?;
        } else {
            let (setup, pulled, report) = (self.setup, &self.pulled, self.report);
            let init = container.has_init_system().then(|| {
                let limit = deadline.limit(Some(init_system::UP_LIMIT))?.unwrap_or_default();
                init_system::OfSteps::start(id, own, &container, &scope, limit, report)
            });
            let init = init.transpose()?;
            let steps =
                Steps { id, job, container: &container, pulled, setup, deadline, alarm, output, report };
            let ended = steps.run(&scope);
            let stopped = init.map(|init| init.stop(&mut container, alarm, report)).transpose();
            attempt.outputs = outputs_of(job, &ended.scope, ended.outputs);
            if let Some(failure) = ended.failure {
                (attempt.failed_step, attempt.exit_status) = (Some(failure.step), failure.exit_status);
                return Err(failure.error);
            }
            stopped?;
        }
        // Check again: a step that may fail hides the alarm, and it may have been raised while nothing waited.
        alarm.check()?;
        self.report.tell(job_end(id, Outcome::Success, Some(start.elapsed().into()), None));
        Ok(())
    }
}

/// Runs the job's own program to its end.
fn run_program(
    container: &runtime::Container,
    program: &Program,
    deadline: &Deadline,
    alarm: &ServiceFailureSignal,
) -> anyhow::Result<ProgramExit> {
    let limit = deadline.limit(None)?;
    alarm.wait(container.run(program)?, limit)
}

fn job_end(id: &str, outcome: Outcome, seconds: Option<Seconds>, why: Option<Text>) -> Event {
    Event::JobEnd { job: Text::of(id), outcome: outcome.into(), seconds, why }
}

/// What one attempt at a job leaves for later jobs.
#[derive(Debug, Default)]
struct Attempt {
    outputs: StringMap,
    /// The first step that failed and was not allowed to: its ID, or else its number.
    failed_step: Option<String>,
    /// The exit status of the job's program, or of that step.
    exit_status: Option<u8>,
}

/// The outputs that the job declares; all that were written if it declares none.
fn outputs_of(job: &Job, scope: &Scope, written: StringMap) -> StringMap {
    if job.outputs.is_empty() {
        return written;
    }
    job.outputs.iter().map(|(name, value)| (name.clone(), value.evaluate(scope))).collect()
}

/// The time by which a job must have ended.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    start: Instant,
    limit: Option<Duration>,
}

impl Deadline {
    /// Whether the deadline is within `time` from now.
    fn is_within(&self, time: Duration) -> bool {
        self.limit.is_some_and(|limit| self.start.elapsed() + time >= limit)
    }

    /// The limit for an operation in the job whose own limit is `own`.
    ///
    /// # Errors
    /// When the job's time is over.
    fn limit(&self, own: Option<Duration>) -> anyhow::Result<Option<Duration>> {
        let Some(limit) = self.limit else { return Ok(own) };
        let left = limit.saturating_sub(self.start.elapsed());
        if left.is_zero() {
            let message = format!("the job exceeded its time limit of {} s", limit.as_secs_f32());
            return Err(hinted(message, "raise its `timeout`"));
        }
        Ok(Some(own.map_or(left, |own| own.min(left))))
    }
}

/// Retries until the operation succeeds, the attempts are used up, or a retry makes no sense.
fn attempts<T, E: std::fmt::Display>(
    limits: &Limits,
    is_last: impl Fn() -> bool,
    label: &str,
    report: &Report,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for number in 1..=limits.retries {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if is_last() => return Err(error),
            Err(error) => report.say(format_args!("{label}: failed: {error:#}")),
        }
        let what = format!("{label}: waiting to retry ({number} of {})", limits.retries);
        report.say(format_args!("{what}, {} s", limits.delay.as_secs_f32()));
        let _waiting = Waiting::start(report, what, limits.delay);
        thread::sleep(limits.delay);
    }
    attempt()
}
