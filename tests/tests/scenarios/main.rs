//! Whole-system scenarios: each boots a machine and checks its console.
//!
//! The programs are those of `cargo xtask dist`; `cargo xtask test` makes them and runs all scenarios.

mod build;
mod bundle;
mod compatibility;
mod consoles;
mod containers;
mod contract;
mod control;
mod devices;
mod dracut;
mod events;
mod examples;
mod failures;
mod handover;
mod hardware;
mod images;
mod install;
mod installers;
mod jobs;
mod language;
mod limits;
mod media;
mod memory;
mod networks;
mod real_installers;
mod refusals;
mod secure_boot;
mod successors;
mod supervision;
mod terminal;
mod trial;
mod trust;

use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::scenario::{Boot, Scenario};

/// The command of the last job in workflows that install nothing.
const POWER_OFF: &str = "echo poweroff > /iguana/kernelAction\n";

/// A machine that runs `workflow`. The images `tool` (a shell and its tools) and `end` (powers off) are available.
fn running(workflow: &str) -> Result<Scenario> {
    let end = Recipe::script(POWER_OFF)?;
    let scenario = Scenario::new()?.image("tool", Recipe::busybox()?)?.image("end", end)?;
    Ok(scenario.workflow(workflow).append("rd.iguana.on_failure=poweroff"))
}

fn boot(workflow: &str) -> Result<Boot> {
    running(workflow)?.boot()
}
