//! `cargo xtask promises`: breaks each promise of docs/promises.md by a patch, and sees its test fail.

use crate::cargo::cargo;
use crate::git::git;
use anyhow::{Context, Result, ensure};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::source_tree;
use std::fs;
use std::path::PathBuf;

/// The page with the promises.
const PAGE: &str = "docs/promises.md";

/// The directory of the patches.
const PATCHES: &str = "tests/promises";

/// The head of the table.
const TABLE: &str = "| promise | page | test | change |\n| --- | --- | --- | --- |\n";

/// Which promises to break.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only promises with this in their row
    filter: Option<String>,
}

/// Breaks the promises one after the other. Fails when a test does not notice.
pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = options.filter.as_deref().unwrap_or_default();
    let promises: Vec<Promise> =
        promises()?.into_iter().filter(|promise| promise.row.contains(wanted)).collect();
    ensure!(!promises.is_empty(), "no promise in `{PAGE}` has `{wanted}` in its row");
    let scratch = Scratch::make()?;
    let mut unnoticed = 0;
    for promise in &promises {
        let is_failing = scratch.is_failing(promise).with_context(|| format!("`{}`", promise.patch))?;
        println!(
            "{}  {}  {}",
            if is_failing { "red      " } else { "NOT SEEN " },
            promise.patch,
            promise.test
        );
        unnoticed += usize::from(!is_failing);
    }
    ensure!(unnoticed == 0, "{unnoticed} of {} broken promises are not noticed", promises.len());
    println!("{} of {} broken promises are noticed", promises.len(), promises.len());
    Ok(())
}

/// A row of the page.
struct Promise {
    row: String,
    /// The package of the test.
    package: String,
    /// The test's path in the library of the package.
    test: String,
    /// The file that breaks the promise.
    patch: String,
}

fn promises() -> Result<Vec<Promise>> {
    let page = fs::read_to_string(source_tree().join(PAGE)).with_context(|| format!("`{PAGE}`"))?;
    let (_, table) = page.split_once(TABLE).with_context(|| format!("`{PAGE}` has no table"))?;
    table.lines().take_while(|line| line.starts_with('|')).map(Promise::parse).collect()
}

impl Promise {
    fn parse(row: &str) -> Result<Promise> {
        let bad = || format!("this row of `{PAGE}` is not `| promise | page | test | change |`: {row}");
        let cells: Vec<&str> =
            row.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, _, test, patch] = cells[..] else { anyhow::bail!(bad()) };
        let (library, test) = test.split_once("::").with_context(bad)?;
        Ok(Promise {
            row: row.to_owned(),
            package: library.replace('_', "-"),
            test: test.to_owned(),
            patch: patch.to_owned(),
        })
    }

    fn patch_file(&self) -> PathBuf {
        source_tree().join(PATCHES).join(&self.patch)
    }
}

/// A copy of the committed source tree, which is removed at the end; what cargo makes of it is kept for the next time.
struct Scratch {
    tree: PathBuf,
}

impl Scratch {
    fn make() -> Result<Scratch> {
        let scratch = Scratch { tree: source_tree().join("target/promises/tree") };
        scratch.remove();
        let mut add = git();
        process::run(
            add.args(["worktree", "add", "--quiet", "--detach"]).arg(&scratch.tree).arg("HEAD"),
            QUICK,
        )?;
        Ok(scratch)
    }

    /// Whether the test fails once the patch is applied.
    fn is_failing(&self, promise: &Promise) -> Result<bool> {
        process::run(git().current_dir(&self.tree).arg("apply").arg(promise.patch_file()), QUICK)?;
        let mut test = cargo(&["test", "--quiet", "--locked", "--lib", "--package", &promise.package]);
        test.current_dir(&self.tree).env("CARGO_TARGET_DIR", self.tree.with_file_name("build"));
        let outcome = process::run(test.args(["--", "--exact", &promise.test]), LONG);
        process::run(git().current_dir(&self.tree).args(["checkout", "--quiet", "."]), QUICK)?;
        // A patch that does not compile breaks no promise.
        Ok(outcome.is_err_and(|error| error.to_string().contains("test result: FAILED")))
    }

    fn remove(&self) {
        process::run(git().args(["worktree", "remove", "--force"]).arg(&self.tree), QUICK).ok();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iguana_lab::test_names;
    use std::collections::BTreeSet;

    #[test]
    fn each_promise_has_its_test_and_a_patch_that_applies() {
        let promises = promises().unwrap();
        let tests = test_names::all().unwrap();
        for Promise { row, package, test, .. } in &promises {
            let path = format!("{}::{test}", package.replace('-', "_"));
            assert!(tests.iter().any(|test| test.path == path), "there is no test `{path}`: {row}");
        }
        for promise in &promises {
            process::run(git().args(["apply", "--check"]).arg(promise.patch_file()), QUICK).unwrap();
        }
        let named: BTreeSet<PathBuf> = promises.iter().map(Promise::patch_file).collect();
        let there = fs::read_dir(source_tree().join(PATCHES)).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(there.collect::<BTreeSet<_>>(), named, "patches without a row, or rows without a patch");
    }

    #[test]
    fn a_row_names_package_test_and_patch() {
        let row = "| It is so | [a.md](a.md) | `format_version::tests::x` | `a.patch` |";
        let promise = Promise::parse(row).unwrap();
        assert_eq!(
            (&*promise.package, &*promise.test, &*promise.patch),
            ("format-version", "tests::x", "a.patch")
        );
        assert!(Promise::parse("| It is so | a.md |").is_err());
    }
}
