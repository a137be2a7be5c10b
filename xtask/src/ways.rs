//! `cargo xtask ways`: tests and times every boot method.

use crate::bench::figures::Figures;
use crate::bench::marker::{self, Size};
use crate::bench::result;
use crate::dist;
use anyhow::{Context, Result, anyhow, ensure};
use iguana_lab::image::Image;
use iguana_lab::packages;
use iguana_lab::way::Way;
use std::fmt::Write;
use std::thread;

/// Prefix of the line that the container's first process prints; the seconds since the kernel's start follow.
const MARK: &str = "@@MARK container ";

/// How to take them.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Boots of each way.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only ways with this in their names; the first, without a loader, is always taken.
    filter: Option<String>,
}

/// The measurements of one boot method, in seconds.
#[derive(Default)]
struct Taken {
    /// From the machine's start to the first process of the container.
    all: Figures,
    /// The part of it that is measured with the kernel's clock.
    kernel: Figures,
    /// The part before: firmware and boot loader.
    loader: Figures,
    /// Number of boots that did not reach the handover.
    failed: usize,
}

/// Tests each boot method, prints the table, and writes it to `bench/results`.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::SCENARIOS, packages::MEDIA, packages::DEBIAN].concat())?;
    dist::run()?;
    let image = marker::image(Size::Tiny)?;
    let wanted = |way: &Way| {
        *way == Way::Kernel || options.filter.as_ref().is_none_or(|text| way.name().contains(text.as_str()))
    };
    let ways: Vec<Way> = Way::ALL.into_iter().filter(wanted).collect();
    let mut taken: Vec<Taken> = ways.iter().map(|_| Taken::default()).collect();
    for run in 1..=options.runs {
        for (way, taken) in ways.iter().zip(&mut taken) {
            match take(*way, &image, taken) {
                Ok(()) => eprintln!("{run}/{}: {}: {} s", options.runs, way.name(), taken.all),
                Err(error) => {
                    eprintln!("{run}/{}: {}: FAILED: {error:#}", options.runs, way.name());
                    taken.failed += 1;
                }
            }
        }
    }
    result::keep("ways", &report(&ways, &taken, options)?)?;
    let failed: usize = taken.iter().map(|taken| taken.failed).sum();
    ensure!(failed == 0, "{failed} boots did not come to the handover");
    Ok(())
}

/// One boot, in a thread of its own: a network boot moves its thread into a new network namespace.
fn take(way: Way, image: &Image, taken: &mut Taken) -> Result<()> {
    let boot = || -> Result<(f64, f64)> {
        let mut journey = way.start(image, "way")?;
        journey.expect(MARK)?;
        journey.expect("handover: reboot")?;
        // Use complete lines: a match may be found before its line has ended.
        let lines = journey.ends()?;
        let line = lines.iter().find(|line| line.text.contains(MARK)).context("the mark is gone")?;
        let (_, seconds) = line.text.split_once(MARK).context("the mark has no time")?;
        Ok((line.at, seconds.trim().parse()?))
    };
    let ended = thread::scope(|scope| scope.spawn(boot).join());
    let (all, kernel) = ended.map_err(|_| anyhow!("it panicked"))??;
    taken.all.add(all);
    taken.kernel.add(kernel);
    taken.loader.add(all - kernel);
    Ok(())
}

fn report(ways: &[Way], taken: &[Taken], options: &Options) -> Result<String> {
    let mut text = format!(
        "# Ways to a machine\n\n`{}`, {}. Medians `[least-most]` of {} boots each, in turn, from the machine's start to \
         the first process of a busybox container, then to the handover. Host: {}, {} processors.\n\n\
         | way | to the container, s | firmware and loader, s | kernel to container, s | to the first way's |\n\
         | --- | --- | --- | --- | --- |\n",
        result::command_line(),
        result::today()?,
        options.runs,
        result::processor()?,
        thread::available_parallelism()?,
    );
    for (way, figures) in ways.iter().zip(taken) {
        let ratio = taken[0].kernel.ratio_of(&figures.kernel);
        let Taken { all, kernel, loader, failed } = figures;
        let all = if *failed == 0 { all.to_string() } else { format!("{all}, **{failed} failed**") };
        writeln!(text, "| {} | {all} | {loader} | {kernel} | {ratio:.2} |", way.name())?;
    }
    Ok(text)
}
