//! Rules about the source tree that neither the compiler nor clippy can check: which crate may use which, the length
//! of files, the size of the program, and retired terms.

use crate::cargo::cargo;
use crate::git::git;
use crate::waits;
use anyhow::{Context, Result, bail, ensure};
use iguana_lab::process::{self, QUICK};
use iguana_lab::{cached, program, python, source_tree};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates from the bottom up. A crate may use those on earlier lines, and none on its own line.
const LAYERS: &[&[&str]] = &[
    &["hint", "printable", "untrusted-fs", "dhcp", "iguana-vm", "sys"],
    &["exchange", "format-version", "retry", "timestamp", "trust-directory", "yaml-tree", "oci-reference"],
    &["events", "fetch", "oci-trust", "oci-layer", "workflow"],
    &["oci-pull"],
    &["config", "runtime"],
    &["iguana-init", "iguana"],
    &["iguana-lab"],
    &["iguana-fuzz", "xtask"],
];

/// The modules of `iguana-init`, by the same rule: those on one line, the steps of a boot, are independent of each
/// other.
const MODULES: &[&[&str]] = &[
    &["block", "bounded", "pattern", "report"],
    &["machine"],
    &["control", "handover", "jobs"],
    &["run_plan", "supervise"],
    &["boot", "run"],
    &["dracut"],
    &["main"],
];

/// The directory of these modules.
const MODULES_HOME: &str = "crates/iguana-init/src/";

/// Lines of the longest source file, including tests. A longer file has two purposes.
const LINES_LIMIT: usize = 600;

/// Bytes of the largest shipped `iguana-init`. It is in the RAM of every machine that boots.
const PROGRAM_LIMIT: u64 = 5_400_000;

/// Phrases with a standard term to use instead; single words are in `typos.toml`.
const PHRASES: &[(&str, &str)] = &[("process 1", "PID 1"), ("network card", "network interface")];

/// Files that may have retired terms: the pages that list them, and the checks for them.
const ABOUT_TERMS: &[&str] = &["docs/internals/", "bench/results/", "typos.toml", "xtask/src/conventions.rs"];

/// Checks every rule; the first violation ends it.
pub(crate) fn check() -> Result<()> {
    let packages = packages()?;
    crates_depend_downwards(&packages)?;
    dependencies_are_used(&packages)?;
    modules_depend_downwards()?;
    files_are_short()?;
    front_pages_are_complete()?;
    waits::check(&tracked_files(&["*.rs"])?)?;
    terms_are_ours()
}

/// Fails when the `iguana-init` of `cargo xtask dist` is larger than the limit.
pub(crate) fn program_is_small() -> Result<()> {
    let path = program("iguana-init");
    let bytes = path.metadata().with_context(|| format!("no `{}`", path.display()))?.len();
    ensure!(
        bytes <= PROGRAM_LIMIT,
        "`iguana-init` has {bytes} bytes, more than {PROGRAM_LIMIT}\n  hint: find what has grown it (`cargo bloat`), or raise \
         `PROGRAM_LIMIT` in a commit that says why"
    );
    Ok(())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Its name in this crate, if that differs.
    rename: Option<String>,
    /// `dev` or `build`; `None` for an ordinary dependency.
    kind: Option<String>,
}

/// The crates of this workspace.
fn packages() -> Result<Vec<Package>> {
    let text = process::run(&mut cargo(&["metadata", "--locked", "--no-deps", "--format-version=1"]), QUICK)?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo's metadata")?;
    Ok(metadata.packages)
}

fn crates_depend_downwards(packages: &[Package]) -> Result<()> {
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let of_ours: BTreeMap<&str, usize> =
        packages.iter().filter_map(|package| Some((&*package.name, layer(&package.name)?))).collect();
    for package in packages {
        let Some(here) = of_ours.get(&*package.name) else {
            bail!(
                "the crate `{}` has no layer\n  hint: add it to `LAYERS` in xtask/src/conventions.rs",
                package.name
            );
        };
        let used = package.dependencies.iter().filter(|used| used.kind.as_deref() != Some("dev"));
        for used in used {
            if of_ours.get(&*used.name).is_some_and(|below| below >= here) {
                bail!("the crate `{}` uses `{}`, which is not below it", package.name, used.name);
            }
        }
    }
    Ok(())
}

/// An unused dependency delays a crate in each build, and is an arrow of the map in ARCHITECTURE.md that nothing explains.
fn dependencies_are_used(packages: &[Package]) -> Result<()> {
    let mut unused = Vec::new();
    for package in packages {
        let directory = package.manifest_path.parent().context("a manifest has a directory")?;
        let (tests, code): (Vec<_>, Vec<_>) =
            sources(directory)?.into_iter().partition(|(file, _)| file.contains("tests"));
        for dependency in &package.dependencies {
            let name = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
            let for_tests = if dependency.kind.is_some() { &*tests } else { &[] };
            if !code.iter().chain(for_tests).any(|(_, text)| names_crate(text, &name)) {
                unused.push(format!("{}: `{}`", package.name, dependency.name));
            }
        }
    }
    ensure!(unused.is_empty(), "these crates do not use a dependency of theirs:\n  {}", unused.join("\n  "));
    Ok(())
}

/// The paths below the directory of a crate, and the texts, of its source files.
fn sources(directory: &Path) -> Result<Vec<(String, String)>> {
    let listed = process::run(git().current_dir(directory).args(["ls-files", "--", "*.rs"]), QUICK)?;
    let read = |file: &str| Ok((file.to_owned(), fs::read_to_string(directory.join(file))?));
    listed.lines().filter(|file| directory.join(file).exists()).map(read).collect()
}

/// Whether code has the name of a crate as the beginning of a path, or imports it.
fn names_crate(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        let is_whole = !before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        is_whole && (after.starts_with("::") || (before.ends_with("use ") && after.starts_with([';', ' '])))
    })
}

fn modules_depend_downwards() -> Result<()> {
    let mut upwards = Vec::new();
    for file in tracked_files(&[&format!("{MODULES_HOME}*.rs")])? {
        let text = fs::read_to_string(source_tree().join(&file)).unwrap_or_default();
        let module = file.trim_start_matches(MODULES_HOME).split(['/', '.']).next().unwrap_or_default();
        let here = module_layer(module).with_context(|| {
            format!(
                "the module `{module}` has no layer\n  hint: add it to `MODULES` in xtask/src/conventions.rs"
            )
        })?;
        let is_above = |used: &&str| *used != module && module_layer(used).is_none_or(|below| below >= here);
        upwards.extend(used_modules(&text).filter(is_above).map(|used| format!("{file}: `crate::{used}`")));
    }
    ensure!(upwards.is_empty(), "these modules of `iguana-init` are not below:\n  {}", upwards.join("\n  "));
    Ok(())
}

fn module_layer(module: &str) -> Option<usize> {
    MODULES.iter().position(|layer| layer.contains(&module))
}

/// The names after each `crate::` in code. An import with braces has no name, so it may not be used across modules.
fn used_modules(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|it: char| !it.is_alphanumeric() && it != '_').next().unwrap_or_default())
}

pub(crate) fn tracked_files(patterns: &[&str]) -> Result<Vec<String>> {
    let listed = process::run(git().args(["ls-files", "--"]).args(patterns), QUICK)?;
    Ok(listed.lines().map(str::to_owned).collect())
}

fn files_are_short() -> Result<()> {
    let mut long = Vec::new();
    for file in tracked_files(&["*.rs"])? {
        let text = fs::read_to_string(source_tree().join(&file)).unwrap_or_default();
        let lines = text.lines().count();
        if lines > LINES_LIMIT {
            long.push(format!("{file}: {lines} lines"));
        }
    }
    ensure!(long.is_empty(), "these files have more than {LINES_LIMIT} lines:\n  {}", long.join("\n  "));
    Ok(())
}

/// The required parts of every crate's front page; [`EXAMPLE`] is required for libraries only.
const PARTS: &[&str] = &["\n//! Principles:\n", "\n//! 1. ", "\n//! Errors", "\n//! Specification"];
const EXAMPLE: &str = "\n//! ```";

fn front_pages_are_complete() -> Result<()> {
    let mut incomplete = Vec::new();
    for file in tracked_files(&["crates/*/src/lib.rs", "crates/*/src/main.rs"])? {
        let text = fs::read_to_string(source_tree().join(&file)).unwrap_or_default();
        let example = file.ends_with("lib.rs").then_some(&EXAMPLE);
        let lacking: Vec<&str> = PARTS
            .iter()
            .chain(example)
            .filter(|part| !text.contains(**part))
            .map(|part| part.trim())
            .collect();
        if !lacking.is_empty() {
            incomplete.push(format!("{file}: `{}`", lacking.join("`, `")));
        }
    }
    ensure!(incomplete.is_empty(), "the front pages of these crates lack:\n  {}", incomplete.join("\n  "));
    Ok(())
}

fn terms_are_ours() -> Result<()> {
    let mut found = Vec::new();
    let patterns = ["*.rs", "*.md", "*.sh", "*.toml", "*.yaml", "*.json"];
    for file in tracked_files(&patterns)? {
        if ABOUT_TERMS.iter().any(|about| file.starts_with(about)) {
            continue;
        }
        let text = fs::read_to_string(source_tree().join(&file)).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let lower = line.to_lowercase();
            for (retired, term) in PHRASES.iter().filter(|(retired, _)| lower.contains(retired)) {
                found.push(format!("{file}:{}: `{retired}` is called `{term}`", number + 1));
            }
        }
    }
    ensure!(found.is_empty(), "terms that are not in docs/internals/glossary.md:\n  {}", found.join("\n  "));
    spelling()
}

/// The spelling checker and its version.
const TYPOS: &str =
    "typos==1.52.0 --hash=sha256:418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6\n";

/// Runs typos with the corrections in `typos.toml`.
fn spelling() -> Result<()> {
    let home = cached("tools", "typos-1.52.0", |home| python::install(TYPOS, "typos", home))?;
    let mut typos = Command::new(home.join("bin/typos"));
    process::show(typos.current_dir(source_tree()).args(["--config", "typos.toml"]), QUICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_crates_depend_downwards() {
        crates_depend_downwards(&packages().unwrap()).unwrap();
        modules_depend_downwards().unwrap();
    }

    #[test]
    fn every_dependency_is_used() {
        dependencies_are_used(&packages().unwrap()).unwrap();
    }

    #[test]
    fn a_crate_is_found_where_it_is_named() {
        assert!(names_crate("let header = tar::Header::new();", "tar"));
        assert!(names_crate("use libc;\n", "libc"));
        assert!(!names_crate("let start = start_tar::new(); // tar, tar::", "tar2"));
        assert!(!names_crate("my_tar::new(); tar.read();", "tar"));
    }

    #[test]
    fn a_module_is_found_wherever_it_is_used() {
        let text = "use crate::report;\n    // crate::boot\n    let x = crate::jobs::run(crate::machine::read());\nuse crate::{boot};\n";
        assert_eq!(used_modules(text).collect::<Vec<_>>(), ["report", "jobs", "machine", ""]);
    }
}
