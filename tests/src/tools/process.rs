//! Runs host tools to their end, with a time limit. Their output is kept for error messages.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Lines of a failed tool's standard error in the error message.
const TOLD_LINES: usize = 25;

/// Polling interval for a running tool: shorter than the quickest tool, and long enough to cost nothing.
const POLL: Duration = Duration::from_millis(10);

/// Limit for tools that work on small local files; only a hung tool reaches it.
pub const QUICK: Duration = Duration::from_secs(60);

/// Limit for tools that fetch packages or make a whole Debian, on two slow cores.
pub const LONG: Duration = Duration::from_secs(1200);

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

/// Runs `command` to its end within `limit`; returns its standard output, or an error with its output.
pub fn run(command: &mut Command, limit: Duration) -> Result<String> {
    let Ended { status, output, errors } = end(command, limit)?;
    if !status.success() {
        bail!("`{}` ended with {status}:\n{}", line(command), tail(&(output + &errors)));
    }
    Ok(output)
}

/// Runs `command` to its end within `limit`, whatever its exit status.
pub fn end(command: &mut Command, limit: Duration) -> Result<Ended> {
    let mut out = tempfile::tempfile()?;
    let mut err = tempfile::tempfile()?;
    let mut child = spawn(command.stdout(out.try_clone()?).stderr(err.try_clone()?))?;
    let status = wait(&mut child, limit).with_context(|| format!("`{}`", line(command)))?;
    Ok(Ended { status, output: from_start(&mut out)?, errors: from_start(&mut err)? })
}

/// Runs `command` with its output on this terminal, and expects success.
pub fn show(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child = spawn(command)?;
    let status = wait(&mut child, limit).with_context(|| format!("`{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// Whether `command` could be started and succeeded; nothing is printed.
pub fn succeeds(command: &mut Command) -> bool {
    run(command, QUICK).is_ok()
}

/// Waits for `child` at most until `limit`, then kills it.
pub fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill().ok();
            child.wait()?;
            bail!("not finished after {} s, killed", limit.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).spawn().with_context(|| format!("`{}` cannot be started", line(command)))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn from_start(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TOLD_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_of_a_success_is_returned() {
        assert_eq!(run(&mut sh("echo out; echo err >&2"), QUICK).unwrap(), "out\n");
    }

    #[test]
    fn a_failure_names_the_command_and_its_output() {
        let error = run(&mut sh("echo why >&2; exit 3"), QUICK).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");
    }

    #[test]
    fn a_hanging_program_is_killed() {
        let start = Instant::now();
        let error = run(&mut sh("exec sleep 20"), Duration::from_millis(100)).unwrap_err();
        assert!(format!("{error:#}").contains("killed"), "{error:#}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
