//! The supervisor, PID 1. It is small so that it does not fail: it starts the worker, reaps orphans, and carries out
//! the verdict. A crash of the worker is just an exit status here, and a worker that is stuck is killed after a limit.
//! All waits of PID 1 itself have limits (docs/internals/waits.md).

mod debug_shell;
mod watchdog;
mod worker;

pub(crate) use debug_shell::start as start_debug_shell;
pub(crate) use watchdog::{After, Watchdog};
pub(crate) use worker::{Message, report_periodically};

use crate::bounded;
use crate::handover;
use crate::handover::Handover;
use crate::machine::mounts;
use crate::report::{Failure, Report, Stage};
use config::cmdline::{OnFailure, Settings};
use config::inheritance::Inheritance;
use config::rules::Rules;
use events::Decision;
use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::thread;
use std::time::Duration;
use worker::Worker;

/// The first argument of the worker process.
pub(crate) const WORKER: &str = "boot";
/// This program's path in the initrd; `/proc/self/exe` would depend on a mount.
const PROGRAM: &str = "/init";
/// Seconds before a reboot at which the countdown is reported. The first value is the time to read and copy the reason.
const COUNT: &[u64] = &[10, 5, 3, 2, 1];
/// The shell of an initrd that was built with `--shell`.
const SHELL: &str = "/bin/sh";
/// How long a console may take to send its buffer: 4 KiB at 9600 Bd.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How often to check whether the shell has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often the remaining bytes are reported while the disks are synced, in checks of one second.
const REPORT_INTERVAL: u64 = 3;

/// What the worker has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// Enter the new system.
    HandOver(Handover),
    /// The boot failed, and the failure was reported. Apply this policy.
    Failed(OnFailure),
}

/// The main function of PID 1. `given` is what the kernel put into its environment, which it does not have any more.
pub(crate) fn run(given: Vec<(OsString, OsString)>) -> ExitCode {
    let mounted = mounts::early();
    let report = Report::open();
    report.send_to_host();
    if let Err(error) = mounted {
        report.say(format_args!("error: {error:#}"));
    }
    let rules = Rules::from_directory(Path::new(trust_directory::HOME)).ok();
    let cmdline = config::cmdline::read("/proc/cmdline");
    let settings = settings(rules.as_ref(), &cmdline);
    // The kernel passed the words after `--` to this program; they are meant for the new system's init.
    let arguments = std::env::args_os().skip(1).collect();
    let inheritance = rules.map(|rules| rules.inheritance(arguments, given, &cmdline)).unwrap_or_default();
    let mut watchdog = Watchdog::new(settings.watchdog);
    let verdict = work(&mut watchdog, &report).unwrap_or_else(|error| {
        // Kill first: if memory is full, or processes are created without end, reporting would fail.
        sys::kill_all_others();
        report.resume();
        report.failure(&Failure::new(Stage::Boot, error));
        Verdict::Failed(settings.on_failure)
    });
    carry_out(verdict, &inheritance, &settings, &mut watchdog, &report);
    loop {
        thread::park();
    }
}

/// The settings that the trust allows; the most restrictive ones if the trust cannot be read.
fn settings(rules: Option<&Rules>, cmdline: &str) -> Settings {
    rules.map_or(Settings { no_shell: true, ..Settings::default() }, |rules| rules.settings(cmdline))
}

/// Runs the worker and returns its verdict.
fn work(watchdog: &mut Watchdog, report: &Report) -> anyhow::Result<Verdict> {
    Worker::start(Command::new(PROGRAM).arg(WORKER))?.decision(|| watchdog.feed(report))
}

fn carry_out(
    verdict: Verdict,
    inheritance: &Inheritance,
    settings: &Settings,
    watchdog: &mut Watchdog,
    report: &Report,
) {
    match verdict {
        Verdict::HandOver(Handover::SwitchRoot { init }) => {
            watchdog.leave(After::System, report);
            report.drain(DRAIN_LIMIT);
            let Err(error) = handover::switch_root(&init, inheritance, report);
            report.say(format_args!("error: cannot switch root: {error:#}"));
            on_failure(settings.on_failure, settings, watchdog, report);
        }
        Verdict::HandOver(Handover::Kexec) => {
            watchdog.leave(After::System, report);
            handover::end_other_processes();
            end(RebootCommand::Kexec, watchdog, report);
            report.decided(Decision::Reboot, "error: kexec failed: rebooting instead");
            end(RebootCommand::Restart, watchdog, report);
        }
        Verdict::HandOver(Handover::Reboot) => end(RebootCommand::Restart, watchdog, report),
        Verdict::HandOver(Handover::PowerOff) => end(RebootCommand::PowerOff, watchdog, report),
        Verdict::HandOver(Handover::Halt) => end(RebootCommand::Halt, watchdog, report),
        Verdict::Failed(policy) => on_failure(policy, settings, watchdog, report),
    }
}

fn on_failure(policy: OnFailure, settings: &Settings, watchdog: &mut Watchdog, report: &Report) {
    // After a crash of the worker, containers would keep writing to disks and holding the terminal.
    sys::kill_all_others();
    report.resume();
    follow(policy, settings, watchdog, report, shell);
}

/// Applies the failure policy; `shell` is called with the reason if a shell is to be opened.
pub(crate) fn follow(
    policy: OnFailure,
    settings: &Settings,
    watchdog: &mut Watchdog,
    report: &Report,
    shell: impl FnOnce(&str, &mut Watchdog, &Report),
) {
    let policy = match policy {
        OnFailure::Shell if settings.no_shell => {
            report.say("on failure: no shell: the trust directory of this initrd does not allow one");
            OnFailure::Reboot
        }
        OnFailure::Reboot if settings.debug && !settings.no_shell => OnFailure::Shell,
        policy => policy,
    };
    let why = match policy {
        OnFailure::Shell if settings.debug => "rd.iguana.debug".into(),
        policy if policy == settings.on_failure => format!("rd.iguana.on_failure={policy}"),
        policy => format!("`on-failure: {policy}` of the workflow"),
    };
    match policy {
        OnFailure::Shell => shell(&why, watchdog, report),
        OnFailure::PowerOff => {
            report.decided(Decision::PowerOff, format_args!("on failure: power off ({why})"));
            end(RebootCommand::PowerOff, watchdog, report);
        }
        OnFailure::Reboot | OnFailure::Local => {
            count_down(&why, watchdog, report);
            end(RebootCommand::Restart, watchdog, report);
        }
    }
}

fn shell(why: &str, watchdog: &mut Watchdog, report: &Report) {
    let text = format_args!("on failure: starting a shell ({why}); the machine reboots when it exits");
    report.decided(Decision::Shell, text);
    if let Err(error) = run_shell(watchdog, report) {
        report.say(format_args!("error: cannot run `{SHELL}`: {error}"));
        report.say("  hint: build the initrd with `--shell`");
        count_down("there is no shell", watchdog, report);
    }
    end(RebootCommand::Restart, watchdog, report);
}

/// Counts down to the reboot. The reason stays on the screen meanwhile.
fn count_down(why: &str, watchdog: &mut Watchdog, report: &Report) {
    for (place, seconds) in COUNT.iter().enumerate() {
        match place {
            0 => {
                report.decided(Decision::Reboot, format_args!("on failure: rebooting in {seconds} s ({why})"))
            }
            _ => report.say(format_args!("rebooting in {seconds} s")),
        }
        watchdog.feed(report);
        let next = COUNT.get(place + 1).copied().unwrap_or_default();
        thread::sleep(Duration::from_secs(seconds - next));
    }
}

fn run_shell(watchdog: &mut Watchdog, report: &Report) -> anyhow::Result<()> {
    let mut command = shell_command();
    runtime::attach_to_main_console(&mut command)?;
    let shell = command.spawn()?;
    // No limit: the user decides when the shell ends.
    while !has_been_reaped(&shell) {
        watchdog.feed(report);
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn shell_command() -> Command {
    let mut command = Command::new(SHELL);
    command.arg("-l").current_dir("/root").env_clear();
    command.envs([("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"), ("HOME", "/root"), ("TERM", "linux")]);
    command
}

/// Reaps all children that have ended; `true` if `process` was among them, or no longer exists.
fn has_been_reaped(process: &Child) -> bool {
    let mut is_gone = false;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((ended, _))) => is_gone |= ended == Pid::from_child(process),
            Ok(None) => return is_gone,
            Err(rustix::io::Errno::INTR) => {}
            // There are no children.
            Err(_) => return true,
        }
    }
}

/// Syncs the disks, then ends the machine or starts the loaded kernel.
pub(crate) fn end(how: RebootCommand, watchdog: &mut Watchdog, report: &Report) {
    let mut looks = 0;
    let is_written = bounded::sync_disks(|left| {
        watchdog.feed(report);
        looks += 1;
        if looks % REPORT_INTERVAL == 0 {
            report.say(format_args!("waiting for the disks: {} MiB left to write", left >> 20));
        }
    });
    if !is_written {
        report.say("error: a disk does not accept writes: continuing without them");
    }
    watchdog.leave(after(how), report);
    report.drain(DRAIN_LIMIT);
    if let Err(error) = reboot(how) {
        report.say(format_args!("error: the kernel refuses: {error}"));
    }
}

fn after(how: RebootCommand) -> After {
    match how {
        RebootCommand::Restart => After::Restart,
        RebootCommand::Kexec => After::System,
        _ => After::Rest,
    }
}
