//! `cargo xtask bench`: measures Iguana and its peers alternately.

mod boot;
mod bundle;
mod containers;
mod dracut;
pub(crate) mod figures;
mod handover;
mod images;
mod language;
pub(crate) mod marker;
mod peer;
mod pull;
pub(crate) mod result;
mod stage;

use anyhow::Result;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum What {
    /// Sizes of initrds, seconds to the first container, and memory; some half an hour.
    Boot(boot::Options),
    /// Milliseconds of a container that does nothing: ours, crun's, runc's, podman's; some ten minutes.
    Containers(containers::Options),
    /// Milliseconds from the last job to the new init, and memory that stays in use; some minutes.
    Handover(handover::Options),
    /// Sizes of dracut's initrds with our module and without.
    Dracut,
    /// Seconds, processor seconds and memory of pulls: ours, podman's, containerd's and others'; some twenty minutes.
    Pull(pull::Options),
    /// Seconds of bundling images: ours, and those that `skopeo sync` takes to copy them; some minutes.
    Bundle(bundle::Options),
    /// How long workflows are checked, good and hostile ones.
    Language(language::Options),
}

/// Measures, and writes the result below `bench/results`.
pub(crate) fn run(what: &What) -> Result<()> {
    match what {
        What::Boot(options) => boot::run(options),
        What::Containers(options) => containers::run(options),
        What::Handover(options) => handover::run(options),
        What::Dracut => dracut::run(),
        What::Pull(options) => pull::run(options),
        What::Bundle(options) => bundle::run(options),
        What::Language(options) => language::run(options),
    }
}
