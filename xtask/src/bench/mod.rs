//! `cargo xtask bench`: Iguana and its peer, measured in turn.

mod boot;
mod figures;
mod language;
mod result;

use anyhow::Result;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum What {
    /// Sizes of initrds, seconds to the first container, and memory; some half an hour.
    Boot(boot::Options),
    /// How long workflows are checked, good and hostile ones.
    Language(language::Options),
}

/// Measures, and writes the result below `bench/results`.
pub(crate) fn run(what: &What) -> Result<()> {
    match what {
        What::Boot(options) => boot::run(options),
        What::Language(options) => language::run(options),
    }
}
