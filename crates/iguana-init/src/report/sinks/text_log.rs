//! The log as text.

use super::limited_file::LimitedFile;
use crate::report::uptime;
use std::io;
use std::path::Path;

/// The log with the lines of all events, also those that the console does not show.
pub(super) struct TextLog(LimitedFile);

impl TextLog {
    /// Opens or creates the log.
    ///
    /// # Errors
    /// When it can be neither opened nor created.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        LimitedFile::open(path, lost).map(Self)
    }

    pub(super) fn add(&mut self, uptime: f64, line: &str) {
        self.0.add(&timed(uptime, line));
    }
}

/// The line that replaces the middle of a full log.
fn lost(bytes: u64) -> String {
    timed(uptime(), &format!("warning: the log was full: {bytes} bytes removed here"))
}

/// A line of the log or of a console. `uptime` is in seconds, as in the kernel's messages.
pub(super) fn timed(uptime: f64, line: &str) -> String {
    format!("[{uptime:9.3}] iguana: {line}\n")
}
