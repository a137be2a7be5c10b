//! The cost of the handover: milliseconds from the last job's end to the new init, and memory that stays in use.

use super::figures::Figures;
use super::result;
use crate::dist;
use anyhow::{Context, Result};
use iguana_lab::disk::Disk;
use iguana_lab::image::{Recipe, busybox_root, put};
use iguana_lab::initrd::Initrd;
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::packages;
use iguana_lab::process::{self, QUICK};
use iguana_lab::scenario::Scenario;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Bytes in the job's image besides its programs, which must be freed during the handover.
const UNUSED_BYTES: usize = 64 << 20;

/// The new system's first program. It reads the clock first, then makes the kernel release all caches.
const INIT: &str = "#!/bin/sh
read -r now rest < /proc/uptime 2>/dev/null || { mount -t proc proc /proc; read -r now rest < /proc/uptime; }
echo @@UP $now > /dev/kmsg
[ -d /run/iguana ] && cat /run/iguana/log && du -sk /run/iguana | awk '{print \"@@LEFT\", $1}'
sync
for round in 1 2 3; do
    echo 3 > /proc/sys/vm/drop_caches
    # What the kernel keeps of small pieces, half used, is its own.
    for cache in /sys/kernel/slab/*/shrink; do echo 1 > $cache; done
    sleep 1
done
awk '$1 == \"MemFree:\" {print \"@@FREE\", $2}' /proc/meminfo
awk '{print \"@@MODULE\", $1, $2}' /proc/modules
poweroff -f
";

/// The control's initrd: the same modules and the same root, nothing else.
const CONTROL: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
for module in $(cat /modules/order); do insmod /modules/$module.ko; done
ifconfig eth0 up
until [ -b /dev/vda ]; do sleep 0.1; done
mount -t ext4 /dev/vda /sysroot
for directory in proc sys dev run; do mount --move /$directory /sysroot/$directory; done
exec switch_root /sysroot /sbin/init
";

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Boots of each kind.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Measures, prints the table, and writes it to `bench/results`.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::SCENARIOS, packages::DEBIAN].concat())?;
    dist::run()?;
    let disk = new_system()?;
    let (mut ours, mut control) = (Collected::default(), Figures::default());
    for run in 1..=options.runs {
        let said = with_iguana(&disk)?;
        let modules = modules(&said);
        ours.add(&said)?;
        control.add(number(&without(&disk, &modules)?, "@@FREE ")?);
        eprintln!("{run}/{}: {} ms, {} kB free, control {control}", options.runs, ours.beyond, ours.free);
    }
    let mut report = format!(
        "# Handover: time and memory\n\n`{}`, {}. Medians `[least-most]` of {} boots, in a VM of 512 MiB and 2 processors \
         on {}. The job's image has {} MiB besides busybox; the new system is busybox on ext4. The control is the same \
         kernel with the same modules, and the network interface as much up, by a shell script that ends in busybox's switch_root.\n\n\
         | what | figure |\n| --- | --- |\n",
        result::command_line(),
        result::today()?,
        options.runs,
        result::processor()?,
        UNUSED_BYTES >> 20,
    );
    writeln!(report, "| last job's end to the new init's execution, ms | {} |", ours.whole)?;
    writeln!(report, "| of these for mounting, ms | {} |", ours.mounting)?;
    writeln!(report, "| beyond mounting, ms (to be below 150) | {} |", ours.beyond)?;
    writeln!(report, "| memory free in the new system, kB | {} |", ours.free)?;
    writeln!(report, "| … in the control, kB | {control} |")?;
    let held = control.median() - ours.free.median();
    writeln!(report, "| held by Iguana, the difference of the medians, kB (to be below 1000) | {held:.0} |")?;
    writeln!(report, "| of these files in `/run/iguana`, kB | {} |", ours.left)?;
    writeln!(report, "| kernel modules that Iguana has loaded (the control, too), kB | {} |", ours.modules)?;
    result::keep("handover-costs", &report)
}

/// The measurements of the boots with Iguana.
#[derive(Default)]
struct Collected {
    whole: Figures,
    mounting: Figures,
    beyond: Figures,
    free: Figures,
    left: Figures,
    modules: Figures,
}

impl Collected {
    fn add(&mut self, said: &str) -> Result<()> {
        let end = said.lines().find(|line| line.contains("iguana: job job: succeeded"));
        let end =
            end.and_then(|line| line.trim_start_matches(['[', ' ']).split(']').next()?.parse::<f64>().ok());
        let whole = (executed(said)? - end.context("the job's end has no time")?) * 1000.0;
        let mounting = number(said, "handover: mounted `/sysroot` in ")?;
        self.whole.add(whole);
        self.mounting.add(mounting);
        self.beyond.add(whole - mounting);
        self.free.add(number(said, "@@FREE ")?);
        self.left.add(number(said, "@@LEFT ")?);
        self.modules.add(modules(said).iter().map(|(_, bytes)| bytes / 1024.0).sum());
        Ok(())
    }
}

fn new_system() -> Result<Disk> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    put(root.path(), "/sbin/init", 0o755, INIT.as_bytes())?;
    Disk::ext4(16, "system", root.path())
}

fn with_iguana(disk: &Disk) -> Result<String> {
    let job = Recipe::script("echo /dev/vda /sysroot > /iguana/mountlist")?;
    let job = job.file("/ballast", 0o644, vec![0; UNUSED_BYTES])?;
    Scenario::new()?.job(job)?.disk(disk).append("rd.iguana.on_failure=poweroff").boot()?.ends()
}

fn without(disk: &Disk, modules: &[(String, f64)]) -> Result<String> {
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    fs::create_dir(root.path().join("sysroot"))?;
    put(root.path(), "/init", 0o755, CONTROL.as_bytes())?;
    let mut order = String::new();
    for (name, _) in modules.iter().rev() {
        put(root.path(), &format!("/modules/{name}.ko"), 0o644, &fs::read(file_of(&kernel, name)?)?)?;
        writeln!(order, "{name}")?;
    }
    put(root.path(), "/modules/order", 0o644, order.as_bytes())?;
    let image = tempfile::NamedTempFile::new()?;
    let pack = r#"cd "$0" && find . | cpio --quiet -o -H newc > "$1""#;
    process::run(Command::new("sh").args(["-c", pack]).arg(root.path()).arg(image.path()), QUICK)?;
    Scenario::with(&Initrd { kernel, image: image.path().to_owned() }).disk(disk).boot()?.ends()
}

/// The time at which the kernel executed the new init, in seconds of `/proc/uptime`. TOMOYO, which is in every Debian
/// kernel, logs it with the kernel's own clock. A later line with both times gives the offset; its uptime is
/// truncated to hundredths.
fn executed(said: &str) -> Result<f64> {
    const CUT_OFF: f64 = 0.01;
    let time_of = |words: &str| -> Result<f64> {
        let line = said.lines().rev().find(|line| line.contains(words));
        let time = line.and_then(|line| line.trim_start_matches(['[', ' ']).split(']').next()?.parse().ok());
        time.with_context(|| format!("the kernel does not say when `{words}`"))
    };
    let ahead = time_of("@@UP ")? - number(said, "@@UP ")? - CUT_OFF;
    Ok(time_of("Not activating Mandatory Access Control")? - ahead)
}

/// The loaded modules with their bytes, the last one first.
fn modules(said: &str) -> Vec<(String, f64)> {
    let lines = said.lines().filter_map(|line| line.split_once("@@MODULE ").map(|(_, rest)| rest));
    let module =
        |line: &str| Some((line.split(' ').next()?.to_owned(), line.split(' ').nth(1)?.trim().parse().ok()?));
    lines.filter_map(module).collect()
}

/// A module's name has `_` where its file may have `-`.
fn file_of(kernel: &Kernel, name: &str) -> Result<PathBuf> {
    let pattern = format!("{}.ko", name.replace('_', "[-_]"));
    let mut find = Command::new("find");
    let found = process::run(find.arg(&kernel.modules).args(["-name", &pattern]), QUICK)?;
    Ok(found.lines().next().with_context(|| format!("there is no module `{name}`"))?.into())
}

fn number(said: &str, words: &str) -> Result<f64> {
    let found =
        said.lines().find_map(|line| line.split_once(words)?.1.split_whitespace().next()?.parse().ok());
    found.with_context(|| format!("`{words}` was not said:\n{said}"))
}
