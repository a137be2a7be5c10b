//! Compares the modules that Iguana loads for a device with those of kmod.

use anyhow::{Context as _, Result, ensure};
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::process::{self, LONG};
use iguana_lab::program;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Every so many patterns of a kernel, one is tested.
const EVERY: usize = 80;

/// An alias that matches a pattern of modules.alias.
fn example(pattern: &str) -> String {
    let mut example = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' => example.push_str("0X"),
            '?' => example.push('7'),
            '[' => {
                let set: String = letters.by_ref().take_while(|letter| *letter != ']').collect();
                example.extend(set.chars().next());
            }
            other => example.push(other),
        }
    }
    example
}

/// The modaliases of the machine that runs the test.
fn present() -> Result<Vec<String>> {
    let found = process::run(Command::new("find").args(["/sys/devices", "-name", "modalias"]), LONG)?;
    let aliases = found.lines().filter_map(|path| fs::read_to_string(path).ok());
    Ok(aliases.map(|alias| alias.trim().to_owned()).filter(|alias| !alias.is_empty()).collect())
}

fn built_in(modules: &Path) -> Result<BTreeSet<String>> {
    let paths = fs::read_to_string(modules.join("modules.builtin"))?;
    let names = paths.lines().filter_map(|path| path.rsplit('/').next()?.strip_suffix(".ko"));
    Ok(names.map(|name| name.replace('-', "_")).collect())
}

fn resolve(program: &mut Command, root: &Path, kernel: &Kernel, alias: &str) -> Result<BTreeSet<String>> {
    let output = program
        .arg("-R")
        .arg("-d")
        .arg(root)
        .args(["-S", &kernel.release, alias])
        .output()
        .with_context(|| format!("cannot start {program:?}"))?;
    // A status other than 0, or an empty answer, means that there is no such module.
    Ok(String::from_utf8(output.stdout)?.lines().map(|name| name.replace('-', "_")).collect())
}

#[test]
fn a_device_gets_the_modules_that_kmod_would_load() -> Result<()> {
    let kernel = Kernel::debian(Flavour::Full)?;
    let root = tempfile::tempdir()?;
    let modules = root.path().join("lib/modules");
    fs::create_dir_all(&modules)?;
    process::run(Command::new("cp").arg("-a").arg(&kernel.modules).arg(&modules), LONG)?;
    process::run(Command::new("depmod").arg("-b").arg(root.path()).arg(&kernel.release), LONG)?;

    let indexed = fs::read_to_string(modules.join(&kernel.release).join("modules.alias"))?;
    let patterns: Vec<&str> = indexed.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let by_bus = patterns.iter().filter(|pattern| pattern.starts_with("acpi*:")).step_by(EVERY);
    let mut aliases: Vec<String> =
        patterns.iter().step_by(EVERY).chain(by_bus).map(|pattern| example(pattern)).collect();
    aliases.extend(present()?);
    aliases.extend(
        ["fs-ext4", "net-pf-10", "dm-thin-pool", "i8042", "acpi:VMBUS:", "acpi:ACPI0012:"].map(str::to_owned),
    );
    ensure!(aliases.len() > 200, "only {} aliases", aliases.len());

    let built_in = built_in(&modules.join(&kernel.release))?;
    let mut differing = Vec::new();
    for alias in &aliases {
        let ours =
            resolve(Command::new(program("iguana-init")).arg0("modprobe"), root.path(), &kernel, alias)?;
        let theirs = resolve(&mut Command::new("modprobe"), root.path(), &kernel, alias)?;
        // kmod also lists modules that are built into the kernel, which need not be loaded.
        let theirs: BTreeSet<String> = theirs.difference(&built_in).cloned().collect();
        if ours != theirs {
            differing.push(format!("{alias}: {ours:?}, kmod: {theirs:?}"));
        }
    }
    ensure!(differing.is_empty(), "{} of {}:\n{}", differing.len(), aliases.len(), differing.join("\n"));
    Ok(())
}
