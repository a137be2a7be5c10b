//! `cargo xtask`: every developer command, each installing what it lacks.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's command reports to the terminal"
)]

mod attack;
mod bench;
mod cargo;
mod check;
mod conventions;
mod demo;
mod deny;
mod dist;
mod docs;
mod equality;
mod fuzz;
mod git;
mod handover;
mod installers;
mod previous;
mod promises;
mod release;
mod soak;
mod table;
mod test;
mod waits;
mod ways;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Developer commands for Iguana.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the main use case in a VM: installs Debian from a registry and boots into it.
    Demo(demo::Options),
    /// Runs all checks, unit tests and whole-system scenarios.
    Test(test::Options),
    /// Runs the tests of the attacks in docs/security.md, and prints a summary.
    Attack(attack::Options),
    /// Runs benchmarks of Iguana, alternating with its peers.
    #[command(subcommand)]
    Bench(bench::What),
    /// Installs systems on many disk layouts, each up to its login prompt or its refusal.
    Handover(handover::Options),
    /// Runs the installers of other makers, each up to a login prompt, and writes the table of docs/installers.md.
    Installers(installers::Options),
    /// Unpacks unusual images, and compares the results with the OCI image-spec.
    Equality(equality::Options),
    /// Runs the fuzz targets.
    Fuzz(fuzz::Options),
    /// Boots the initrd of the previous release with a bundle of this tree's programs.
    Previous(previous::Options),
    /// Breaks each promise that docs/promises.md lists, and verifies that its test fails.
    Promises(promises::Options),
    /// Runs campaigns of pulls with seeded faults: each must succeed or report the fault in time.
    Soak(soak::Options),
    /// Boots from every medium, with BIOS and UEFI; takes about half an hour.
    Ways(ways::Options),
    /// Builds the programs for distribution: target/dist/iguana and target/dist/iguana-init.
    Dist(dist::Options),
    /// Builds the documentation as a book in target/book.
    Docs,
    /// Creates the artifacts of a release: programs, checksums, SBOMs (CycloneDX).
    Release,
    /// Checks formatting, lints, layers, spelling and shell scripts, and licences, sources and advisories of dependencies.
    Check,
    /// Updates the copy of RustSec's advisories that `check` compares the dependencies with.
    Advisories(deny::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Attack(options) => attack::run(&options),
        Command::Bench(what) => bench::run(&what),
        Command::Handover(options) => handover::run(&options),
        Command::Installers(options) => installers::run(&options),
        Command::Equality(options) => equality::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Previous(options) => previous::run(&options),
        Command::Promises(options) => promises::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Ways(options) => ways::run(&options),
        Command::Dist(options) => dist::ship(&options),
        Command::Docs => docs::run(),
        Command::Advisories(options) => deny::renew(&options),
        Command::Release => release::run(),
        Command::Check => check::run(),
    }
}
