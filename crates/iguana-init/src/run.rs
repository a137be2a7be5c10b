//! Runs a workflow on a running system: `iguana-init run FILE`, and the classic `iguana-workflow FILE`.
//!
//! The system manages network, devices and clock. There is no handover: the result files in `/iguana` are left to the
//! caller.

mod arguments;

use crate::control;
use crate::jobs::Streams;
use crate::machine::memory;
use crate::report;
use crate::report::{At as _, Failure, Report, Stage};
use crate::run_plan;
use crate::run_plan::{Prepared, RunOptions};
use anyhow::Context as _;
use arguments::Arguments;
use config::caller::CallerLogins;
use config::cmdline::Settings;
use config::trust::Trust;
use config::workflow_trust::{Candidate, Provenance};
use fetch::http::{DOCUMENT_LIMIT, Proxies};
use hint::WithHint as _;
use oci_pull::{Caller, Finder};
use oci_reference::Machine;
use oci_trust::pins::Pins;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::getuid;
use std::env;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;
use timestamp::Timestamp;
use workflow::{Plan, render};

/// The classic name of this program.
pub(crate) const CLASSIC_NAME: &str = "iguana-workflow";
/// The first argument that selects this command.
pub(crate) const COMMAND: &str = "run";

/// Exit statuses. Scripts rely on these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All jobs succeeded that had to.
    Succeeded = 0,
    /// A job failed that was not allowed to, or the run could not start.
    Failed = 1,
    /// The command line was wrong.
    Usage = 2,
    /// The workflow is invalid, and nothing was run. `iguana check` has the same status.
    Mistake = 3,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        Self::from(end as u8)
    }
}

/// Runs the command and returns its exit status.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments = match arguments::parse(arguments, env::var("RUST_LOG").ok().as_deref()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            report::answer(arguments::HELP);
            return End::Succeeded.into();
        }
        Err(error) => {
            report::misused("iguana-workflow", &error, "see `iguana-workflow --help`");
            return End::Usage.into();
        }
    };
    let report = Report::to_caller(arguments.level);
    let end = run(&arguments, &report).unwrap_or_else(|failure| {
        report.failure(&failure);
        if failure.stage == Stage::Workflow { End::Mistake } else { End::Failed }
    });
    end.into()
}

fn run(arguments: &Arguments, report: &Report) -> Result<End, Failure> {
    let trust = arguments.trust.as_deref().map_or_else(Trust::of_machine, Trust::open).at(Stage::Trust)?;
    let bytes = untrusted_fs::read_file(&arguments.file, DOCUMENT_LIMIT)
        .with_context(|| format!("cannot read the workflow `{}`", arguments.file))
        .at(Stage::ControlFile)?;
    let beside = |ending: &str| read_beside(&control::beside(&arguments.file, ending));
    let candidate = Candidate {
        origin: &arguments.file,
        bytes: &bytes,
        control_url: Some(&arguments.file),
        provenance: Provenance::Nothing,
    };
    let authenticated = candidate.authenticate(&trust.rules, &beside).at(Stage::Trust)?;
    control::tell_signer(&authenticated, report);
    let plan = control::plan(&arguments.file, &bytes, report).at(Stage::Workflow)?;
    let admitted = authenticated.admit(&plan, Some(Timestamp::of(SystemTime::now()))).at(Stage::Trust)?;
    let pins = admitted.pins(&plan, &beside).at(Stage::Trust)?;
    control::tell_pins(&pins, report);
    if arguments.dry_run {
        report::answer(&render::steps(&plan, &arguments.new_root));
        return Ok(End::Succeeded);
    }
    let failures = run_plan(&plan, trust, pins, arguments, report)?;
    for failure in &failures {
        report.failure(failure);
    }
    Ok(if failures.is_empty() { End::Succeeded } else { End::Failed })
}

/// Reads what belongs to the workflow, whose directory may be another user's.
fn read_beside(path: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let read = |file: File| untrusted_fs::read_bounded(file, DOCUMENT_LIMIT);
    let opened = untrusted_fs::open_in_its_directory(path).with_context(|| format!("cannot read `{path}`"));
    let opened = opened.hint("it must be a file, or a symbolic link to one in the same directory")?;
    opened.map(read).transpose().with_context(|| format!("cannot read `{path}`"))
}

fn run_plan(
    plan: &Plan,
    trust: Trust,
    pins: Pins,
    arguments: &Arguments,
    report: &Report,
) -> Result<Vec<Failure>, Failure> {
    let _held = exchange::lock().at(Stage::Boot)?;
    // Mount this before the mount namespace is separated: the files of containers stay there until the next run.
    let mounted = exchange::mount(run_plan::shared_limits(plan)).at(Stage::Boot)?;
    leave_no_mounts().at(Stage::Boot)?;
    let memory = memory::Watch::start();
    let proxies = Proxies::from_environment(|name| env::var(name).ok()).at(Stage::Image)?;
    let http = trust.client().through(proxies);
    let trust = with_logins_of_caller(trust);
    let cmdline = config::cmdline::read("/proc/cmdline");
    let options = RunOptions {
        cmdline: &cmdline,
        // The system manages its own swap.
        may_swap: false,
        new_root: arguments.new_root.clone().into(),
        privileged: !arguments.unprivileged,
        debug: arguments.debug,
        streams: Streams::Caller,
    };
    let prepared = Prepared::new(mounted, &Settings::default(), options, report)?;
    if let Some(name) = &plan.name {
        report.say(format_args!("workflow: {name}"));
    }
    // The system's udev handles changes of disks.
    let job_ended = || ();
    let finder = Finder { caller: Caller::Run, ..trust.finder(http, Machine::this()) };
    let outcome = prepared.run(plan, finder, pins, job_ended)?;
    outcome.results.warnings().for_each(|warning| report.warn(warning));
    report.tell(memory.summary());
    Ok(outcome.failures)
}

/// The calling user's logins come before those of the trust directory, and replace them if the user named the file.
fn with_logins_of_caller(mut trust: Trust) -> Trust {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let CallerLogins { mut logins, is_chosen } = CallerLogins::read(&variable, getuid().as_raw());
    if !is_chosen {
        logins.then(trust.logins);
    }
    trust.logins = logins;
    trust
}

/// Separates the mount namespace: mounts of this process end with it, and new mounts of the system still appear in it.
fn leave_no_mounts() -> anyhow::Result<()> {
    sys::leave_mounts_of_others().context("cannot create a mount namespace").hint("run it as root")?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("cannot detach the mounts from the system's")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these tests play another user of the machine")]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Words of the kernel command line become the environment of PID 1, so a boot must not take anything from it: only
    /// this file, which a boot does not use, reads variables. Libraries get what they need from their callers.
    #[test]
    fn only_a_run_on_a_running_system_reads_the_environment() {
        let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        // Those of the workstation, and the crate that takes the environment of PID 1 away.
        let elsewhere = ["iguana", "iguana-vm", "sys"];
        let mut readers = Vec::new();
        let mut left = vec![PathBuf::from(crates)];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                let inside = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
                left.extend(inside.filter(|path| !elsewhere.iter().any(|name| path.ends_with(name))));
            } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("build.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let reads = ["var(", "var_os(", "vars(", "vars_os("].map(|call| format!("env::{call}"));
                readers.extend(reads.iter().any(|call| text.contains(call)).then_some(path));
            }
        }
        assert_eq!(readers.len(), 1, "{readers:?}");
        assert!(readers[0].ends_with("iguana-init/src/run.rs"), "{readers:?}");
    }

    /// The directory of a workflow may belong to another user.
    #[test]
    fn a_file_next_to_a_workflow_is_bounded_and_in_its_directory() {
        let home = tempfile::tempdir().unwrap();
        let place = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        assert!(read_beside(&place("absent")).unwrap().is_none());
        fs::write(place("workflow.yaml.sig"), "signature").unwrap();
        symlink("workflow.yaml.sig", place("link")).unwrap();
        assert_eq!(read_beside(&place("link")).unwrap().unwrap(), b"signature");
        mknodat(CWD, place("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        symlink("/dev/zero", place("endless")).unwrap();
        symlink("/etc/passwd", place("other")).unwrap();
        fs::File::create(place("large")).unwrap().set_len(DOCUMENT_LIMIT + 1).unwrap();
        for (name, told) in
            [("fifo", "a FIFO"), ("endless", "No such file"), ("other", "No such file"), ("large", "8388608")]
        {
            let error = format!("{:#}", read_beside(&place(name)).unwrap_err());
            assert!(error.contains(told), "{name}: {error}");
        }
        for name in ["fifo", "endless", "large"] {
            let arguments = arguments::parse([place(name)].into_iter(), None).unwrap().unwrap();
            let failure = run(&arguments, &Report::to_caller(arguments.level)).unwrap_err();
            assert!(failure.to_string().contains("cannot read the workflow"), "{name}: {failure}");
        }
    }
}
