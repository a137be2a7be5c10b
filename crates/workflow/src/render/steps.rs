//! Describes what a run does, in order: a dry run.

use super::needs;
use crate::expression::Template;
use crate::{
    Action, Container, Env, Image, Ipc, Job, Limits, OnFailure, Plan, Service, Sign, Step, Systemd, Volume,
    VolumeSource,
};
use printable::visible;

/// A line for each action of a run of the plan. Containers see `new_root` as `NEWROOT`.
pub fn steps(plan: &Plan, new_root: &str) -> String {
    let mut lines = Lines::default();
    if let Some(name) = &plan.name {
        lines.add(0, format!("workflow {name}"));
    }
    lines.add(0, format!("every container gets IGUANA=true, iguana=true, NEWROOT={new_root} and /iguana"));
    lines.env(0, &plan.env);
    for (number, (id, job)) in plan.jobs.iter().enumerate() {
        lines.job(number + 1, id, job);
    }
    lines.add(0, format!("after a failed job: {}", policy(plan)));
    lines.0
}

fn policy(plan: &Plan) -> String {
    match plan.on_failure {
        OnFailure::Continue => "the result files in /iguana decide".into(),
        OnFailure::Do(policy) => policy.to_string(),
    }
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, depth: usize, line: String) {
        // A line break in a name must not start a new line.
        self.0 += &format!("{}{}\n", "  ".repeat(depth), visible(&line));
    }

    fn env(&mut self, depth: usize, env: &Env) {
        for (name, value) in env {
            self.add(depth, format!("set {name}={}", value.source()));
        }
    }

    fn job(&mut self, number: usize, id: &str, job: &Job) {
        self.add(0, format!("{number}. job {id}"));
        if !job.needs.is_empty() {
            self.add(1, format!("needs {}", needs(job).join(", ")));
        }
        if let Some(condition) = &job.condition {
            self.add(1, format!("only if {}", condition.source()));
        }
        self.limits(1, &job.limits);
        self.env(1, &job.env);
        for image in job.containers().flat_map(Container::images) {
            self.add(1, format!("pull {}", image_name(image)));
        }
        for (name, service) in &job.services {
            self.service(name, service);
        }
        self.add(1, format!("start a container from {}", image_name(&job.container.image)));
        self.container(2, &job.container);
        match job.steps.is_empty() {
            true => self.program(2, &job.container),
            false => job.steps.iter().enumerate().for_each(|(number, step)| self.step(number + 1, step)),
        }
        for name in job.services.keys().rev() {
            self.add(1, format!("stop the service {name}"));
        }
        if job.continue_on_error {
            self.add(1, "a failure counts as success".into());
        }
    }

    fn service(&mut self, name: &str, service: &Service) {
        self.add(1, format!("start the service {name} from {}", image_name(&service.container.image)));
        self.container(2, &service.container);
        self.program(2, &service.container);
        if let Some(ready) = &service.ready {
            let sign = match &ready.sign {
                Sign::Command(words) => format!("success of {}", words.join(" ")),
                Sign::Port(port) => format!("connection to port {port}"),
                Sign::Path(path) => format!("{}", path.display()),
            };
            self.add(2, format!("wait at most {} s for {sign}", ready.limit.as_secs_f32()));
        }
    }

    fn container(&mut self, depth: usize, container: &Container) {
        self.env(depth, &container.env);
        for volume in &container.volumes {
            self.add(depth, format!("mount {}", describe(volume)));
        }
        for (what, limit) in [("bytes of memory", container.memory), ("processes", container.pids)] {
            if let Some(limit) = limit {
                self.add(depth, format!("with at most {limit} {what}"));
            }
        }
        let rights = [
            (!container.privileged, "with podman's default rights only"),
            (container.read_only, "with a read-only root"),
            (container.pid_host, "in the machine's process namespace"),
            (container.ipc == Ipc::Machine, "in the machine's IPC namespace"),
            (container.ipc == Ipc::Shareable, "in the job's shareable IPC namespace"),
            (container.ipc == Ipc::Private, "in an IPC namespace of its own"),
            (container.systemd == Systemd::Always, "started as an init system"),
            (container.systemd == Systemd::Never, "not started as an init system"),
            (container.credentials.is_some(), "pulled with credentials"),
        ];
        for (_, text) in rights.iter().filter(|(is_so, _)| *is_so) {
            self.add(depth, (*text).into());
        }
    }

    fn program(&mut self, depth: usize, container: &Container) {
        let words = |given: &Option<Vec<Template>>, otherwise: &str| match given {
            Some(words) => words.iter().map(Template::source).collect::<Vec<_>>().join(" "),
            None => otherwise.to_owned(),
        };
        let entrypoint = words(&container.entrypoint, "the image's entrypoint");
        let command = match (&container.entrypoint, &container.command) {
            (Some(_), None) => "nothing".into(),
            (_, command) => words(command, "the image's command"),
        };
        self.add(depth, format!("run {entrypoint} with {command}"));
    }

    fn step(&mut self, number: usize, step: &Step) {
        let name = step.name.as_ref().map(|name| format!(": {}", name.source())).unwrap_or_default();
        self.add(2, format!("step {number}{name}"));
        if let Some(condition) = &step.condition {
            self.add(3, format!("only if {}", condition.source()));
        }
        self.limits(3, &step.limits);
        self.env(3, &step.env);
        match &step.action {
            Action::Run { script, shell, directory } => {
                let shell = shell.as_deref().unwrap_or("bash, or else sh,");
                let directory =
                    directory.as_ref().map(|directory| format!(" in {directory}")).unwrap_or_default();
                self.add(3, format!("run with {shell}{directory}:"));
                script.source().lines().for_each(|line| self.add(4, line.into()));
            }
            Action::Use(container) => {
                self.add(3, format!("start a container from {}", image_name(&container.image)));
                self.program(3, container);
            }
        }
        if step.continue_on_error {
            self.add(3, "the job continues after a failure".into());
        }
    }

    fn limits(&mut self, depth: usize, limits: &Limits) {
        if let Some(timeout) = limits.timeout {
            self.add(depth, format!("for at most {} s", timeout.as_secs_f32()));
        }
        if limits.retries > 0 {
            let delay = limits.delay.as_secs_f32();
            self.add(depth, format!("retry up to {} times after a failure, after {delay} s", limits.retries));
        }
    }
}

fn image_name(image: &Image) -> String {
    image.reference.as_ref().map_or_else(|| image.name.source().to_owned(), ToString::to_string)
}

fn describe(volume: &Volume) -> String {
    let source = match &volume.source {
        VolumeSource::Anonymous => "a fresh directory".into(),
        VolumeSource::Named(name) => format!("the volume {name}"),
        VolumeSource::Host(path) => format!("the machine's {}", path.display()),
        VolumeSource::Tmpfs(None) => "a tmpfs".into(),
        VolumeSource::Tmpfs(Some(size)) => format!("a tmpfs of {size} bytes"),
        VolumeSource::Image(image) => format!("the image {}", image_name(image)),
    };
    let mode = if volume.read_only { ", read-only" } else { "" };
    format!("{source} at {}{mode}", volume.target.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_would_be_done_is_listed_in_order() {
        let text = b"
env: {A: '1'}
jobs:
  b: {needs: a, container: r.example/b, steps: [{run: echo hello, timeout: 5s}]}
  a:
    container: {image: r.example/a, volumes: [data:/data:ro], command: install}
    services: {db: {image: r.example/db, ready: {port: 80}}}
";
        let plan = crate::check(text).plan.unwrap();
        let told = steps(&plan, "/mnt");
        let mut rest = told.as_str();
        for expected in [
            "NEWROOT=/mnt",
            "set A=1",
            "1. job a",
            "pull r.example/db:latest",
            "start the service db",
            "wait at most 60 s for connection to port 80",
            "mount the volume data at /data, read-only",
            "run the image's entrypoint with install",
            "stop the service db",
            "2. job b",
            "needs a",
            "for at most 5 s",
            "echo hello",
        ] {
            let at = rest.find(expected).unwrap_or_else(|| panic!("`{expected}` is not in:\n{told}"));
            rest = &rest[at..];
        }
    }
}
