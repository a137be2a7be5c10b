//! The program in the initrd. It has several roles, selected by its name and its first argument.
//!
//! Principles:
//!
//! 1. PID 1 waits for the worker, which does the boot. All that can fail is in the worker; its crash is a verdict.
//! 2. Only `boot` knows the order of the steps, and no step calls another.
//! 3. Only `report` prints.
//! 4. Every wait has a limit, and reports what it waits for.
//!
//! Errors end the boot with a report: what failed, why, in which stage, and a hint. Then the failure policy applies.
//!
//! Specifications: docs/ in the repository; ARCHITECTURE.md has the timeline of a boot.

#[allow(clippy::disallowed_methods, reason = "disks, and what the kernel says of them")]
mod block;
#[allow(clippy::disallowed_methods, reason = "the kernel command line")]
mod boot;
#[allow(clippy::disallowed_methods, reason = "this is the module that waits")]
mod bounded;
#[allow(
    clippy::disallowed_methods,
    reason = "files of the initrd, and of the disk that the workflow comes from"
)]
mod control;
#[allow(clippy::disallowed_methods, reason = "files of dracut's initrd")]
mod dracut;
#[allow(clippy::disallowed_methods, reason = "the new system's disks, and what Iguana leaves in `/run`")]
mod handover;
mod jobs;
#[allow(clippy::disallowed_methods, reason = "files of the kernel and the initrd")]
mod machine;
mod pattern;
#[allow(clippy::disallowed_methods, reason = "the console, and the log")]
mod report;
mod run;
mod run_plan;
#[allow(clippy::disallowed_methods, reason = "the kernel command line")]
mod supervise;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Of any bytes: the kernel passes on what is on its command line.
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let word = |place: usize| arguments.get(place).map(String::as_str).unwrap_or_default();
    let rest = |first: usize| arguments.iter().skip(first).cloned();
    let is_first_process = rustix::process::getpid().is_init();
    let (name, command) = (word(0).rsplit('/').next(), word(1));
    let is_called_by_user = command == run::COMMAND || name == Some(run::CLASSIC_NAME);
    // In an initrd the environment comes from the kernel command line, and so from anyone: only a user of a running
    // system may say something there.
    let environment = match is_called_by_user && !is_first_process {
        true => Vec::new(),
        false => sys::take_environment(),
    };
    sys::want_no_backtrace();
    match (name, command) {
        (Some(runtime::INIT_NAME), _) => runtime::init(),
        (Some("modprobe"), _) => machine::modules::modprobe(rest(1)),
        // Check this first: the kernel passes unknown bare words of its command line to PID 1 as arguments.
        _ if is_first_process => supervise::run(environment),
        (Some(dracut::GENERATOR_NAME), _) => dracut::generator(),
        (_, "--version" | "-V") => report::version(),
        (Some(run::CLASSIC_NAME), _) => run::main(rest(1)),
        (_, run::COMMAND) => run::main(rest(2)),
        (_, supervise::WORKER) => boot::work(),
        (_, dracut::COMMAND) => dracut::main(rest(2)),
        _ => report::not_for_people(),
    }
}
