//! The kernel's random numbers: keys of TLS wait for them, and on a machine without a source of them nobody comes.
//!
//! A kernel since 5.4 makes some of its own, from the jitter of the clock, in about a second; but only while somebody
//! waits in getrandom(2) (drivers/char/random.c, `try_to_generate_entropy`). Whoever polls `/dev/random` waits for ever.

use crate::report::{Report, Waiting};
use hint::hinted;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long the kernel may take. It makes a bit each tick of its clock (4 ms) where the processor's clock is fine, up to
/// 16 times as long where it is coarse, and needs 256 of them.
const LIMIT: Duration = Duration::from_secs(60);
/// What takes longer is worth a line at the console.
const UNNOTICED: Duration = Duration::from_secs(1);

/// The kernel's random numbers, being made.
pub(crate) struct Random {
    start: Instant,
    ready: Receiver<()>,
}

impl Random {
    /// Has the kernel make random numbers, in the background, if it has none yet.
    pub(crate) fn make() -> Self {
        let (tell, ready) = channel();
        thread::spawn(move || {
            wait_in_kernel();
            // Whoever wanted to know may have given up.
            let _ = tell.send(());
        });
        Self { start: Instant::now(), ready }
    }

    /// Returns when there are random numbers that nobody can guess.
    ///
    /// # Errors
    /// When there are none after a minute.
    pub(crate) fn wait(self, report: &Report) -> anyhow::Result<()> {
        if self.ready.try_recv().is_ok() {
            return Ok(());
        }
        let waiting = Waiting::start(report, "random numbers: waiting for the kernel's".into(), LIMIT);
        let come = self.ready.recv_timeout(LIMIT.saturating_sub(self.start.elapsed()));
        drop(waiting);
        let waited = self.start.elapsed();
        match come {
            Ok(()) if waited > UNNOTICED => {
                report.say(format_args!(
                    "random numbers: the kernel's came after {:.1} s",
                    waited.as_secs_f32()
                ));
                Ok(())
            }
            Ok(()) => Ok(()),
            Err(_) => Err(hinted(
                format!(
                    "the kernel has no random numbers after {} s, and keys of TLS are made of them",
                    LIMIT.as_secs()
                ),
                "give the machine a source: virtio-rng, a TPM, or a processor with RDRAND",
            )),
        }
    }
}

fn wait_in_kernel() {
    // Another error is a kernel that has no such call, and so nothing to wait for.
    while getrandom(&mut [0_u8; 1][..], GetRandomFlags::empty()) == Err(Errno::INTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Level;

    #[test]
    fn a_machine_that_is_up_has_random_numbers() {
        let start = Instant::now();
        Random::make().wait(&Report::to_caller(Level::Error)).unwrap();
        assert!(start.elapsed() < UNNOTICED);
    }

    #[test]
    fn a_machine_without_random_numbers_is_told() {
        let (_tell, ready) = channel();
        let start = Instant::now().checked_sub(LIMIT).unwrap();
        let error = Random { start, ready }.wait(&Report::to_caller(Level::Error)).unwrap_err();
        assert!(error.to_string().starts_with("the kernel has no random numbers after 60 s"), "{error}");
        assert!(hint::of(&error).unwrap().contains("virtio-rng"));
    }
}
