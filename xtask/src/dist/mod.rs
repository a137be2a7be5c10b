//! `cargo xtask dist`: builds the shipped programs and their packages.

mod packages;
mod programs;

pub(crate) use programs::run;

use anyhow::Result;
use std::path::PathBuf;

/// What to make.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also packages for dpkg and rpm, below target/packages, and try them in a fresh Debian and a VM; some minutes.
    #[arg(long)]
    packages: bool,
    /// Of the packages only put the files together, in this directory, one below it for each package.
    #[arg(long, value_name = "DIR", conflicts_with = "packages")]
    stage: Option<PathBuf>,
    /// The kernel to stage and its modules, where there is no apt to have Debian's from.
    #[arg(long, value_names = ["KERNEL", "MODULES"], num_args = 2, requires = "stage")]
    kernel: Option<Vec<PathBuf>>,
}

/// Makes what is asked for.
pub(crate) fn ship(options: &Options) -> Result<()> {
    run()?;
    match options {
        Options { stage: Some(directory), kernel, .. } => packages::stage(directory, kernel.as_deref()),
        Options { packages: true, .. } => packages::make(),
        Options { packages: false, .. } => Ok(()),
    }
}
