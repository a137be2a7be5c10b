//! Campaigns: many runs with faults that a seed draws. Each run must end right, or say the true cause in time.

mod chance;
pub mod pulls;
mod watched;

use anyhow::Result;
use std::ops::Range;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The longest time for which a run may say nothing.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// The outcome of one run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed, which makes the same run again.
    pub seed: u64,
    /// The injected faults, each with its stage.
    pub faults: Vec<String>,
    /// What is wrong with the run, and what it said; `None` when it kept its promise.
    pub broken: Option<String>,
    /// The longest time for which it said nothing.
    pub silence: Duration,
}

/// Makes the runs of `seeds`, so many at once; `tell` gets each outcome as it comes, and ends the campaign with
/// `false`.
pub fn run(
    seeds: Range<u64>,
    at_once: usize,
    run: impl Fn(u64) -> Result<Outcome> + Sync,
    mut tell: impl FnMut(Outcome) -> bool,
) -> Result<()> {
    let queue = Mutex::new(seeds);
    let (sender, outcomes) = channel();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            let (sender, queue, run) = (sender.clone(), &queue, &run);
            let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            scope.spawn(move || {
                while let Some(seed) = next() {
                    if sender.send(run(seed)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for outcome in outcomes {
            if !tell(outcome?) {
                break;
            }
        }
        Ok(())
    })
}
