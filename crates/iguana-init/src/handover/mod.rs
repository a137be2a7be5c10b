//! The end of the boot: what the containers asked for, and the way into the new system.

mod device;
mod filesystem;
mod mount_list;
mod new_root;

pub(crate) use new_root::switch_root;

use crate::report::{At as _, Failure, Report, Stage};
use anyhow::Context as _;
use iguana_core::cmdline::Settings;
use iguana_core::hint::{WithHint as _, hinted};
use mount_list::Entry;
use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The new system's root.
pub(crate) const NEW_ROOT: &str = "/sysroot";
/// What a container writes to end the boot otherwise than with a switch of the root.
const KERNEL_ACTION: &str = "/iguana/kernelAction";
/// What a container writes to have the new system mounted.
const MOUNT_LIST: &str = "/iguana/mountlist";
/// Bytes that are read of either file; a real one has a few hundred.
const RESULT_LIMIT: u64 = 64 << 10;

/// What happens after the last job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Handover {
    /// Go on as the system that is mounted at `/sysroot`, with this first program.
    SwitchRoot {
        init: String,
    },
    Reboot,
    PowerOff,
    Halt,
}

/// Reads the result files and prepares what they ask for; `None` when no container wrote any.
///
/// # Errors
/// When what they ask for cannot be done.
pub(crate) fn decide(settings: &Settings, report: &Report) -> Result<Option<Handover>, Failure> {
    let handover = match (read_result(KERNEL_ACTION), read_result(MOUNT_LIST)) {
        (Some(action), _) => kernel_action(&action).at(Stage::Handover)?,
        (None, Some(list)) => mount_all(&list, settings, report).at(Stage::Handover)?,
        (None, None) => return Ok(None),
    };
    match &handover {
        Handover::Reboot => report.say("handover: reboot"),
        Handover::PowerOff => report.say("handover: power off"),
        Handover::Halt => report.say("handover: halt"),
        Handover::SwitchRoot { .. } => {}
    }
    Ok(Some(handover))
}

/// Goes on as the system of `root=`.
///
/// # Errors
/// When there is no such option, or that system cannot be mounted.
pub(crate) fn local(settings: &Settings, report: &Report) -> Result<Handover, Failure> {
    let root = settings.root.as_deref().ok_or_else(|| {
        hinted("the command line does not say where the system on the disk is", "add `root=DEVICE` to it")
    });
    let list = format!("{} {NEW_ROOT}", root.at(Stage::Handover)?);
    mount_all(&list, settings, report).at(Stage::Handover)
}

/// Reads one file of the root file system on a device, which is mounted read-only meanwhile.
///
/// # Errors
/// When the device does not come, cannot be mounted, or has no such file.
pub(crate) fn peek(root: &str, mountpoint: &str, file: &str, report: &Report) -> anyhow::Result<String> {
    fs::create_dir_all(mountpoint)?;
    let mut wait = |waiting: &str| report.say(format_args!("machine-id: waiting for {waiting}"));
    Entry::new(root, mountpoint, "ro").mount(&mut wait)?;
    let path = Path::new(mountpoint).join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `/{file}` there"));
    unmount(mountpoint, UnmountFlags::DETACH)?;
    text
}

fn read_result(path: &str) -> Option<String> {
    // Whatever a container has put there: to open a FIFO could take for ever.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(RESULT_LIMIT).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn kernel_action(action: &str) -> anyhow::Result<Handover> {
    match action.to_ascii_lowercase().as_str() {
        "reboot" => Ok(Handover::Reboot),
        "poweroff" => Ok(Handover::PowerOff),
        "halt" => Ok(Handover::Halt),
        _ => Err(hinted(
            format!("`{KERNEL_ACTION}` asks for `{action}`, which is not known"),
            "write `reboot`, `poweroff` or `halt`",
        )),
    }
}

/// All jobs went well, and none wrote a result file.
pub(crate) fn nothing_to_do() -> Failure {
    let error = hinted(
        "no job said what comes next",
        format!("have a job write `DEVICE {NEW_ROOT}` to `{MOUNT_LIST}`, or `reboot` to `{KERNEL_ACTION}`"),
    );
    Failure { stage: Stage::Handover, job: None, error }
}

fn mount_all(list: &str, settings: &Settings, report: &Report) -> anyhow::Result<Handover> {
    let entries = mount_list::parse(list)?;
    let root = entries.iter().find(|entry| entry.mountpoint == Path::new(NEW_ROOT));
    let device = root
        .map(|entry| entry.device.clone())
        .with_context(|| format!("the mount list does not mount anything at `{NEW_ROOT}`"))
        .hint(format!("add a line `DEVICE {NEW_ROOT}`"))?;
    let mut wait = |waiting: &str| report.say(format_args!("handover: waiting for {waiting}"));
    for entry in &entries {
        entry.mount(&mut wait)?;
    }
    let init = new_root::find_init(Path::new(NEW_ROOT), settings.init.as_deref())?;
    report.say(format_args!("handover: switch root to {device}, init {init}"));
    Ok(Handover::SwitchRoot { init })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_actions_are_read_as_containers_write_them() {
        assert_eq!(kernel_action("reboot").unwrap(), Handover::Reboot);
        assert_eq!(kernel_action("PowerOff").unwrap(), Handover::PowerOff);
        assert!(kernel_action("explode").unwrap_err().to_string().contains("`explode`"));
    }
}
