//! A program that runs in a container, and how it ends.

use super::link::Link;
use iguana_core::hint::hinted;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long the kernel may take to end what was killed.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit status; 128 and more is a signal, as shells count.
    With(u8),
    /// The container's process 1 itself was killed by this signal.
    Killed(i32),
    /// Not within its limit. `by_force`: nor within the plan's `stop_grace` after it was asked to.
    TimedOut { limit: Duration, by_force: bool },
}

impl Ended {
    pub(crate) fn is_success(self) -> bool {
        self == Self::With(0)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::With(status @ 129..=192) => write!(out, "exit status {status} (signal {})", status - 128),
            Self::With(status) => write!(out, "exit status {status}"),
            Self::Killed(signal) => write!(out, "killed by signal {signal}"),
            Self::TimedOut { limit, by_force: false } => {
                write!(out, "stopped after {:.1} s, its limit", limit.as_secs_f32())
            }
            Self::TimedOut { limit, by_force: true } => {
                let limit = limit.as_secs_f32();
                write!(out, "killed after {limit:.1} s, its limit: it did not stop when asked to")
            }
        }
    }
}

/// A program that runs. Dropping this does not end it; the end of its container does.
pub(crate) struct Running {
    link: Arc<Link>,
    id: u64,
    stop_grace: Duration,
    ended: Option<Ended>,
}

impl Running {
    pub(super) fn new(link: Arc<Link>, id: u64, stop_grace: Duration) -> Self {
        Self { link, id, stop_grace, ended: None }
    }

    /// Waits for its end. At the limit it is asked to end (`SIGTERM`), and killed after the plan's
    /// `stop_grace`.
    ///
    /// # Errors
    /// When the kernel does not end it: it waits for a disk or a network.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> anyhow::Result<Ended> {
        if let Some(ended) = self.ends_within(limit) {
            return Ok(ended);
        }
        let limit = limit.unwrap_or_default();
        let by_force = !self.ends_by(libc::SIGTERM, self.stop_grace);
        if by_force && !self.ends_by(libc::SIGKILL, KILL_LIMIT) {
            return Err(hinted(
                format!("the program does not end, {KILL_LIMIT:?} after it was killed"),
                "it waits for a disk or a network that does not answer; the kernel's messages may say which",
            ));
        }
        let ended = Ended::TimedOut { limit, by_force };
        self.ended = Some(ended);
        Ok(ended)
    }

    /// Its end, if it has come.
    pub(crate) fn try_wait(&mut self) -> Option<Ended> {
        self.ends_within(Some(Duration::ZERO))
    }

    fn ends_by(&mut self, signal: i32, limit: Duration) -> bool {
        self.link.signal(self.id, signal);
        self.ends_within(Some(limit)).is_some()
    }

    fn ends_within(&mut self, limit: Option<Duration>) -> Option<Ended> {
        if self.ended.is_none() {
            self.ended = self.link.end_of(self.id, limit);
        }
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_shells_count() {
        assert_eq!(Ended::With(3).to_string(), "exit status 3");
        assert_eq!(Ended::With(137).to_string(), "exit status 137 (signal 9)");
        assert!(Ended::With(0).is_success() && !Ended::Killed(9).is_success());
    }

    #[test]
    fn a_limit_is_told_with_what_it_took() {
        let limit = Duration::from_secs(90);
        assert_eq!(Ended::TimedOut { limit, by_force: false }.to_string(), "stopped after 90.0 s, its limit");
        let killed = Ended::TimedOut { limit, by_force: true }.to_string();
        assert_eq!(killed, "killed after 90.0 s, its limit: it did not stop when asked to");
    }
}
