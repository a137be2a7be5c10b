//! PID 1: small, so that it does not fail. It starts the boot as a child, reaps whatever is
//! orphaned, and carries out what the boot decided. A crash of the boot is an exit status here, and a boot that does not
//! go on ends at a limit. PID 1 itself waits for nothing without one (docs/internals/waits.md).

mod watchdog;
mod worker;

pub(crate) use watchdog::{After, Watchdog};
pub(crate) use worker::{Message, keep_telling};

use crate::bounded;
use crate::handover;
use crate::handover::Handover;
use crate::machine::mounts;
use crate::report::{Failure, Report, Stage};
use config::cmdline::{OnFailure, Settings};
use config::rules::Rules;
use events::Decision;
use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::thread;
use std::time::Duration;
use worker::Worker;

/// The first argument of the process that does the boot.
pub(crate) const WORKER: &str = "boot";
/// This program in the initrd; `/proc/self/exe` would depend on a mount.
const PROGRAM: &str = "/init";
/// Seconds before a reboot at which they are told; the first is the time in which the reason can be read and copied.
const COUNT: &[u64] = &[10, 5, 3, 2, 1];
/// The shell of an initrd that was built with `--shell`.
const SHELL: &str = "/bin/sh";
/// How long a console may take to send what it was given: 4 KiB at 9600 Bd.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked whether the shell has ended.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it is told how much the disks have still to write, in looks of a second.
const TELL_EVERY: u64 = 3;

/// What the boot came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// Go on to the new system.
    HandOver(Handover),
    /// The failure has been shown; now do what the workflow or the command line asks for.
    Failed(OnFailure),
}

/// PID 1 from beginning to end.
pub(crate) fn run() -> ExitCode {
    let mounted = mounts::early();
    let report = Report::open();
    if let Err(error) = mounted {
        report.say(format_args!("error: {error:#}"));
    }
    let settings = settings(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let mut watchdog = Watchdog::new(settings.watchdog);
    let verdict = work(&mut watchdog, &report).unwrap_or_else(|error| {
        // First: where memory is full, or processes are made without end, there is no room to tell.
        sys::kill_all_others();
        report.resume();
        report.failure(&Failure { stage: Stage::Boot, job: None, error });
        Verdict::Failed(settings.on_failure)
    });
    carry_out(verdict, &settings, &mut watchdog, &report);
    loop {
        thread::park();
    }
}

/// What the command line asks for and the trust allows; nothing where the trust cannot be read.
fn settings(cmdline: &str) -> Settings {
    let rules = Rules::from_directory(Path::new(trust_directory::HOME));
    rules.map_or(Settings { no_shell: true, ..Settings::default() }, |rules| rules.settings(cmdline))
}

/// Runs the boot in a child and gives back what it decided.
fn work(watchdog: &mut Watchdog, report: &Report) -> anyhow::Result<Verdict> {
    Worker::start(Command::new(PROGRAM).arg(WORKER))?.decision(|| watchdog.feed(report))
}

fn carry_out(verdict: Verdict, settings: &Settings, watchdog: &mut Watchdog, report: &Report) {
    match verdict {
        Verdict::HandOver(Handover::SwitchRoot { init }) => {
            watchdog.leave(After::System, report);
            report.drain(DRAIN_LIMIT);
            let Err(error) = handover::switch_root(&init, report);
            report.say(format_args!("error: cannot switch root: {error:#}"));
            on_failure(settings.on_failure, settings, watchdog, report);
        }
        Verdict::HandOver(Handover::Kexec) => {
            watchdog.leave(After::System, report);
            handover::end_other_processes();
            end(RebootCommand::Kexec, watchdog, report);
            on_failure(settings.on_failure, settings, watchdog, report);
        }
        Verdict::HandOver(Handover::Reboot) => end(RebootCommand::Restart, watchdog, report),
        Verdict::HandOver(Handover::PowerOff) => end(RebootCommand::PowerOff, watchdog, report),
        Verdict::HandOver(Handover::Halt) => end(RebootCommand::Halt, watchdog, report),
        Verdict::Failed(policy) => on_failure(policy, settings, watchdog, report),
    }
}

fn on_failure(policy: OnFailure, settings: &Settings, watchdog: &mut Watchdog, report: &Report) {
    // A container of a boot that crashed would go on writing to disks, and holds the terminal.
    sys::kill_all_others();
    report.resume();
    follow(policy, settings, watchdog, report, shell);
}

/// Does what is to be done after a failure; `shell` gets the reason for one.
pub(crate) fn follow(
    policy: OnFailure,
    settings: &Settings,
    watchdog: &mut Watchdog,
    report: &Report,
    shell: impl FnOnce(&str, &mut Watchdog, &Report),
) {
    let policy = match policy {
        OnFailure::Shell if settings.no_shell => {
            report.say("on failure: no shell: the trust in this initrd allows none");
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
    let text = format_args!("on failure: a shell ({why}); its end restarts the machine");
    report.decided(Decision::Shell, text);
    if let Err(error) = run_shell(watchdog, report) {
        report.say(format_args!("error: cannot run `{SHELL}`: {error}"));
        report.say("  hint: build the initrd with `--shell`");
        count_down("there is no shell", watchdog, report);
    }
    end(RebootCommand::Restart, watchdog, report);
}

/// The reason stays on the screen meanwhile.
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
    let mut command = Command::new(SHELL);
    command.arg("-l").current_dir("/root").env_clear();
    command.envs([("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"), ("HOME", "/root"), ("TERM", "linux")]);
    runtime::attach_to_terminal(&mut command)?;
    let shell = command.spawn()?;
    // A person takes as long as it takes.
    while !has_been_reaped(&shell) {
        watchdog.feed(report);
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Reaps whatever has ended; whether that process was among them, or is gone.
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

/// Ends the machine, or starts the loaded kernel.
pub(crate) fn end(how: RebootCommand, watchdog: &mut Watchdog, report: &Report) {
    let mut looks = 0;
    let is_written = bounded::sync_disks(|left| {
        watchdog.feed(report);
        looks += 1;
        if looks % TELL_EVERY == 0 {
            report.say(format_args!("waiting for the disks: {} MiB are to be written", left >> 20));
        }
    });
    if !is_written {
        report.say("error: a disk does not take what is to be written: going on without");
    }
    watchdog.leave(after(how), report);
    report.drain(DRAIN_LIMIT);
    if let Err(error) = reboot(how) {
        report.say(format_args!("error: the kernel refuses to end: {error}"));
    }
}

fn after(how: RebootCommand) -> After {
    match how {
        RebootCommand::Restart => After::Restart,
        RebootCommand::Kexec => After::System,
        _ => After::Rest,
    }
}
