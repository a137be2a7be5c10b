//! The names that expressions may use. They are known before anything runs, so unknown names are found beforehand.

use super::github;
use super::nearest::nearest;
use std::collections::HashMap;
use std::rc::Rc;
use yaml_tree::document::Node;

/// The keys of the `machine` context.
pub const MACHINE: &[&str] = &["uuid", "serial", "mac", "hostname", "arch", "vendor", "product", "memory"];

/// The keys of a job in the `needs` context.
pub const NEEDED: &[&str] = &["result", "outputs", "outcome", "step", "exit-status", "reason"];

/// The outputs of each job by its id; `None` for a job that does not declare them.
pub(super) type DeclaredOutputs<'a> = HashMap<&'a str, Option<Vec<&'a str>>>;

/// The names that an expression can use at its position.
#[derive(Debug, Clone)]
pub(super) struct Names<'a> {
    /// Shared between steps, because most add no variables.
    pub(super) env: Rc<[&'a str]>,
    /// The jobs that this one needs.
    pub(super) needs: Rc<[&'a str]>,
    /// Whether an earlier step may have set further variables.
    pub(super) env_is_open: bool,
    /// The steps before this one; `None` outside of steps.
    pub(super) steps: Option<&'a [&'a str]>,
    pub(super) outputs: &'a DeclaredOutputs<'a>,
}

/// The outputs that the jobs of a document declare.
pub(super) fn declared_outputs(jobs: &Node) -> DeclaredOutputs<'_> {
    jobs.entries()
        .iter()
        .map(|(id, job)| {
            let named = job.entries().iter().find(|(key, _)| key.name == "outputs");
            let named =
                named.map(|(_, map)| map.entries().iter().map(|(key, _)| key.name.as_str()).collect());
            (id.name.as_str(), named)
        })
        .collect()
}

impl<'a> Names<'a> {
    /// The same, with more variables.
    pub(super) fn with_env(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names = names.into_iter().peekable();
        match names.peek() {
            None => self.clone(),
            Some(_) => Self { env: self.env.iter().copied().chain(names).collect(), ..self.clone() },
        }
    }

    /// Checks the path of a name.
    ///
    /// # Errors
    /// When it does not exist: what is wrong, and what to do.
    pub(super) fn check(&self, path: &[String]) -> Result<(), (String, String)> {
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let Some(context) = parts.first().map(|part| part.to_ascii_lowercase()) else { return Ok(()) };
        match (context.as_str(), &parts[1..]) {
            ("env" | "machine" | "cmdline" | "needs", []) => Ok(()),
            ("steps", []) if self.steps.is_some() => Ok(()),
            ("env", [_, ..]) if self.env_is_open => Ok(()),
            ("env", [name, ..]) => one_of("unknown variable", name, &self.env, "define it in `env:`"),
            ("machine", [name, ..]) => one_of("unknown fact of the machine", name, MACHINE, ""),
            ("cmdline", _) => Ok(()),
            ("needs", [job, rest @ ..]) => {
                self.check_needed(job)?;
                self.check_result(job, rest)
            }
            ("steps", [step, rest @ ..]) if self.steps.is_some() => {
                let known = self.steps.unwrap_or_default();
                let remedy = format!("add `id: {step}` to an earlier step");
                one_of("no earlier step", step, known, &remedy)?;
                match rest {
                    [] => Ok(()),
                    [key, ..] => one_of("a step has no", key, &["outputs", "outcome", "conclusion"], ""),
                }
            }
            _ => Err(self.no_context(parts[0])),
        }
    }

    fn no_context(&self, name: &str) -> (String, String) {
        let message = format!("unknown context `{name}`");
        if let Some((_, instead)) = github::CONTEXTS.iter().find(|(foreign, _)| *foreign == name) {
            return (message, (*instead).to_owned());
        }
        let mut known = vec!["env", "machine", "cmdline", "needs"];
        known.extend(self.steps.as_ref().map(|_| "steps"));
        (message, did_you_mean(name, &known).unwrap_or_else(|| list_known(&known)))
    }

    fn check_needed(&self, job: &str) -> Result<(), (String, String)> {
        let is_needed = self.needs.iter().any(|need| need.eq_ignore_ascii_case(job));
        match self.outputs.keys().find(|id| id.eq_ignore_ascii_case(job)) {
            Some(id) if !is_needed => {
                let message = format!("the job `{id}` is not in the `needs` of this job");
                Err((message, format!("add it: `needs: [{id}]`")))
            }
            _ => one_of("no needed job", job, &self.needs, "name it in this job's `needs:`"),
        }
    }

    fn check_result(&self, job: &str, rest: &[&str]) -> Result<(), (String, String)> {
        let [key, rest @ ..] = rest else { return Ok(()) };
        one_of("a needed job has no", key, NEEDED, "")?;
        if !key.eq_ignore_ascii_case("outputs") {
            return Ok(());
        }
        let declared = self.outputs.iter().find(|(id, _)| id.eq_ignore_ascii_case(job));
        match (rest.first(), declared) {
            (Some(output), Some((_, Some(declared)))) => {
                let message = format!("the job `{job}` has no output");
                one_of(&message, output, declared, "name it in that job's `outputs:`")
            }
            _ => Ok(()),
        }
    }
}

/// Checks `name` against the known names, ignoring case as in GitHub's language.
fn one_of(message: &str, name: &str, known: &[&str], remedy: &str) -> Result<(), (String, String)> {
    if known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    let hint = match (did_you_mean(name, known), remedy) {
        (Some(hint), _) => hint,
        (None, "") => list_known(known),
        (None, remedy) => remedy.to_owned(),
    };
    Err((format!("{message} `{name}`"), hint))
}

fn did_you_mean(name: &str, known: &[&str]) -> Option<String> {
    nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"))
}

fn list_known(known: &[&str]) -> String {
    format!("use one of `{}`", known.join("`, `"))
}
