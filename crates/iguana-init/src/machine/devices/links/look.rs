//! A look at one disk or partition: what sysfs says of it, and what is on it.

use super::names::LinkAttributes;
use super::table::TableRecord;
use super::{ids, route};
use crate::block::device::Device;
use crate::block::{self, Array, Table};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Who must not be disturbed holds a lock on the disk (systemd.io, "Locking Block Device Access"): how often it is
/// tried, and how long is waited in between. Whoever lets go of it closes the disk, and it is looked at again.
const LOCK_TRIES: u32 = 10;
const LOCK_DELAY: Duration = Duration::from_millis(20);

/// What a look has found.
pub(super) struct ProbeResult {
    pub(super) facts: LinkAttributes,
    /// Of a disk.
    pub(super) table: Option<Table>,
    pub(super) fingerprint: String,
}

impl ProbeResult {
    /// What sysfs says of a device; nothing is read from itself.
    pub(super) fn from_outside(device: &Device) -> Self {
        // What is written while we read makes the next one differ.
        let fingerprint = device.fingerprint();
        Self { facts: facts_of_sysfs(device), table: None, fingerprint }
    }

    /// Adds what is on the device. `known` is what an earlier look found as a disk's table; where another one has
    /// been written since, the kernel is told to look, too.
    ///
    /// # Errors
    /// When somebody keeps a lock on it.
    pub(super) fn look_inside(&mut self, device: &Device, known: &TableRecord) -> io::Result<()> {
        // A drive without a medium cannot be read; where it is and who made it is known all the same.
        let Some(disk) = open_readable(device) else { return Ok(()) };
        lock(&disk, FlockOperation::NonBlockingLockShared)?;
        self.table = block::table(&disk, device.disk().block_size()).ok().flatten();
        if let TableRecord::Found(known) = known
            && is_news(known, &self.table, device)
        {
            tell_kernel(&disk)?;
        }
        self.facts.array = array(&device.disk());
        match self.facts.number {
            None => self.facts.content = block::superblock(&disk).ok().flatten(),
            Some(number) => {
                let table = self.table.take();
                self.facts.partition = table.and_then(|table| table.partition(number, device.start()));
                // The lock on the disk is held meanwhile.
                let content = open(device).and_then(|partition| block::superblock(&partition));
                self.facts.content = content.ok().flatten();
            }
        }
        Ok(())
    }
}

/// The disk that a device is, or is a part of.
fn open_readable(device: &Device) -> Option<File> {
    if device.is_empty() || device.is_suspended() {
        return None;
    }
    // Only opening it tells the kernel to ask the drive how large its medium is.
    open(&device.disk()).ok().filter(|_| !device.lacks_medium())
}

fn facts_of_sysfs(device: &Device) -> LinkAttributes {
    let disk = device.disk();
    LinkAttributes {
        name: device.name().to_owned(),
        number: device.partition_number(),
        is_divided: !device.partitions().is_empty(),
        ids: ids::ids(&disk),
        places: route::places(&disk),
        sequence: disk.attribute("diskseq"),
        mapped: device.mapped(),
        array: None,
        partition: None,
        content: None,
    }
}

pub(super) fn node(device: &Device) -> PathBuf {
    Path::new("/dev").join(device.node())
}

fn open(device: &Device) -> io::Result<File> {
    block::open(&node(device))
}

fn lock(disk: &File, operation: FlockOperation) -> io::Result<()> {
    for _ in 1..LOCK_TRIES {
        if flock(disk, operation).is_ok() {
            return Ok(());
        }
        thread::sleep(LOCK_DELAY);
    }
    Ok(flock(disk, operation)?)
}

/// Nobody may look at partitions meanwhile, not even we: the kernel takes them away and adds them again.
fn tell_kernel(disk: &File) -> io::Result<()> {
    lock(disk, FlockOperation::NonBlockingLockExclusive)?;
    // Whoever has mounted one of the old partitions goes on with it.
    let _ = sys::reread_partitions(disk);
    lock(disk, FlockOperation::NonBlockingLockShared)
}

/// Whether a disk has got another table that the kernel does not know of: who writes one with a tool for that
/// has the tool tell it, who copies a whole image does not. Not asked of a table that has been seen before: some
/// the kernel reads otherwise than we do.
fn is_news(known: &Option<Table>, table: &Option<Table>, disk: &Device) -> bool {
    if disk.partition_number().is_some() {
        return false;
    }
    let partitions = disk.partitions();
    let of_kernel: Vec<_> =
        partitions.iter().filter_map(|it| Some((it.partition_number()?, it.start()))).collect();
    known != table
        && match table {
            Some(table) => table.differs_from(&of_kernel),
            None => !of_kernel.is_empty(),
        }
}

/// The array that the device is; its name is known to its members.
fn array(disk: &Device) -> Option<Array> {
    block::array_of_member(&open(&disk.first_member()?).ok()?).ok()?
}
