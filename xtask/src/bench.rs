//! `cargo xtask bench`: Iguana and its peer, measured in turn.

use anyhow::Result;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum What {}

/// Measures, and writes the result below `bench/results`.
pub(crate) fn run(what: &What) -> Result<()> {
    match *what {}
}
