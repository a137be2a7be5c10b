//! The boot record (`state:` of a workflow): a small file on a file system that outlives the boot, which says on the
//! next boot how the workflow ended. The file system is only mounted while it is read or written, so that jobs can use
//! it freely.

use super::DISK_LIMIT;
use super::filesystem;
use super::filesystem::DeviceContent;
use super::partitions;
use super::partitions::{DiskBaseline, ESP};
use crate::block::named;
use crate::bounded;
use crate::report::{Report, Waiting};
use anyhow::{Context as _, bail};
use hint::hinted;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::path::PathBuf;
use untrusted_fs::{Directory, Links};

/// The value of `state:` that means the EFI system partition.
const ON_ESP: &str = "esp";
/// Where the file system is mounted meanwhile.
const MOUNTPOINT: &str = "/run/iguana/state";
/// The directory and file name of the record.
const DIRECTORY: &str = "iguana";
const FILE: &str = "workflow";
/// Bytes of the file that are read, and characters of a reason that are written.
const LIMIT: u64 = 4096;
const REASON_LIMIT: usize = 1000;
/// The outcomes in the record.
const BEGUN: &str = "begun";
const SUCCEEDED: &str = "succeeded";
const FAILED: &str = "failed";

/// The record of this boot's workflow.
pub(crate) struct BootRecord {
    place: String,
    workflow: String,
}

impl BootRecord {
    /// Reports how the workflow of the last boot ended, and records that this one has begun. Errors are only reported:
    /// they are no reason not to run the workflow.
    pub(crate) fn begin(place: &str, workflow: Option<&str>, report: &Report) -> Self {
        let state = Self { place: place.into(), workflow: workflow.unwrap_or("unnamed").into() };
        let begun = state.text(BEGUN, "");
        match note_in_time(place, begun, report) {
            Ok(Some(last)) => tell(&last, report),
            Ok(None) => {}
            Err(error) => report.warn(format_args!("state: cannot write to `{place}`: {error:#}")),
        }
        state
    }

    /// Records how the workflow ended; `why` is the reason of a failure.
    pub(crate) fn end(&self, why: Option<&str>, report: &Report) {
        let text = self.text(if why.is_some() { FAILED } else { SUCCEEDED }, why.unwrap_or_default());
        if let Err(error) = note_in_time(&self.place, text, report) {
            report.warn(format_args!("state: cannot write the result to `{}`: {error:#}", self.place));
        }
    }

    /// The text of the record, three lines: outcome, name of the workflow, reason.
    fn text(&self, outcome: &str, why: &str) -> String {
        let one_line = |text: &str| -> String {
            text.chars().take(REASON_LIMIT).map(|it| if it.is_control() { ' ' } else { it }).collect()
        };
        format!("{outcome}\n{}\n{}\n", one_line(&self.workflow), one_line(why))
    }
}

fn tell(last: &str, report: &Report) {
    match told(last) {
        (true, words) => report.say(words),
        (false, words) => report.warn(words),
    }
}

/// A record in words, and whether the workflow succeeded.
fn told(last: &str) -> (bool, String) {
    let shown: String = last.chars().filter(|it| *it == '\n' || !it.is_control()).collect();
    let mut lines = shown.lines();
    let [outcome, workflow, why] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let words = match outcome {
        SUCCEEDED => format!("the last workflow (`{workflow}`) succeeded"),
        FAILED => format!("the last workflow (`{workflow}`) failed: {why}"),
        BEGUN => format!("the last workflow (`{workflow}`) was interrupted: it began but did not end"),
        _ => "the record of the last workflow is damaged".into(),
    };
    (outcome == SUCCEEDED, format!("state: {words}"))
}

/// Writes the record and returns the previous one. Gives up after a limit if the disk does not answer.
fn note_in_time(place: &str, text: String, report: &Report) -> anyhow::Result<Option<String>> {
    let _waiting = Waiting::start(report, format!("state: waiting for `{place}`"), DISK_LIMIT);
    let place = place.to_owned();
    let noted = bounded::within(DISK_LIMIT, move || look_and_note(&place, &text));
    noted.unwrap_or_else(|| Err(super::silent_disk()))
}

/// Writes the record and returns the previous one.
fn look_and_note(place: &str, text: &str) -> anyhow::Result<Option<String>> {
    let device = find(place)?;
    let DeviceContent::FileSystem(kind) = filesystem::content(&device)? else {
        return Err(filesystem::closed(&device));
    };
    fs::create_dir_all(MOUNTPOINT)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSYMFOLLOW;
    mount(&device, MOUNTPOINT, kind, flags, None)
        .with_context(|| format!("cannot mount `{}` ({kind})", device.display()))?;
    let replaced = Directory::open(MOUNTPOINT).and_then(|top| replace(&top, text));
    unmount(MOUNTPOINT, UnmountFlags::empty()).context("cannot unmount it")?;
    Ok(replaced?)
}

/// Replaces the record atomically: even after a power failure, a reader finds the old text or the new one. The file
/// system is untrusted, since anyone with access to the disk may have written it: no link on it is followed, and only a
/// small regular file is read.
fn replace(top: &Directory, text: &str) -> Result<Option<String>, untrusted_fs::Error> {
    let directory = top.directory_or_new(DIRECTORY, 0o755)?;
    let old = directory.read_to_string(FILE, Links::Refuse, LIMIT).ok();
    directory.replace(FILE, 0o644, text.as_bytes())?;
    directory.sync()?;
    Ok(old)
}

/// The device for `place`. Does not wait: all devices have been found by now, and a new disk has no such partition
/// before the job creates it.
fn find(place: &str) -> anyhow::Result<PathBuf> {
    if !place.eq_ignore_ascii_case(ON_ESP) {
        return named::find(place)?.with_context(|| format!("there is no device `{place}`"));
    }
    let disks = partitions::disks(&DiskBaseline::default());
    let of = |wanted: &dyn Fn(&partitions::Disk) -> bool| -> Vec<PathBuf> {
        let disks = disks.iter().filter(|disk| wanted(disk));
        disks.flat_map(|disk| disk.automatic(ESP)).map(|partition| partition.node.clone()).collect()
    };
    let booted = of(&|disk| disk.is_boot);
    match (if booted.is_empty() { of(&|_| true) } else { booted }).as_slice() {
        [] => bail!("there is no EFI system partition"),
        [one] => Ok(one.clone()),
        several => Err(hinted(
            format!("there are {} EFI system partitions", several.len()),
            "name one of them in `state:`, for example by `PARTUUID=`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::symlink;

    #[test]
    fn the_recorded_outcome_is_reported() {
        let state = BootRecord { place: String::new(), workflow: "install\nit".into() };
        assert_eq!(
            told(&state.text(SUCCEEDED, "")),
            (true, "state: the last workflow (`install it`) succeeded".into())
        );
        assert!(told(&state.text(FAILED, "no\x1b[2J disk")).1.ends_with("failed: no [2J disk"));
        assert!(told(&state.text(BEGUN, "")).1.contains("was interrupted"));
        for odd in ["", "\n\n", "x\ny\nz", "\u{1b}[2J"] {
            assert!(told(odd).1.ends_with("is damaged"), "{odd:?}");
        }
    }

    #[test]
    fn the_file_is_replaced_and_the_old_text_given_back() {
        let home = tempfile::tempdir().unwrap();
        let top = Directory::open(home.path()).unwrap();
        assert_eq!(replace(&top, "one").unwrap(), None);
        assert_eq!(replace(&top, "two").unwrap().as_deref(), Some("one"));
        let directory = home.path().join(DIRECTORY);
        assert_eq!(fs::read_to_string(directory.join(FILE)).unwrap(), "two");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn planted_links_on_the_state_file_system_are_not_followed() {
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (directory, victim) = (home.path().join(DIRECTORY), outside.path().join("victim"));
        fs::create_dir(&directory).unwrap();
        fs::write(&victim, "untouched").unwrap();
        for name in [FILE, "workflow.new"] {
            symlink(&victim, directory.join(name)).unwrap();
        }
        let top = Directory::open(home.path()).unwrap();
        assert_eq!(replace(&top, "noted").unwrap(), None, "what a link leads to is not told");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(fs::read_to_string(directory.join(FILE)).unwrap(), "noted");
        fs::remove_dir_all(&directory).unwrap();
        symlink(outside.path(), &directory).unwrap();
        assert!(replace(&top, "noted").is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_fifo_on_the_state_file_system_does_not_block_the_boot() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(DIRECTORY);
        fs::create_dir(&directory).unwrap();
        mknodat(CWD, directory.join(FILE), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(replace(&Directory::open(home.path()).unwrap(), "noted").unwrap(), None);
        assert_eq!(fs::read_to_string(directory.join(FILE)).unwrap(), "noted");
    }
}
