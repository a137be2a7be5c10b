//! The jobs in the order in which they run, known to be good before anything runs.

use super::model::{Container, Env, Job, OnFailure, Workflow};
use super::nearest::nearest;
use oci_reference::Reference;
use std::collections::{BTreeSet, HashMap};
use timestamp::Timestamp;
use yaml_tree::finding::{Findings, Severity};

/// What will run, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The workflow's name, if it has one.
    pub name: Option<String>,
    /// Version of the workflow; a trust can require a minimum.
    pub serial: Option<u64>,
    /// Time after which no machine runs it.
    pub valid_until: Option<Timestamp>,
    /// Variables of every container.
    pub env: Env,
    /// What to do after the failure of a job without `continue-on-error`.
    pub on_failure: OnFailure,
    /// Where the outcome is recorded for the next boot: `esp`, or a file system as in the mount list.
    pub state: Option<String>,
    /// Whether a mount list with lines that would be skipped is refused.
    pub strict: bool,
    /// Size limit of `/iguana` in bytes.
    pub shared_size: Option<u64>,
    /// The jobs with their ids. Each job comes after those that it needs.
    pub jobs: Vec<(String, Job)>,
}

impl Plan {
    /// Orders the jobs as in the file, except that a job comes after those it needs. If the findings have errors,
    /// jobs in a cycle are missing.
    pub(super) fn of(workflow: Workflow, findings: &mut Findings) -> Self {
        let Workflow { name, serial, valid_until, env, on_failure, state, strict, shared_size, jobs } =
            workflow;
        let mut jobs: Vec<Option<(String, Job)>> = jobs.into_iter().map(Some).collect();
        let order = order(&jobs.iter().flatten().collect::<Vec<_>>(), findings);
        let jobs = order.into_iter().filter_map(|index| jobs[index].take()).collect();
        Self { name, serial, valid_until, env, on_failure, state, strict, shared_size, jobs }
    }

    /// The plan for `rd.iguana.containers=`: the images one after another.
    #[must_use]
    pub fn of_images(images: Vec<Reference>) -> Self {
        Self::of(Workflow::from_images(images), &mut Findings::default())
    }

    /// The images whose names have no expressions.
    pub fn images(&self) -> impl Iterator<Item = &Reference> {
        let containers = self.jobs.iter().flat_map(|(_, job)| job.containers());
        containers.flat_map(Container::images).filter_map(|image| image.reference.as_ref())
    }

    /// Whether some names of images have expressions.
    #[must_use]
    pub fn names_images_by_expressions(&self) -> bool {
        let containers = self.jobs.iter().flat_map(|(_, job)| job.containers());
        containers.flat_map(Container::images).any(|image| image.reference.is_none())
    }

    /// Whether a job after the one at `index` may use `image`.
    #[must_use]
    pub fn needs_after(&self, index: usize, image: &Reference) -> bool {
        let later = self.jobs.iter().skip(index + 1).flat_map(|(_, job)| job.containers());
        later.flat_map(Container::images).any(|other| other.reference.as_ref() == Some(image))
    }
}

/// The indexes of the jobs in the order in which they run, without jobs in a cycle.
fn order(jobs: &[&(String, Job)], findings: &mut Findings) -> Vec<usize> {
    let places: HashMap<&str, usize> =
        jobs.iter().enumerate().map(|(at, (id, _))| (id.as_str(), at)).collect();
    let mut waits_for: Vec<Vec<usize>> = Vec::new();
    let mut waited_by: Vec<Vec<usize>> = vec![Vec::new(); jobs.len()];
    for (at, (id, job)) in jobs.iter().enumerate() {
        let needs = known_needs(id, job, &places, findings);
        needs.iter().for_each(|need| waited_by[*need].push(at));
        waits_for.push(needs);
    }
    let mut missing: Vec<usize> = waits_for.iter().map(Vec::len).collect();
    let mut free: BTreeSet<usize> = (0..jobs.len()).filter(|at| missing[*at] == 0).collect();
    let mut ordered = Vec::new();
    while let Some(next) = free.pop_first() {
        ordered.push(next);
        for waiting in &waited_by[next] {
            missing[*waiting] -= 1;
            if missing[*waiting] == 0 {
                free.insert(*waiting);
            }
        }
    }
    if let Some(first) = missing.iter().position(|count| *count > 0) {
        report_cycle(jobs, &waits_for, &missing, first, findings);
    }
    ordered
}

/// The indexes of the jobs that this one needs.
fn known_needs(id: &str, job: &Job, places: &HashMap<&str, usize>, findings: &mut Findings) -> Vec<usize> {
    let mut needs = Vec::new();
    for need in &job.needs {
        if findings.are_enough() {
            break;
        }
        match places.get(need.value.as_str()) {
            Some(place) if needs.contains(place) => {
                let message = format!("the job `{id}` names `{}` twice in its `needs`", need.value);
                findings.add(
                    Severity::Warning,
                    "needs",
                    &need.span,
                    message,
                    Some("remove one of them".into()),
                );
            }
            Some(place) => needs.push(*place),
            None => {
                let message = format!("the job `{id}` needs `{}`, which does not exist", need.value);
                findings.error("needs", &need.span, message, known_jobs(&need.value, places));
            }
        }
    }
    needs
}

fn known_jobs(wanted: &str, places: &HashMap<&str, usize>) -> String {
    let mut known: Vec<(usize, &str)> = places.iter().map(|(id, place)| (*place, *id)).collect();
    known.sort_unstable();
    match nearest(wanted, known.iter().map(|(_, id)| *id)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let ids: Vec<&str> = known.into_iter().take(10).map(|(_, id)| id).collect();
            format!("the jobs are `{}`", ids.join("`, `"))
        }
    }
}

/// Reports a cycle: follows `needs` until a job comes a second time.
fn report_cycle(
    jobs: &[&(String, Job)],
    waits_for: &[Vec<usize>],
    missing: &[usize],
    first: usize,
    findings: &mut Findings,
) {
    let mut path = vec![first];
    let mut seen = BTreeSet::from([first]);
    let circle = loop {
        let last = path[path.len() - 1];
        let Some(next) = waits_for[last].iter().copied().find(|need| missing[*need] > 0) else { return };
        if !seen.insert(next) {
            let start = path.iter().position(|place| *place == next).unwrap_or(0);
            break &path[start..];
        }
        path.push(next);
    };
    let ids: Vec<&str> = circle.iter().map(|place| jobs[*place].0.as_str()).collect();
    let message = match ids[..] {
        [id] => format!("the job `{id}` needs itself"),
        [..] if ids.len() > 10 => {
            format!(
                "the `needs` of the jobs `{}` and {} more form a cycle",
                ids[..10].join("`, `"),
                ids.len() - 10
            )
        }
        _ => format!("the `needs` of the jobs `{}` form a cycle", ids.join("`, `")),
    };
    let needed_first = ids.get(1).unwrap_or(&ids[0]);
    let job = &jobs[circle[0]].1;
    let need = job.needs.iter().find(|need| need.value == *needed_first);
    let span = need.map_or(&job.span, |need| &need.span);
    let hint = if ids.len() == 1 { "remove it" } else { "remove one of their `needs`" };
    findings.error("needs", span, message, hint);
}

#[cfg(test)]
mod tests {
    use crate::check;
    use std::fmt::Write as _;

    fn order(jobs: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let mut text = String::from("jobs:\n");
        for (id, needs) in jobs {
            let _ = writeln!(text, "  {id}: {{container: r.example/x, needs: [{needs}]}}");
        }
        let checked = check(text.as_bytes());
        let first = checked.findings.first().map(|finding| finding.message.clone());
        let ids = |plan: crate::Plan| plan.jobs.into_iter().map(|(id, _)| id).collect();
        checked.plan.map(ids).ok_or(first.unwrap_or_default())
    }

    #[test]
    fn the_file_order_is_kept_but_needs_come_first() {
        assert_eq!(order(&[("b", ""), ("a", "")]).unwrap(), ["b", "a"]);
        assert_eq!(order(&[("a", "c"), ("b", ""), ("c", "")]).unwrap(), ["b", "c", "a"]);
    }

    #[test]
    fn ids_cannot_be_paths() {
        for id in ["../x", "/x", "'a,b'", "''", "1a"] {
            assert!(order(&[(id, "")]).unwrap_err().contains("is not a valid ID"), "{id}");
        }
        assert!(order(&[("_a-1", "")]).is_ok());
    }

    #[test]
    fn cycles_and_unknown_needs_are_refused() {
        let error = order(&[("z", "a"), ("a", "b"), ("b", "a"), ("c", "")]).unwrap_err();
        assert_eq!(error, "the `needs` of the jobs `a`, `b` form a cycle");
        assert_eq!(order(&[("a", "a")]).unwrap_err(), "the job `a` needs itself");
        assert!(order(&[("a", "x")]).unwrap_err().contains("`x`, which does not exist"));
    }

    #[test]
    fn an_image_is_needed_until_its_last_job() {
        let text = "jobs: {a: {container: r.example/x}, b: {container: r.example/y}, \
             c: {container: r.example/z, services: {s: {image: r.example/x}}}}";
        let plan = check(text.as_bytes()).plan.unwrap();
        let x = plan.jobs[0].1.container.image.reference.clone().unwrap();
        assert!(plan.needs_after(0, &x) && plan.needs_after(1, &x) && !plan.needs_after(2, &x));
    }
}
