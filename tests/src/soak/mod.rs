//! Campaigns: many runs with faults that a seed draws. Each run must end right, or say the true cause in time.

pub mod boots;
mod faults;
pub mod pulls;
mod random;
mod watched;

use crate::image::Image;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// The longest time for which a run may say nothing.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of the largest layer, roughly: it takes several reads, and no time.
const LARGEST_LAYER: usize = 400_000;

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
        for number in 0..at_once {
            let (sender, queue, run) = (sender.clone(), &queue, &run);
            let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            // Logs of machines have the names of their threads.
            let thread = Builder::new().name(format!("soak-{number}"));
            thread.spawn_scoped(scope, move || {
                while let Some(seed) = next() {
                    if sender.send(run(seed)).is_err() {
                        return;
                    }
                }
            })?;
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

/// The digest of the configuration of the image `latest` in a layout.
fn configuration(image: &Image) -> Result<String> {
    let read = |path: PathBuf| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let blob = |digest: &Value| -> Result<PathBuf> {
        let digest = digest.as_str().context("no digest")?;
        Ok(image.layout().join("blobs").join(digest.replace(':', "/")))
    };
    let index = read(image.layout().join("index.json"))?;
    let manifest = read(blob(&index["manifests"][0]["digest"])?)?;
    Ok(manifest["config"]["digest"].as_str().context("no configuration")?.to_owned())
}
