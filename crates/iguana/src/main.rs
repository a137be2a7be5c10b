//! The workstation tool of Iguana: checks workflows, makes the initrd, pulls images, and tries a workflow in a
//! virtual machine.
//!
//! Principles:
//!
//! 1. A command decides as a boot would: the same crates read workflows, trust directories and images.
//! 2. Two runs on the same input write the same bytes.
//! 3. Only `output` prints, and it escapes untrusted text. Only `output_file` writes files that the user names,
//!    and only `temporary` makes directories for other files.
//!
//! Errors are printed with their causes and a hint; `failure` has the exit statuses.
//!
//! Specifications: docs/ of the repository.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write to temporary directories"))]

mod build;
mod bundle;
mod cache;
mod caller;
mod check;
mod failure;
mod manual;
mod open_path;
mod output;
mod output_file;
mod pull;
mod schema;
mod temporary;
mod trial;
mod trust;
mod waiting;

use anyhow::Result;
use build::{Delivery, Recipe};
use clap::{Parser, Subcommand};
use failure::Exit;
use std::path::PathBuf;
use std::process::ExitCode;
use trial::Trial;

/// Build initrds that run containers before the operating system is there; check and try workflows
#[derive(Parser)]
#[command(name = "iguana", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check workflows and report all problems
    #[command(after_help = Exit::help_of_check())]
    Check(check::Options),
    /// Print a shell completion script
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages to a directory
    #[command(hide = true)]
    Manual {
        /// The directory, which must exist
        directory: PathBuf,
    },
    /// Print the JSON Schema of workflows, for editors and other tools
    Schema,
    /// Build an initrd, or a bootable image that contains it
    Build {
        #[command(flatten)]
        recipe: Recipe,
        /// The workflow to run if the kernel command line names none
        #[arg(long, value_name = "FILE")]
        workflow: Option<PathBuf>,
        #[command(flatten)]
        delivery: Delivery,
    },
    /// Bundle a workflow and all of its images, for machines without a network
    Bundle(bundle::Options),
    /// Pull an image and unpack it into a directory
    Pull(pull::Options),
    /// Pin the images of a workflow to their current digests
    Lock(trust::LockOptions),
    /// Create a trust directory, and explain its decisions
    #[command(subcommand)]
    Trust(trust::Command),
    /// Run a workflow in a virtual machine on this terminal
    #[command(after_help = Exit::help_of_try())]
    Try {
        /// The workflow
        workflow: PathBuf,
        #[command(flatten)]
        recipe: Recipe,
        #[command(flatten)]
        trial: Trial,
    },
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => failure::exit_code(run(cli.command)),
        Err(error) => failure::misused(&error),
    }
}

fn run(command: Command) -> Result<Exit> {
    match command {
        Command::Check(options) => return check::run(&options),
        Command::Completion { shell } => manual::complete(shell, std::io::stdout())?,
        Command::Manual { directory } => manual::write(&directory)?,
        Command::Schema => output::write(std::io::stdout(), &schema::text())?,
        Command::Build { recipe, workflow, delivery } => build::run(&recipe, workflow.as_deref(), &delivery)?,
        Command::Bundle(options) => bundle::run(&options)?,
        Command::Pull(options) => pull::run(&options)?,
        Command::Lock(options) => trust::lock(&options)?,
        Command::Trust(command) => trust::run(&command)?,
        Command::Try { workflow, recipe, trial } => return trial::run(&recipe, &workflow, &trial),
    }
    Ok(Exit::Fine)
}
