//! Converts the tree to a [`Workflow`], and reports each mistake that is visible in a single part of the document.
//!
//! Shapes and keys have been compared with the table before, so anything that does not fit has been reported and is
//! skipped here.

mod container;
mod expressions;
mod job;
mod name_rules;
mod options;
mod unused;

use super::duration;
use super::language::{SHARED, WORKFLOW};
use super::model::{Env, OnFailure, Workflow};
use super::names::{Names, declared_outputs};
use super::schema;
use crate::OnFailurePolicy;
use name_rules::{NameFault, NameOf};
use std::rc::Rc;
use timestamp::Timestamp;
use unused::UsedOutputs;
use yaml_tree::document::{Key, MapEntry, Node};
use yaml_tree::finding::Findings;

/// Reads a whole workflow. It is incomplete if the findings have errors.
pub(super) fn workflow(text: &str, root: &Node, findings: &mut Findings) -> Workflow {
    schema::check(root, &schema::ValueKind::Object(&WORKFLOW), findings);
    let fields = Fields::of(root, &WORKFLOW);
    let no_jobs = Rc::new(Node::nothing());
    let jobs = fields.get("jobs").unwrap_or(&no_jobs);
    if fields.get("jobs").is_some_and(|jobs| jobs.describe() == "a map" && jobs.entries().is_empty()) {
        findings.error("no-jobs", &jobs.span, "the workflow has no jobs", "add at least one to `jobs:`");
    }
    let outputs = declared_outputs(jobs);
    let names =
        Names { env: Rc::new([]), needs: Rc::new([]), env_is_open: false, steps: None, outputs: &outputs };
    let mut reader = Reader { text, findings, used: UsedOutputs::default() };
    let env = reader.env(fields.get("env"), &names);
    let names = names.with_env(env_names(fields.get("env")));
    let defaults = reader.defaults(&job::Defaults::default(), fields.get("defaults"));
    let shared = fields.get("shared").map(|node| Fields::of(node, &SHARED));
    let shared_size = shared.and_then(|shared| shared.text("size"));
    let read_jobs = jobs.entries().iter().map(|(id, node)| reader.job(id, node, &names, &defaults)).collect();
    reader.note_unused_outputs(jobs);
    Workflow {
        name: fields.text("name"),
        serial: fields.text("serial").and_then(|text| text.parse().ok()),
        valid_until: reader.timestamp(fields.get("valid-until")),
        env,
        on_failure: on_failure(fields.text("on-failure").as_deref()),
        state: fields.text("state"),
        strict: fields.is_true("strict"),
        shared_size: shared_size.and_then(|size| duration::bytes(&size)),
        jobs: read_jobs,
    }
}

fn on_failure(word: Option<&str>) -> OnFailure {
    match word {
        Some("reboot") => OnFailure::Do(OnFailurePolicy::Reboot),
        Some("shell") => OnFailure::Do(OnFailurePolicy::Shell),
        Some("poweroff") => OnFailure::Do(OnFailurePolicy::PowerOff),
        Some("local") => OnFailure::Do(OnFailurePolicy::Local),
        _ => OnFailure::Continue,
    }
}

/// Reads parts of a document and reports mistakes.
struct Reader<'a> {
    text: &'a str,
    findings: &'a mut Findings,
    /// The outputs of jobs that expressions use.
    used: UsedOutputs,
}

impl Reader<'_> {
    fn timestamp(&mut self, node: Option<&Rc<Node>>) -> Option<Timestamp> {
        let node = node?;
        match node.text()?.parse() {
            Ok(timestamp) => Some(timestamp),
            Err(error) => {
                let hint = hint::of(&error).unwrap_or_default().to_owned();
                self.findings.error("date", &node.span, error.to_string(), hint);
                None
            }
        }
    }

    fn env(&mut self, node: Option<&Rc<Node>>, names: &Names<'_>) -> Env {
        self.named_templates(node, NameOf::Variable, names)
    }

    /// Texts with expressions by their names.
    fn named_templates(&mut self, node: Option<&Rc<Node>>, name_of: NameOf, names: &Names<'_>) -> Env {
        let entries = node.map(|node| node.entries()).unwrap_or_default();
        let mut env = Env::new();
        for (key, value) in entries {
            self.check_name(key, name_of);
            if let Some(value) = self.template(value, names) {
                env.insert(key.name.clone(), value);
            }
        }
        env
    }

    fn check_name(&mut self, key: &Key, name_of: NameOf) {
        if let Some(NameFault { severity, message, hint }) = name_of.fault(&key.name) {
            self.findings.add(severity, "env-name", &key.span, message, Some(hint.into()));
        }
    }
}

fn env_names(node: Option<&Rc<Node>>) -> impl Iterator<Item = &str> {
    node.map(|node| node.entries()).unwrap_or_default().iter().map(|(key, _)| key.name.as_str())
}

/// The entries of a map by the names of the table; aliases have been resolved.
struct Fields<'a>(Vec<(&'static str, &'a Rc<Node>)>);

impl<'a> Fields<'a> {
    fn of(node: &'a Node, object: &schema::Object) -> Self {
        let known = |(key, value): &'a MapEntry| Some((object.find(&key.name)?.name, value));
        Self(node.entries().iter().filter_map(known).collect())
    }

    /// Whether there are unknown keys, which have been reported.
    fn has_unknown(&self, node: &Node) -> bool {
        self.0.len() < node.entries().len()
    }

    fn get(&self, name: &str) -> Option<&'a Rc<Node>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, node)| *node)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.text().map(ToOwned::to_owned)
    }

    fn is_true(&self, name: &str) -> bool {
        self.bool(name) == Some(true)
    }

    fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)?.scalar()?.kind() {
            yaml_tree::document::ScalarType::Bool(value) => Some(value),
            _ => None,
        }
    }
}
