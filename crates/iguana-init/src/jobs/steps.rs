//! Runs the steps of a job, one after the other, in its container.

use super::containers::{Name, Part};
use super::images::Pulled;
use super::job_output::JobOutput;
use super::outputs::Written;
use super::scope::{Outcome, Scope, StepResult, StringMap};
use super::services::ServiceFailureSignal;
use super::{Deadline, Setup, attempts, containers, outputs};
use crate::report::Report;
use anyhow::Context as _;
use events::{Event, Seconds, Text};
use hint::hinted;
use runtime::{Container, Program, ProgramCommand, ProgramExit};
use std::path::Path;
use std::time::Instant;
use workflow::{Action, Job, Step};

/// Paths of bash, which is preferred as GitHub does.
const BASH: &[&str] = &["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"];

/// A job whose container is running.
pub(super) struct Steps<'a> {
    pub(super) id: &'a str,
    pub(super) job: &'a Job,
    pub(super) container: &'a Container,
    pub(super) pulled: &'a Pulled,
    pub(super) setup: &'a Setup,
    pub(super) deadline: Deadline,
    pub(super) alarm: &'a ServiceFailureSignal,
    pub(super) output: &'a JobOutput,
    pub(super) report: &'a Report,
}

impl Steps<'_> {
    /// Runs the steps.
    pub(super) fn run(&self, scope: &Scope) -> EndedSteps {
        let mut scope = scope.within_job();
        let mut written = StringMap::new();
        let (mut failure, mut room) = (None, outputs::Room::default());
        for (number, step) in self.job.steps.iter().enumerate() {
            let inner = scope.with_env(&step.env);
            let title = self.title(number, step, &inner);
            let Stepped { result, env, path, failed } = self.step(number, step, &title, &inner, &mut room);
            written.extend(result.outputs.clone());
            scope.add_written(env, path);
            scope.add_step(step.id.as_deref(), &result);
            match (result.conclusion, failed) {
                (Outcome::Failure, failed) => failure = failure.or(failed),
                (_, Some(StepFailure { error, .. })) => {
                    let going_on = "continuing (continue-on-error)";
                    self.report.say(format_args!("job {}: {error:#}; {going_on}", self.id));
                }
                _ => {}
            }
            if self.alarm.asked().is_some() {
                break;
            }
        }
        EndedSteps { scope, outputs: written, failure }
    }

    fn title(&self, number: usize, step: &Step, scope: &Scope) -> String {
        let number = format!("step {} of {}", number + 1, self.job.steps.len());
        let name = match (&step.name, &step.action) {
            (Some(name), _) => name.evaluate(scope),
            (None, Action::Run { script, .. }) => {
                shortened(script.source().trim().lines().next().unwrap_or_default())
            }
            (None, Action::Use(container)) => container.image.name.evaluate(scope),
        };
        format!("{number} (`{name}`)")
    }

    fn step(
        &self,
        number: usize,
        step: &Step,
        title: &str,
        scope: &Scope,
        room: &mut outputs::Room,
    ) -> Stepped {
        if !scope.allows(step.condition.as_ref()) {
            if step.condition.is_some() {
                self.tell_end(number, title, events::Outcome::Skipped, None, None);
            }
            let skipped = Outcome::Skipped;
            return Stepped::of(StepResult {
                outcome: skipped,
                conclusion: skipped,
                outputs: StringMap::new(),
            });
        }
        let start = Instant::now();
        self.report.tell(Event::StepBegin {
            job: Text::of(self.id),
            step: number as u64 + 1,
            title: Text::of(title),
        });
        let label = format!("job {}: {title}", self.id);
        let (mut written, mut exit_status, before) = (Written::default(), None, *room);
        let is_last = || self.deadline.is_within(step.limits.delay) || self.alarm.check().is_err();
        let ran = attempts(&step.limits, is_last, &label, self.report, || {
            let Acted { ran, written: read } = self.act(number, step, scope);
            exit_status = ran.as_ref().ok().and_then(|ended| ended.status());
            // What a failed step wrote counts, as with GitHub, but its failure is what is reported.
            let read = read.and_then(|read| {
                *room = before.after(&read)?;
                self.output.show_summary(&read.summary);
                Ok(read)
            });
            written = read.as_ref().cloned().unwrap_or_default();
            ran.and_then(success).and(read.map(drop))
        });
        let outcome = if ran.is_ok() { Outcome::Success } else { Outcome::Failure };
        let why = ran.as_ref().err().map(|error| Text::of(format_args!("{error:#}")));
        self.tell_end(number, title, outcome.into(), Some(start.elapsed().into()), why);
        let conclusion = if step.continue_on_error { Outcome::Success } else { outcome };
        let failure = ran.err().map(|error| StepFailure {
            step: step.id.clone().unwrap_or_else(|| (number + 1).to_string()),
            exit_status,
            error: error.context(format!("{title} failed")),
        });
        let Written { outputs, env, path, .. } = written;
        Stepped { result: StepResult { outcome, conclusion, outputs }, env, path, failed: failure }
    }

    fn tell_end(
        &self,
        number: usize,
        title: &str,
        outcome: events::Outcome,
        seconds: Option<Seconds>,
        why: Option<Text>,
    ) {
        let (job, step, title) = (Text::of(self.id), number as u64 + 1, Text::of(title));
        self.report.tell(Event::StepEnd { job, step, title, outcome, seconds, why });
    }

    /// Runs a step, and reads its outputs from the container that it ran in: another one could write to its own file in the
    /// name of this step.
    fn act(&self, number: usize, step: &Step, scope: &Scope) -> Acted {
        let (ended, written) = match &step.action {
            Action::Run { script, shell, directory } => {
                let files = self.container.step_files();
                let script = script.evaluate(scope);
                let ended = files.clear().and_then(|()| {
                    self.run_script(number, step, &script, shell.as_deref(), directory.as_deref(), scope)
                });
                (ended, outputs::read(files))
            }
            Action::Use(container) => match self.start_container(number, container, scope) {
                Ok(own) => {
                    (self.run_container(step, container, &own, scope), outputs::read(own.step_files()))
                }
                Err(error) => (Err(error), Ok(Written::default())),
            },
        };
        Acted { ran: ended, written }
    }

    fn run_script(
        &self,
        number: usize,
        step: &Step,
        script: &str,
        shell: Option<&str>,
        directory: Option<&str>,
        scope: &Scope,
    ) -> anyhow::Result<ProgramExit> {
        let file = self.container.step_files().write_script(&format!("step-{}", number + 1), script)?;
        let words = self.shell(shell, &file)?;
        let own = &self.job.container;
        let limit = self.deadline.limit(step.limits.timeout)?;
        let program = Program {
            command: ProgramCommand::Exactly(words),
            env: containers::pairs(&scope.env_of_script(self.container.search_path())),
            directory: below(own.directory.as_deref(), directory),
            user: own.user.clone(),
            stdio: self.setup.terminal.stdio(own.tty, self.output),
        };
        self.alarm.wait(self.container.run(&program)?, limit)
    }

    /// The command that runs a script file, as with GitHub (workflow syntax, `jobs.<job_id>.steps[*].shell`).
    fn shell(&self, shell: Option<&str>, file: &str) -> anyhow::Result<Vec<String>> {
        let has_bash = || BASH.iter().any(|path| self.container.has_path(Path::new(path)));
        let words = match shell {
            None if has_bash() => vec!["bash", "-e", file],
            None | Some("sh") => vec!["sh", "-e", file],
            Some("bash") => vec!["bash", "--noprofile", "--norc", "-eo", "pipefail", file],
            Some("python") => vec!["python", file],
            Some(other) => {
                let words = shell_words::split(other)
                    .with_context(|| format!("cannot split the shell command `{other}`"))?;
                return Ok(words.iter().map(|word| word.replace("{0}", file)).collect());
            }
        };
        Ok(words.into_iter().map(Into::into).collect())
    }

    /// Starts the container of a step beside the job's and with its volumes.
    fn start_container(
        &self,
        number: usize,
        own: &workflow::Container,
        scope: &Scope,
    ) -> anyhow::Result<Container> {
        let name = Name { job: self.id, part: Part::Step(number) };
        let volumes = &self.job.container.volumes;
        containers::start(name, own, volumes, scope, self.pulled, self.setup)
    }

    fn run_container(
        &self,
        step: &Step,
        own: &workflow::Container,
        container: &Container,
        scope: &Scope,
    ) -> anyhow::Result<ProgramExit> {
        let limit = self.deadline.limit(step.limits.timeout)?;
        let stdio = self.setup.terminal.stdio(own.tty, self.output);
        self.alarm.wait(container.run(&containers::own_program(own, scope, stdio))?, limit)
    }
}

/// What a step did, and what it wrote.
struct Acted {
    ran: anyhow::Result<ProgramExit>,
    written: anyhow::Result<Written>,
}

/// A step that has run or was skipped, and what it wrote for later ones.
struct Stepped {
    result: StepResult,
    env: StringMap,
    path: Vec<String>,
    failed: Option<StepFailure>,
}

impl Stepped {
    fn of(result: StepResult) -> Self {
        Self { result, env: StringMap::new(), path: Vec::new(), failed: None }
    }
}

/// The end of all steps.
pub(super) struct EndedSteps {
    /// The scope after the last one.
    pub(super) scope: Scope,
    pub(super) outputs: StringMap,
    /// The first failure that was not allowed.
    pub(super) failure: Option<StepFailure>,
}

/// A step that failed.
pub(super) struct StepFailure {
    /// Its ID, or else its number from 1.
    pub(super) step: String,
    pub(super) exit_status: Option<u8>,
    pub(super) error: anyhow::Error,
}

/// # Errors
/// When the program failed.
pub(super) fn success(ended: ProgramExit) -> anyhow::Result<()> {
    if ended.is_success() {
        return Ok(());
    }
    Err(hinted(ended.to_string(), ended.remedy().unwrap_or("check the program's messages above")))
}

/// The beginning of a script's first line, short enough for a line of the console.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// A step's working directory, which may be relative to that of the container.
fn below(directory: Option<&str>, step: Option<&str>) -> Option<String> {
    let path = match (directory, step) {
        (Some(directory), Some(step)) => Path::new(directory).join(step).to_string_lossy().into_owned(),
        (directory, step) => step.or(directory)?.to_owned(),
    };
    Some(path)
}
