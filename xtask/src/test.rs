//! `cargo xtask test`: everything that must pass before a change is merged.

use crate::cargo::{cargo, show};
use crate::{check, conventions, dist, docs, fuzz};
use anyhow::Result;
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::packages;

/// Number of concurrent machines. Two use two cores: a machine has phases with one busy processor.
const THREADS: &str = "--test-threads=2";

/// Executions of each fuzz target, some ten seconds each. `cargo xtask fuzz` does a million.
const EXECUTIONS: u64 = 50_000;

/// The Debian packages that the tests use.
const PACKAGES: &[&[&str]] = &[
    packages::BUILD,
    packages::SCENARIOS,
    packages::MEDIA,
    packages::VALIDATOR,
    packages::ORACLE,
    packages::DEBIAN,
];

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only tests with this in their names; the checks are left out.
    filter: Option<String>,
    /// Also tests that take minutes.
    #[arg(long)]
    long: bool,
}

/// Installs packages and kernels and builds programs, which the whole-system tests need.
pub(crate) fn prepare() -> Result<()> {
    packages::ensure(&PACKAGES.concat())?;
    Kernel::debian(Flavour::Cloud)?;
    Kernel::debian(Flavour::Full)?;
    dist::run()?;
    conventions::program_is_small()
}

/// Prepares, runs the checks, then every test of the workspace. The last lines are cargo's own.
pub(crate) fn run(options: &Options) -> Result<()> {
    prepare()?;
    if options.filter.is_none() {
        check::run()?;
        docs::run()?;
        fuzz::run(&fuzz::Options { target: None, runs: EXECUTIONS })?;
    }
    let mut test = cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    test.args(&options.filter);
    test.args(["--", THREADS]).args(options.long.then_some("--include-ignored"));
    show(&mut test)
}
