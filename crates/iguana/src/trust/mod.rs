//! `iguana trust`: the directory of keys, policies and certificates that an initrd believes, and what it decides.

mod examine;
mod explain;
mod lock;
mod template;

use crate::build::inputs;
use crate::caller;
use crate::output;
use crate::waiting::Waiting;
use anyhow::{Context, Result, ensure};
use config::trust::Trust;
use fetch::http::{DOCUMENT_LIMIT, Proxies};
use hint::{WithHint, hinted};
use oci_pull::{Caller, Finder, PullEvent};
use oci_reference::Machine;
use std::fs::File;
use std::path::{Path, PathBuf};
use trust_directory::Files;

/// The names that a trust directory may contain.
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

/// Limits on the number of files, which are open at the same time, and on the nesting depth: `certs.d/HOST` is the
/// deepest directory with a meaning.
const FILES: usize = 500;
const DEPTH: usize = 4;

/// What to do with a trust directory.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum Command {
    /// Create a strict trust directory with comments: nothing runs until keys are added
    Init {
        /// The directory, which must be new or empty
        directory: PathBuf,
    },
    /// Explain whether an image or a workflow may run, and by which rule
    Explain {
        /// The name of an image, or the file of a workflow
        subject: String,
        /// The trust directory [default: this machine's /etc/containers]
        #[arg(long, value_name = "DIR")]
        trust: Option<PathBuf>,
    },
}

/// The options of `iguana lock`, which pins the images of a workflow.
pub(crate) use lock::Options as LockOptions;
pub(crate) use lock::run as lock;

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Init { directory } => template::write(directory),
        Command::Explain { subject, trust } => explain::run(subject, &open(trust.as_deref())?),
    }
}

pub(crate) use examine::{ExaminedBundle, examine, examine_as, examine_bundle};

/// Path of a file that belongs to a workflow: the workflow's path with an extension.
pub(crate) fn beside(workflow: &Path, ending: &str) -> PathBuf {
    let mut name = workflow.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Opens a file beside a workflow. The directory may belong to another user, so it must be a regular file, and a link
/// must stay in the directory. Returns `None` if the file does not exist.
pub(crate) fn open_beside(workflow: &Path, ending: &str) -> Result<Option<File>> {
    let path = beside(workflow, ending);
    let opened = untrusted_fs::open_in_its_directory(&path);
    opened
        .with_context(|| format!("cannot read `{}`", path.display()))
        .hint("it must be a file, or a symbolic link to one in the same directory")
}

/// Reads such a file, which has at most the size limit of a document.
pub(crate) fn read_beside(workflow: &Path, ending: &str) -> Result<Option<Vec<u8>>> {
    let Some(file) = open_beside(workflow, ending)? else { return Ok(None) };
    let read = untrusted_fs::read_bounded(file, DOCUMENT_LIMIT);
    read.map(Some).with_context(|| format!("cannot read `{}`", beside(workflow, ending).display()))
}

/// The trust directory that the user named, or else this machine's, with the registries.conf that the environment names.
/// It has the user's logins, too.
pub(crate) fn open(directory: Option<&Path>) -> Result<Trust> {
    let of_machine = || Trust::of_machine_for(caller::registries().as_deref());
    Ok(caller::with_logins(directory.map_or_else(of_machine, Trust::open)?))
}

/// Looks up images as the trust directory says.
pub(crate) fn finder(trust: &Trust) -> Result<Finder> {
    let proxies = Proxies::from_environment(|name| std::env::var(name).ok())?;
    let finder = trust.finder(trust.client().through(proxies), Machine::this());
    Ok(Finder { caller: Caller::Trust, ..finder })
}

/// Reports the events of a pull that a waiting user should know.
pub(crate) fn teller() -> impl FnMut(PullEvent) {
    let mut waiting = None;
    move |event| {
        waiting = match event {
            PullEvent::Asking { limit } => Some(Waiting::start("waiting for the registry".into(), limit)),
            PullEvent::Waiting { ref why, wait, .. } => {
                output::note(format_args!("warning: {why}; retrying"));
                Some(Waiting::start("waiting for the next attempt".into(), wait))
            }
            PullEvent::Elsewhere { ref place, ref why } => {
                output::note(format_args!("warning: cannot use `{place}`: {why}"));
                None
            }
            _ => waiting.take(),
        };
    }
}

/// An open file of a trust directory, with its relative path.
pub(crate) type Found = (String, File);

/// The files of a trust directory that goes into an initrd. Fails if one of them has no meaning there.
pub(crate) fn files(directory: &Path) -> Result<Vec<Found>> {
    let trust = Trust::open(directory)?;
    trust.policy.check_places()?;
    inputs::warn_of_unusable(&trust.logins, &directory.join("auth.json"));
    trust.registries.ignored_helpers().for_each(|warning| output::note(format_args!("warning: {warning}")));
    let (files, mut found) = (Files::of(directory)?, Vec::new());
    for name in files.names()? {
        if name.to_ascii_uppercase().starts_with("README") {
            continue;
        }
        if !KNOWN.contains(&name.as_str()) {
            let message = format!("unknown file `{name}` in the trust directory `{}`", directory.display());
            return Err(hinted(message, format!("a trust directory may contain `{}`", KNOWN.join("`, `"))));
        }
        collect(&files, &name, &name, &mut found)?;
    }
    Ok(found)
}

/// Collects `name` in `files`; `path` is its path relative to the trust directory.
fn collect(files: &Files, name: &str, path: &str, found: &mut Vec<Found>) -> Result<()> {
    if files.has_directory(name) {
        ensure!(path.matches('/').count() < DEPTH, "`{path}` in the trust directory is nested too deeply");
        let below = files.directory(name);
        let mut names = below.names()?.into_iter();
        return names.try_for_each(|name| collect(&below, &name, &format!("{path}/{name}"), found));
    }
    ensure!(found.len() < FILES, "the trust directory has more than {FILES} files");
    let file =
        files.open(name)?.with_context(|| format!("`{path}` in the trust directory no longer exists"))?;
    found.push((path.to_owned(), file));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_next_to_a_workflow_is_in_its_directory() {
        let (room, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let (workflow, lock) = (room.path().join("flow.yaml"), room.path().join("flow.yaml.lock"));
        fs::write(room.path().join("other.lock"), "lock").unwrap();
        symlink("other.lock", &lock).unwrap();
        assert_eq!(read_beside(&workflow, ".lock").unwrap().unwrap(), b"lock");
        assert!(read_beside(&workflow, ".sig").unwrap().is_none());
        symlink(outside.path().join("secret"), room.path().join("flow.yaml.sig")).unwrap();
        assert!(read_beside(&workflow, ".sig").is_err());
        fs::remove_file(&lock).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&lock).status().unwrap().success());
        let error = format!("{:#}", read_beside(&workflow, ".lock").unwrap_err());
        assert!(error.contains("it is a FIFO"), "{error}");
    }
}
