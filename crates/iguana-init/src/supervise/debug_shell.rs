//! The shell of `rd.iguana.debug`, on a virtual console beside the boot.

use super::{SHELL, shell_command};
use crate::report::Report;
use anyhow::Context as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// The virtual console, as in the first Iguana.
const TERMINAL: &str = "/dev/tty2";
/// The pause before a shell that has ended is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts a shell on the second virtual console, and again whenever it ends, as long as this process runs. It never stops
/// the boot: where there is no shell or no such console, that is reported.
pub(crate) fn start(report: &Report) {
    if !Path::new(SHELL).exists() {
        return report.say(format_args!("debug: no shell on `{TERMINAL}`: build the initrd with `--shell`"));
    }
    let report = report.clone();
    thread::spawn(move || {
        report.say(format_args!("debug: a shell is on `{TERMINAL}` (Alt-F2)"));
        loop {
            if let Err(error) = run() {
                return report.say(format_args!("debug: no shell on `{TERMINAL}`: {error:#}"));
            }
            thread::sleep(PAUSE);
        }
    });
}

fn run() -> anyhow::Result<()> {
    let mut command = shell_command();
    runtime::attach_to(Path::new(TERMINAL), &mut command)?;
    // No limit: the person decides when the shell ends, and nothing waits for it.
    command.spawn().with_context(|| format!("cannot run `{SHELL}`"))?.wait()?;
    Ok(())
}
