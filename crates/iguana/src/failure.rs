//! How a failure is told: what failed, why, and what to do.

use anyhow::{Error, Result};
use iguana_core::hint;
use std::process::ExitCode;

/// Tells a failure on standard error.
pub(crate) fn exit_code(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", block(&error));
            ExitCode::FAILURE
        }
    }
}

fn block(error: &Error) -> String {
    let mut text = format!("iguana: error: {error}\n");
    let causes: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
    if !causes.is_empty() {
        text.push_str(&format!("  why: {}\n", causes.join(": ")));
    }
    if let Some(hint) = hint::of(error) {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};
    use iguana_core::hint::WithHint;

    #[test]
    fn a_failure_has_its_causes_and_a_hint() {
        let failed: Result<()> =
            Err(anyhow!("no space")).context("disk").context("cannot write `a`").hint("make room");
        let expected = "iguana: error: cannot write `a`\n  why: disk: no space\n  hint: make room\n";
        assert_eq!(block(&failed.unwrap_err()), expected);
        assert_eq!(block(&anyhow!("no")), "iguana: error: no\n");
    }
}
