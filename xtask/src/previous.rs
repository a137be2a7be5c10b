//! `cargo xtask previous`: boots the initrd of the previous release with a bundle that this tree's programs make. An
//! initrd is signed once and used for years, so it must run what later programs write (docs/versions.md).

use crate::dist;
use crate::git::git;
use anyhow::{Context, Result, ensure};
use iguana_lab::bundle::{Workstation, stick};
use iguana_lab::disk::Disk;
use iguana_lab::image::{Maker, Recipe};
use iguana_lab::initrd::Initrd;
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::registry::Registry;
use iguana_lab::scenario::Scenario;
use iguana_lab::{packages, source_tree};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Time limit for building the programs of the previous release.
const BUILD_LIMIT: std::time::Duration = std::time::Duration::from_secs(3600);

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A workflow with the main parts of the language.
const WORKFLOW: &str = r#"
version: 1
name: from today
env: {SITE: berlin}
jobs:
  prepare:
    container: {image: REGISTRY/tool, volumes: ["data:/data"]}
    outputs: {size: "${{ steps.measure.outputs.size }}"}
    steps:
      - run: echo "$SITE" > /data/site
      - {id: measure, run: "echo size=42 >> $IGUANA_OUTPUT"}
  install:
    needs: [prepare]
    if: ${{ needs.prepare.outputs.size == 42 }}
    container:
      image: REGISTRY/tool
      volumes: ["data:/data"]
      command: [sh, -c, 'echo "the bundle of today runs in $(cat /data/site)"']
    services:
      beside: {image: REGISTRY/tool, command: [sleep, "1000"]}
  never:
    needs: [install]
    if: ${{ failure() }}
    container: REGISTRY/tool
  end: {needs: [install], container: {image: REGISTRY/end, privileged: true}}
"#;

/// What the machine prints, in this order.
const EXPECTED: &[&str] =
    &["is a bundle; its images are used", "the bundle of today runs in berlin", "handover: power off"];

/// Which initrd to boot.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The tag or commit of the release [default: the newest version in CHANGELOG.md before this one]
    #[arg(long, value_name = "COMMIT")]
    release: Option<String>,
    /// An initrd for Debian's cloud kernel instead; nothing is built.
    #[arg(long, value_name = "FILE", conflicts_with = "release")]
    initrd: Option<PathBuf>,
}

/// Fails when the workflow does not run to its end.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::SCENARIOS].concat())?;
    dist::run()?;
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let image = match &options.initrd {
        Some(image) => image.canonicalize().with_context(|| format!("cannot find `{}`", image.display()))?,
        None => built(&release(options.release.as_deref())?, &kernel)?,
    };
    println!("boots {}", image.display());
    boot(&Initrd { kernel, image })?;
    println!("the previous initrd runs the bundle of this tree");
    Ok(())
}

/// Boots without a network, with a bundle on a disk.
fn boot(initrd: &Initrd) -> Result<()> {
    let registry = Registry::plain()?;
    registry.push(&Recipe::busybox()?.make(Maker::Spec)?, "tool")?;
    let power_off = Recipe::script("echo poweroff > /iguana/kernelAction")?;
    registry.push(&power_off.make(Maker::Spec)?, "end")?;
    let workstation = Workstation::using(&registry)?;
    let bundle = workstation.bundle(&registry, WORKFLOW, "bundle.tar")?;
    drop(registry);
    let disk = Disk::ext4(64, "IGUANA", stick(&bundle)?.path())?;
    let url = "rd.iguana.control_url=hd:LABEL=IGUANA:/bundle.tar rd.iguana.on_failure=poweroff ip=off";
    let mut boot = Scenario::with(initrd).no_network().disk(&disk).append(url).boot()?;
    let reached = boot.expect_all(EXPECTED).and_then(|()| boot.ends().map(drop));
    reached.with_context(|| format!("the previous initrd with the bundle of this tree:\n{}", boot.said()))
}

/// The initrd that the programs of `commit` build.
fn built(commit: &str, kernel: &Kernel) -> Result<PathBuf> {
    let home = source_tree().join("target/previous");
    let (tree, image) = (home.join("tree"), home.join("initrd.img"));
    check_out(commit, &tree)?;
    let mut build = Command::new("cargo");
    // Its dependencies and its compiler are those of its own lock file and `rust-toolchain.toml`.
    build
        .args(["xtask", "dist"])
        .current_dir(&tree)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO_TARGET_DIR");
    process::show(&mut build, BUILD_LIMIT).with_context(|| format!("cannot build `{commit}`"))?;
    let mut initrd = Command::new(tree.join("target/dist/iguana"));
    initrd.arg("build").arg("--kernel").arg(&kernel.image).arg("--modules").arg(&kernel.modules);
    process::run(initrd.arg("--output").arg(&image), LONG)?;
    Ok(image)
}

/// Checks `commit` out in `tree`, where what cargo made of an earlier one is kept.
fn check_out(commit: &str, tree: &Path) -> Result<()> {
    if tree.join(".git").exists() {
        process::run(git().current_dir(tree).args(["checkout", "--quiet", "--detach", commit]), QUICK)?;
        return Ok(());
    }
    process::run(git().args(["worktree", "prune"]), QUICK)?;
    process::run(git().args(["worktree", "add", "--quiet", "--detach"]).arg(tree).arg(commit), QUICK)?;
    Ok(())
}

/// The commit of a release: as given, or the tag of the newest version in CHANGELOG.md before this one, or the commit
/// that gave that version its heading.
fn release(given: Option<&str>) -> Result<String> {
    if let Some(commit) = given {
        return Ok(commit.to_owned());
    }
    let changes = fs::read_to_string(source_tree().join("CHANGELOG.md"))?;
    let version = previous_version(&changes, VERSION)
        .with_context(|| format!("CHANGELOG.md has no version before `{VERSION}`"))?;
    let tag = format!("v{version}");
    if process::run(git().args(["rev-parse", "--quiet", "--verify", &format!("{tag}^{{commit}}")]), QUICK)
        .is_ok()
    {
        return Ok(tag);
    }
    let heading = format!("-S## {version} - ");
    let commits = process::run(git().args(["log", "--format=%H", &heading, "--", "CHANGELOG.md"]), QUICK)?;
    let commit = commits.lines().last().unwrap_or_default();
    ensure!(
        !commit.is_empty(),
        "there is no tag `{tag}`, and no commit that gave version `{version}` its heading\n  hint: name the commit by \
         `--release`, or the initrd by `--initrd`"
    );
    Ok(commit.to_owned())
}

/// The version of the first heading `## VERSION - DATE` that is not `current`.
fn previous_version<'a>(changes: &'a str, current: &str) -> Option<&'a str> {
    let mut versions =
        changes.lines().filter_map(|line| Some(line.strip_prefix("## ")?.split_once(" - ")?.0));
    versions.find(|version| *version != current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_previous_release_is_the_newest_version_before_this_one() {
        let changes =
            "# Changelog\n\n## Unreleased\n\n- It\n\n## 0.3.0 - 2027-01-02\n\n## 0.2.0 - 2026-01-02\n";
        assert_eq!(previous_version(changes, "0.4.0"), Some("0.3.0"));
        assert_eq!(previous_version(changes, "0.3.0"), Some("0.2.0"));
        assert_eq!(previous_version("# Changelog\n\n## Unreleased\n", "0.1.0"), None);
    }
}
