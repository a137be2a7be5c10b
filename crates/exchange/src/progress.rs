//! The progress files of a shared directory: lines that containers write for the person at the machine.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};
use untrusted_fs::{Directory, Links};

const FIFO: &str = "progress";
const PLAIN: &str = "dc_progress";
/// The interval at which the plain progress file is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes that are read from the plain file at each poll; further ones are shown later.
const LOOK_LIMIT: u64 = 64 << 10;
/// How long one poll shows lines: further ones are shown later. A slow console takes seconds for a screen of them.
const LOOK_TIME: Duration = Duration::from_millis(500);
/// Bytes of a line that are shown; a screen is narrower.
const LINE_LIMIT: usize = 1024;
/// Bytes of progress lines in the log: it is in memory, and containers can write without end.
const LOG_LIMIT: usize = 1 << 20;
/// Bytes that a line takes in a log besides its text: the time, the source, and as an event the names of both.
pub const LOG_LINE_COST: usize = 160;
/// Time limit for the last lines of each file: of a FIFO the reader only has to show them.
const LAST_LINES_LIMIT: Duration = Duration::from_secs(2);
/// The pause before another write to a full FIFO.
const FULL_DELAY: Duration = Duration::from_millis(10);
/// The content of the line that the reader of the FIFO acknowledges. A control character, as it is not shown.
const END_OF_LINES: &[u8] = b"\0";

/// Shows progress lines to the person at the machine and keeps them in a log. The lines are untrusted text: the
/// implementation has to escape them.
pub trait ProgressSink: Send + Sync {
    /// Shows a line, and adds it to the log with at most [`LOG_LINE_COST`] bytes besides it, escaped.
    fn log(&self, line: &str);
    /// Notes in the log that it takes no further lines.
    fn log_end(&self);
    /// Shows a line without adding it to the log.
    fn show(&self, line: &str);
}

/// Who may write progress lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Everybody, as containers run as any user. For an initrd, where nobody else is.
    Everybody,
    /// Root of the machine, and of containers. For a system that has other users, who would speak for the containers.
    Root,
}

impl Writers {
    fn mode(self) -> u32 {
        match self {
            Self::Everybody => 0o666,
            Self::Root => 0o600,
        }
    }
}

/// Both progress files. Their lines are shown as long as this process lives.
pub(super) struct Progress {
    fifo: Fifo,
    plain: Arc<Mutex<Plain>>,
}

impl Progress {
    /// Creates both files, which must not exist yet, and shows the lines that are written to them.
    pub(super) fn show(
        directory: &Arc<Directory>,
        sink: &Arc<dyn ProgressSink>,
        writers: Writers,
    ) -> anyhow::Result<Self> {
        let (screen, mode) = (Screen::new(Arc::clone(sink)), writers.mode());
        let fifo = Fifo::show(directory, screen.clone(), mode)?;
        Ok(Self { fifo, plain: Plain::show(directory, screen, mode)? })
    }

    /// Waits until everything written so far has been shown, but for each file at most [`LAST_LINES_LIMIT`].
    pub(super) fn finish(&self) {
        self.finish_plain();
        self.fifo.finish();
    }

    fn finish_plain(&self) {
        let start = Instant::now();
        while start.elapsed() < LAST_LINES_LIMIT {
            match self.plain.try_lock() {
                Ok(mut plain) => return plain.show_added(LAST_LINES_LIMIT.saturating_sub(start.elapsed())),
                // The thread that polls is showing lines.
                Err(TryLockError::WouldBlock) => thread::sleep(FULL_DELAY),
                Err(TryLockError::Poisoned(_)) => return,
            }
        }
    }
}

/// The lines that are written to a FIFO, shown as they arrive. It is open for reading and writing and always drained,
/// so that no writer blocks or gets SIGPIPE. It is used by descriptor: a file that a container puts in its place is
/// ignored.
struct Fifo {
    /// Non-blocking.
    ends: File,
    ended: Receiver<()>,
}

impl Fifo {
    fn show(directory: &Directory, screen: Screen, mode: u32) -> anyhow::Result<Self> {
        let ends = directory.create_fifo(FIFO, mode)?;
        let reader = ends.try_clone()?;
        // One of them says all: a container may write the like without end.
        let (end, ended) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let mut lines = Lines::default();
            while let Ok(block) = next_block(&reader) {
                lines.take(&block, |line| {
                    screen.show(line);
                    if line.ends_with(END_OF_LINES) {
                        let _ = end.try_send(());
                    }
                });
            }
        });
        Ok(Self { ends, ended })
    }

    fn finish(&self) {
        // Drops earlier acknowledgements: a container may have written the same bytes.
        while self.ended.try_recv().is_ok() {}
        let start = Instant::now();
        // The first line break ends a line that a container left unfinished.
        let end = [b"\n", END_OF_LINES, b"\n"].concat();
        while start.elapsed() < LAST_LINES_LIMIT {
            match (&self.ends).write_all(&end) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL_DELAY),
                Err(_) => return,
            }
        }
        let _ = self.ended.recv_timeout(LAST_LINES_LIMIT.saturating_sub(start.elapsed()));
    }
}

/// Waits for data and reads it.
fn next_block(mut fifo: &File) -> io::Result<Vec<u8>> {
    let mut block = vec![0; 4096];
    loop {
        match fifo.read(&mut block) {
            Ok(length) => {
                block.truncate(length);
                return Ok(block);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let forever: Option<&Timespec> = None;
                rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(fifo, PollFlags::IN)], forever))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Splits blocks into lines; of a line that is too long only the beginning is kept.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, block: &[u8], mut line: impl FnMut(&[u8])) {
        for part in block.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = LINE_LIMIT.saturating_sub(self.0.len());
            self.0.extend_from_slice(&text[..text.len().min(room)]);
            if is_whole {
                line(&self.0);
                self.0.clear();
            }
        }
    }
}

/// The plain progress file, and how many bytes of it have been shown.
struct Plain {
    directory: Arc<Directory>,
    shown: u64,
    screen: Screen,
}

impl Plain {
    fn show(directory: &Arc<Directory>, screen: Screen, mode: u32) -> anyhow::Result<Arc<Mutex<Self>>> {
        directory.create(PLAIN, mode)?;
        let plain = Arc::new(Mutex::new(Self { directory: Arc::clone(directory), shown: 0, screen }));
        let watched = Arc::downgrade(&plain);
        thread::spawn(move || {
            while let Some(plain) = watched.upgrade() {
                plain.lock().unwrap_or_else(PoisonError::into_inner).show_added(LOOK_TIME);
                drop(plain);
                thread::sleep(POLL_INTERVAL);
            }
        });
        Ok(plain)
    }

    /// Shows lines until the limit; those that are left are shown the next time.
    fn show_added(&mut self, limit: Duration) {
        let start = Instant::now();
        // Containers control this file: one that is missing or not a regular file is ignored.
        let Ok(file) = self.directory.file(PLAIN, Links::Refuse) else { return };
        let Ok(lines) = added_lines(file, self.shown) else { return };
        for (line, end) in lines {
            if start.elapsed() >= limit {
                return;
            }
            self.screen.show(&line);
            self.shown = end;
        }
    }
}

/// The complete lines after the first `shown` bytes of a file, each with the offset at which it ends.
fn added_lines(mut file: File, shown: u64) -> io::Result<Vec<(Vec<u8>, u64)>> {
    // A container may have truncated the file.
    let shown = if file.metadata()?.len() < shown { 0 } else { shown };
    file.seek(SeekFrom::Start(shown))?;
    let mut text = Vec::new();
    file.take(LOOK_LIMIT).read_to_end(&mut text)?;
    let whole = match text.iter().rposition(|letter| *letter == b'\n') {
        Some(end) => end + 1,
        // A line that fills the whole block is shown without waiting for its end.
        None if text.len() as u64 == LOOK_LIMIT => text.len(),
        None => 0,
    };
    let mut end = shown;
    let lines = text[..whole].split_inclusive(|letter| *letter == b'\n').map(|line| {
        end += line.len() as u64;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        (line[..line.len().min(LINE_LIMIT)].to_vec(), end)
    });
    Ok(lines.collect())
}

/// Shows lines. The log takes only the first ones.
#[derive(Clone)]
struct Screen {
    sink: Arc<dyn ProgressSink>,
    /// Bytes that are left in the log.
    room: Arc<Mutex<usize>>,
}

/// Bytes that a line takes in a log at most, in words or as an event.
pub fn log_cost(line: &str) -> usize {
    let escaped = printable::visible(line);
    let in_json = escaped.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    escaped.len() + in_json + LOG_LINE_COST
}

impl Screen {
    fn new(sink: Arc<dyn ProgressSink>) -> Self {
        Self { sink, room: Arc::new(Mutex::new(LOG_LIMIT)) }
    }

    fn show(&self, line: &[u8]) {
        // The sink escapes the text.
        let line = String::from_utf8_lossy(line.strip_suffix(END_OF_LINES).unwrap_or(line));
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        match room.checked_sub(log_cost(line)) {
            Some(left) => {
                *room = left;
                self.sink.log(line);
            }
            None => {
                if std::mem::take(&mut *room) > 0 {
                    self.sink.log_end();
                }
                self.sink.show(line);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these tests play the container")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const MODE: u32 = 0o666;

    #[test]
    fn progress_files_are_writable_by_root_only_on_shared_machines() {
        for (writers, expected) in [(Writers::Everybody, 0o666), (Writers::Root, 0o600)] {
            let home = tempfile::tempdir().unwrap();
            let directory = Arc::new(Directory::open(home.path()).unwrap());
            let sink: Arc<dyn ProgressSink> = Arc::new(Recorder::default());
            Progress::show(&directory, &sink, writers).unwrap();
            for name in [FIFO, PLAIN] {
                assert_eq!(home.path().join(name).metadata().unwrap().mode() & 0o7777, expected, "{name}");
            }
        }
    }

    #[test]
    fn a_forged_end_marker_uses_no_memory() {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::open(home.path()).unwrap();
        let recorder = Arc::new(Recorder::default());
        let sink: Arc<dyn ProgressSink> = recorder.clone();
        let fifo = Fifo::show(&directory, Screen::new(sink), MODE).unwrap();
        let mut container = File::options().write(true).open(home.path().join(FIFO)).unwrap();
        container.write_all(&[END_OF_LINES, b"\n"].concat().repeat(100_000)).unwrap();
        container.write_all(b"the last line\n").unwrap();
        let start = Instant::now();
        while recorder.logged.lock().unwrap().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60));
            thread::sleep(FULL_DELAY);
        }
        assert!(fifo.ended.try_iter().count() <= 1);
    }

    #[derive(Default)]
    struct Recorder {
        logged: Mutex<Vec<String>>,
        ends: AtomicUsize,
        shown: AtomicUsize,
    }

    impl ProgressSink for Recorder {
        fn log(&self, line: &str) {
            self.logged.lock().unwrap().push(line.to_owned());
        }

        fn log_end(&self) {
            self.ends.fetch_add(1, Ordering::Relaxed);
        }

        fn show(&self, _line: &str) {
            self.shown.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A console at 9600 Bd.
    struct SlowSink(AtomicUsize);

    impl ProgressSink for SlowSink {
        fn log(&self, _line: &str) {
            thread::sleep(Duration::from_millis(10));
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn log_end(&self) {}

        fn show(&self, line: &str) {
            self.log(line);
        }
    }

    /// A file of short lines held the end of the jobs for minutes.
    #[test]
    fn the_end_does_not_wait_for_all_lines_of_a_file() {
        let home = tempfile::tempdir().unwrap();
        let directory = Arc::new(Directory::open(home.path()).unwrap());
        let slow = Arc::new(SlowSink(AtomicUsize::new(0)));
        let sink: Arc<dyn ProgressSink> = slow.clone();
        let progress = Progress::show(&directory, &sink, Writers::Everybody).unwrap();
        fs::write(home.path().join(PLAIN), "first\n".repeat(20)).unwrap();
        progress.finish();
        assert_eq!(slow.0.load(Ordering::Relaxed), 20, "as many as there is time for are shown");
        fs::write(home.path().join(PLAIN), "x\n".repeat(4_000_000)).unwrap();
        thread::sleep(2 * POLL_INTERVAL);
        let start = Instant::now();
        progress.finish();
        assert!(start.elapsed() < 3 * LAST_LINES_LIMIT, "{:?}", start.elapsed());
        assert!(slow.0.load(Ordering::Relaxed) > 30);
    }

    #[test]
    fn only_complete_new_lines_are_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let lines = added_lines(File::open(&path).unwrap(), 4).unwrap();
        assert_eq!(lines, [(b"two".to_vec(), 8)]);
    }

    #[test]
    fn a_probe_is_bounded() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        File::create(&path).unwrap().set_len(10 << 30).unwrap();
        let lines = added_lines(File::open(&path).unwrap(), 0).unwrap();
        assert_eq!(
            lines.iter().map(|(line, end)| (line.len(), *end)).collect::<Vec<_>>(),
            [(LINE_LIMIT, LOOK_LIMIT)]
        );
    }

    #[test]
    fn a_line_without_end_uses_bounded_memory() {
        let (mut lines, mut shown) = (Lines::default(), Vec::new());
        for block in ["on", "e\ntw", "o", "\n"] {
            lines.take(block.as_bytes(), |line| shown.push(line.to_vec()));
        }
        assert_eq!(shown, [b"one".to_vec(), b"two".to_vec()]);
        (0..1000).for_each(|_| lines.take(&[b'x'; 4096], |_| panic!("it has not ended")));
        assert_eq!(lines.0.len(), LINE_LIMIT);
        lines.take(b"\n", |line| assert_eq!(line.len(), LINE_LIMIT));
    }

    #[test]
    fn a_file_replaced_by_a_container_is_not_opened() {
        let home = tempfile::tempdir().unwrap();
        let directory = Arc::new(Directory::open(home.path()).unwrap());
        let plain = Plain::show(&directory, Screen::new(Arc::new(Recorder::default())), MODE).unwrap();
        let path = home.path().join(PLAIN);
        let shown = || plain.lock().unwrap().shown;
        let look = || plain.lock().unwrap().show_added(LAST_LINES_LIMIT);
        fs::write(&path, "one\n").unwrap();
        look();
        assert_eq!(shown(), 4);
        for place in ["link", "fifo", "directory"] {
            let _ = fs::remove_file(&path);
            match place {
                "link" => symlink("/etc/passwd", &path).unwrap(),
                "fifo" => drop(directory.create_fifo(PLAIN, MODE).unwrap()),
                _ => fs::create_dir(&path).unwrap(),
            }
            look();
            assert_eq!(shown(), 4, "{place}");
        }
    }

    #[test]
    fn the_number_of_log_lines_is_limited() {
        let recorder = Arc::new(Recorder::default());
        let screen = Screen::new(Arc::clone(&recorder) as Arc<dyn ProgressSink>);
        screen.show(b"first");
        (0..2 * LOG_LIMIT / LINE_LIMIT).for_each(|_| screen.show(&[b'x'; LINE_LIMIT]));
        let logged = recorder.logged.lock().unwrap();
        let bytes: usize = logged.iter().map(|line| log_cost(line)).sum();
        assert!((LOG_LIMIT - 2 * LINE_LIMIT..=LOG_LIMIT).contains(&bytes), "{bytes}");
        assert_eq!(logged[0], "first");
        assert_eq!(recorder.ends.load(Ordering::Relaxed), 1);
        assert_eq!(logged.len() + recorder.shown.load(Ordering::Relaxed), 1 + 2 * LOG_LIMIT / LINE_LIMIT);
    }

    #[test]
    fn the_relay_ends_although_a_writer_floods() {
        let home = tempfile::tempdir().unwrap();
        let directory = Arc::new(Directory::open(home.path()).unwrap());
        let sink: Arc<dyn ProgressSink> = Arc::new(Recorder::default());
        let progress = Progress::show(&directory, &sink, Writers::Everybody).unwrap();
        let path = home.path().join(FIFO);
        // A container may replace the file: the FIFO that was created is still the one that is read.
        fs::rename(&path, home.path().join("moved")).unwrap();
        let mut writer = File::options().write(true).open(home.path().join("moved")).unwrap();
        (0..1000).for_each(|_| writer.write_all(&[b'x'; 1000]).unwrap());
        let start = Instant::now();
        progress.finish();
        assert!(start.elapsed() < LAST_LINES_LIMIT, "{:?}", start.elapsed());
    }
}
