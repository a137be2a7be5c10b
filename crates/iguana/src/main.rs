//! The workstation tool of Iguana: makes its initrd, and tries a workflow in a virtual machine.

mod build;
mod cache;
mod failure;
mod trial;

use build::Recipe;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use trial::Trial;

/// Makes the initrd that runs containers before the system is there, and tries workflows in a virtual machine
#[derive(Parser)]
#[command(name = "iguana", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the initrd for a kernel
    Build {
        #[command(flatten)]
        recipe: Recipe,
        /// The workflow to run when the kernel's command line names none
        #[arg(long, value_name = "FILE")]
        workflow: Option<PathBuf>,
        /// Where the initrd goes
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Boot a virtual machine that runs a workflow, on this terminal
    Try {
        /// The workflow
        workflow: PathBuf,
        #[command(flatten)]
        recipe: Recipe,
        /// Memory of the machine
        #[arg(long, value_name = "MIB", default_value = "1024", value_parser = trial::memory)]
        memory: u32,
        /// A disk: an empty one of a size such as 8G, or a file (raw or qcow2); can be repeated
        #[arg(long = "disk", value_name = "SIZE|FILE")]
        disks: Vec<String>,
        /// More for the kernel's command line
        #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
        append: String,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Build { recipe, workflow, output } => build::run(&recipe, workflow.as_deref(), &output),
        Command::Try { workflow, recipe, memory, disks, append } => {
            trial::run(&recipe, &workflow, &Trial { memory_mib: memory, disks, append })
        }
    };
    failure::exit_code(done)
}
