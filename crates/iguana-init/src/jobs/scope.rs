//! The contexts of expressions while a plan runs.

use indexmap::IndexMap;
use workflow::Env;
use workflow::expression;
use workflow::expression::{Status, Template, Value};

/// The result of a job or step; the words are GitHub's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure,
    Skipped,
}

impl From<Outcome> for events::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Failure => Self::Failure,
            Outcome::Skipped => Self::Skipped,
        }
    }
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Skipped => "skipped",
        }
    }
}

/// Strings by name, in order of insertion.
pub(super) type StringMap = IndexMap<String, String>;

/// What other jobs see of a job.
#[derive(Debug, Clone)]
pub(super) struct JobResult {
    /// The outcome, except that an allowed failure counts as success.
    pub(super) conclusion: Outcome,
    /// What failed, if anything did, whether it was allowed to or not.
    pub(super) failure: Option<JobFailure>,
    pub(super) outputs: StringMap,
    /// All jobs that it needed, directly or not.
    pub(super) ancestors: Vec<String>,
}

/// How a job failed, as later jobs see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct JobFailure {
    /// The step that failed: its ID, or else its number from 1. `None` if the job has no steps, or failed before them.
    pub(super) step: Option<String>,
    /// The exit status of the program that failed; `None` if that is not what failed.
    pub(super) exit_status: Option<u8>,
    /// Why, as reported.
    pub(super) reason: String,
}

/// Bytes of a reason in the `needs` context; the report has all of it.
const REASON_LIMIT: usize = 4096;

impl JobResult {
    /// The value of `needs.ID`. What does not apply is null.
    fn value(&self) -> Value {
        let text = |text: &str| Value::Text(text.into());
        let failure = self.failure.as_ref();
        let outcome = if failure.is_some() { Outcome::Failure } else { self.conclusion };
        let step = failure.and_then(|failure| failure.step.as_deref());
        let status = failure.and_then(|failure| failure.exit_status);
        let reason = failure.map(|failure| &failure.reason[..]);
        let reason = reason.map(|reason| &reason[..reason.floor_char_boundary(REASON_LIMIT)]);
        let entries = [
            ("result", text(self.conclusion.word())),
            ("outputs", map(&self.outputs)),
            ("outcome", text(outcome.word())),
            ("step", step.map_or(Value::Null, text)),
            ("exit-status", status.map_or(Value::Null, |status| Value::Number(status.into()))),
            ("reason", reason.map_or(Value::Null, text)),
        ];
        Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

/// What later steps see of a step.
#[derive(Debug, Clone)]
pub(super) struct StepResult {
    pub(super) outcome: Outcome,
    /// The outcome, except that an allowed failure counts as success.
    pub(super) conclusion: Outcome,
    pub(super) outputs: StringMap,
}

/// The values of all contexts at one place in a workflow.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// The machine's facts and the kernel command line.
    fixed: IndexMap<&'static str, Value>,
    env: StringMap,
    needs: IndexMap<String, Value>,
    steps: IndexMap<String, Value>,
    /// Directories that steps search for programs before those of `PATH`.
    path: Vec<String>,
    succeeded: bool,
    failed: bool,
}

impl Scope {
    pub(super) fn new(machine: Value, cmdline: Value) -> Self {
        let fixed = IndexMap::from([("machine", machine), ("cmdline", cmdline)]);
        Self { fixed, succeeded: true, ..Self::default() }
    }

    /// A copy with more variables; their values are evaluated in this scope.
    pub(super) fn with_env(&self, env: &Env) -> Self {
        let more: Vec<_> = env.iter().map(|(name, value)| (name.clone(), value.evaluate(self))).collect();
        let mut scope = self.clone();
        scope.env.extend(more);
        scope
    }

    /// A copy for a job that needs these jobs.
    pub(super) fn with_needs<'a>(
        &self,
        needs: impl Iterator<Item = (&'a String, &'a JobResult)>,
        ancestors: &[Outcome],
    ) -> Self {
        let mut scope = self.clone();
        for (id, result) in needs {
            scope.needs.insert(id.clone(), result.value());
        }
        scope.succeeded = ancestors.iter().all(|outcome| *outcome == Outcome::Success);
        scope.failed = ancestors.contains(&Outcome::Failure);
        scope
    }

    /// A copy for the inside of a job, before its first step.
    pub(super) fn within_job(&self) -> Self {
        Self { succeeded: true, failed: false, ..self.clone() }
    }

    /// Records the result of a step.
    pub(super) fn add_step(&mut self, id: Option<&str>, step: &StepResult) {
        if step.conclusion == Outcome::Failure {
            (self.succeeded, self.failed) = (false, true);
        }
        let Some(id) = id else { return };
        let entry = [
            ("outcome".into(), Value::Text(step.outcome.word().into())),
            ("conclusion".into(), Value::Text(step.conclusion.word().into())),
            ("outputs".into(), map(&step.outputs)),
        ];
        self.steps.insert(id.to_owned(), Value::Map(IndexMap::from(entry)));
    }

    /// Adds what a step has written for later ones. The directory written last is searched first.
    pub(super) fn add_written(&mut self, env: StringMap, path: Vec<String>) {
        self.env.extend(env);
        for directory in path {
            self.path.retain(|known| *known != directory);
            self.path.insert(0, directory);
        }
    }

    /// The variables of a step's script, in a container whose own `PATH` this is.
    pub(super) fn env_of_script(&self, search_path: &str) -> StringMap {
        let mut env = self.env.clone();
        if !self.path.is_empty() {
            let rest = env.get("PATH").map_or(search_path, String::as_str);
            let path = format!("{}:{rest}", self.path.join(":"));
            env.insert("PATH".into(), path);
        }
        env
    }

    /// Whether something may run. As with GitHub, a condition without a status function implies `success()`.
    pub(super) fn allows(&self, condition: Option<&expression::Expression>) -> bool {
        match condition {
            None => self.succeeded,
            Some(condition) if condition.asks_for_status() => condition.evaluate(self).is_true(),
            Some(condition) => self.succeeded && condition.evaluate(self).is_true(),
        }
    }

    pub(super) fn env(&self) -> &StringMap {
        &self.env
    }

    pub(super) fn words(&self, words: &[Template]) -> Vec<String> {
        words.iter().map(|word| word.evaluate(self)).collect()
    }
}

fn map(texts: &StringMap) -> Value {
    Value::Map(texts.iter().map(|(name, text)| (name.clone(), Value::Text(text.clone()))).collect())
}

impl expression::Scope for Scope {
    fn context(&self, name: &str) -> Value {
        match name {
            "env" => map(&self.env),
            "needs" => Value::Map(self.needs.clone()),
            "steps" => Value::Map(self.steps.clone()),
            _ => self.fixed.get(name).cloned().unwrap_or_default(),
        }
    }

    fn status(&self, status: Status) -> bool {
        match status {
            Status::Always => true,
            Status::Success => self.succeeded,
            Status::Failure => self.failed,
            // A boot is never cancelled.
            Status::Cancelled => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use workflow::expression::Expression;

    fn job(outcome: Outcome) -> JobResult {
        let outputs = StringMap::from([("disk".into(), "/dev/vda".into())]);
        JobResult { conclusion: outcome, failure: None, outputs, ancestors: Vec::new() }
    }

    fn allows(scope: &Scope, condition: &str) -> bool {
        scope.allows(Some(&Expression::condition(condition).unwrap()))
    }

    #[test]
    fn a_job_sees_what_it_needs() {
        let (id, result) = ("build".to_owned(), job(Outcome::Success));
        let scope = Scope::new(Value::Null, Value::Null)
            .with_needs([(&id, &result)].into_iter(), &[Outcome::Success]);
        assert!(allows(&scope, "needs.build.outputs.disk == '/dev/vda' && needs.build.result == 'success'"));
        assert!(!allows(&scope, "failure()"));
    }

    #[test]
    fn a_job_sees_what_failed_even_if_it_was_allowed_to() {
        let failure = JobFailure {
            step: Some("format".into()),
            exit_status: Some(32),
            reason: "exit status 32".into(),
        };
        let (id, result) =
            ("build".to_owned(), JobResult { failure: Some(failure), ..job(Outcome::Success) });
        let scope = Scope::new(Value::Null, Value::Null)
            .with_needs([(&id, &result)].into_iter(), &[Outcome::Success]);
        assert!(allows(&scope, "needs.build.result == 'success' && needs.build.outcome == 'failure'"));
        assert!(allows(&scope, "needs.build.step == 'format' && needs.build.exit-status == 32"));
        assert!(allows(&scope, "contains(needs.build.reason, 'status 32')"));
        let Value::Map(keys) = result.value() else { panic!("a map") };
        assert!(keys.keys().eq(workflow::NEEDED.iter().copied()));
        let result = job(Outcome::Success);
        let scope = scope.with_needs([(&id, &result)].into_iter(), &[Outcome::Success]);
        assert!(allows(&scope, "needs.build.outcome == 'success' && !needs.build.exit-status"));
        assert!(allows(&scope, "needs.build.step == null && needs.build.reason == ''"));
    }

    #[test]
    fn after_a_failure_only_jobs_that_request_it_run() {
        let (id, result) = ("build".to_owned(), job(Outcome::Failure));
        let scope = Scope::new(Value::Null, Value::Null)
            .with_needs([(&id, &result)].into_iter(), &[Outcome::Failure]);
        assert!(!scope.allows(None) && !allows(&scope, "true"));
        assert!(allows(&scope, "failure()") && allows(&scope, "always()"));
        assert!(scope.within_job().allows(None));
    }

    #[test]
    fn a_skipped_job_skips_its_dependants_but_is_not_a_failure() {
        let (id, result) = ("build".to_owned(), job(Outcome::Skipped));
        let scope = Scope::new(Value::Null, Value::Null)
            .with_needs([(&id, &result)].into_iter(), &[Outcome::Skipped]);
        assert!(!scope.allows(None) && !allows(&scope, "failure()") && allows(&scope, "always()"));
    }

    #[test]
    fn later_steps_have_what_earlier_ones_wrote() {
        let mut scope = Scope::new(Value::Null, Value::Null).within_job();
        assert!(scope.env_of_script("/bin").is_empty());
        scope.add_written(StringMap::from([("A".into(), "1".into())]), vec!["/a".into(), "/b".into()]);
        scope.add_written(StringMap::from([("A".into(), "2".into())]), vec!["/a".into()]);
        let env = scope.env_of_script("/usr/bin:/bin");
        assert_eq!((env["A"].as_str(), env["PATH"].as_str()), ("2", "/a:/b:/usr/bin:/bin"));
        let step = Env::from([
            ("PATH".to_owned(), Template::literal("/own")),
            ("A".to_owned(), Template::literal("3")),
        ]);
        let env = scope.with_env(&step).env_of_script("/bin");
        assert_eq!((env["A"].as_str(), env["PATH"].as_str()), ("3", "/a:/b:/own"));
    }

    #[test]
    fn variables_can_refer_to_outer_ones() {
        let outer = Env::from([("A".to_owned(), Template::literal("1"))]);
        let inner = Env::from([("B".to_owned(), Template::parse("${{ env.A }}2").unwrap())]);
        let scope = Scope::new(Value::Null, Value::Null).with_env(&outer).with_env(&inner);
        assert_eq!(scope.env()["B"], "12");
    }

    #[test]
    fn an_allowed_failure_skips_no_job() {
        let mut scope = Scope::new(Value::Null, Value::Null);
        let step =
            |conclusion| StepResult { outcome: Outcome::Failure, conclusion, outputs: StringMap::new() };
        scope.add_step(Some("one"), &step(Outcome::Success));
        assert!(allows(&scope, "steps.one.outcome == 'failure'"));
        scope.add_step(None, &step(Outcome::Failure));
        assert!(!scope.allows(None) && allows(&scope, "failure()"));
    }
}
