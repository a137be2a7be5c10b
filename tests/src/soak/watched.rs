//! Runs a program and notes when it says something.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What a program said until its end.
#[derive(Debug)]
pub(super) struct Watched {
    /// Standard output and error, line by line.
    pub(super) text: String,
    /// The exit status; `None` when a signal ended it, or it was killed at the limit.
    pub(super) status: Option<i32>,
    /// The longest time without a line, from start to end.
    pub(super) silence: Duration,
    /// Whether it was killed at the limit.
    pub(super) is_late: bool,
}

/// Runs `command` to its end, at most until `limit`; then it is killed.
pub(super) fn watch(command: &mut Command, limit: Duration) -> Result<Watched> {
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let start = Instant::now();
    let mut child = command.spawn().context("it cannot be started")?;
    // The command holds the pipe's other end, too.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (said, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if said.send((Instant::now(), String::from_utf8_lossy(&line).into_owned())).is_err() {
                return;
            }
        }
    });
    let (mut text, mut last, mut silence, mut is_late) = (String::new(), start, Duration::ZERO, false);
    loop {
        match lines.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok((when, line)) => {
                text += &format!("{line}\n");
                silence = silence.max(when - last);
                last = when;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                is_late = true;
                child.kill().ok();
                break;
            }
        }
    }
    let status = child.wait()?.code().filter(|_| !is_late);
    Ok(Watched { text, status, silence: silence.max(last.elapsed()), is_late })
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
    fn lines_and_the_longest_silence_are_noted() {
        let watched =
            watch(&mut sh("echo a; sleep 0.5; echo b >&2; exit 3"), Duration::from_secs(20)).unwrap();
        assert_eq!((watched.text.as_str(), watched.status, watched.is_late), ("a\nb\n", Some(3), false));
        assert!(watched.silence >= Duration::from_millis(400));
    }

    #[test]
    fn a_program_that_never_ends_is_killed_at_the_limit() {
        let watched = watch(&mut sh("exec sleep 20"), Duration::from_millis(200)).unwrap();
        assert!(watched.is_late && watched.status.is_none() && watched.silence < Duration::from_secs(10));
    }
}
