//! `cargo xtask bench pull`: from a registry to unpacked files, for Iguana and third-party tools, alternately, with
//! empty stores, in memory. It also measures the parts of that work by themselves.

mod contender;
mod parts;
mod plot;

use super::figures::Figures;
use super::images::ImageKind;
use super::result;
use super::stage::Samples;
use crate::dist;
use anyhow::{Context, Result};
use contender::Contender;
use iguana_lab::packages;
use iguana_lab::registry::Registry;
use parts::Part;
use std::fmt::Write as _;

/// The third-party tools, and the programs for measuring.
const PACKAGES: &[&str] = &["podman", "containerd", "runc", "isal", "curl", "time"];

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Pulls of each kind.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Images to pull.
    #[arg(long, value_delimiter = ',', default_values_t = ImageKind::ALL.map(|kind| kind.name().to_owned()))]
    images: Vec<String>,
}

/// The measurements with one image.
struct Round {
    kind: ImageKind,
    pulls: Vec<(Contender, Samples)>,
    /// Size of the unpacked tree in MB.
    tree: f64,
    /// Only for the image that has documented goals.
    parts: Vec<(Part, Samples)>,
}

/// Measures, prints the tables, and writes them and a plot to `bench/results`.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::SCENARIOS, packages::DEBIAN, PACKAGES].concat())?;
    dist::run()?;
    let registry = Registry::plain()?;
    let mut rounds = Vec::new();
    for name in &options.images {
        let kind = ImageKind::named(name).with_context(|| format!("there is no image `{name}`"))?;
        rounds.push(measure(kind, &registry, options.runs)?);
    }
    let plot = result::write_as("pull", "svg", &plot::drawn(&rounds))?;
    let mut report = header(options)?;
    rounds.iter().try_for_each(|round| tell(round, &mut report))?;
    result::keep("pull", &report)?;
    println!("{}", plot.display());
    Ok(())
}

fn measure(kind: ImageKind, registry: &Registry, runs: usize) -> Result<Round> {
    let image = kind.push(registry)?;
    // A warm-up: the host provides unused memory page by page, which slows down the first process that uses it.
    Contender::Podman.pull(&image.reference)?;
    let mut pulls: Vec<_> = Contender::all_for(kind).map(|it| (it, Samples::default())).collect();
    let mut parts: Vec<_> = Part::all_for(kind).map(|it| (it, Samples::default())).collect();
    let blobs = if parts.is_empty() { None } else { Some(parts::Blobs::of(&image, registry)?) };
    for run in 1..=runs {
        for (contender, samples) in &mut pulls {
            samples.add(contender.pull(&image.reference)?);
        }
        for (part, samples) in &mut parts {
            samples.add(part.run(blobs.as_ref().context("no blobs")?)?);
        }
        let walls: Vec<_> =
            pulls.iter().map(|(it, samples)| format!("{} {:.2}", it.name(), samples.wall.median())).collect();
        eprintln!("{} {run}/{runs}: {}", kind.name(), walls.join(", "));
    }
    Ok(Round { kind, pulls, tree: contender::tree_of(&image.reference)?, parts })
}

fn header(options: &Options) -> Result<String> {
    let versions = Contender::ALL.iter().map(|it| it.version()).collect::<Result<Vec<_>>>()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    Ok(format!(
        "# Pulls: from a registry on loopback to unpacked files in memory\n\n\
         `{}`, {}. Medians `[least-most]` of {} runs each, all kinds in turn, cold each time, after one of podman that does not count. Host: {}, {} processors; load \
         after: {}. {}.\n\n\
         Ours is `iguana pull`, which unpacks to a directory with what unpacks in a boot. CPU is that of all processes, with \
         containerd's daemon, without the registry's. Resident is the largest process; stored is the most that lay in \
         the file system at a time, files in `TMPDIR` included.\n\n![plot](pull-{}.svg)\n\n",
        result::command_line(),
        result::today()?,
        options.runs,
        result::processor()?,
        std::thread::available_parallelism()?,
        load.split(' ').next().unwrap_or_default(),
        versions.join("; "),
        result::today()?,
    ))
}

fn tell(round: &Round, report: &mut String) -> Result<()> {
    let ours = &round.pulls.first().context("nobody pulled")?.1;
    writeln!(report, "## {}\n\nThe unpacked tree has {:.0} MB.\n", round.kind.describe(), round.tree)?;
    writeln!(report, "| | wall s | ours is | CPU s | ours is | resident MB | stored MB |")?;
    writeln!(report, "| --- | --- | --- | --- | --- | --- | --- |")?;
    for (contender, samples) in &round.pulls {
        let share = |of: fn(&Samples) -> &Figures| match contender {
            Contender::Iguana => String::new(),
            _ => format!("{:.2}", of(samples).ratio_of(of(ours))),
        };
        writeln!(
            report,
            "| {} | {} | {} | {} | {} | {} | {} |",
            contender.name(),
            samples.wall,
            share(|samples| &samples.wall),
            samples.cpu,
            share(|samples| &samples.cpu),
            samples.resident,
            samples.stored
        )?;
    }
    let beyond = ours.resident.median() + ours.stored.median() - round.tree;
    writeln!(report, "\nMemory of ours beyond the unpacked tree: {beyond:.0} MB (goal: 64).\n")?;
    if round.parts.is_empty() {
        return Ok(());
    }
    writeln!(report, "| by itself | wall s | CPU s |\n| --- | --- | --- |")?;
    for (part, samples) in &round.parts {
        writeln!(report, "| {} | {} | {} |", part.name(), samples.wall, samples.cpu)?;
    }
    let work: f64 = round.parts.iter().map(|(_, samples)| samples.cpu.median()).sum();
    let bound = work / std::thread::available_parallelism()?.get() as f64;
    let times = ours.wall.median() / bound;
    writeln!(
        report,
        "\nTogether {work:.2} CPU seconds, over the processors {bound:.2} s: the lower bound. Ours takes {times:.2} times that \
         (goal: 1.3).\n"
    )?;
    Ok(())
}
