//! Whether a boot has kept its promise.

use super::plan::{Injected, Plan};
use super::{RIGHT, SYSTEM};
use crate::soak::SILENCE_LIMIT;
use iguana_vm::Line;
use std::time::Duration;

/// Our own lines begin with this; what comes before the first is the kernel's.
const OURS: &str = "iguana: ";

/// What is wrong with a boot, if anything.
pub(super) fn broken(plan: &Plan, said: &str, silence: Duration) -> Option<String> {
    let is_down = said.contains("reboot: Power down");
    let is_handed_over = said.contains("handover: switch") && matches!(plan.injected, Injected::Disk(_));
    if said.contains("panicked at") {
        return Some("a program of ours panicked".into());
    }
    if !is_down && !is_handed_over {
        return Some("the machine was not powered off".into());
    }
    if silence > SILENCE_LIMIT {
        return Some(format!("it said nothing for {:.1} s", silence.as_secs_f32()));
    }
    match said.matches("iguana: error: ").count() {
        0 if !said.contains(RIGHT) => Some("its job did not run".into()),
        0 if matches!(plan.injected, Injected::Disk(_)) => {
            (!said.contains(SYSTEM) && !is_handed_over).then(|| "the system on the disk did not start".into())
        }
        0 => None,
        1 => plan.injected.causes().map_or_else(
            || Some("it failed because of a fault that passes".into()),
            |causes| names(said, causes),
        ),
        count => Some(format!("it has {count} failure blocks")),
    }
}

/// The failure block must name one of the causes, give a hint, and be followed by the policy.
fn names(said: &str, causes: &[&str]) -> Option<String> {
    let block = said.split_once("iguana: error: ").map_or("", |(_, block)| block);
    let Some((block, _)) = block.split_once("iguana: on failure: ") else {
        return Some("the failure policy is not announced".into());
    };
    if !causes.iter().any(|cause| block.contains(cause)) {
        return Some(format!("the failure block names none of `{}`", causes.join("`, `")));
    }
    (!block.contains("hint: ")).then(|| "the failure block has no hint".into())
}

/// The longest time between two lines, from our first one on.
pub(super) fn silence(lines: &[Line]) -> Duration {
    let ours = lines.iter().skip_while(|line| !line.text.contains(OURS)).map(|line| line.at);
    let times: Vec<f64> = ours.collect();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    Duration::from_secs_f64(longest)
}
