//! Whether a pull has kept its promise.

use super::plan::Plan;
use crate::soak::SILENCE_LIMIT;
use crate::soak::watched::Watched;

/// What is wrong with a pull, if anything. `found` is the tree that it left, `right` the one that it should leave and
/// the digest that it should print.
pub(super) fn broken(plan: &Plan, watched: &Watched, found: &str, right: (&str, &str)) -> Option<String> {
    let Watched { text, status, silence, .. } = watched;
    if watched.is_late {
        return Some(format!("it has not ended within {} s", plan.limit().as_secs()));
    }
    if *silence > SILENCE_LIMIT {
        return Some(format!("it said nothing for {:.1} s", silence.as_secs_f32()));
    }
    match (status, plan.causes()) {
        (Some(0), _) if plan.has_no_room => Some("it fits where it cannot".into()),
        (Some(0), _) if found != right.0 => Some(format!("the tree is wrong:\n{found}")),
        (Some(0), _) if !text.contains(right.1) => Some("it does not print the digest".into()),
        (Some(0), _) => None,
        (Some(1), _) if !found.is_empty() => Some(format!("it failed and left something:\n{found}")),
        (Some(1), None) => Some("it failed because of faults that pass".into()),
        (Some(1), Some(causes)) => names(text, &causes),
        (other, _) => Some(format!("it ended with the status {other:?}")),
    }
}

/// The last message must name one of the causes, and give a hint.
fn names(text: &str, causes: &[&str]) -> Option<String> {
    let message = text.rsplit_once("error: ").map_or("", |(_, message)| message);
    if !causes.iter().any(|cause| message.contains(cause)) {
        return Some(format!("the message names none of `{}`", causes.join("`, `")));
    }
    (!message.contains("hint: ")).then(|| "the message has no hint".into())
}
