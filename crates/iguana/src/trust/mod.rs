//! `iguana trust`: the folder of keys, policies and certificates that an initrd believes, and what it decides.

mod examine;
mod explain;
mod lock;
mod template;

use crate::output;
use anyhow::{Context, Result};
use iguana_core::hint::hinted;
use iguana_core::http::Proxies;
use iguana_core::image::{Finder, Machine, PullEvent};
use iguana_core::trust::Trust;
use std::fs;
use std::path::{Path, PathBuf};

/// What may be in a trust folder.
const KNOWN: &[&str] = &[
    "auth.json",
    "ca",
    "certs.d",
    "iguana.conf",
    "keys",
    "policy.json",
    "registries.conf",
    "registries.conf.d",
    "registries.d",
];

/// What to do with a trust folder.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum Command {
    /// Make a strict one, with comments: nothing runs until keys are put in
    Init {
        /// The folder, which must be new or empty
        folder: PathBuf,
    },
    /// Say whether an image or a workflow may run, by which rule, and why
    Explain {
        /// The name of an image, or the file of a workflow
        subject: String,
        /// The trust folder [default: this machine's /etc/containers]
        #[arg(long, value_name = "DIR")]
        trust: Option<PathBuf>,
    },
}

/// Pins the images of a workflow.
pub(crate) use lock::Options as LockOptions;
pub(crate) use lock::run as lock;

/// Does it.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Init { folder } => template::write(folder),
        Command::Explain { subject, trust } => explain::run(subject, &open(trust.as_deref())?),
    }
}

pub(crate) use examine::{ExaminedBundle, examine, examine_as, examine_bundle};

/// Where what belongs to a workflow is: beside it, its name with an ending.
pub(crate) fn beside(workflow: &Path, ending: &str) -> PathBuf {
    let mut name = workflow.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The trust that a person named, else this machine's.
pub(crate) fn open(folder: Option<&Path>) -> Result<Trust> {
    folder.map_or_else(Trust::of_machine, Trust::open)
}

/// Where images are asked for as the trust says.
pub(crate) fn finder(trust: &Trust) -> Result<Finder> {
    let proxies = Proxies::from_environment(|name| std::env::var(name).ok())?;
    Ok(trust.finder(trust.client().through(proxies), Machine::this()))
}

/// Tells what a person who waits should know.
pub(crate) fn tell(event: PullEvent) {
    match event {
        PullEvent::Elsewhere { place, why } => {
            output::note(format_args!("warning: not from `{place}`: {why}"))
        }
        PullEvent::Waiting { why, .. } => output::note(format_args!("warning: {why}; trying again")),
        _ => {}
    }
}

/// The files of a folder that is to be baked in, by their paths in it, once every one is known to be of use.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let trust = Trust::open(folder)?;
    trust.policy.check_keys()?;
    trust.rules.workflow_keys()?;
    let mut found = Vec::new();
    for name in names_in(folder)? {
        if name.to_ascii_uppercase().starts_with("README") {
            continue;
        }
        if !KNOWN.contains(&name.as_str()) {
            let message = format!("`{name}` in the trust folder `{}` has no meaning", folder.display());
            return Err(hinted(message, format!("a trust folder has `{}`", KNOWN.join("`, `"))));
        }
        collect(folder, Path::new(&name), &mut found)?;
    }
    Ok(found)
}

fn collect(folder: &Path, path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let place = folder.join(path);
    if !place.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    names_in(&place)?.iter().try_for_each(|name| collect(folder, &path.join(name), found))
}

/// Sorted, so that equal folders make equal initrds.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
