//! `cargo xtask handover`: tests disk layouts. A container in a machine makes each layout, and the test ends at the
//! new system's login prompt or at the refusal. The table is written to `bench/results`.

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

/// Tests the layouts. The table is stored after each, so that a campaign that is ended early has a part of it.
pub(crate) fn run(options: &Options) -> Result<()> {
    dist::run()?;
    let wanted =
        |layout: &&Layout| options.filter.as_ref().is_none_or(|part| layout.name.contains(part.as_str()));
    let layouts: Vec<&Layout> = LAYOUTS.iter().filter(wanted).collect();
    let lab = Lab::prepare(&layouts)?;
    let campaign = Campaign {
        header: header()?,
        is_whole: options.filter.is_none(),
        next: AtomicUsize::new(0),
        outcomes: Mutex::new(layouts.iter().map(|_| None).collect()),
        layouts,
    };
    thread::scope(|scope| {
        (0..options.at_once.max(1)).for_each(|_| drop(scope.spawn(|| campaign.work(&lab))))
    });
    let outcomes = campaign.outcomes.into_inner().unwrap_or_default();
    println!("{}", table(&campaign.layouts, &outcomes));
    let good = outcomes.iter().filter(|outcome| matches!(outcome, Some(Ok(_)))).count();
    ensure!(
        good == campaign.layouts.len(),
        "{good} of {} layouts ended as they must",
        campaign.layouts.len()
    );
    Ok(())
}

struct Campaign<'a> {
    header: String,
    layouts: Vec<&'a Layout>,
    /// Whether all layouts are tested. Only then is the table stored.
    is_whole: bool,
    next: AtomicUsize,
    /// The results, in the order of the layouts.
    outcomes: Mutex<Vec<Option<Result<Outcome>>>>,
}

impl Campaign<'_> {
    /// Tests one layout after another until none is left.
    fn work(&self, lab: &Lab) {
        loop {
            let place = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(layout) = self.layouts.get(place) else { return };
            let outcome = lab.try_out(layout);
            match &outcome {
                Ok(outcome) => eprintln!("{}: {} ({:.0} s)", layout.name, outcome.end, outcome.seconds),
                Err(error) => eprintln!("{}: FAILED: {error:#}", layout.name),
            }
            let Ok(mut outcomes) = self.outcomes.lock() else { return };
            outcomes[place] = Some(outcome);
            if self.is_whole
                && let Err(error) =
                    result::write("handover", &format!("{}{}", self.header, table(&self.layouts, &outcomes)))
            {
                eprintln!("the table cannot be kept: {error:#}");
            }
        }
    }
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

fn table(layouts: &[&Layout], outcomes: &[Option<Result<Outcome>>]) -> String {
    let mut table = String::from("| layout | firmware | way | end | s |\n| --- | --- | --- | --- | --- |\n");
    for (layout, outcome) in layouts.iter().zip(outcomes) {
        let firmware = match layout.firmware {
            Firmware::SeaBios => "BIOS",
            Firmware::Ovmf => "UEFI",
        };
        let (way, end, seconds) = match outcome {
            None => (String::new(), "not tried".into(), String::new()),
            Some(Ok(outcome)) => {
                (outcome.way.join("; "), outcome.end.clone(), format!("{:.0}", outcome.seconds))
            }
            Some(Err(error)) => (String::new(), format!("**failed**: {}", first_line(error)), String::new()),
        };
        let cell = |text: &str| text.replace('|', "\\|");
        // Writing to a string cannot fail.
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
