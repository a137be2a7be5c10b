//! The kernel's random numbers. TLS keys need them, and an idle machine without a hardware source does not become ready
//! by itself.
//!
//! Since 5.4 the kernel generates entropy from the jitter of the clock in about a second, but only while a process
//! waits in getrandom(2) (drivers/char/random.c, `try_to_generate_entropy`). Polling `/dev/random` would wait forever.

use crate::report::{Report, Waiting};
use hint::hinted;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long the kernel may take. It needs 256 bits and generates one per timer tick (4 ms) if the processor's clock has
/// a fine resolution; with a coarse one it takes up to 16 times as long.
const LIMIT: Duration = Duration::from_secs(60);
/// A longer wait is reported on the console.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// The kernel's random number generator, being seeded.
pub(crate) struct Random {
    start: Instant,
    ready: Receiver<()>,
}

impl Random {
    /// Makes the kernel seed its generator in the background, if necessary.
    pub(crate) fn make() -> Self {
        let (tell, ready) = channel();
        thread::spawn(move || {
            wait_in_kernel();
            // Fails if the receiver has given up waiting.
            let _ = tell.send(());
        });
        Self { start: Instant::now(), ready }
    }

    /// Returns when the generator is seeded.
    ///
    /// # Errors
    /// When it is not seeded after a minute.
    pub(crate) fn wait(self, report: &Report) -> anyhow::Result<()> {
        if self.ready.try_recv().is_ok() {
            return Ok(());
        }
        let waiting = Waiting::start(report, "random numbers: waiting for the kernel".into(), LIMIT);
        let come = self.ready.recv_timeout(LIMIT.saturating_sub(self.start.elapsed()));
        drop(waiting);
        let waited = self.start.elapsed();
        match come {
            Ok(()) if waited > REPORT_AFTER => {
                report.say(format_args!("random numbers: ready after {:.1} s", waited.as_secs_f32()));
                Ok(())
            }
            Ok(()) => Ok(()),
            Err(_) => Err(hinted(
                format!("the kernel has no random numbers after {} s, and TLS needs them", LIMIT.as_secs()),
                "give the machine a source of entropy: virtio-rng, a TPM, or a processor with RDRAND",
            )),
        }
    }
}

fn wait_in_kernel() {
    // Any other error means that the kernel lacks the system call, so there is nothing to wait for.
    while getrandom(&mut [0_u8; 1][..], GetRandomFlags::empty()) == Err(Errno::INTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Level;

    #[test]
    fn a_running_machine_has_random_numbers() {
        let start = Instant::now();
        Random::make().wait(&Report::to_caller(Level::Error)).unwrap();
        assert!(start.elapsed() < REPORT_AFTER);
    }

    #[test]
    fn a_machine_without_random_numbers_is_reported() {
        let (_tell, ready) = channel();
        let start = Instant::now().checked_sub(LIMIT).unwrap();
        let error = Random { start, ready }.wait(&Report::to_caller(Level::Error)).unwrap_err();
        assert!(error.to_string().starts_with("the kernel has no random numbers after 60 s"), "{error}");
        assert!(hint::of(&error).unwrap().contains("virtio-rng"));
    }
}
