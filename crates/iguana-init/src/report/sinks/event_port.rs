//! Sends the log of events to the host of a virtual machine that asks for it.
//!
//! The host asks by a virtio port of the name [`events::PORT`] (virtio 1.2, 5.3: console device; in QEMU `virtserialport`). The
//! port appears when its driver is loaded, so what happened before is sent then.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// The ports of this machine; each has a file `name` (drivers/char/virtio_console.c in the kernel's sources).
const PORTS: &str = "/sys/class/virtio-ports";
/// How often to look for the port and for new events.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;

/// The thread that sends, if the host has asked.
#[derive(Clone, Default)]
pub(super) struct EventPort {
    /// Bytes of the log that the host has; 0 if it has not asked.
    sent: Arc<AtomicU64>,
}

impl EventPort {
    /// Starts the thread that looks for the port and follows the log.
    pub(super) fn start(log: &Path) -> Self {
        let port = Self::default();
        let (of_thread, log) = (port.clone(), log.to_owned());
        // Without the thread, the host sees what the console shows.
        let _ = thread::Builder::new().name("events".into()).spawn(move || of_thread.work(&log));
        port
    }

    /// Waits up to `limit` until the host has all events.
    pub(super) fn drain(&self, log: &Path, limit: Duration) {
        let start = Instant::now();
        let length = || log.metadata().map_or(0, |log| log.len());
        while (1..length()).contains(&self.sent.load(SeqCst)) && start.elapsed() < limit {
            thread::sleep(POLL_INTERVAL / 10);
        }
    }

    fn work(&self, log: &Path) {
        let device = loop {
            if let Some(device) = find(Path::new(PORTS)) {
                break device;
            }
            thread::sleep(POLL_INTERVAL);
        };
        // Non-blocking: a host that reads nothing must not delay the end of the machine.
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(device);
        // Fails when the port or the log is gone; there is nobody left to tell.
        let _ = opened.and_then(|mut port| self.follow(log, &mut port));
    }

    fn follow(&self, log: &Path, port: &mut impl io::Write) -> io::Result<()> {
        let mut log = File::open(log)?;
        let mut block = vec![0; BLOCK];
        loop {
            self.send_rest(&mut log, &mut block, port)?;
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Sends what is new in the log.
    fn send_rest(&self, log: &mut File, block: &mut [u8], port: &mut impl io::Write) -> io::Result<()> {
        // The middle of a full log was cut out: events that were not sent by then are lost.
        let length = log.metadata()?.len();
        self.sent.fetch_min(length, SeqCst);
        log.seek(SeekFrom::Start(self.sent.load(SeqCst)))?;
        loop {
            let count = log.read(block)?;
            if count == 0 {
                return Ok(());
            }
            let mut rest = &block[..count];
            while !rest.is_empty() {
                match port.write(rest) {
                    Ok(count) => {
                        rest = &rest[count..];
                        self.sent.fetch_add(count as u64, SeqCst);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(POLL_INTERVAL),
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// The device of the port, if there is one.
fn find(ports: &Path) -> Option<PathBuf> {
    let is_ours = |port: &PathBuf| {
        std::fs::read_to_string(port.join("name")).is_ok_and(|name| name.trim() == events::PORT)
    };
    let port = std::fs::read_dir(ports).ok()?.filter_map(|port| Some(port.ok()?.path())).find(is_ours)?;
    Some(Path::new("/dev").join(port.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_port_is_found_by_its_name() {
        let ports = tempfile::tempdir().unwrap();
        for (port, name) in [("vport0p1", "org.qemu.guest_agent.0\n"), ("vport0p2", "org.iguana.events\n")] {
            std::fs::create_dir(ports.path().join(port)).unwrap();
            std::fs::write(ports.path().join(port).join("name"), name).unwrap();
        }
        assert_eq!(find(ports.path()), Some("/dev/vport0p2".into()));
        assert_eq!(find(Path::new("/nowhere")), None);
    }

    #[test]
    fn every_line_is_sent_once_and_the_end_is_waited_for() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let (port, mut sent, mut block) = (EventPort::default(), Vec::new(), vec![0; 8]);
        let mut reader = log.reopen().unwrap();
        log.write_all(b"one\ntwo\n").unwrap();
        port.send_rest(&mut reader, &mut block, &mut sent).unwrap();
        log.write_all(b"three\n").unwrap();
        let start = Instant::now();
        port.drain(log.path(), Duration::from_millis(50));
        assert!(start.elapsed() >= Duration::from_millis(50));
        port.send_rest(&mut reader, &mut block, &mut sent).unwrap();
        port.drain(log.path(), Duration::from_secs(60));
        assert_eq!(sent, b"one\ntwo\nthree\n");
        // Without a host that asked, nobody waits.
        EventPort::default().drain(log.path(), Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
