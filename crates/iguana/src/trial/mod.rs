//! `iguana try`: runs a workflow in a virtual machine on the current terminal.

mod disk;
mod outcome;

use crate::build;
use crate::build::Recipe;
use crate::failure::Exit;
use crate::open_path;
use crate::output;
use anyhow::{Context, Result, ensure};
use disk::TrialDisk;
use hint::WithHint;
use iguana_vm::{Machine, Qemu, Serial};
use outcome::{Events, Outcome};
use std::io::Write;
use std::path::Path;

/// Sends the messages of the kernel and the workflow to the terminal.
const CONSOLE: &str = "console=ttyS0";
/// What follows a failure, unless the caller says otherwise.
const ON_FAILURE: &str = "rd.iguana.on_failure=";

/// The virtual machine that the workflow is tried in.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Trial {
    /// Memory of the virtual machine
    #[arg(long = "memory", value_name = "MIB", default_value = "1024", value_parser = memory)]
    memory_mib: u32,
    /// Attach an empty disk of a size such as 8G, or a disk image (raw unless stated otherwise); can be repeated
    #[arg(long = "disk", value_name = "SIZE|FILE[,format=qcow2]")]
    disks: Vec<String>,
    /// Options to append to the kernel command line
    #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// After a failure, open a shell instead of powering off (with `--shell`)
    #[arg(long)]
    keep: bool,
    /// How to print the result; with `json`, the console goes to standard error
    #[arg(long = "output", value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// How the result of the workflow is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Nothing beyond what the console shows.
    #[default]
    Text,
    /// An object with jobs, times and failure.
    Json,
}

/// Builds an initrd with `workflow`, boots it, and returns what became of the workflow.
pub(crate) fn run(recipe: &Recipe, workflow: &Path, trial: &Trial) -> Result<Exit> {
    let qemu =
        Qemu::find().hint("it runs the virtual machine: install it with `apt install qemu-system-x86`")?;
    let disks = trial.disks.iter().map(|disk| TrialDisk::open(disk)).collect::<Result<Vec<_>>>()?;
    let kernel = recipe.kernel()?;
    let image = kernel.open_image()?;
    let built = build::make(&kernel, recipe, Some(workflow), |line| output::note(line))?;
    for fact in &built.facts {
        output::note(fact);
    }
    let mut initrd = tempfile::tempfile().context("cannot create a temporary file")?;
    initrd.write_all(&built.bytes).context("cannot write the initrd to a temporary file")?;
    let events = Events::receive()?;
    let machine = Machine {
        initrd: Some(open_path::of(&initrd)),
        append: trial.command_line(),
        memory_mib: trial.memory_mib,
        disks: disks.iter().map(TrialDisk::disk).collect(),
        serial: Serial::Terminal,
        extra: events.arguments().into(),
        ..Machine::new(open_path::of(&image))
    };
    output::note(format_args!(
        "starting the virtual machine ({}); Ctrl-A X ends it",
        qemu.accelerator.argument()
    ));
    match trial.format {
        Format::Text => qemu.run(&machine, std::io::stdout())?,
        Format::Json => qemu.run(&machine, std::io::stderr())?,
    }
    report(&events.outcome()?, trial.format)
}

/// Prints the outcome, and makes it this program's.
fn report(outcome: &Outcome, format: Format) -> Result<Exit> {
    if format == Format::Json {
        outcome.print()?;
    }
    outcome.check_end()?;
    Ok(if outcome.is_success() { Exit::Fine } else { Exit::WorkflowFailed })
}

impl Trial {
    fn command_line(&self) -> String {
        let is_decided = self.append.split_whitespace().any(|option| option.starts_with(ON_FAILURE));
        let mut options = vec![CONSOLE.to_owned()];
        if !is_decided {
            options.push(format!("{ON_FAILURE}{}", if self.keep { "shell" } else { "poweroff" }));
        }
        options.extend(self.append.split_whitespace().map(ToOwned::to_owned));
        options.join(" ")
    }
}

/// Parses `--memory`.
fn memory(text: &str) -> Result<u32> {
    let mib = text.parse().context("it is not a number of MiB")?;
    ensure!(mib >= 96, "even Debian's smallest kernel needs 96 MiB to unpack an initrd");
    Ok(mib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_powers_off_unless_the_caller_says_otherwise() {
        let line = |append: &str, keep| {
            let (disks, append) = (Vec::new(), append.to_owned());
            Trial { memory_mib: 512, disks, append, keep, format: Format::Text }.command_line()
        };
        assert_eq!(line("", false), "console=ttyS0 rd.iguana.on_failure=poweroff");
        assert_eq!(line(" a  b ", true), "console=ttyS0 rd.iguana.on_failure=shell a b");
        let own = "rd.iguana.on_failure=reboot";
        assert_eq!(line(own, true), format!("console=ttyS0 {own}"));
    }
}
