//! Cargo, as it was called for us.

use anyhow::Result;
use iguana_lab::{process, source_tree};
use std::process::Command;

/// `cargo WORDS` at the top of the source tree.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(source_tree()).args(words);
    command
}

/// Says what is run, and runs it on this terminal.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    eprintln!("$ cargo {}", words.join(" "));
    process::show(command, LIMIT)
}

/// The longest command here is the whole test suite.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(3600);
