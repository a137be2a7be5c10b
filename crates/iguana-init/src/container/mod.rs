//! Containers: from a verified image to a process and its exit status.
//!
//! [`start`] plans everything outside and sends the plan to a second copy of this program, which is
//! process 1 of the container's namespaces ([`init`]): it builds the root, starts the program, reaps.

mod inside;
mod plan;
mod rootfs;
mod terminal;
mod user;

pub(crate) use inside::init;
pub(crate) use plan::{Plan, Stdio};
pub(crate) use terminal::{Terminal, attach as attach_to_terminal};

use crate::sys;
use anyhow::{Context as _, bail};
use iguana_core::image::VerifiedImage;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// The name under which this program is process 1 of a container.
pub(crate) const INIT_NAME: &str = "iguana-container";
const INIT_NAME_C: &std::ffi::CStr = c"iguana-container";
/// Time between the request to stop and the end by force; podman's default.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(10);
/// How often a container that was asked to stop is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How a container's program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit status; 128 and more is a signal, as shells count.
    With(u8),
    /// The container's process 1 itself was killed by this signal.
    Killed(i32),
}

impl Ended {
    pub(crate) fn is_success(self) -> bool {
        self == Self::With(0)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::With(status @ 129..=192) => write!(out, "exit status {status} (signal {})", status - 128),
            Self::With(status) => write!(out, "exit status {status}"),
            Self::Killed(signal) => write!(out, "killed by signal {signal}"),
        }
    }
}

/// A container that runs. Dropping it ends it and frees all that was its own.
pub(crate) struct Container {
    process: Option<Pid>,
    scratch: PathBuf,
}

/// Starts a container. Returns when its program runs.
///
/// # Errors
/// When its root cannot be built, or its program cannot be executed: with the reason.
pub(crate) fn start(image: &VerifiedImage, plan: &Plan) -> anyhow::Result<Container> {
    let order = serde_json::to_vec(&inside::Order::new(image, plan)?)?;
    let scratch = plan.scratch.clone();
    rootfs::make_scratch(&scratch)?;
    let mut container = Container { process: None, scratch };
    let (order_reader, mut order_writer) = pipe()?;
    let (error_reader, error_writer) = pipe()?;
    let output = match &plan.stdio {
        Stdio::Terminal(_) | Stdio::Console => {
            open("/dev/console", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?
        }
        Stdio::Log(path) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
            open(path.as_path(), flags, Mode::from_raw_mode(0o600))
                .with_context(|| format!("cannot write `{}`", path.display()))?
        }
    };
    let descriptors = [order_reader.as_fd(), output.as_fd(), output.as_fd(), error_writer.as_fd()];
    let process = sys::start_in_namespaces(INIT_NAME_C, &descriptors).context("cannot make namespaces")?;
    container.process = Some(process);
    drop((order_reader, error_writer));
    order_writer.write_all(&order).context("the container's process 1 has ended")?;
    drop(order_writer);
    let mut error = String::new();
    File::from(error_reader).read_to_string(&mut error)?;
    inside::Refusal::read(&error).map_err(inside::Refusal::into_error)?;
    Ok(container)
}

impl Container {
    /// Waits for the end of the program.
    ///
    /// # Errors
    /// When the kernel does not know the container any more.
    pub(crate) fn wait(&mut self) -> anyhow::Result<Ended> {
        let Some(process) = self.process else { bail!("the container has ended before") };
        loop {
            match waitpid(Some(process), WaitOptions::empty()) {
                Ok(Some((_, status))) => {
                    self.process = None;
                    return Ok(ended(status));
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for the container"),
            }
        }
    }

    /// The end of the program, if it has come.
    pub(crate) fn try_wait(&mut self) -> Option<Ended> {
        let (_, status) = waitpid(Some(self.process?), WaitOptions::NOHANG).ok()??;
        self.process = None;
        Some(ended(status))
    }

    /// Asks the program to end, and ends it by force when it does not.
    pub(crate) fn stop(&mut self) {
        let Some(process) = self.process else { return };
        // A failure means that it is gone, which the next line finds out.
        let _ = kill_process(process, Signal::TERM);
        let start = Instant::now();
        while self.try_wait().is_none() && self.process.is_some() {
            if start.elapsed() > STOP_GRACE {
                self.kill();
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn kill(&mut self) {
        if let Some(process) = self.process {
            let _ = kill_process(process, Signal::KILL);
            let _ = self.wait();
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill();
        // Its mounts went with its namespaces; what is left is memory.
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

fn ended(status: WaitStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Ended::With(status as u8),
        (None, Some(signal)) => Ended::Killed(signal),
        (None, None) => Ended::With(u8::MAX),
    }
}

fn pipe() -> anyhow::Result<(OwnedFd, File)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((reader, writer.into()))
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
}
