//! Probes one disk or partition: its attributes in sysfs, and its content.

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

/// Programs that must not be disturbed hold a lock on the disk (systemd.io, "Locking Block Device Access"). How often
/// to try to lock it, and the delay in between. When the holder closes the disk, it is probed again.
const LOCK_TRIES: u32 = 10;
const LOCK_DELAY: Duration = Duration::from_millis(20);

/// The result of a probe.
pub(super) struct ProbeResult {
    pub(super) facts: LinkAttributes,
    /// The partition table of a disk.
    pub(super) table: Option<Table>,
    pub(super) fingerprint: String,
}

impl ProbeResult {
    /// The attributes in sysfs; nothing is read from the device.
    pub(super) fn from_outside(device: &Device) -> Self {
        // Take the fingerprint first: writes during the probe then make the next one differ.
        let fingerprint = device.fingerprint();
        Self { facts: facts_of_sysfs(device), table: None, fingerprint }
    }

    /// Reads the content of the device. `known` is the partition table that an earlier probe found. If another one was
    /// written since, the kernel is made to re-read it.
    ///
    /// # Errors
    /// When another program keeps a lock on the device.
    pub(super) fn look_inside(&mut self, device: &Device, known: &TableRecord) -> io::Result<()> {
        // A drive without a medium cannot be read, but still gets the links from sysfs.
        let Some(disk) = open_readable(device) else { return Ok(()) };
        lock(&disk, FlockOperation::NonBlockingLockShared)?;
        self.table = block::table(&disk, device.disk().block_size()).ok().flatten();
        if let TableRecord::Found(known) = known
            && is_changed(known, &self.table, device)
        {
            tell_kernel(&disk)?;
        }
        self.facts.array = array(&device.disk());
        match self.facts.number {
            None => self.facts.content = block::superblock(&disk).ok().flatten(),
            Some(number) => {
                let table = self.table.take();
                self.facts.partition = table.and_then(|table| table.partition(number, device.start()));
                // The lock on the disk is still held.
                let content = open(device).and_then(|partition| block::superblock(&partition));
                self.facts.content = content.ok().flatten();
            }
        }
        Ok(())
    }
}

/// Opens the device's disk if it can be read.
fn open_readable(device: &Device) -> Option<File> {
    if device.is_empty() || device.is_suspended() {
        return None;
    }
    // Open the disk first: that makes the kernel query the size of the medium.
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

/// Makes the kernel re-read the partition table. Takes an exclusive lock, because the kernel removes all partitions and
/// adds them again, and no thread may probe them meanwhile.
fn tell_kernel(disk: &File) -> io::Result<()> {
    lock(disk, FlockOperation::NonBlockingLockExclusive)?;
    // Fails if an old partition is mounted, which then stays in use.
    let _ = sys::reread_partitions(disk);
    lock(disk, FlockOperation::NonBlockingLockShared)
}

/// Whether a disk has a new partition table that the kernel does not know: partitioning tools tell the kernel, copying
/// a whole image does not. Never for a table that was seen before, because the kernel reads some tables differently.
fn is_changed(known: &Option<Table>, table: &Option<Table>, disk: &Device) -> bool {
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

/// The array that this device is. Its name is stored in its members.
fn array(disk: &Device) -> Option<Array> {
    block::array_of_member(&open(&disk.first_member()?).ok()?).ok()?
}
