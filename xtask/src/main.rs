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
mod demo;
mod deny;
mod dist;
mod docs;
mod equality;
mod fuzz;
mod handover;
mod house;
mod python;
mod release;
mod soak;
mod table;
mod test;
mod waits;
mod ways;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The developer's commands of Iguana.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The main job, live: a VM boots, and installs a Debian from a registry, and hands over to it.
    Demo(demo::Options),
    /// All checks, unit tests and whole-system scenarios.
    Test(test::Options),
    /// Tries every attack that docs/security.md names, and sums up.
    Attack(attack::Options),
    /// Measures Iguana and its peer in turn.
    #[command(subcommand)]
    Bench(bench::What),
    /// Layouts of disks, each up to the login prompt of what was installed on it, or its refusal.
    Handover(handover::Options),
    /// Images of every oddity, and whether they unpack to what the specification says.
    Equality(equality::Options),
    /// Feeds hostile input to whatever reads the bytes of others.
    Fuzz(fuzz::Options),
    /// Runs with faults that a seed draws, and whether each ends right or names the fault in time.
    Soak(soak::Options),
    /// Every way by which Iguana comes to a machine, by BIOS and by UEFI; some half an hour.
    Ways(ways::Options),
    /// Makes the programs as they are shipped: target/dist/iguana and target/dist/iguana-init.
    Dist(dist::Options),
    /// The documentation as a book: target/book.
    Docs,
    /// Publishable artifacts of this version: programs, checksums, bills of materials (CycloneDX).
    Release,
    /// Format, lints, house rules, spelling, shell scripts; licences, sources and advisories of dependencies.
    Check,
    /// Renews the copy of RustSec's advisories, which `check` holds the dependencies against.
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
        Command::Equality(options) => equality::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Ways(options) => ways::run(&options),
        Command::Dist(options) => dist::ship(&options),
        Command::Docs => docs::run(),
        Command::Advisories(options) => deny::renew(&options),
        Command::Release => release::run(),
        Command::Check => check::run(),
    }
}
