//! The links to disks and partitions: `/dev/disk/by-*`, `/dev/mapper`, `/dev/md`, `/dev/VG/LV`. There is no udev
//! in the initrd; containers, mount lists and installed systems know devices by these names.
//!
//! A device is looked at when the kernel says that it is there or has changed, when somebody closes it who may
//! have written to it, and when it has been written to since the last look ([`Links::refresh`]).

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

/// Threads that look at devices: a few, so that one that does not answer keeps none of the others.
const LOOKERS: usize = 4;
/// How long somebody who wants to know what is on disks waits for one that does not answer.
const REFRESH_LIMIT: Duration = Duration::from_secs(5);
/// What is found on a disk may be partitions that the kernel did not know of; these have to be looked at, too.
const ROUNDS: u32 = 2;
/// How often the kernel looks whether a drive has got another medium, in ms (udev's 60-block.rules).
const MEDIUM_POLL: (&str, &str) = ("/sys/module/block/parameters/events_dfl_poll_msecs", "2000");

/// The links are kept in the background. Copies are the same.
#[derive(Clone)]
pub(super) struct Links {
    table: Arc<LinkTable>,
    report: Report,
}

impl Links {
    /// Begins to keep links, to no device yet.
    pub(super) fn start(report: &Report) -> Self {
        // A kernel without the parameter has its drives tell by themselves, or has none.
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

    /// Has a device looked at soon.
    pub(super) fn look_at(&self, name: &str) {
        if device::is_of_interest(name) {
            self.table.ask(name);
        }
    }

    /// Takes the links to a device away that has gone, unless another one has come in its place.
    pub(super) fn forget(&self, name: &str) {
        match Device::block(name) {
            None => self.table.forget(name),
            Some(_) => self.table.ask(name),
        }
    }

    /// Has all devices looked at that came, went, or were written to since they were looked at.
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

    /// Returns when the links are those to what is on the disks now. One that does not answer is waited for once.
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
        let what = "devices: waiting for what is on disks".to_owned();
        let _waiting = Waiting::start(&self.report, what, REFRESH_LIMIT);
        for name in self.table.wait(REFRESH_LIMIT) {
            let text = format!("devices: `{name}` does not answer; going on without what is on it");
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

    /// Whoever writes to a disk may write to what its partitions hold.
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
    format!("what is written to disks is not seen until the job's end: {error}")
}
