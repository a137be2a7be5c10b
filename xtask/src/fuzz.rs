//! `cargo xtask fuzz`: runs libFuzzer on all parsers of untrusted input.

use crate::cargo::{cargo, show};
use anyhow::{Context, Result};
use iguana_lab::{equality, packages, process, source_tree};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The programs in `fuzz/`, and the directories with their seeds.
const TARGETS: &[(&str, &[&str])] = &[
    ("document", &["crates/iguana/tests/valid", "crates/iguana/tests/invalid", "examples"]),
    ("expression", &[]),
    ("check", &[]),
    ("untar", &[SEEDS_OF_UNTAR]),
    ("assembly", &[]),
    ("dhcp", &[]),
    ("ipv6", &[]),
    ("tftp", &[]),
];
/// Small layers with odd properties, written before the run.
const SEEDS_OF_UNTAR: &str = "target/fuzz/layers";

/// Coverage instrumentation for libFuzzer (clang's SanitizerCoverage, with the same options as cargo-fuzz); all of it
/// is in the stable compiler.
const RUSTFLAGS: &str = "--cfg fuzzing -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
     -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
     -C llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=1 -C debug-assertions";

/// Time limit: this command is not for campaigns over a night.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// How much to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this target
    pub(crate) target: Option<String>,
    /// Executions of each target
    #[arg(long, default_value = "1000000")]
    pub(crate) runs: u64,
}

/// Runs the targets. Inputs that break one are stored below `target/fuzz`.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(packages::FUZZING)?;
    let directory = source_tree().join("target/fuzz");
    build(&directory)?;
    equality::write_layers(&source_tree().join(SEEDS_OF_UNTAR))?;
    let wanted = |name: &str| options.target.as_deref().is_none_or(|target| target == name);
    for (name, seeds) in TARGETS.iter().filter(|(name, _)| wanted(name)) {
        execute(&directory, name, seeds, options.runs).with_context(|| format!("fuzz target `{name}`"))?;
    }
    Ok(())
}

fn build(directory: &Path) -> Result<()> {
    // An explicit target keeps the flags away from build scripts and macros.
    let target = "x86_64-unknown-linux-gnu";
    let mut build =
        cargo(&["build", "--locked", "--release", "--package", "iguana-fuzz", "--target", target]);
    build.env("RUSTFLAGS", RUSTFLAGS).env("CARGO_TARGET_DIR", directory);
    show(&mut build)
}

fn execute(directory: &Path, name: &str, seeds: &[&str], runs: u64) -> Result<()> {
    let corpus = directory.join("corpus").join(name);
    fs::create_dir_all(&corpus)?;
    let mut command = alone(&directory.join("x86_64-unknown-linux-gnu/release").join(name));
    command.arg(format!("-runs={runs}")).arg("-timeout=5").arg("-rss_limit_mb=512").arg("-max_len=4096");
    command.arg(format!("-artifact_prefix={}/{name}-", directory.display())).arg("-print_final_stats=1");
    command.args(["-seed=1", "-verbosity=0", "-print_funcs=0"]).arg(corpus).args(existing(seeds));
    eprintln!("fuzz target {name}: {runs} executions");
    process::show(&mut command, LIMIT)
}

/// A fuzz target with a private `/dev/shm`: two of them would unpack to the same paths, which are fixed in their
/// seeds and in the links of their layers. The mount disappears with the process. Only root can make one.
fn alone(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount -t tmpfs fuzz /dev/shm && exec \"$@\"").arg("fuzz").arg(program);
    command
}

fn existing(directories: &[&str]) -> Vec<PathBuf> {
    directories
        .iter()
        .map(|directory| source_tree().join(directory))
        .filter(|directory| directory.is_dir())
        .collect()
}
