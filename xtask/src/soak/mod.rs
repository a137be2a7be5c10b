//! `cargo xtask soak`: campaigns of runs with faults that a seed draws. Their tables in `bench/results/` grow with every
//! campaign, and the next one goes on at the next seed.

mod record;

use crate::test;
use anyhow::{Result, ensure};
use iguana_lab::soak::boots::{self, BootCampaign};
use iguana_lab::soak::pulls::{self, PullCampaign};
use iguana_lab::soak::{self, Outcome};
use record::Record;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How much to do. The runs of a campaign follow from its seeds alone.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Pulls on this host
    #[arg(long, default_value = "0")]
    pulls: u64,
    /// Boots of virtual machines
    #[arg(long, default_value = "0")]
    boots: u64,
    /// Use the programs that are in `target/dist`, and build none
    #[arg(long)]
    as_is: bool,
    /// Stop after so many hours, also before the last run
    #[arg(long)]
    hours: Option<f64>,
    /// The first seed [default: the first one that is not in the table]
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the campaigns. Fails when a run breaks its promise.
pub(crate) fn run(options: &Options) -> Result<()> {
    let hint = "say how much: `--pulls 2000`, `--boots 300`";
    ensure!(options.pulls + options.boots > 0, "there is nothing to do\n  hint: {hint}");
    if !options.as_is {
        test::prepare()?;
    }
    if options.pulls > 0 {
        let campaign = PullCampaign::start()?;
        options.campaign("pulls", options.pulls, pulls::AT_ONCE, |seed| campaign.run(seed))?;
    }
    if options.boots > 0 {
        let campaign = BootCampaign::start()?;
        options.campaign("boots", options.boots, boots::AT_ONCE, |seed| campaign.run(seed))?;
    }
    Ok(())
}

/// Runs after which the progress is told.
const REPORT_INTERVAL: u64 = 10;

impl Options {
    fn campaign(
        &self,
        name: &'static str,
        count: u64,
        at_once: usize,
        run: impl Fn(u64) -> Result<Outcome> + Sync,
    ) -> Result<()> {
        let mut record = Record::open(name)?;
        let until = self.hours.map(|hours| Instant::now() + Duration::from_secs_f64(hours * 3600.0));
        let first = self.seed.unwrap_or(record.next_seed());
        let seeds: Range<u64> = first..first + count;
        let (mut done, mut broken) = (0, 0);
        soak::run(seeds, at_once, run, |outcome| {
            done += 1;
            if let Some(what) = &outcome.broken {
                broken += 1;
                println!("seed {}: {what}", outcome.seed);
            }
            record.add(&outcome);
            if done % REPORT_INTERVAL == 0 {
                eprintln!("{name}: {done} of {count}, {broken} broken");
            }
            until.is_none_or(|until| Instant::now() < until)
        })?;
        println!("{}\n{}", record.text(), record.keep()?.display());
        ensure!(
            broken == 0,
            "{broken} of {done} {name} broke their promise\n  hint: repeat one with `--seed SEED --{name} 1`"
        );
        Ok(())
    }
}
