//! The links to disks and partitions: `/dev/disk/by-*`, `/dev/mapper`, `/dev/md`, `/dev/VG/LV`. The standalone initrd
//! has no udev, but containers, mount lists and installed systems name devices by these links.
//!
//! A device is probed when the kernel reports it as new or changed, when a process that had it open for writing closes
//! it, and when it was written to since the last probe ([`Links::refresh`]).

mod access;
mod claims;
mod ids;
mod look;
mod names;
mod route;
mod table;
mod writes;

use crate::block::device::{self, Device};
use crate::report::{Report, Waiting};
use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use table::LinkTable;
use writes::{NodeChange, NodeWatcher};

/// Threads that probe devices: several, so that a device that does not answer does not delay the others.
const LOOKERS: usize = 4;
/// How long to wait for a device that does not answer before continuing without its links.
const REFRESH_LIMIT: Duration = Duration::from_secs(5);
/// A probe may make new partitions known to the kernel, and these have to be probed too.
const ROUNDS: u32 = 2;
/// How often the kernel polls drives for a changed medium, in ms (udev's 60-block.rules).
const MEDIUM_POLL: (&str, &str) = ("/sys/module/block/parameters/events_dfl_poll_msecs", "2000");

/// Maintains the links in the background. Clones share the same table.
#[derive(Clone)]
pub(super) struct Links {
    table: Arc<LinkTable>,
    report: Report,
}

impl Links {
    /// Starts the threads, without any device yet.
    pub(super) fn start(report: &Report) -> Self {
        // Fails on a kernel without the parameter; its drives report changes themselves, or there are none.
        let _ = fs::write(MEDIUM_POLL.0, MEDIUM_POLL.1);
        let (queue, queued) = channel();
        let queued = Arc::new(Mutex::new(queued));
        let writes = watched_writes().map_err(|error| report.warn(not_watched(&error))).ok();
        let table = Arc::new(LinkTable::new(queue, writes, report));
        let links = Self { table, report: report.clone() };
        for _ in 0..LOOKERS {
            let (links, queued) = (links.clone(), Arc::clone(&queued));
            thread::spawn(move || links.look_at_queued(&queued));
        }
        let observer = links.clone();
        thread::spawn(move || observer.listen_for_writes());
        links
    }

    /// Queues a device to be probed.
    pub(super) fn look_at(&self, name: &str) {
        if device::is_of_interest(name) {
            self.table.ask(name);
        }
    }

    /// Removes the links of a device that is gone; if a new device has the same name, queues that to be probed.
    pub(super) fn forget(&self, name: &str) {
        match Device::block(name) {
            None => self.table.forget(name),
            Some(_) => self.table.ask(name),
        }
    }

    /// Queues all devices that appeared or were written to since their last probe, and forgets those that are gone.
    pub(super) fn look_at_changed(&self) {
        let known = self.table.names();
        known.iter().filter(|name| Device::block(name).is_none()).for_each(|name| self.table.forget(name));
        for name in device::block_devices() {
            let Some(device) = Device::block(&name) else { continue };
            if !self.table.is_up_to_date(&name, &device.fingerprint()) {
                self.table.ask(&name);
            }
        }
    }

    /// Returns when the links match the present content of the disks. A device that does not answer is waited for only
    /// once.
    pub(super) fn refresh(&self) {
        for _ in 0..ROUNDS {
            self.look_at_changed();
            self.wait();
        }
    }

    fn wait(&self) {
        if !self.table.is_busy() {
            return;
        }
        let what = "devices: waiting for disks to be read".to_owned();
        let _waiting = Waiting::start(&self.report, what, REFRESH_LIMIT);
        for name in self.table.wait(REFRESH_LIMIT) {
            let text = format!("devices: `{name}` does not respond; continuing without its content");
            self.report.warn(text);
        }
    }

    fn look_at_queued(&self, queued: &Mutex<Receiver<String>>) {
        loop {
            let next = queued.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(name) = next else { return };
            self.table.look(&name);
        }
    }

    fn listen_for_writes(&self) {
        let Some(writes) = self.table.writes() else { return };
        let error = writes.listen(|written| match written {
            NodeChange::Device(name) => self.look_at_with_partitions(&name),
            NodeChange::Mapped => {
                let names = device::block_devices();
                names.iter().filter(|name| name.starts_with("dm-")).for_each(|name| self.look_at(name));
            }
            NodeChange::Anything => device::block_devices().iter().for_each(|name| self.look_at(name)),
        });
        self.report.warn(not_watched(&error.into()));
    }

    /// Queues a disk and its partitions, because a write to the disk may change the content of a partition.
    fn look_at_with_partitions(&self, name: &str) {
        self.look_at(name);
        let partitions = Device::block(name).map(|disk| disk.partitions()).unwrap_or_default();
        partitions.iter().for_each(|partition| self.look_at(partition.name()));
    }
}

fn watched_writes() -> io::Result<NodeWatcher> {
    let writes = NodeWatcher::new()?;
    writes.watch_mapped()?;
    Ok(writes)
}

fn not_watched(error: &io::Error) -> String {
    format!("changes to disks are not noticed before the job ends: {error}")
}
