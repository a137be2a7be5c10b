//! The end of the boot: what the containers asked for, and how the new system is entered. docs/handover.md has an
//! overview.

mod action;
mod discovery;
mod filesystem;
mod init;
mod kernel;
mod kexec;
mod left_in_system;
mod leftovers;
mod machine_id;
mod mount_list;
mod partitions;
mod read_only_mount;
mod state;
mod switch_root;
mod system;

pub(crate) use left_in_system::{keep_identity, move_to_run};
pub(crate) use leftovers::KernelState;
pub(crate) use machine_id::machine_id;
pub(crate) use partitions::DiskBaseline;
pub(crate) use state::BootRecord;
pub(crate) use switch_root::{end_other_processes, release_media, release_store, switch_root};

use crate::block::named;
use crate::bounded;
use crate::report::{At as _, Failure, Report, Stage, Waiting};
use anyhow::{Context as _, bail};
use config::cmdline::Settings;
use events::Decision;
use exchange::{KERNEL_ACTION, MOUNT_LIST, Results};
use hint::{WithHint as _, hinted};
use kernel::Fit;
use mount_list::{MountEntry, MountList};
use read_only_mount::ReadOnlyMount;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use system::{Root, System};
use untrusted_fs::Links;

/// The mount point of the new system's root.
pub(crate) const NEW_ROOT: &str = "/sysroot";
/// Bytes that are read of a file on an existing root file system; a machine-id has 33.
const PEEK_LIMIT: u64 = 4096;

/// How long a disk may take for one short operation of the handover. The kernel gives up a request after 30 s, and
/// retries a few times.
const DISK_LIMIT: Duration = Duration::from_secs(120);

fn silent_disk() -> anyhow::Error {
    hinted(
        format!("a disk did not respond within {} s", DISK_LIMIT.as_secs()),
        "check the kernel's messages for the disk and the reason",
    )
}

/// What happens after the last job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Handover {
    /// Switch the root to the system mounted at `/sysroot`, and execute this init program.
    SwitchRoot {
        init: String,
    },
    /// Start the kernel that is loaded.
    Kexec,
    Reboot,
    PowerOff,
    Halt,
}

/// The inputs of the decision.
pub(crate) struct HandoverContext<'a> {
    pub(crate) settings: &'a Settings,
    /// The disks before the first job.
    pub(crate) before: &'a DiskBaseline,
    /// What the kernel had in use before the first job; `None` if none ran.
    pub(crate) left_before: Option<&'a KernelState>,
    /// The machine-id that the containers were given; `None` before any container started.
    pub(crate) machine_id: Option<&'a str>,
    pub(crate) report: &'a Report,
}

/// Reads the result files and prepares what they ask for; `None` if no container that may hand over wrote any. With
/// `strict`, lines of the mount list that would be skipped are errors.
///
/// # Errors
/// When what they ask for cannot be done.
pub(crate) fn decide(
    results: &Results,
    strict: bool,
    around: &HandoverContext<'_>,
) -> Result<Option<Handover>, Failure> {
    results.warnings().for_each(|warning| around.report.warn(warning));
    let handover = match (results.kernel_action(), results.mount_list()) {
        (Some(action), _) => {
            let asked = action.and_then(|action| action::parse(&action));
            asked.map(|handover| action::possible(handover, around.report))
        }
        (None, Some(list)) => list.and_then(|list| enter(&entries(&list, strict, around.report)?, around)),
        (None, None) => return Ok(None),
    };
    handover.at(Stage::Handover).map(|handover| Some(told(handover, around.report)))
}

/// The mount list, with a warning for each line that is skipped.
fn entries(list: &str, strict: bool, report: &Report) -> anyhow::Result<Vec<MountEntry>> {
    let MountList { entries, skipped } = mount_list::parse(list, strict)?;
    for why in skipped {
        report.warn(format_args!("handover: skipping a line of the mount list: {why}"));
    }
    Ok(entries)
}

/// The handover without result files: enters the system found by root discovery.
///
/// # Errors
/// When none or more than one is found, or the system cannot be mounted.
pub(crate) fn discover(around: &HandoverContext<'_>) -> Result<Handover, Failure> {
    let handover = find_root(around).context("no job decided what comes next").hint(format!(
        "have a job write `DEVICE {NEW_ROOT}` to `{MOUNT_LIST}`, or `reboot` to `{KERNEL_ACTION}`"
    ));
    handover.at(Stage::Handover).map(|handover| told(handover, around.report))
}

/// The failure policy `local`: enters the system already on the disk, that of `root=` or the one found by root
/// discovery.
///
/// # Errors
/// When there is none, it cannot be mounted, or a job has written to a disk.
pub(crate) fn local(around: &HandoverContext<'_>) -> Result<Handover, Failure> {
    let handover = local_system(around);
    handover.at(Stage::Handover).map(|handover| told(handover, around.report))
}

fn local_system(around: &HandoverContext<'_>) -> anyhow::Result<Handover> {
    if let [disk, ..] = around.before.written_since().as_slice() {
        return Err(hinted(
            format!("a job wrote to the disk `{}`: the system on it may be incomplete", disk.display()),
            "check what the job did before booting from this disk",
        ));
    }
    match &around.settings.root {
        Some(root) => enter(&mount_list::parse(&format!("{root} {NEW_ROOT}"), true)?.entries, around),
        None => find_root(around).hint("add `root=DEVICE` to the kernel command line"),
    }
}

fn find_root(around: &HandoverContext<'_>) -> anyhow::Result<Handover> {
    let found = discovery::choose(&partitions::disks(around.before))?;
    around.report.say(format_args!("handover: found the root by its partition type: {}", found.reason));
    enter(&found.entries, around)
}

/// Reports the decisions that were not reported where they were made.
fn told(handover: Handover, report: &Report) -> Handover {
    let (decision, text) = match &handover {
        Handover::Reboot => (Decision::Reboot, "handover: reboot"),
        Handover::PowerOff => (Decision::PowerOff, "handover: power off"),
        Handover::Halt => (Decision::Halt, "handover: halt"),
        Handover::Kexec => (Decision::Kexec, "handover: start the loaded kernel (kexec)"),
        Handover::SwitchRoot { .. } => return handover,
    };
    report.decided(decision, text);
    handover
}

/// Mounts a system and enters it. Switches the root if the system has modules for the running kernel, or neither
/// modules nor a kernel; else starts its own kernel.
fn enter(list: &[MountEntry], around: &HandoverContext<'_>) -> anyhow::Result<Handover> {
    let report = around.report;
    let system = System::mount(list, report)?;
    if let Root::Closed { device, .. } = &system.root {
        let why = format!(
            "the root `{}` is encrypted and locked: its own initrd has to unlock it",
            device.display()
        );
        return start_its_kernel(&system, &why, around);
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match kernel::fit(&system::new_root()?, &release) {
        Fit::Modules => report.say(format_args!("handover: the new system has modules for kernel {release}")),
        Fit::OthersOnly(others) => {
            let why = format!("the new system has modules only for {}, not for {release}", others.join(", "));
            return start_its_kernel(&system, &why, around);
        }
        Fit::Nothing => match kernel::installed(&system, around.before, report) {
            Some(_) => {
                return start_its_kernel(&system, "the new system has a kernel without modules", around);
            }
            None => report.say(format_args!(
                "handover: the new system has no kernel: it continues with this one, \
                                   {release}"
            )),
        },
    }
    switch_to(system, around)
}

fn switch_to(system: System, around: &HandoverContext<'_>) -> anyhow::Result<Handover> {
    let init = init::find(&system::new_root()?, around.settings.init.as_deref())?;
    let report = around.report;
    let Root::Open { name, .. } = &system.root else { bail!("the root is not mounted") };
    {
        // Do this here and not in PID 1, which could not give up on a disk that does not answer.
        let what = format!("handover: waiting for the disk of {name}");
        let _waiting = Waiting::start(around.report, what, DISK_LIMIT);
        let answer = bounded::within(DISK_LIMIT, switch_root::make_mountpoints);
        // A read-only root without these directories must be found out before anything is moved.
        answer.unwrap_or_else(|| Err(silent_disk()))?;
    }
    let switch = format_args!("handover: switch root to {name}, init {init}");
    report.decided(Decision::SwitchRoot, switch);
    if let Some(before) = around.left_before {
        leftovers::undo(before, report);
    }
    system.keep();
    left_in_system::leave(around.machine_id, around.report);
    Ok(Handover::SwitchRoot { init })
}

/// Starts the system's own kernel by kexec; if it has none, or kexec does not work, reboots so that the firmware starts
/// it.
fn start_its_kernel(system: &System, why: &str, around: &HandoverContext<'_>) -> anyhow::Result<Handover> {
    let report = around.report;
    report.say(format_args!("handover: {why}"));
    let Some(kernel) = kernel::installed(system, around.before, report) else {
        report.say("handover: the new system's kernel was not found: rebooting into it");
        return Ok(Handover::Reboot);
    };
    if let Err(error) = kexec::load(&kernel) {
        report.say(format_args!("handover: {error:#}: rebooting into the new system"));
        return Ok(Handover::Reboot);
    }
    report.say(format_args!("handover: kexec into {} with `{}`", kernel.name, kernel.cmdline));
    Ok(Handover::Kexec)
}

/// Reads one file of the root file system on a device, which is mounted read-only meanwhile.
///
/// # Errors
/// When the device does not appear, cannot be mounted, or has no such file.
fn peek(root: &str, mountpoint: &str, file: &str, report: &Report) -> anyhow::Result<String> {
    let mut wait = |waiting: &str| report.say(format_args!("machine-id: waiting for {waiting}"));
    let read_only_mount = ReadOnlyMount::of(&named::wait_for(root, &mut wait)?, Path::new(mountpoint))?;
    let text = read_only_mount.top().and_then(|top| top.read_to_string(file, Links::Inside, PEEK_LIMIT));
    text.with_context(|| format!("cannot read its `/{file}`"))
}
