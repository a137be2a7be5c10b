//! Reports when a process that had a device open for writing closes it, as udev's `watch` option does. The kernel sends
//! no uevent for that.

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of the buffer for events: some hundred.
const BUFFER: usize = 8 << 10;
/// Where dmsetup and LVM create nodes of their own if there is no link.
const MAPPER: &str = "/dev/mapper";

/// Watches the nodes of devices.
pub(super) struct NodeWatcher {
    inotify: OwnedFd,
    /// Names of devices by watch descriptor.
    watched: Mutex<HashMap<i32, String>>,
}

/// A device that may have been written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeChange {
    Device(String),
    /// A device-mapper device, not known which.
    Mapped,
    /// Any device: the kernel's event queue overflowed.
    Anything,
}

impl NodeWatcher {
    pub(super) fn new() -> rustix::io::Result<Self> {
        Ok(Self { inotify: inotify::init(CreateFlags::CLOEXEC)?, watched: Mutex::default() })
    }

    /// Watches all device-mapper devices, including nodes that other programs create.
    pub(super) fn watch_mapped(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(MAPPER)?;
        inotify::add_watch(&self.inotify, MAPPER, WatchFlags::CLOSE_WRITE)?;
        Ok(())
    }

    /// Watches a device as long as its node exists.
    pub(super) fn watch(&self, node: &Path, name: &str) -> rustix::io::Result<()> {
        let mut watched = self.watched();
        let number = inotify::add_watch(&self.inotify, node, WatchFlags::CLOSE_WRITE)?;
        watched.insert(number, name.to_owned());
        Ok(())
    }

    /// Calls `tell` for each event, until reading fails.
    pub(super) fn listen(&self, mut tell: impl FnMut(NodeChange)) -> Errno {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => tell(NodeChange::Anything),
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    self.watched().remove(&event.wd());
                }
                Ok(event) => tell(self.device(event.wd())),
                Err(Errno::INTR) => {}
                Err(error) => return error,
            }
        }
    }

    fn device(&self, number: i32) -> NodeChange {
        self.watched().get(&number).cloned().map_or(NodeChange::Mapped, NodeChange::Device)
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<i32, String>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, OpenOptions};
    use std::sync::{Arc, mpsc};

    #[test]
    fn closing_after_writing_is_reported_and_after_reading_is_not() {
        let path = std::env::temp_dir().join(format!("iguana-writes-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let writes = Arc::new(NodeWatcher::new().unwrap());
        writes.watch(&path, "vda").unwrap();
        let (sender, told) = mpsc::channel();
        let observer = Arc::clone(&writes);
        std::thread::spawn(move || observer.listen(|written| drop(sender.send(written))));
        drop(File::open(&path).unwrap());
        drop(OpenOptions::new().write(true).open(&path).unwrap());
        assert_eq!(told.recv().unwrap(), NodeChange::Device("vda".into()));
        fs::remove_file(&path).unwrap();
        assert_eq!(told.recv_timeout(std::time::Duration::from_millis(50)).ok(), None);
    }
}
