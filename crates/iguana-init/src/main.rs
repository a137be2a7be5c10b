//! The program in the initrd. One file plays every part there; the name and the first argument say which.

mod boot;
mod container;
mod control;
mod handover;
mod jobs;
mod machine;
mod report;
mod supervise;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let part = arguments.next().unwrap_or_default();
    let is_first_process = rustix::process::getpid().is_init();
    match (program.rsplit('/').next(), part.as_str()) {
        (Some(container::INIT_NAME), _) => container::init(),
        (Some("modprobe"), _) => machine::modules::modprobe(arguments.next_back().unwrap_or(part)),
        // First: a bare word of the kernel command line is an argument of process 1.
        _ if is_first_process => supervise::run(),
        (_, supervise::WORKER) => boot::work(),
        (_, "--version") => report::version(),
        _ => report::not_for_people(),
    }
}
