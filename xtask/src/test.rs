//! `cargo xtask test`: all that must hold before a change goes in.

use crate::cargo::{cargo, show};
use crate::{check, dist, docs, fuzz, house};
use anyhow::Result;
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::packages;

/// Machines at a time. Two fill two cores: a machine has phases with one busy processor.
const THREADS: &str = "--test-threads=2";

/// Of each fuzz target: some ten seconds each. `cargo xtask fuzz` does a million.
const EXECUTIONS: u64 = 50_000;

/// What the tests use of Debian's.
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

/// Packages, kernels and programs: what tests of whole systems need.
pub(crate) fn prepare() -> Result<()> {
    packages::ensure(&PACKAGES.concat())?;
    Kernel::debian(Flavour::Cloud)?;
    Kernel::debian(Flavour::Full)?;
    dist::run()?;
    house::program_is_small()
}

/// Packages, kernels, programs, checks, then every test of the workspace; the last lines are cargo's own.
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
