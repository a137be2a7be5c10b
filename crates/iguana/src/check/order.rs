//! The job order of several workflows.

use super::Document;
use printable::visible;
use workflow::Plan;
use workflow::render::table;

/// A table for each workflow that can run, with its name above it if there are several.
pub(super) fn tables(documents: &[Document]) -> String {
    let named = |(name, plan): (&str, &Plan)| match documents {
        [_] => table(plan),
        _ => format!("{}\n{}\n", visible(name), table(plan)),
    };
    let plans = documents
        .iter()
        .filter_map(|document| document.checked.plan.as_ref().map(|plan| (document.name.as_str(), plan)));
    plans.map(named).collect()
}
