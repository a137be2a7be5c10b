//! Short campaigns: faults that a seed draws, and what must come out of each. `cargo xtask soak` makes long ones.

use anyhow::Result;
use iguana_lab::soak::boots::{self, BootCampaign};
use iguana_lab::soak::pulls::{AT_ONCE, PullCampaign};
use iguana_lab::soak::{self, Outcome};

/// Seeds of the pulls: the first ones of every campaign.
const PULLS: u64 = 48;

/// Seeds of the boots.
const BOOTS: u64 = 6;

fn kept(seeds: u64, at_once: usize, run: impl Fn(u64) -> Result<Outcome> + Sync) -> Result<()> {
    let (mut done, mut broken) = (0, Vec::new());
    soak::run(0..seeds, at_once, run, |outcome| {
        done += 1;
        broken.extend(outcome.broken.map(|what| format!("seed {}: {what}", outcome.seed)));
        true
    })?;
    assert_eq!(done, seeds);
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    Ok(())
}

#[test]
fn a_pull_succeeds_or_names_the_injected_fault() -> Result<()> {
    let campaign = PullCampaign::start()?;
    kept(PULLS, AT_ONCE, |seed| campaign.run(seed))
}

#[test]
#[ignore = "boots machines for minutes"]
fn a_boot_succeeds_or_names_the_injected_fault() -> Result<()> {
    let campaign = BootCampaign::start()?;
    kept(BOOTS, boots::AT_ONCE, |seed| campaign.run(seed))
}
