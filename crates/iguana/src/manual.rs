//! Manual pages and shell completions, generated from the definition of the command line.

use crate::output_file::{OutputDirectory, PUBLIC};
use crate::{Cli, output, temporary};
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;
use std::path::Path;

/// Writes the completion script of `iguana` for a shell.
pub(crate) fn complete(shell: Shell, stream: impl Write) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "iguana", &mut script);
    output::write(stream, &String::from_utf8_lossy(&script))
}

/// Writes `iguana(1)` and a page for each command.
pub(crate) fn write(directory: &Path) -> Result<()> {
    let made = temporary::directory()?;
    clap_mangen::generate_to(Cli::command(), made.path()).context("cannot create the manual pages")?;
    let directory = OutputDirectory::open(directory)?;
    for page in std::fs::read_dir(made.path())? {
        let page = page?;
        directory.write(&page.file_name().to_string_lossy(), PUBLIC, &std::fs::read(page.path())?)?;
    }
    Ok(())
}
