//! The exit codes of this program, and how it reports a failure: what failed, why, and what to do.

use crate::output;
use anyhow::{Error, Result};
use std::ffi::OsString;
use std::process::ExitCode;

/// How this program ends. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did what it should, and nothing is wrong.
    Fine = 0,
    /// It could not do what it should.
    Failed = 1,
    /// Its command line is wrong; the number is clap's.
    Usage = 2,
    /// It did what it should, and found errors.
    Findings = 3,
    /// It ran a workflow, which failed.
    WorkflowFailed = 4,
}

impl Exit {
    /// The exit codes of `iguana check` and their meaning.
    const CHECK: [(Self, &str); 4] = [
        (Self::Fine, "success; there may be warnings and notes"),
        (Self::Failed, "the command failed, for example because a file cannot be read"),
        (Self::Usage, "the command line is invalid"),
        (Self::Findings, "a workflow has errors"),
    ];
    /// Those of `iguana try`.
    const TRY: [(Self, &str); 4] = [
        (Self::Fine, "the workflow succeeded"),
        (Self::Failed, "the command failed, or the virtual machine ended before the workflow"),
        (Self::Usage, "the command line is invalid"),
        (Self::WorkflowFailed, "the workflow failed"),
    ];

    /// For `iguana check --help`.
    pub(crate) fn help_of_check() -> String {
        Self::help(&Self::CHECK)
    }

    /// For `iguana try --help`.
    pub(crate) fn help_of_try() -> String {
        Self::help(&Self::TRY)
    }

    fn help(codes: &[(Self, &str)]) -> String {
        let line = |(exit, meaning): &(Self, &str)| format!("  {}  {meaning}\n", *exit as u8);
        format!("Exit codes:\n{}", codes.iter().map(line).collect::<String>())
    }
}

/// Reports a failure on standard error and returns the exit code.
pub(crate) fn exit_code(done: Result<Exit>) -> ExitCode {
    let exit = done.unwrap_or_else(|error| {
        tell(&error);
        Exit::Failed
    });
    ExitCode::from(exit as u8)
}

/// Reports a wrong command line in clap's words. They quote the arguments. If an argument has control characters or
/// commands of a CI service, all lines but the first are marked.
pub(crate) fn misused(error: &clap::Error) -> ExitCode {
    let does_more = |argument: OsString| {
        let argument = argument.to_string_lossy();
        argument.contains(printable::is_hidden) || argument.contains("##")
    };
    match std::env::args_os().any(does_more) {
        true => output::note(error.render()),
        // If standard error cannot be written to, there is no other place to report it.
        false => drop(error.print()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8))
}

/// Reports a failure after which the program continues.
pub(crate) fn tell(error: &Error) {
    // If standard error cannot be written to, there is no other place to report it.
    let _ = output::write(std::io::stderr(), &block(error));
}

fn block(error: &Error) -> String {
    let mut lines = printable::lines(&format!("iguana: error: {error}"));
    let causes: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
    if !causes.is_empty() {
        lines.extend(printable::lines(&format!("  why: {}", causes.join(": "))));
    }
    if let Some(hint) = hint::of(error) {
        lines.extend(printable::lines(&format!("  hint: {hint}")));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};
    use hint::WithHint;

    #[test]
    fn a_failure_has_its_causes_and_a_hint() {
        let failed: Result<()> =
            Err(anyhow!("no space")).context("disk").context("cannot write `a`").hint("make room");
        let expected = "iguana: error: cannot write `a`\n  why: disk: no space\n  hint: make room\n";
        assert_eq!(block(&failed.unwrap_err()), expected);
        assert_eq!(block(&anyhow!("no")), "iguana: error: no\n");
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        assert!(Exit::help_of_check().starts_with("Exit codes:\n  0  success"));
        assert!(Exit::help_of_check().ends_with("  3  a workflow has errors\n"));
        assert!(Exit::help_of_try().ends_with("  4  the workflow failed\n"));
    }
}
