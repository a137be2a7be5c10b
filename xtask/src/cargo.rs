//! Calls the cargo that called this program.

use anyhow::Result;
use iguana_lab::{process, source_tree};
use std::process::Command;

/// `cargo WORDS` in the root of the source tree.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(source_tree()).args(words);
    command
}

/// Prints the command, and runs it on this terminal.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    eprintln!("$ cargo {}", words.join(" "));
    process::show(command, LIMIT)
}

/// Time limit; the longest command is the whole test suite.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(3600);
