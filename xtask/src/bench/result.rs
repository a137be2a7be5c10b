//! Where measurements are kept, and what must be known to read them.

use anyhow::{Context, Result};
use iguana_lab::process::{self, QUICK};
use iguana_lab::source_tree;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Prints a report, and keeps it as `bench/results/NAME-DATE.md`.
pub(crate) fn keep(name: &str, report: &str) -> Result<()> {
    let file = write(name, report)?;
    println!("{report}\n{}", file.display());
    Ok(())
}

/// Keeps a report in the place of an older one of the day.
pub(crate) fn write(name: &str, report: &str) -> Result<PathBuf> {
    write_as(name, "md", report)
}

/// The same, of another kind of file.
pub(crate) fn write_as(name: &str, suffix: &str, report: &str) -> Result<PathBuf> {
    let directory = source_tree().join("bench/results");
    fs::create_dir_all(&directory)?;
    let file = directory.join(format!("{name}-{}.{suffix}", today()?));
    fs::write(&file, report).with_context(|| format!("`{}`", file.display()))?;
    Ok(file)
}

/// The day, in UTC.
pub(crate) fn today() -> Result<String> {
    Ok(process::run(Command::new("date").args(["-u", "+%F"]), QUICK)?.trim().to_owned())
}

/// The host's processor.
pub(crate) fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(model.map_or("unknown processor", |(_, name)| name).to_owned())
}

/// What was called.
pub(crate) fn command_line() -> String {
    let words = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    format!("cargo xtask {words}")
}
