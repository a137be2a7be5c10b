//! All consoles of the machine: a screen beside a serial line, say.

use super::console::{self, Console};
use super::kernel_log::KernelLog;
use super::text_log::timed;
use crate::report::Level;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The kernel's main console: the last `console=` of the command line.
const MAIN: &str = "/dev/console";
/// The names of all consoles that are terminals; the main one is the last (Documentation/ABI/testing/sysfs-tty in the
/// kernel's sources).
const ACTIVE: &str = "/sys/class/tty/console/active";

/// The consoles of the machine, and the kernel's log.
pub(in crate::report) struct Consoles {
    /// Lines wait for it briefly, because containers write to it, too.
    main: Option<Console>,
    others: Vec<Console>,
    kernel_log: Option<KernelLog>,
}

impl Consoles {
    /// Opens every console that can be opened.
    pub(super) fn open() -> Self {
        let others = others(&fs::read_to_string(ACTIVE).unwrap_or_default());
        Self {
            main: Console::open(Path::new(MAIN)).ok(),
            others: others.iter().filter_map(|path| Console::open(path).ok()).collect(),
            kernel_log: KernelLog::open(),
        }
    }

    #[cfg(test)]
    pub(super) fn of(main: Console, others: Vec<Console>, kernel_log: Option<KernelLog>) -> Self {
        Self { main: Some(main), others, kernel_log }
    }

    /// Shows a line, unless the kernel has shown it already.
    pub(super) fn show(&mut self, uptime: f64, line: &str, level: Level) {
        if self.kernel_log.as_mut().is_some_and(|log| log.add(line, level)) {
            return;
        }
        let line = timed(uptime, line);
        self.others.iter().for_each(|console| console.queue(line.clone()));
        if let Some(main) = &self.main {
            main.say(line);
        }
    }

    /// Waits up to `limit` until the consoles have sent everything.
    pub(super) fn drain(&self, limit: Duration) {
        let end = Instant::now() + limit;
        for console in self.main.iter().chain(&self.others) {
            // What a console did not send is in the log.
            let _ = console.drain(end.saturating_duration_since(Instant::now()));
        }
    }
}

/// Resumes the main console if it was stopped. Containers have no other one.
pub(super) fn resume() {
    console::resume(Path::new(MAIN));
}

/// The paths of all consoles but the main one.
fn others(active: &str) -> Vec<PathBuf> {
    let mut names: Vec<&str> = active.split_whitespace().collect();
    names.pop();
    names.into_iter().map(|name| Path::new("/dev").join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Seek as _};

    #[test]
    fn the_main_console_is_the_last_one() {
        assert_eq!(others("tty0 ttyS1 ttyS0\n"), [Path::new("/dev/tty0"), Path::new("/dev/ttyS1")]);
        assert!(others("ttyS0\n").is_empty() && others("").is_empty());
    }

    fn file() -> (File, Console) {
        let file = tempfile::tempfile().unwrap();
        let console = Console::start(file.try_clone().unwrap()).unwrap();
        (file, console)
    }

    fn text(mut file: File) -> String {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn every_console_shows_every_line_even_if_another_is_blocked() {
        let ((main, of_main), (other, of_other)) = (file(), file());
        let (_unread, target) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let stuck = Console::start(target.into()).unwrap();
        let mut consoles = Consoles::of(of_main, vec![stuck, of_other], None);
        let start = Instant::now();
        let lines: Vec<String> = (0..2000).map(|number| format!("{number}: {}", "x".repeat(100))).collect();
        lines.iter().for_each(|line| consoles.show(1.0, line, Level::Info));
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        consoles.drain(Duration::from_secs(5));
        let expected: String = lines.iter().map(|line| timed(1.0, line)).collect();
        assert_eq!(text(main), expected);
        // Nobody waits for this one, so it may have dropped lines, but not the last ones.
        assert!(text(other).ends_with(&timed(1.0, lines.last().unwrap())));
    }
}
