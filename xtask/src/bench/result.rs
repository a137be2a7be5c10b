//! Stores measurements with the information that is needed to interpret them.

use anyhow::{Context, Result};
use iguana_lab::process::{self, QUICK};
use iguana_lab::source_tree;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Prints a report, and stores it as `bench/results/NAME-DATE.md`.
pub(crate) fn keep(name: &str, report: &str) -> Result<()> {
    let file = write(name, report)?;
    println!("{report}\n{}", file.display());
    Ok(())
}

/// Stores a report and replaces an older one of the same day.
pub(crate) fn write(name: &str, report: &str) -> Result<PathBuf> {
    write_as(name, "md", report)
}

/// The same for a file with another extension.
pub(crate) fn write_as(name: &str, suffix: &str, report: &str) -> Result<PathBuf> {
    let directory = source_tree().join("bench/results");
    fs::create_dir_all(&directory)?;
    let file = directory.join(format!("{name}-{}.{suffix}", today()?));
    fs::write(&file, report).with_context(|| format!("`{}`", file.display()))?;
    Ok(file)
}

/// The date in UTC.
pub(crate) fn today() -> Result<String> {
    Ok(process::run(Command::new("date").args(["-u", "+%F"]), QUICK)?.trim().to_owned())
}

/// The model of the host's processor.
pub(crate) fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(model.map_or("unknown processor", |(_, name)| name).to_owned())
}

/// The command line of this run.
pub(crate) fn command_line() -> String {
    let words = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    format!("cargo xtask {words}")
}
