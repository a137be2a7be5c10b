//! A console that keeps nobody who speaks to it. A person stops it with Ctrl-S, a container that has the terminal with
//! tcflow(3); nobody has to let it go on.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

/// How long a console may take nothing at all: as long as a terminal that is drained.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// In the place of lines that nobody saw.
const LEFT_OUT: &str = "iguana: lines are left out here: the terminal was stopped\n";

/// Where lines are shown.
pub(super) struct Console {
    file: File,
    limit: Duration,
    /// What a stopped console has still to show: the rest of a line, and [`LEFT_OUT`].
    rest: Vec<u8>,
}

impl Console {
    /// The machine's, if there is one.
    pub(super) fn of_machine() -> Option<Self> {
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        OpenOptions::new().write(true).custom_flags(flags).open("/dev/console").ok().map(Self::of)
    }

    /// Of one that blocks, everything is waited for.
    pub(super) fn of(file: File) -> Self {
        Self { file, limit: WRITE_LIMIT, rest: Vec::new() }
    }

    /// Shows a line, which ends itself. Once a console has taken nothing for the limit, lines are left out, without waiting,
    /// until it takes something again.
    ///
    /// # Errors
    /// When the console is gone.
    pub(super) fn show(&mut self, line: &[u8]) -> io::Result<()> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.rest = self.write(&rest, Duration::ZERO)?.to_vec();
        }
        if self.rest.is_empty() {
            self.rest = self.write(line, self.limit)?.to_vec();
        } else if !self.rest.ends_with(LEFT_OUT.as_bytes()) {
            self.rest.extend_from_slice(LEFT_OUT.as_bytes());
        }
        Ok(())
    }

    /// What it did not take.
    fn write<'t>(&self, mut text: &'t [u8], limit: Duration) -> io::Result<&'t [u8]> {
        let mut last = Instant::now();
        while !text.is_empty() {
            match (&self.file).write(text) {
                Ok(count) => {
                    text = &text[count..];
                    last = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = limit.saturating_sub(last.elapsed());
                    if left.is_zero() {
                        break;
                    }
                    self.wait(left)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(text)
    }

    fn wait(&self, limit: Duration) -> io::Result<()> {
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&limit)))?;
        // Somebody else may write at this moment, for whom the kernel has us wait without telling poll(2).
        thread::sleep(LOOK_EVERY);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Action, tcflow};
    use std::io::Read as _;

    #[test]
    fn a_stopped_console_keeps_nobody_and_goes_on_with_whole_lines() {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        let terminal = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap();
        let mut console = Console::of(terminal.try_clone().unwrap());
        console.limit = Duration::from_millis(50);
        console.show(b"one\n").unwrap();
        tcflow(&terminal, Action::OOff).unwrap();
        let start = Instant::now();
        (0..1000).for_each(|number| console.show(format!("line {number}\n").as_bytes()).unwrap());
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        tcflow(&terminal, Action::OOn).unwrap();
        console.show(b"last\n").unwrap();
        let (mut person, mut seen) = (File::from(person), String::new());
        while !seen.ends_with("last\r\n") {
            let mut block = [0; 1024];
            let count = person.read(&mut block).unwrap();
            seen += std::str::from_utf8(&block[..count]).unwrap();
        }
        assert_eq!(seen.replace("\r\n", "\n"), format!("one\nline 0\n{LEFT_OUT}last\n"));
    }
}
