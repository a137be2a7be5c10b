//! A log file of limited size, of which the beginning and the end are kept.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes of the log before its middle is cut out; a usual boot writes some 20 KiB. It is in memory, hence the limit.
const LIMIT: u64 = 4 << 20;
/// Bytes that are kept of the beginning, and of the end.
const HEAD: u64 = 1 << 20;
const TAIL: u64 = 1 << 20;

/// A log of limited size. Another process may append to the same file.
pub(super) struct LimitedFile {
    lines: File,
    /// The same file, because a descriptor opened with O_APPEND cannot write elsewhere (pwrite(2), "BUGS").
    middle: File,
    /// Bytes that were cut out so far, and the length of the notice that says so.
    cut: u64,
    notice: u64,
    /// The offset of the notice, once there is one. It is not computed again, since the last line break within [`HEAD`]
    /// could then be that of the notice.
    head: Option<u64>,
    /// Formats the notice, a line with the number of bytes that were cut out.
    notice_of: fn(u64) -> String,
}

impl LimitedFile {
    /// Opens or creates the log. `notice_of` formats the line with the number of bytes that were cut out.
    ///
    /// # Errors
    /// When it can be neither opened nor created.
    pub(super) fn open(path: &Path, notice_of: fn(u64) -> String) -> io::Result<Self> {
        let lines = OpenOptions::new().append(true).create(true).open(path)?;
        let middle = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { lines, middle, cut: 0, notice: 0, head: None, notice_of })
    }

    /// Whether the log is still empty.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.metadata().is_ok_and(|metadata| metadata.len() == 0)
    }

    /// Appends a line, which ends with its line break.
    pub(super) fn add(&mut self, line: &str) {
        // There is nowhere to report that the log cannot be written.
        let _ = self.try_add(line);
    }

    fn try_add(&mut self, line: &str) -> io::Result<()> {
        let length = self.lines.metadata()?.len();
        if length + line.len() as u64 > LIMIT {
            self.cut_middle(length)?;
        }
        self.lines.write_all(line.as_bytes())
    }

    /// The offset after the last line break within [`HEAD`].
    fn end_of_head(&self, length: u64) -> io::Result<u64> {
        let mut head = vec![0; HEAD.min(length) as usize];
        self.middle.read_exact_at(&mut head, 0)?;
        Ok(head.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1) as u64)
    }

    /// Replaces everything between the beginning and the end by the notice; all three end at line breaks.
    fn cut_middle(&mut self, length: u64) -> io::Result<()> {
        let head = self.head.map_or_else(|| self.end_of_head(length), Ok)?;
        self.head = Some(head);
        let mut tail = vec![0; TAIL.min(length - head) as usize];
        let tail_start = length - tail.len() as u64;
        self.middle.read_exact_at(&mut tail, tail_start)?;
        let first = tail.iter().position(|byte| *byte == b'\n').map_or(tail.len(), |end| end + 1);
        let tail = &tail[first..];
        self.cut += length - head - tail.len() as u64 - self.notice;
        let notice = (self.notice_of)(self.cut);
        let rest = [notice.as_bytes(), tail].concat();
        self.middle.write_all_at(&rest, head)?;
        self.middle.set_len(head + rest.len() as u64)?;
        self.notice = notice.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_beginning_and_its_end_and_notes_the_gap() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log");
        let mut log =
            LimitedFile::open(&path, |bytes| format!("the log was full: {bytes} bytes removed here\n"))
                .unwrap();
        for number in 0..200_000 {
            log.add(&format!("line {number} of many that say the same as all the others\n"));
            if number % 1000 == 0 {
                assert!(path.metadata().unwrap().len() <= LIMIT);
            }
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("line 0 ") && lines.last().unwrap().starts_with("line 199999 "));
        let notices: Vec<usize> =
            (0..lines.len()).filter(|at| lines[*at].contains("the log was full")).collect();
        let [notice] = notices[..] else { panic!("{notices:?}") };
        assert!(lines[..notice].iter().chain(&lines[notice + 1..]).all(|line| line.ends_with("the others")));
        let kept: usize = text.len() - lines[notice].len() - 1;
        let all: usize = (0..200_000)
            .map(|n| format!("line {n} of many that say the same as all the others\n").len())
            .sum();
        assert!(lines[notice].contains(&format!(": {} bytes removed here", all - kept)), "{}", lines[notice]);
    }
}
