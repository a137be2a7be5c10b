//! Finds the drivers of all devices: those that are there, and those that come later.

use super::modules::Modules;
use crate::report::{Report, Waiting};
use anyhow::Context as _;
use netlink_sys::protocols::NETLINK_KOBJECT_UEVENT;
use netlink_sys::{Socket, SocketAddr};
use std::collections::HashSet;
use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The kernel's own messages, as opposed to those that udev sends on (linux/netlink.h).
const KERNEL_GROUP: u32 = 1;
/// Bytes of waiting messages: a machine with thousands of devices announces them within a second.
const WAITING_BYTES: i32 = 8 << 20;
/// Modules that no device asks for and that every boot needs.
const ALWAYS: &[&str] = &["overlay"];
/// Threads that load: more than processors, because drivers mostly wait for their hardware.
const LOADERS: usize = 4;
/// How long the drivers may take before the boot goes on without the last of them. A disk
/// controller resets its ports one after the other, each within seconds.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// The drivers are loaded in the background, also those of devices that come later.
pub(crate) struct Devices {
    work: Arc<Work>,
    listing: Listing,
}

/// Begins to load the drivers of all devices, and of each device that appears, until the process ends.
///
/// # Errors
/// When the kernel's messages cannot be listened to.
pub(crate) fn watch(modules: Modules, report: &Report) -> anyhow::Result<Devices> {
    // Listening begins before looking, so that no device comes unseen between the two.
    let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT).context("cannot listen for devices")?;
    socket.bind(&SocketAddr::new(0, KERNEL_GROUP)).context("cannot listen for devices")?;
    socket.set_rx_buf_sz(WAITING_BYTES).context("cannot listen for devices")?;
    let (queue, queued) = channel();
    let (work, queued) = (Arc::new(Work::default()), Arc::new(Mutex::new(queued)));
    let modules = Arc::new(modules);
    for _ in 0..LOADERS {
        let (work, queued, modules, report) =
            (Arc::clone(&work), Arc::clone(&queued), Arc::clone(&modules), report.clone());
        thread::spawn(move || load_queued(&queued, &work, &modules, &report));
    }
    let listing = Listing { queue, work: Arc::clone(&work) };
    ALWAYS.iter().for_each(|name| listing.add((*name).to_owned()));
    modaliases().into_iter().for_each(|alias| listing.add(alias));
    let report = report.clone();
    let devices = Devices { work, listing: listing.clone() };
    thread::spawn(move || listing.listen(&socket, &report));
    Ok(devices)
}

impl Devices {
    /// Waits until the drivers of all devices known so far have been tried.
    pub(crate) fn settle(&self, report: &Report) {
        let what = "devices: waiting for their drivers".to_owned();
        let _waiting = Waiting::start(report, what, SETTLE_LIMIT);
        // Devices of a bus that has just been found may not have been announced yet.
        modaliases().into_iter().for_each(|alias| self.listing.add(alias));
        let progress = self.work.progress();
        let settled =
            self.work.changed.wait_timeout_while(progress, SETTLE_LIMIT, |progress| progress.pending > 0);
        let (progress, waited) = settled.unwrap_or_else(PoisonError::into_inner);
        let Progress { seen, loaded, pending } = &*progress;
        report.say(format_args!("devices: {loaded} modules for {} devices", seen.len()));
        if waited.timed_out() {
            let limit = SETTLE_LIMIT.as_secs();
            report.warn(format_args!("devices: {pending} drivers are still busy after {limit} s"));
        }
    }
}

/// What the loaders have done and have to do.
#[derive(Default)]
struct Work {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    seen: HashSet<String>,
    pending: usize,
    loaded: usize,
}

impl Work {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load_queued(queued: &Mutex<Receiver<String>>, work: &Work, modules: &Modules, report: &Report) {
    loop {
        let next = queued.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(alias) = next else { return };
        let loaded = modules.load(&alias, report);
        let mut progress = work.progress();
        progress.loaded += loaded;
        progress.pending -= 1;
        work.changed.notify_all();
    }
}

/// Where new devices are written down.
#[derive(Clone)]
struct Listing {
    queue: Sender<String>,
    work: Arc<Work>,
}

impl Listing {
    fn add(&self, alias: String) {
        let mut progress = self.work.progress();
        if progress.seen.insert(alias.clone()) && self.queue.send(alias).is_ok() {
            progress.pending += 1;
        }
    }

    fn listen(&self, socket: &Socket, report: &Report) {
        loop {
            match socket.recv_from_full() {
                Ok((message, _)) => new_device(&message).into_iter().for_each(|alias| self.add(alias.into())),
                // Messages were lost: look at everything again.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    modaliases().into_iter().for_each(|alias| self.add(alias));
                }
                Err(error) => {
                    report.warn(format_args!("new devices are not seen any more: {error}"));
                    return;
                }
            }
        }
    }
}

/// What the devices of all buses say about themselves.
fn modaliases() -> Vec<String> {
    let entries = |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten();
    let buses = entries("/sys/bus").filter_map(|bus| bus.path().join("devices").to_str().map(str::to_owned));
    let devices = buses.flat_map(|folder| entries(&folder).collect::<Vec<_>>());
    let aliases = devices.filter_map(|device| fs::read_to_string(device.path().join("modalias")).ok());
    aliases.map(|alias| alias.trim().to_owned()).filter(|alias| !alias.is_empty()).collect()
}

/// The modalias in an `add` message: `KEY=value` texts, each ended by a zero (lib/kobject_uevent.c).
fn new_device(message: &[u8]) -> Option<&str> {
    let value = |key: &str| {
        let mut fields = message.split(|byte| *byte == 0).filter_map(|field| std::str::from_utf8(field).ok());
        fields.find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
    };
    (value("ACTION")? == "add").then(|| value("MODALIAS"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_added_devices_count() {
        let message =
            |action: &str| format!("{action}@/devices/x\0ACTION={action}\0MODALIAS=usb:v1\0SEQNUM=1\0");
        assert_eq!(new_device(message("add").as_bytes()), Some("usb:v1"));
        assert_eq!(new_device(message("remove").as_bytes()), None);
        assert_eq!(new_device(b"add@/devices/x\0ACTION=add\0"), None);
    }
}
