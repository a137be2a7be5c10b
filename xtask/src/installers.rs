//! `cargo xtask installers`: runs the installers of other makers, each up to the login prompt of the system that it has
//! installed, and writes the table of docs/installers.md.

use crate::dist;
use anyhow::{Result, anyhow, ensure};
use iguana_lab::installers::{self, INSTALLERS, Installer, Outcome, Row};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What to try.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only installers with one of these in their names; the table keeps its other rows.
    filter: Vec<String>,
    /// Machines at a time: two fill two cores.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Uses the programs that `cargo xtask dist` has made before.
    #[arg(long)]
    as_built: bool,
    /// Runs nothing, and only updates the page after installers or their scripts were changed.
    #[arg(long)]
    glue: bool,
}

/// Runs the installers and writes the page.
pub(crate) fn run(options: &Options) -> Result<()> {
    installers::write("glue", &installers::glue()?)?;
    if options.glue {
        return installers::write("installers", &installers::table(&[])?);
    }
    if !options.as_built {
        dist::run()?;
    }
    let is_wanted = |it: &&Installer| {
        options.filter.is_empty() || options.filter.iter().any(|part| it.name.contains(part.as_str()))
    };
    let wanted: Vec<&Installer> = INSTALLERS.iter().filter(is_wanted).collect();
    let rows = all(&wanted, options.at_once);
    let table = installers::table(&rows)?;
    println!("{table}");
    installers::write("installers", &table)?;
    let good = rows.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    ensure!(good == rows.len(), "{good} of {} installers came to a login prompt", rows.len());
    Ok(())
}

/// The outcomes, in the order of the installers.
fn all<'a>(wanted: &[&'a Installer], at_once: usize) -> Vec<Row<'a>> {
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<Result<Outcome>>>> = Mutex::new(wanted.iter().map(|_| None).collect());
    let work = || {
        while let Some(installer) = wanted.get(next.fetch_add(1, Ordering::SeqCst)) {
            let outcome = one(installer);
            match &outcome {
                Ok(outcome) => eprintln!("{}: {} ({:.0} s)", installer.name, outcome.result, outcome.seconds),
                Err(error) => eprintln!("{}: FAILED: {error:#}", installer.name),
            }
            let place = wanted.iter().position(|other| other.name == installer.name);
            if let (Ok(mut outcomes), Some(place)) = (outcomes.lock(), place) {
                outcomes[place] = Some(outcome);
            }
        }
    };
    thread::scope(|scope| (0..at_once.max(1)).for_each(|_| drop(scope.spawn(work))));
    let outcomes = outcomes.into_inner().unwrap_or_default();
    let named = wanted.iter().map(|installer| installer.name);
    named.zip(outcomes).map(|(name, it)| (name, it.unwrap_or_else(|| Err(anyhow!("not tried"))))).collect()
}

/// In a thread with the name of the installer, after which the log of its machine is called.
fn one(installer: &Installer) -> Result<Outcome> {
    let name: String = installer.name.chars().map(|it| if it.is_alphanumeric() { it } else { '-' }).collect();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(format!("installer-{name}"));
        let running = thread.spawn_scoped(scope, || installer.try_out())?;
        running.join().unwrap_or_else(|_| Err(anyhow!("the thread has panicked")))
    })
}
