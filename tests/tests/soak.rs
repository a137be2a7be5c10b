//! Short campaigns: faults that a seed draws, and what must come out of each. `cargo xtask soak` makes long ones.

use anyhow::Result;
use iguana_lab::soak::pulls::{AT_ONCE, PullCampaign};
use iguana_lab::soak::{self, Outcome};

/// Seeds of the pulls: the first ones of every campaign.
const PULLS: u64 = 48;

fn kept(outcomes: &[Outcome]) {
    let broken: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| Some(format!("seed {}: {}", outcome.seed, outcome.broken.as_ref()?)))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

#[test]
fn a_pull_ends_right_or_names_the_fault_that_its_seed_draws() -> Result<()> {
    let campaign = PullCampaign::start()?;
    let mut outcomes = Vec::new();
    soak::run(
        0..PULLS,
        AT_ONCE,
        |seed| campaign.run(seed),
        |outcome| {
            outcomes.push(outcome);
            true
        },
    )?;
    assert_eq!(outcomes.len() as u64, PULLS);
    kept(&outcomes);
    Ok(())
}
