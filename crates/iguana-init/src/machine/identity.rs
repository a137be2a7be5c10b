//! `/iguana`: the folder that all containers share, with the machine's identity and the progress files.

use crate::report::Report;
use anyhow::Context as _;
use iguana_core::cmdline::Settings;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The shared folder, here and in every container.
pub(crate) const FOLDER: &str = "/iguana";
/// How often the plain progress file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the last lines of a FIFO may take; the reader has but to show them.
const LAST_LINES_LIMIT: Duration = Duration::from_secs(2);
/// Ends the line that the reader of the FIFO answers. A control character: it is not shown.
const END_OF_LINES: &[u8] = b"\0";
/// Where an existing root file system is mounted to be asked for its machine-id.
const EXISTING_ROOT: &str = "/run/iguana/root";

/// `/iguana` is there, and what is written to its progress files is shown.
pub(crate) struct SharedFolder {
    fifo: Fifo,
    plain: Arc<Mutex<PlainProgress>>,
}

impl SharedFolder {
    /// Makes the folder, its identity, and its progress files, and shows what is written to those.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub(crate) fn create(settings: &Settings, report: &Report) -> anyhow::Result<Self> {
        fs::create_dir_all(FOLDER).context("cannot make `/iguana`")?;
        let id = settings.root.as_deref().and_then(|root| existing_machine_id(root, report));
        let id = id.map_or_else(new_machine_id, Ok)?;
        fs::write("/iguana/machine-id", format!("{id}\n")).context("cannot write `/iguana/machine-id`")?;
        let fifo = Fifo::show("/iguana/progress", report.clone())?;
        let plain = show_file("/iguana/dc_progress", report.clone())?;
        Ok(Self { fifo, plain })
    }

    /// Shows what is still to be shown: a container may write its last line and end at once.
    pub(crate) fn finish(&self) {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).show_added();
        self.fifo.finish();
    }
}

/// A new identity: 128 random bits as machine-id(5) wants them.
fn new_machine_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes).context("cannot read `/dev/urandom`")?;
    // RFC 9562, section 5.4: the version and variant of a random UUID.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The identity of the system that is on `root=` already.
fn existing_machine_id(root: &str, report: &Report) -> Option<String> {
    let found = crate::handover::peek(root, EXISTING_ROOT, "etc/machine-id", report);
    match found {
        Ok(text) => {
            let id = text.trim();
            let is_id = id.len() == 32 && id.bytes().all(|letter| letter.is_ascii_hexdigit());
            is_id.then(|| id.to_owned())
        }
        Err(error) => {
            report.warn(format_args!("no machine-id is taken over from `root={root}`: {error:#}"));
            None
        }
    }
}

/// The lines that are written to a FIFO, shown as they come. It is kept open both ways and always emptied, so that
/// no writer waits and none is told that nobody listens.
struct Fifo {
    writer: File,
    ended: Receiver<()>,
}

impl Fifo {
    fn show(path: &str, report: Report) -> anyhow::Result<Self> {
        let mode = Mode::from_raw_mode(0o666);
        // On a system that is up, one of an earlier run may be there.
        let _ = fs::remove_file(path);
        mknodat(CWD, path, FileType::Fifo, mode, 0).with_context(|| format!("cannot make `{path}`"))?;
        rustix::fs::chmod(path, mode)?;
        let writer = OpenOptions::new().read(true).write(true).open(Path::new(path))?;
        let reader = BufReader::new(writer.try_clone()?);
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            for line in reader.split(b'\n').map_while(Result::ok) {
                show(&line, &report);
                if line.ends_with(END_OF_LINES) {
                    let _ = end.send(());
                }
            }
        });
        Ok(Self { writer, ended })
    }

    /// Waits until all is shown that was written before.
    fn finish(&self) {
        // A container may have written the like.
        while self.ended.try_recv().is_ok() {}
        if (&self.writer).write_all(&[END_OF_LINES, b"\n"].concat()).is_ok() {
            let _ = self.ended.recv_timeout(LAST_LINES_LIMIT);
        }
    }
}

/// The plain progress file, and how far it has been shown.
struct PlainProgress {
    path: &'static str,
    shown: u64,
    report: Report,
}

impl PlainProgress {
    fn show_added(&mut self) {
        // The file is the containers'; one that is gone has nothing to show.
        if let Ok((lines, end)) = added_lines(self.path, self.shown) {
            lines.iter().for_each(|line| show(line, &self.report));
            self.shown = end;
        }
    }
}

/// Shows the lines that are added to a plain file.
fn show_file(path: &'static str, report: Report) -> anyhow::Result<Arc<Mutex<PlainProgress>>> {
    fs::write(path, "").with_context(|| format!("cannot make `{path}`"))?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o666))?;
    let progress = Arc::new(Mutex::new(PlainProgress { path, shown: 0, report }));
    let watched = Arc::clone(&progress);
    thread::spawn(move || {
        loop {
            thread::sleep(LOOK_EVERY);
            watched.lock().unwrap_or_else(PoisonError::into_inner).show_added();
        }
    });
    Ok(progress)
}

/// The whole lines behind the first `shown` bytes of a file, and where they end.
fn added_lines(path: &str, shown: u64) -> std::io::Result<(Vec<Vec<u8>>, u64)> {
    let mut file = fs::File::open(path)?;
    // A container may begin the file anew.
    let shown = if file.metadata()?.len() < shown { 0 } else { shown };
    file.seek(SeekFrom::Start(shown))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|letter| *letter == b'\n').map_or(0, |end| end + 1);
    let lines = text[..whole].split(|letter| *letter == b'\n').map(<[u8]>::to_vec);
    Ok((lines.collect(), shown + whole as u64))
}

fn show(line: &[u8], report: &Report) {
    let line = String::from_utf8_lossy(line);
    let line: String = line.trim().chars().filter(|letter| !letter.is_control()).collect();
    if !line.is_empty() {
        report.say(format_args!("progress: {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_identity_is_32_digits_and_never_the_same() {
        let id = new_machine_id().unwrap();
        assert!(id.len() == 32 && id.bytes().all(|letter| letter.is_ascii_hexdigit()), "{id}");
        assert_ne!(id, new_machine_id().unwrap());
    }

    #[test]
    fn only_whole_new_lines_are_taken() {
        let path = std::env::temp_dir().join(format!("iguana-progress-{}", std::process::id()));
        let path = path.to_str().unwrap();
        fs::write(path, "one\ntwo\nthr").unwrap();
        let (lines, end) = added_lines(path, 4).unwrap();
        assert_eq!(lines.concat(), b"two");
        assert_eq!(end, 8);
        fs::remove_file(path).unwrap();
    }
}
