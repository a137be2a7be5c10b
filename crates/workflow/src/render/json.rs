//! A plan as JSON.

use super::{needs, source};
use crate::expression::Expression;
use crate::{
    Action, Container, Job, Limits, OnFailure, OnFailurePolicy, Plan, Service, Sign, Step, Volume,
    VolumeSource,
};
use serde_json::{Value, json};

/// Converts a plan to JSON. Variables and credentials are left out: the order does not depend on them, and the output
/// may be logged.
pub fn json(plan: &Plan) -> Value {
    let jobs = plan.jobs.iter().enumerate();
    json!({
        "name": plan.name,
        "on_failure": on_failure(plan.on_failure),
        "jobs": jobs.map(|(index, (id, job))| job_value(index + 1, id, job)).collect::<Vec<_>>(),
    })
}

fn on_failure(action: OnFailure) -> &'static str {
    match action {
        OnFailure::Continue => "continue",
        OnFailure::Do(OnFailurePolicy::Reboot) => "reboot",
        OnFailure::Do(OnFailurePolicy::Shell) => "shell",
        OnFailure::Do(OnFailurePolicy::PowerOff) => "poweroff",
        OnFailure::Do(OnFailurePolicy::Local) => "local",
    }
}

fn job_value(number: usize, id: &str, job: &Job) -> Value {
    let services = job.services.iter().map(|(name, service)| service_value(name, service));
    let mut value = json!({
        "number": number,
        "id": id,
        "name": job.name.as_ref().map(|name| name.source()),
        "services": services.collect::<Vec<_>>(),
        "needs": needs(job),
        "if": job.condition.as_ref().map(Expression::source),
        "steps": job.steps.iter().map(step_value).collect::<Vec<_>>(),
        "continue_on_error": job.continue_on_error,
    });
    extend(&mut value, container_value(&job.container));
    extend(&mut value, limits_value(&job.limits));
    value
}

fn service_value(name: &str, service: &Service) -> Value {
    let ready = service.ready.as_ref().map(|ready| {
        let sign = match &ready.sign {
            Sign::Command(words) => json!({ "command": words }),
            Sign::Port(port) => json!({ "port": port }),
            Sign::Path(path) => json!({ "path": path }),
        };
        let mut ready = json!({ "timeout_seconds": ready.limit.as_secs_f64() });
        extend(&mut ready, sign);
        ready
    });
    let mut value = json!({ "name": name, "ready": ready });
    extend(&mut value, container_value(&service.container));
    value
}

fn step_value(step: &Step) -> Value {
    let mut value = json!({
        "id": step.id,
        "name": step.name.as_ref().map(|name| name.source()),
        "if": step.condition.as_ref().map(Expression::source),
        "continue_on_error": step.continue_on_error,
    });
    extend(&mut value, limits_value(&step.limits));
    extend(
        &mut value,
        match &step.action {
            Action::Run { script, shell, directory } => {
                json!({ "run": script.source(), "shell": shell, "working_directory": directory })
            }
            Action::Use(container) => container_value(container),
        },
    );
    value
}

fn container_value(container: &Container) -> Value {
    json!({
        "image": container.image.name.source(),
        "volumes": container.volumes.iter().map(volume_value).collect::<Vec<_>>(),
    })
}

fn volume_value(volume: &Volume) -> Value {
    let kind = match &volume.source {
        VolumeSource::Anonymous | VolumeSource::Named(_) => "volume",
        VolumeSource::Host(_) => "bind",
        VolumeSource::Tmpfs(_) => "tmpfs",
        VolumeSource::Image(_) => "image",
    };
    json!({
        "type": kind,
        "source": source(&volume.source).filter(|_| kind != "tmpfs"),
        "target": volume.target,
        "read_only": volume.read_only,
    })
}

fn limits_value(limits: &Limits) -> Value {
    json!({
        "timeout_seconds": limits.timeout.map(|time| time.as_secs_f64()),
        "retries": limits.retries,
        "retry_delay_seconds": limits.delay.as_secs_f64(),
    })
}

fn extend(value: &mut Value, more: Value) {
    if let (Value::Object(keys), Value::Object(more)) = (value, more) {
        keys.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn plan(text: &str) -> Plan {
        check(text.as_bytes()).into_plan("flow.yaml").unwrap()
    }

    #[test]
    fn json_has_everything_except_secrets() {
        let plan = plan(
            "on-failure: shell\n\
             env: {TOKEN: hush}\n\
             jobs:\n  \
             a:\n    \
             container: {image: r.example/a, credentials: {username: me, password: hush}}\n    \
             services: {db: {image: r.example/db, ready: {port: 5432}}}\n    \
             steps: [{run: make, id: s}, {uses: 'docker://r.example/c', timeout: 1m}]\n",
        );
        let value = super::json(&plan);
        assert!(!value.to_string().contains("hush"), "{value}");
        assert_eq!(value["on_failure"], "shell");
        let job = &value["jobs"][0];
        assert_eq!(job["services"][0]["ready"], json!({ "port": 5432, "timeout_seconds": 60.0 }));
        assert_eq!((&job["steps"][0]["run"], &job["steps"][0]["id"]), (&json!("make"), &json!("s")));
        assert_eq!(job["steps"][1]["timeout_seconds"], 60.0);
    }
}
