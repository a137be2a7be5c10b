//! The running order: known good before anything runs.

use super::model::{Container, Env, Workflow};
use crate::hint::hinted;
use crate::image::Reference;
use indexmap::IndexMap;

/// What will run, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The workflow's name, if it has one.
    pub name: Option<String>,
    /// Variables of every container.
    pub env: Env,
    /// Each job comes after all those that it needs.
    pub jobs: Vec<PlannedJob>,
}

/// One job of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedJob {
    /// Its id in the workflow.
    pub id: String,
    /// What runs, attached.
    pub container: Container,
    /// What runs detached beside it.
    pub services: IndexMap<String, Container>,
    /// Jobs that must have succeeded.
    pub needs: Vec<String>,
    /// Whether dependents run even when it fails.
    pub continue_on_error: bool,
}

impl PlannedJob {
    /// The images of the job and its services.
    pub fn images(&self) -> impl Iterator<Item = &Reference> {
        self.services.values().chain([&self.container]).map(|container| &container.image)
    }
}

impl Plan {
    /// Whether a job after the one at `index` uses `image`.
    #[must_use]
    pub fn needs_after(&self, index: usize, image: &Reference) -> bool {
        self.jobs.iter().skip(index + 1).any(|job| job.images().any(|other| other == image))
    }
}

/// Puts the jobs in order: the file's, except that a job waits for those it needs.
///
/// # Errors
/// When a job needs one that does not exist, or needs itself in a circle, or there is none.
pub fn plan(workflow: Workflow) -> anyhow::Result<Plan> {
    let Workflow { name, env, jobs, description: _ } = workflow;
    if jobs.is_empty() {
        return Err(hinted("the workflow has no jobs", "name at least one below `jobs:`"));
    }
    for (id, job) in &jobs {
        check_id("job", id)?;
        job.services.keys().try_for_each(|name| check_id("service", name))?;
        for need in &job.needs {
            if !jobs.contains_key(need) {
                let known: Vec<&str> = jobs.keys().map(String::as_str).collect();
                return Err(hinted(
                    format!("job `{id}` needs `{need}`, which does not exist"),
                    format!("the jobs are `{}`", known.join("`, `")),
                ));
            }
        }
    }
    let mut waiting: Vec<PlannedJob> = jobs
        .into_iter()
        .map(|(id, job)| PlannedJob {
            id,
            container: job.container,
            services: job.services,
            needs: job.needs,
            continue_on_error: job.continue_on_error,
        })
        .collect();
    let mut ordered: Vec<PlannedJob> = Vec::new();
    while !waiting.is_empty() {
        let is_placed = |need: &String| ordered.iter().any(|job| job.id == *need);
        let Some(next) = waiting.iter().position(|job| job.needs.iter().all(is_placed)) else {
            let circle: Vec<&str> = waiting.iter().map(|job| job.id.as_str()).collect();
            return Err(hinted(
                format!("the jobs `{}` need each other in a circle", circle.join("`, `")),
                "remove one of their `needs:`",
            ));
        };
        ordered.push(waiting.remove(next));
    }
    Ok(Plan { name, env, jobs: ordered })
}

/// GitHub's rule for ids (workflow syntax, `jobs.<job_id>`), which also makes them safe as names of folders.
fn check_id(what: &str, id: &str) -> anyhow::Result<()> {
    let is_first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    let is_later = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    if id.starts_with(is_first) && id.chars().all(is_later) {
        return Ok(());
    }
    Err(hinted(
        format!("`{id}` cannot be the id of a {what}"),
        "begin with a letter or `_`, and go on with letters, digits, `-` and `_`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint;
    use crate::workflow::parse;

    fn order(jobs: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
        let mut text = String::from("jobs:\n");
        for (id, needs) in jobs {
            text += &format!("  {id}: {{container: {{image: r.example/x}}, needs: [{needs}]}}\n");
        }
        Ok(plan(parse(&text)?)?.jobs.into_iter().map(|job| job.id).collect())
    }

    #[test]
    fn the_file_order_is_kept_but_needs_come_first() {
        assert_eq!(order(&[("b", ""), ("a", "")]).unwrap(), ["b", "a"]);
        assert_eq!(order(&[("a", "c"), ("b", ""), ("c", "")]).unwrap(), ["b", "c", "a"]);
    }

    #[test]
    fn ids_cannot_be_paths() {
        for id in ["../x", "/x", "'a,b'", "''", "1a"] {
            assert!(order(&[(id, "")]).unwrap_err().to_string().contains("cannot be the id"), "{id}");
        }
        assert!(order(&[("_a-1", "")]).is_ok());
    }

    #[test]
    fn circles_and_unknown_needs_are_refused() {
        let error = order(&[("a", "b"), ("b", "a"), ("c", "")]).unwrap_err();
        assert!(error.to_string().contains("`a`, `b`"), "{error}");
        let error = order(&[("a", "x")]).unwrap_err();
        assert!(error.to_string().contains("`x`") && hint::of(&error).unwrap().contains("`a`"), "{error}");
    }

    #[test]
    fn an_image_is_needed_until_its_last_job() {
        let workflow = parse(
            "jobs: {a: {container: {image: r.example/x}}, b: {container: {image: r.example/y}}, \
             c: {container: {image: r.example/z}, services: {s: {image: r.example/x}}}}",
        )
        .unwrap();
        let plan = plan(workflow).unwrap();
        let x = plan.jobs[0].container.image.clone();
        assert!(plan.needs_after(0, &x) && plan.needs_after(1, &x) && !plan.needs_after(2, &x));
    }
}
