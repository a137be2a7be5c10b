//! Jobs, services and steps.

use super::name_rules::NameOf;
use super::{Fields, Reader, env_names};
use crate::commands;
use crate::duration;
use crate::expression::Template;
use crate::init_system::is_init_system;
use crate::language::{DEFAULTS, JOB, READY, RETRIES, RUN_DEFAULTS, SERVICE, STEP, WITH};
use crate::model::{Action, Container, Job, Limits, Ready, Restart, Service, Sign, Spanned, Step, Systemd};
use crate::names::Names;
use indexmap::IndexMap;
use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use yaml_tree::document::{Key, Node};
use yaml_tree::finding::Severity;

/// Default time limit for a service to become ready: enough for a slow database on slow hardware, and short enough
/// for a person to wait.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// `defaults.run` of the workflow or the job.
#[derive(Debug, Clone, Default)]
pub(super) struct Defaults {
    shell: Option<String>,
    directory: Option<String>,
}

/// The longest default in bytes. A hostile document has many steps, and each gets a copy.
const LONGEST_DEFAULT: usize = 1000;

impl Reader<'_> {
    /// The defaults in `node`; those it lacks come from `outer`.
    pub(super) fn defaults(&mut self, outer: &Defaults, node: Option<&Rc<Node>>) -> Defaults {
        let Some(run) = node.and_then(|node| Fields::of(node, &DEFAULTS).get("run")) else {
            return outer.clone();
        };
        let fields = Fields::of(run, &RUN_DEFAULTS);
        let shell = fields.get("shell").and_then(|node| self.short(node)).and_then(|node| self.shell(node));
        let directory = fields.get("working-directory").and_then(|node| self.short(node));
        let directory = directory.and_then(|node| self.plain(node));
        Defaults {
            shell: shell.or_else(|| outer.shell.clone()),
            directory: directory.or_else(|| outer.directory.clone()),
        }
    }

    /// The node, unless it is too long for a default.
    fn short<'n>(&mut self, node: &'n Rc<Node>) -> Option<&'n Rc<Node>> {
        if node.text().is_none_or(|text| text.len() <= LONGEST_DEFAULT) {
            return Some(node);
        }
        let message = format!("a default may have at most {LONGEST_DEFAULT} bytes");
        self.findings.error("too-large", &node.span, message, "write it in the steps that need it");
        None
    }

    pub(super) fn job(
        &mut self,
        id: &Key,
        node: &Node,
        names: &Names<'_>,
        defaults: &Defaults,
    ) -> (String, Job) {
        let fields = Fields::of(node, &JOB);
        let needs = self.needs(fields.get("needs"));
        let names = Names { needs: needs.iter().map(|need| need.value.as_str()).collect(), ..names.clone() };
        let inner = names.with_env(env_names(fields.get("env")));
        let container = fields.get("container").and_then(|node| self.container_or_image(node, &inner));
        let services = fields.get("services").map(|node| self.services(node, &inner)).unwrap_or_default();
        let defaults = self.defaults(defaults, fields.get("defaults"));
        let limits = self.limits(&fields);
        let steps = fields.get("steps").map(|node| node.items()).unwrap_or_default();
        let ids: Vec<&str> = steps.iter().filter_map(|step| id_of(step)).collect();
        let after_steps = Names {
            steps: Some(&ids),
            env_is_open: steps.iter().any(|step| may_set_variables(step)),
            ..inner.clone()
        };
        let mut steps = self.steps(steps, &ids, &inner, &defaults, limits.timeout);
        if let Some(container) = &container {
            steps.iter_mut().for_each(|step| step.inherit(container));
        }
        let job = Job {
            span: id.span.clone(),
            name: fields.get("name").and_then(|node| self.template(node, &inner)),
            services,
            needs: needs.clone(),
            condition: fields.get("if").and_then(|node| self.condition(node, &names)),
            env: self.env(fields.get("env"), &names),
            outputs: self.named_templates(fields.get("outputs"), NameOf::Output, &after_steps),
            limits,
            continue_on_error: fields.is_true("continue-on-error"),
            steps,
            // A missing container has been reported; a placeholder lets the checks continue.
            ..Job::of(container.unwrap_or_else(Container::unknown))
        };
        self.check_unused_program(&job, fields.get("container"));
        (id.name.clone(), job)
    }

    fn needs(&mut self, node: Option<&Rc<Node>>) -> Vec<Spanned<String>> {
        let nodes = match node {
            None => &[][..],
            Some(node) if node.scalar().is_some() => std::slice::from_ref(node),
            Some(node) => node.items(),
        };
        let placed = |node: &Rc<Node>| Some(Spanned { value: self.plain(node)?, span: node.span.clone() });
        nodes.iter().filter_map(placed).collect()
    }

    /// Reports settings of the image's own program, which does not run if there are steps.
    fn check_unused_program(&mut self, job: &Job, container: Option<&Rc<Node>>) {
        let (Some(node), false) = (container, job.steps.is_empty()) else { return };
        if names_init_system(&job.container) {
            return;
        }
        let given = [("entrypoint", &job.container.entrypoint), ("command", &job.container.command)];
        for (name, _) in given.iter().filter(|(_, words)| words.is_some()) {
            let named = |key: &&str| node.entries().iter().find(|(given, _)| given.name == **key);
            let key = [*name, "options"].iter().find_map(named);
            let span = key.map_or(&node.span, |(key, _)| &key.span);
            let message = format!("`{name}` has no effect: the job has steps, which run instead");
            let hint = Some("remove it, or make it a step".into());
            self.findings.add(Severity::Warning, "unused-program", span, message, hint);
        }
    }

    /// Reports a step whose time limit is longer than that of its job: it could never be reached.
    fn check_time(&mut self, step: &Step, node: &Node, most: Option<Duration>) {
        if step.limits.timeout.zip(most).is_some_and(|(timeout, most)| timeout > most) {
            let fields = Fields::of(node, &STEP);
            let place = fields.get("timeout").or(fields.get("timeout-minutes")).map_or(node, |node| node);
            let message = "the time limit of this step exceeds that of its job".to_owned();
            let hint = Some("raise the job's time limit, or lower the step's".into());
            self.findings.add(Severity::Warning, "timeout", &place.span, message, hint);
        }
    }

    fn limits(&mut self, fields: &Fields<'_>) -> Limits {
        let timeout = fields.text("timeout").and_then(|text| duration::parse(&text));
        let minutes = fields.text("timeout-minutes").and_then(|text| duration::minutes(&text));
        if let (Some(_), Some(node)) = (timeout, fields.get("timeout-minutes")) {
            let message = "`timeout` and `timeout-minutes` are both given";
            self.findings.error("timeout", &node.span, message, "keep one of them");
        }
        let (retries, delay) = fields.get("retries").map(|node| retries(node)).unwrap_or_default();
        Limits { timeout: timeout.or(minutes), retries, delay }
    }

    fn services(&mut self, node: &Node, names: &Names<'_>) -> IndexMap<String, Service> {
        let mut services = IndexMap::new();
        for (name, node) in node.entries() {
            if let Some(container) = self.container(node, &SERVICE, names) {
                let fields = Fields::of(node, &SERVICE);
                let ready = fields.get("ready").and_then(|node| self.ready(node));
                let restart = match fields.text("restart").as_deref() {
                    Some("on-failure") => Restart::OnFailure,
                    Some("always") => Restart::Always,
                    _ => Restart::Never,
                };
                services.insert(name.name.clone(), Service { container, ready, restart });
            }
        }
        services
    }

    fn ready(&mut self, node: &Node) -> Option<Ready> {
        let fields = Fields::of(node, &READY);
        let signs = ["command", "port", "path"].map(|name| fields.get(name));
        let sign = match signs {
            [Some(command), None, None] => Sign::Command(self.plain_words(command)?),
            [None, Some(port), None] => Sign::Port(port.text()?.parse().ok()?),
            [None, None, Some(path)] => Sign::Path(self.absolute(path)?),
            // Another mistake has been reported.
            [None, None, None] if node.scalar().is_some() || fields.has_unknown(node) => return None,
            _ => {
                let is_none = signs.iter().all(Option::is_none);
                let hint = if is_none { "add one: `ready: {port: 80}`" } else { "keep one of them" };
                let message = "`ready` needs exactly one of `command`, `port` and `path`";
                self.findings.error("ready", &node.span, message, hint);
                return None;
            }
        };
        let limit = fields.text("timeout").and_then(|text| duration::parse(&text)).unwrap_or(READY_LIMIT);
        Some(Ready { sign, limit })
    }

    /// An absolute path, so that it does not depend on a working directory.
    pub(super) fn absolute(&mut self, node: &Node) -> Option<PathBuf> {
        let path = PathBuf::from(self.plain(node)?);
        if path.is_absolute() {
            return Some(path);
        }
        let message = format!("`{}` is not an absolute path", path.display());
        self.findings.error("path", &node.span, message, "begin it with `/`");
        None
    }

    /// Reads the steps. `ids` gets the ids of steps that have one; `most` is the time limit of the job.
    fn steps(
        &mut self,
        nodes: &[Rc<Node>],
        ids: &[&str],
        names: &Names<'_>,
        defaults: &Defaults,
        most: Option<Duration>,
    ) -> Vec<Step> {
        let mut known = HashSet::new();
        let mut before = 0;
        let mut steps = Vec::new();
        let mut env_is_open = false;
        for node in nodes {
            let names = Names { steps: Some(&ids[..before]), env_is_open, ..names.clone() };
            env_is_open |= may_set_variables(node);
            if let Some(step) = self.step(node, &names, defaults) {
                self.check_time(&step, node, most);
                steps.push(step);
            }
            if let Some(id) = id_of(node) {
                before += 1;
                if !known.insert(id.to_ascii_lowercase()) {
                    let span = Fields::of(node, &STEP).get("id").map_or(&node.span, |node| &node.span);
                    let message = format!("two steps of this job have the ID `{id}`");
                    self.findings.error("step-id", span, message, "give each a different ID");
                }
            }
        }
        steps
    }

    fn step(&mut self, node: &Node, names: &Names<'_>, defaults: &Defaults) -> Option<Step> {
        let fields = Fields::of(node, &STEP);
        let inner = names.with_env(env_names(fields.get("env")));
        let env = self.env(fields.get("env"), names);
        let action = match (fields.get("run"), fields.get("uses")) {
            (Some(run), None) => self.run(run, &fields, &inner, defaults),
            (None, Some(uses)) => self.uses(uses, &fields, &inner, names),
            // Another mistake has been reported.
            (None, None) if node.scalar().is_some() || fields.has_unknown(node) => None,
            (run, _) => {
                let message = "a step needs exactly one of `run` and `uses`";
                let hint = if run.is_some() { "split it into two steps" } else { "add `run:` with a script" };
                self.findings.error("step", &node.span, message, hint);
                None
            }
        };
        Some(Step {
            id: fields.text("id"),
            name: fields.get("name").and_then(|node| self.template(node, &inner)),
            condition: fields.get("if").and_then(|node| self.condition(node, &inner)),
            action: action?,
            env,
            limits: self.limits(&fields),
            continue_on_error: fields.is_true("continue-on-error"),
        })
    }

    fn run(
        &mut self,
        run: &Node,
        fields: &Fields<'_>,
        names: &Names<'_>,
        defaults: &Defaults,
    ) -> Option<Action> {
        self.without(fields, &["with"], "applies only to a step with `uses`");
        let shell = fields.get("shell").and_then(|node| self.shell(node));
        let directory = fields.get("working-directory").and_then(|node| self.plain(node));
        let script: Template = self.template(run, names)?;
        self.check_commands(run, script.source());
        let shell = shell.or_else(|| defaults.shell.clone());
        let directory = directory.or_else(|| defaults.directory.clone());
        Some(Action::Run { script, shell, directory })
    }

    /// Reports workflow commands of GitHub that have no effect here.
    fn check_commands(&mut self, run: &Node, script: &str) {
        for (at, name, instead) in commands::without_effect(script) {
            let span = self.place(run, script, at, "::".len() + name.len());
            let message = format!("the workflow command `::{name}` has no effect");
            self.findings.add(Severity::Warning, "workflow-command", &span, message, Some(instead.into()));
        }
    }

    /// GitHub's rule: one of the known shells, or a command with `{0}` for the script's file.
    fn shell(&mut self, node: &Node) -> Option<String> {
        let shell = self.plain(node)?;
        if !["bash", "sh", "python"].contains(&shell.as_str()) && !shell.contains("{0}") {
            let message = format!("`{shell}` is not a known shell");
            let hint = format!("write `bash`, `sh`, `python`, or the command with the file: `{shell} {{0}}`");
            self.findings.error("shell", &node.span, message, hint);
            return None;
        }
        if shell_words::split(&shell).is_err() {
            let message = format!("a quote in `{shell}` is not closed");
            self.findings.error("shell", &node.span, message, "close it");
            return None;
        }
        Some(shell)
    }

    /// Reads a step with `uses:`. `names` are those of the step, `outer` those of its job.
    fn uses(
        &mut self,
        uses: &Rc<Node>,
        fields: &Fields<'_>,
        names: &Names<'_>,
        outer: &Names<'_>,
    ) -> Option<Action> {
        self.without(fields, &["shell", "working-directory"], "applies only to a step with `run`");
        let text = uses.text().filter(|_| uses.is_text())?;
        if !text.starts_with("docker://") {
            let message = format!("`{text}` is not a container: actions are not supported");
            let hint = "write `docker://IMAGE`, or `run:` with a script";
            self.findings.error("uses", &uses.span, message, hint);
            return None;
        }
        // The image is pulled before the first step runs, so its name cannot use `steps`.
        let outside = Names { steps: None, ..outer.clone() };
        let mut container = Container::named(self.image(uses, &outside)?);
        if let Some(with) = fields.get("with").map(|node| Fields::of(node, &WITH)) {
            container.entrypoint = with.get("entrypoint").and_then(|node| self.words(node, names));
            container.command = with.get("args").and_then(|node| self.words(node, names));
        }
        Some(Action::Use(Box::new(container)))
    }

    fn without(&mut self, fields: &Fields<'_>, keys: &[&str], why: &str) {
        for (key, node) in keys.iter().filter_map(|key| Some((key, fields.get(key)?))) {
            self.findings.error("step", &node.span, format!("`{key}` {why}"), "remove it");
        }
    }
}

impl Step {
    /// A step's own container is its job's with another image and what that runs: it has the same rights, limits and
    /// credentials.
    fn inherit(&mut self, job: &Container) {
        if let Action::Use(own) = &mut self.action {
            let Container { image, entrypoint, command, env, volumes, directory, systemd, .. } =
                (**own).clone();
            **own = Container { image, entrypoint, command, env, volumes, directory, systemd, ..job.clone() };
        }
    }
}

fn id_of(step: &Node) -> Option<&str> {
    step.entries().iter().find(|(key, _)| key.name == "id").and_then(|(_, id)| id.text())
}

/// Whether a step writes to the file whose variables later steps have.
fn may_set_variables(step: &Node) -> bool {
    let script = step.entries().iter().find(|(key, _)| key.name == "run").and_then(|(_, run)| run.text());
    script.is_some_and(|script| script.contains("GITHUB_ENV"))
}

fn retries(node: &Node) -> (u32, Duration) {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    if node.scalar().is_some() {
        return (number(node.text()), Duration::ZERO);
    }
    let fields = Fields::of(node, &RETRIES);
    let delay = fields.text("delay").and_then(|text| duration::parse(&text)).unwrap_or_default();
    (number(fields.text("times").as_deref()), delay)
}

/// Whether a container says that its program is an init system, which runs beside the steps.
fn names_init_system(container: &Container) -> bool {
    let words = |words: &Option<Vec<Template>>| -> Vec<String> {
        words.iter().flatten().map(|word| word.source().to_owned()).collect()
    };
    let (entrypoint, command) = (words(&container.entrypoint), words(&container.command));
    match container.systemd {
        Systemd::IfNamed => is_init_system(&[entrypoint, command].concat()),
        Systemd::Always => true,
        Systemd::Never => false,
    }
}
