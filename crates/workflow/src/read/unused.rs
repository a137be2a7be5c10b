//! Outputs that no job uses.

use super::Reader;
use std::collections::HashSet;
use yaml_tree::document::Node;
use yaml_tree::finding::Severity;

/// Parts of the longest name that matters: `needs.JOB.outputs.NAME`.
const PARTS: usize = 4;

/// The names in the context `needs` that expressions use, in lower case.
#[derive(Debug, Default)]
pub(super) struct UsedOutputs(HashSet<Vec<String>>);

impl UsedOutputs {
    /// Notes the name that an expression uses.
    pub(super) fn note(&mut self, path: &[String]) {
        if path.first().is_some_and(|context| context.eq_ignore_ascii_case("needs")) {
            self.0.insert(path.iter().take(PARTS).map(|part| part.to_ascii_lowercase()).collect());
        }
    }

    /// Whether an expression uses the output: by its name, or with all of its job or of all jobs.
    fn has(&self, job: &str, output: &str) -> bool {
        let path = ["needs", job, "outputs", output].map(str::to_ascii_lowercase);
        (1..=PARTS).any(|parts| self.0.contains(&path[..parts]))
    }
}

impl Reader<'_> {
    /// Notes the declared outputs that no job uses.
    pub(super) fn note_unused_outputs(&mut self, jobs: &Node) {
        for (id, job) in jobs.entries() {
            let outputs = job.entries().iter().find(|(key, _)| key.name == "outputs");
            for (key, _) in outputs.map(|(_, map)| map.entries()).unwrap_or_default() {
                if !self.used.has(&id.name, &key.name) {
                    let message = format!("no job uses the output `{}` of the job `{}`", key.name, id.name);
                    let hint = Some("remove it, or use it in a job that needs this one".into());
                    self.findings.add(Severity::Note, "unused-output", &key.span, message, hint);
                }
            }
        }
    }
}
