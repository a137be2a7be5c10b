//! `cargo xtask handover`: layouts of disks, each made in a machine by a container, up to the new system's login prompt or
//! the refusal; the table goes to `bench/results`.

use crate::bench::result;
use crate::dist;
use anyhow::{Result, ensure};
use iguana_lab::layout::{Firmware, LAYOUTS, Lab, Layout, Outcome};
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What to try.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only layouts with this in their names; the table is then not kept.
    filter: Option<String>,
    /// Machines at a time: two fill two cores.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
}

/// Tries the layouts, and tells and keeps the table.
pub(crate) fn run(options: &Options) -> Result<()> {
    dist::run()?;
    let wanted =
        |layout: &&Layout| options.filter.as_ref().is_none_or(|part| layout.name.contains(part.as_str()));
    let layouts: Vec<&Layout> = LAYOUTS.iter().filter(wanted).collect();
    let outcomes = try_all(&Lab::prepare(&layouts)?, &layouts, options.at_once);
    let table = table(&layouts, &outcomes);
    match options.filter {
        None => result::keep("handover", &format!("{}{table}", header()?))?,
        Some(_) => println!("{table}"),
    }
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    ensure!(failed == 0, "{failed} of {} layouts did not end as they must", layouts.len());
    Ok(())
}

/// Each outcome in its layout's place.
fn try_all(lab: &Lab, layouts: &[&Layout], at_once: usize) -> Vec<Result<Outcome>> {
    let next = AtomicUsize::new(0);
    let outcomes: Vec<Mutex<Option<Result<Outcome>>>> = layouts.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::SeqCst);
            let Some(layout) = layouts.get(place) else { return };
            let outcome = lab.try_out(layout);
            match &outcome {
                Ok(outcome) => eprintln!("{}: {} ({:.0} s)", layout.name, outcome.end, outcome.seconds),
                Err(error) => eprintln!("{}: FAILED: {error:#}", layout.name),
            }
            if let Ok(mut slot) = outcomes[place].lock() {
                *slot = Some(outcome);
            }
        }
    };
    thread::scope(|scope| (0..at_once.max(1)).for_each(|_| drop(scope.spawn(work))));
    let taken = outcomes.into_iter().map(|slot| slot.into_inner().ok().flatten());
    taken.map(|outcome| outcome.unwrap_or_else(|| Err(anyhow::anyhow!("it was not tried")))).collect()
}

fn header() -> Result<String> {
    Ok(format!(
        "# Handover: layouts of disks, and what became of them\n\n\
         `{}`, {}. Each layout is made on empty disks by a container, in a VM; the end is the new system's login prompt, \
         with what root finds there, or the refusal. Seconds are from the machine's start, the installation among \
         them, on {}, in QEMU without KVM where there is none.\n\n",
        result::command_line(),
        result::today()?,
        result::processor()?,
    ))
}

fn table(layouts: &[&Layout], outcomes: &[Result<Outcome>]) -> String {
    let mut table = String::from("| layout | firmware | way | end | s |\n| --- | --- | --- | --- | --- |\n");
    for (layout, outcome) in layouts.iter().zip(outcomes) {
        let firmware = match layout.firmware {
            Firmware::SeaBios => "BIOS",
            Firmware::Ovmf => "UEFI",
        };
        let (way, end, seconds) = match outcome {
            Ok(outcome) => (outcome.way.join("; "), outcome.end.clone(), format!("{:.0}", outcome.seconds)),
            Err(error) => (String::new(), format!("**failed**: {}", first_line(error)), String::new()),
        };
        let cell = |text: &str| text.replace('|', "\\|");
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "| {} | {firmware} | {} | {} | {seconds} |",
            cell(layout.name),
            cell(&way),
            cell(&end)
        );
    }
    table
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}
