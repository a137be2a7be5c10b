//! PID 1: small, so that it does not fail. It starts the boot as a child, reaps whatever is
//! orphaned, and carries out what the boot decided. A crash of the boot is an exit status here.

use crate::handover;
use crate::handover::Handover;
use crate::machine::mounts;
use crate::report::{Failure, Report, Stage};
use config::cmdline::{OnFailure, Settings};
use config::rules::Rules;
use hint::hinted;
use rustix::process::{Pid, WaitOptions};
use rustix::system::{RebootCommand, reboot};
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

/// The first argument of the process that does the boot.
pub(crate) const WORKER: &str = "boot";
/// This program in the initrd; `/proc/self/exe` would depend on a mount.
const PROGRAM: &str = "/init";
/// Seconds before a reboot at which they are told; the first is the time in which the reason can be read and copied.
const COUNT: &[u64] = &[10, 5, 3, 2, 1];
/// The shell of an initrd that was built with `--shell`.
const SHELL: &str = "/bin/sh";

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
    let verdict = work().unwrap_or_else(|error| {
        report.failure(&Failure { stage: Stage::Boot, job: None, error });
        Verdict::Failed(settings.on_failure)
    });
    carry_out(verdict, &settings, &report);
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
fn work() -> anyhow::Result<Verdict> {
    let mut worker = Command::new(PROGRAM).arg(WORKER).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let status = reap_until_end_of(&worker)?;
    read_verdict(&mut worker).ok_or_else(|| match status.terminating_signal() {
        Some(libc::SIGKILL) => {
            hinted("the boot program was killed", "memory was full: give the machine more")
        }
        Some(signal) => hinted(format!("the boot program crashed by signal {signal}"), "please report this"),
        None => hinted("the boot program ended without a decision", "please report this"),
    })
}

fn reap_until_end_of(worker: &Child) -> anyhow::Result<rustix::process::WaitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if Some(pid) == Pid::from_raw(worker.id() as i32) => return Ok(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_verdict(worker: &mut Child) -> Option<Verdict> {
    let mut line = String::new();
    BufReader::new(worker.stdout.take()?).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

fn carry_out(verdict: Verdict, settings: &Settings, report: &Report) {
    match verdict {
        Verdict::HandOver(Handover::SwitchRoot { init }) => {
            let Err(error) = handover::switch_root(&init);
            report.say(format_args!("error: cannot switch root: {error:#}"));
            on_failure(settings.on_failure, settings, report);
        }
        Verdict::HandOver(Handover::Kexec) => {
            drain_console();
            let Err(error) = handover::start_loaded_kernel();
            report.say(format_args!("error: {error:#}"));
            on_failure(settings.on_failure, settings, report);
        }
        Verdict::HandOver(Handover::Reboot) => end(RebootCommand::Restart, report),
        Verdict::HandOver(Handover::PowerOff) => end(RebootCommand::PowerOff, report),
        Verdict::HandOver(Handover::Halt) => end(RebootCommand::Halt, report),
        Verdict::Failed(policy) => on_failure(policy, settings, report),
    }
}

fn on_failure(policy: OnFailure, settings: &Settings, report: &Report) {
    // A container of a boot that crashed would go on writing to disks, and holds the terminal.
    sys::kill_all_others();
    follow(policy, settings, report, |why| shell(why, report));
}

/// Does what is to be done after a failure; `shell` gets the reason for one.
pub(crate) fn follow(policy: OnFailure, settings: &Settings, report: &Report, shell: impl FnOnce(&str)) {
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
        OnFailure::Shell => shell(&why),
        OnFailure::PowerOff => {
            report.say(format_args!("on failure: power off ({why})"));
            end(RebootCommand::PowerOff, report);
        }
        OnFailure::Reboot | OnFailure::Local => {
            count_down(&why, report);
            end(RebootCommand::Restart, report);
        }
    }
}

fn shell(why: &str, report: &Report) {
    report.say(format_args!("on failure: a shell ({why}); its end restarts the machine"));
    if let Err(error) = run_shell() {
        report.say(format_args!("error: cannot run `{SHELL}`: {error}"));
        report.say("  hint: build the initrd with `--shell`");
        count_down("there is no shell", report);
    }
    end(RebootCommand::Restart, report);
}

/// The reason stays on the screen meanwhile.
fn count_down(why: &str, report: &Report) {
    for (place, seconds) in COUNT.iter().enumerate() {
        match place {
            0 => report.say(format_args!("on failure: rebooting in {seconds} s ({why})")),
            _ => report.say(format_args!("rebooting in {seconds} s")),
        }
        let next = COUNT.get(place + 1).copied().unwrap_or_default();
        thread::sleep(Duration::from_secs(seconds - next));
    }
}

fn run_shell() -> anyhow::Result<()> {
    let mut command = Command::new(SHELL);
    command.arg("-l").current_dir("/root").env_clear();
    command.envs([("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"), ("HOME", "/root"), ("TERM", "linux")]);
    runtime::attach_to_terminal(&mut command)?;
    let shell = command.spawn()?;
    reap_until_end_of(&shell)?;
    Ok(())
}

/// Ends the machine, or starts the loaded kernel.
pub(crate) fn end(how: RebootCommand, report: &Report) {
    rustix::fs::sync();
    drain_console();
    if let Err(error) = reboot(how) {
        report.say(format_args!("error: the kernel refuses to end: {error}"));
    }
}

/// Waits until a slow serial line has sent what was written to it.
fn drain_console() {
    if let Ok(console) = std::fs::OpenOptions::new().write(true).open("/dev/console") {
        runtime::drain_terminal(&console);
    }
}
