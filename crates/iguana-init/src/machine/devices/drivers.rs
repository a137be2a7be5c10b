//! Loads the drivers of devices in the background.

use crate::machine::modules::Modules;
use crate::report::{Report, Waiting};
use std::collections::HashSet;
use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, WaitTimeoutResult};
use std::thread;
use std::time::Duration;

/// Modules that no device requests. Every boot needs overlay. mdadm(8) cannot create an array without md: the kernel
/// loads it when the array's node is opened, but that first open fails.
const ALWAYS: &[&str] = &["overlay", "md_mod"];
/// Threads that load modules: more than processors, because drivers mostly wait for hardware.
const LOADERS: usize = 4;
/// How long the drivers may take before the boot continues without the last ones. A disk controller resets its ports
/// one after the other, which takes seconds for each.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// Loads the modules that devices request. Clones share the same queue.
#[derive(Clone)]
pub(super) struct Drivers {
    queue: Sender<String>,
    work: Arc<Work>,
    /// Modules to load after the drivers of devices.
    after: Arc<[String]>,
}

impl Drivers {
    /// Starts the threads, and loads [`ALWAYS`] and the modules of `rd.driver.pre=`, but no drivers of devices yet.
    pub(super) fn start(modules: Modules, report: &Report) -> Self {
        let (queue, queued) = channel();
        let (work, queued) = (Arc::new(Work::default()), Arc::new(Mutex::new(queued)));
        let modules = Arc::new(modules);
        let (before, after) = (modules.options().before.clone(), modules.options().after.clone());
        for _ in 0..LOADERS {
            let (work, queued, modules, report) =
                (Arc::clone(&work), Arc::clone(&queued), Arc::clone(&modules), report.clone());
            thread::spawn(move || load_queued(&queued, &work, &modules, &report));
        }
        let drivers = Self { queue, work, after: after.into() };
        ALWAYS.iter().for_each(|name| drivers.load(name));
        before.iter().for_each(|name| drivers.load(name));
        drivers
    }

    /// Queues the drivers of a device with this modalias.
    pub(super) fn load(&self, modalias: &str) {
        let mut progress = self.work.progress();
        if progress.seen.insert(modalias.to_owned()) && self.queue.send(modalias.to_owned()).is_ok() {
            progress.pending += 1;
        }
    }

    /// Queues the drivers of all present devices.
    pub(super) fn load_all(&self) {
        modaliases().iter().for_each(|modalias| self.load(modalias));
    }

    /// Waits until the drivers of all devices known so far have been tried.
    pub(super) fn settle(&self, report: &Report) {
        let what = "devices: waiting for drivers".to_owned();
        let _waiting = Waiting::start(report, what, SETTLE_LIMIT);
        // Devices of a bus that was just found may not have been announced yet.
        self.load_all();
        drop(self.wait_for_queued());
        self.after.iter().for_each(|name| self.load(name));
        let (progress, waited) = self.wait_for_queued();
        let Progress { seen, loaded, pending } = &*progress;
        report.say(format_args!("devices: loaded {loaded} modules for {} devices", seen.len()));
        if waited.timed_out() {
            let limit = SETTLE_LIMIT.as_secs();
            report.warn(format_args!("devices: {pending} drivers are still busy after {limit} s"));
        }
    }

    fn wait_for_queued(&self) -> (MutexGuard<'_, Progress>, WaitTimeoutResult) {
        let progress = self.work.progress();
        let settled =
            self.work.changed.wait_timeout_while(progress, SETTLE_LIMIT, |progress| progress.pending > 0);
        settled.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The work of the loader threads.
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

/// The modaliases of the devices of all buses.
fn modaliases() -> Vec<String> {
    let entries = |directory: &str| fs::read_dir(directory).into_iter().flatten().flatten();
    let buses = entries("/sys/bus").filter_map(|bus| bus.path().join("devices").to_str().map(str::to_owned));
    let devices = buses.flat_map(|directory| entries(&directory).collect::<Vec<_>>());
    let aliases = devices.filter_map(|device| fs::read_to_string(device.path().join("modalias")).ok());
    aliases.map(|alias| alias.trim().to_owned()).filter(|alias| !alias.is_empty()).collect()
}
