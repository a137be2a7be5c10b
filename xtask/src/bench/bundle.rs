//! `cargo xtask bench bundle`: copies images from a registry to one directory with `iguana bundle`, which verifies
//! and writes each blob once, and with `skopeo sync`, alternately, in memory.

use super::images::ImageKind;
use super::result;
use super::stage::{Sample, Samples, Stage};
use crate::dist;
use anyhow::{Context, Result};
use iguana_lab::process::{self, QUICK};
use iguana_lab::registry::Registry;
use iguana_lab::{packages, program};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs of each.
    #[arg(long, default_value_t = 7)]
    runs: usize,
}

/// Images that are bundled together.
const SETS: &[(&str, &[ImageKind])] = &[
    ("the large image", &[ImageKind::Large]),
    (
        "five images",
        &[ImageKind::Tiny, ImageKind::Medium, ImageKind::Large, ImageKind::ManyLayers, ImageKind::SmallFiles],
    ),
];

/// Both output formats of `iguana bundle`; skopeo writes directories only.
const OURS: [&str; 2] = ["bundle", "bundle.tar"];

/// Measures, prints the table, and writes it to `bench/results`.
pub(super) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::SCENARIOS, packages::DEBIAN, &["time"]].concat())?;
    dist::run()?;
    let registry = Registry::plain()?;
    let mut report = header(options)?;
    for (name, kinds) in SETS {
        let images =
            kinds.iter().map(|kind| Ok(kind.push(&registry)?.reference)).collect::<Result<Vec<_>>>()?;
        // A warm-up: the first process to use memory that the host has not yet given to this machine is slower.
        sync(&images)?;
        let (mut peer, mut ours) = (Samples::default(), [Samples::default(), Samples::default()]);
        for _ in 0..options.runs {
            peer.add(sync(&images)?);
            for (samples, output) in ours.iter_mut().zip(OURS) {
                samples.add(bundle(&images, output)?);
            }
        }
        tell(&mut report, &format!("{name}, `skopeo sync --dest dir`"), &peer, &peer)?;
        for (samples, output) in ours.iter().zip(OURS) {
            tell(&mut report, &format!("{name}, `iguana bundle -o {output}`"), samples, &peer)?;
        }
    }
    result::keep("bundle", &report)
}

fn header(options: &Options) -> Result<String> {
    let skopeo = process::run(Command::new("skopeo").arg("--version"), QUICK)?;
    Ok(format!(
        "# Bundles\n\n`{}`, {}. Medians `[least-most]` of {} runs each, in turn, from a registry on loopback to files in memory. \
         Ours reads its bundle a second time and says then that it is whole. Host: {}, {} processors. {}.\n\n\
         | | wall s | ours is | CPU s | ours is | resident MB | stored MB |\n| --- | --- | --- | --- | --- | --- | --- |\n",
        result::command_line(),
        result::today()?,
        options.runs,
        result::processor()?,
        std::thread::available_parallelism()?,
        skopeo.trim(),
    ))
}

fn tell(report: &mut String, name: &str, samples: &Samples, peer: &Samples) -> Result<()> {
    writeln!(
        report,
        "| {name} | {} | {:.2} | {} | {:.2} | {} | {} |",
        samples.wall,
        peer.wall.ratio_of(&samples.wall),
        samples.cpu,
        peer.cpu.ratio_of(&samples.cpu),
        samples.resident,
        samples.stored
    )?;
    Ok(())
}

fn sync(images: &[String]) -> Result<Sample> {
    let stage = Stage::set_up()?;
    let (registry, _) = images[0].split_once('/').context("no registry")?;
    let names = images.iter().filter_map(|image| image.split_once('/'));
    let list: String = names.map(|(_, name)| format!("    {name}: [latest]\n")).collect();
    fs::write(
        stage.path().join("tmp/sync.yaml"),
        format!("{registry}:\n  tls-verify: false\n  images:\n{list}"),
    )?;
    stage.measure("exec skopeo sync --src yaml --dest dir tmp/sync.yaml synced")
}

fn bundle(images: &[String], output: &str) -> Result<Sample> {
    let stage = Stage::set_up()?;
    let (registry, _) = images[0].split_once('/').context("no registry")?;
    let file = |name: &str, text: String| fs::write(stage.path().join("tmp").join(name), text);
    fs::create_dir(stage.path().join("tmp/trust"))?;
    let anything = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    file("trust/policy.json", anything.into())?;
    file("trust/registries.conf", format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n"))?;
    let jobs: String = images
        .iter()
        .enumerate()
        .map(|(number, image)| format!("  job-{number}: {{container: '{image}'}}\n"))
        .collect();
    file("images.yaml", format!("jobs:\n{jobs}"))?;
    let iguana = program("iguana");
    stage.measure(&format!("exec {} bundle tmp/images.yaml --trust tmp/trust -o {output}", iguana.display()))
}
