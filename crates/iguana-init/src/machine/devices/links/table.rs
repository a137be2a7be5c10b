//! The known devices and their probes. A device is probed by one thread at a time, and again if it changed during the
//! probe.

use super::access;
use super::claims::Claims;
use super::look::{self, ProbeResult};
use super::writes::NodeWatcher;
use crate::block::Table;
use crate::block::device::Device;
use crate::report::Report;
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// All devices and their links.
pub(super) struct LinkTable {
    state: Mutex<DeviceTable>,
    changed: Condvar,
    /// The devices to be probed.
    queue: Sender<String>,
    /// `None` if inotify is not available.
    writes: Option<NodeWatcher>,
    report: Report,
}

struct DeviceTable {
    /// By kernel name.
    devices: HashMap<String, DeviceRecord>,
    claims: Claims,
    turn: u64,
}

/// What is known of a device.
#[derive(Default)]
struct DeviceRecord {
    /// When the current probe was requested; a sequence number over all probes.
    turn: u64,
    looking: ProbeState,
    /// A refresh has waited for it in vain; later ones do not wait for it any more.
    is_slow: bool,
    node: String,
    fingerprint: Option<String>,
    table: TableRecord,
}

/// What is known of a disk's partition table.
#[derive(Debug, Clone, Default)]
pub(super) enum TableRecord {
    /// The disk was not probed yet.
    #[default]
    Unknown,
    /// The table that was found, if any.
    Found(Option<Table>),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ProbeState {
    #[default]
    Not,
    Soon,
    Now,
    /// The device has changed since this probe began.
    NowAndAgain,
}

impl LinkTable {
    pub(super) fn new(queue: Sender<String>, writes: Option<NodeWatcher>, report: &Report) -> Self {
        let state = DeviceTable { devices: HashMap::new(), claims: Claims::new(Path::new("/dev")), turn: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), queue, writes, report: report.clone() }
    }

    pub(super) fn writes(&self) -> Option<&NodeWatcher> {
        self.writes.as_ref()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.state().devices.keys().cloned().collect()
    }

    /// Whether a device was probed when it had this fingerprint.
    pub(super) fn is_up_to_date(&self, name: &str, fingerprint: &str) -> bool {
        self.state().devices.get(name).is_some_and(|known| known.fingerprint.as_deref() == Some(fingerprint))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.state().is_busy()
    }

    /// Queues a device to be probed.
    pub(super) fn ask(&self, name: &str) {
        self.state().ask(name, &self.queue);
    }

    /// Removes the links of a device.
    pub(super) fn forget(&self, name: &str) {
        let mut state = self.state();
        if let Some(known) = state.devices.remove(name) {
            state.claims.replace(&known.node, 0, 0, &[], &mut self.told());
            self.changed.notify_all();
        }
    }

    /// Waits until all requested probes are done. Returns the names of devices that took too long.
    pub(super) fn wait(&self, limit: Duration) -> Vec<String> {
        let waited = self.changed.wait_timeout_while(self.state(), limit, |state| state.is_busy());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let late = state.devices.iter_mut().filter(|(_, known)| known.is_waited_for());
        let mark = |(name, known): (&String, &mut DeviceRecord)| {
            known.is_slow = true;
            name.clone()
        };
        late.map(mark).collect()
    }

    /// Probes a device that was queued.
    pub(super) fn look(&self, name: &str) {
        let Some((turn, table)) = self.begin(name) else { return };
        let Some(device) = Device::block(name) else { return self.forget(name) };
        self.grant(&device);
        if let Some(writes) = &self.writes {
            // Watch before probing, so that no write in between is missed. This fails for a device without a node yet;
            // the kernel will report that device again.
            let _ = writes.watch(&look::node(&device), name);
        }
        let mut sight = ProbeResult::from_outside(&device);
        self.note_outside(&device, turn, &sight);
        let inside = sight.look_inside(&device, &table);
        self.note(name, turn, inside.map(|()| sight));
    }

    /// A device without a node yet will be reported again by the kernel.
    fn grant(&self, device: &Device) {
        let node = look::node(device);
        match access::grant(&node) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => {
                self.report
                    .detail(format_args!("devices: the group of `{}` is not set: {error}", node.display()));
            }
        }
    }

    fn begin(&self, name: &str) -> Option<(u64, TableRecord)> {
        let mut state = self.state();
        let known = state.devices.get_mut(name).filter(|known| known.looking == ProbeState::Soon)?;
        known.looking = ProbeState::Now;
        Some((known.turn, known.table.clone()))
    }

    /// Makes the links that are known without reading from the device at once: LVM makes none itself, and expects them
    /// to exist.
    fn note_outside(&self, device: &Device, turn: u64, sight: &ProbeResult) {
        let mut state = self.state();
        let (node, facts) = (device.node(), &sight.facts);
        if let Some(known) = state.known(device.name(), turn) {
            known.node.clone_from(&node);
            state.claims.add(&node, facts.priority(), turn, &facts.names(), &mut self.told());
        }
    }

    fn note(&self, name: &str, turn: u64, sight: io::Result<ProbeResult>) {
        let mut state = self.state();
        // The device may be gone meanwhile, or replaced by another one of the same name.
        let Some(known) = state.known(name, turn) else { return };
        let again = known.looking == ProbeState::NowAndAgain;
        (known.looking, known.is_slow) = (ProbeState::Not, false);
        match sight {
            Ok(ProbeResult { facts, table, fingerprint }) => {
                (known.fingerprint, known.table) = (Some(fingerprint), TableRecord::Found(table));
                let node = known.node.clone();
                state.claims.replace(&node, facts.priority(), turn, &facts.names(), &mut self.told());
            }
            // The links stay as they are.
            Err(error) => self.report.detail(format_args!("devices: `{name}` is in use: {error}")),
        }
        if again {
            state.ask(name, &self.queue);
        }
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, DeviceTable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports links that cannot be made.
    fn told(&self) -> impl FnMut(&str, io::Error) {
        |name, error| {
            self.report.detail(format_args!("devices: cannot create the link `/dev/{name}`: {error}"));
        }
    }
}

impl DeviceTable {
    /// The device, if its current probe is the one of this turn.
    fn known(&mut self, name: &str, turn: u64) -> Option<&mut DeviceRecord> {
        self.devices.get_mut(name).filter(|known| known.turn == turn)
    }

    fn ask(&mut self, name: &str, queue: &Sender<String>) {
        self.turn += 1;
        let known = self.devices.entry(name.to_owned()).or_default();
        if known.looking == ProbeState::Not && queue.send(name.to_owned()).is_ok() {
            known.turn = self.turn;
        }
        known.looking = known.looking.once_asked();
    }

    fn is_busy(&self) -> bool {
        self.devices.values().any(DeviceRecord::is_waited_for)
    }
}

impl DeviceRecord {
    fn is_waited_for(&self) -> bool {
        self.looking != ProbeState::Not && !self.is_slow
    }
}

impl ProbeState {
    fn once_asked(self) -> Self {
        match self {
            Self::Not | Self::Soon => Self::Soon,
            Self::Now | Self::NowAndAgain => Self::NowAndAgain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// Names that no block device has.
    const NAMES: [&str; 2] = ["iguana-test-1", "iguana-test-2"];

    #[test]
    fn a_device_is_probed_once_however_often_it_is_requested() {
        let (queue, queued) = channel();
        let table = LinkTable::new(queue, None, &Report::to_caller(crate::report::Level::Error));
        NAMES.iter().chain(&NAMES).for_each(|name| table.ask(name));
        assert_eq!(queued.try_iter().collect::<Vec<_>>(), NAMES);
        let (turn, _) = table.begin(NAMES[0]).unwrap();
        assert!(table.begin(NAMES[0]).is_none(), "somebody looks at it already");
        table.ask(NAMES[0]);
        assert_eq!(queued.try_iter().count(), 0, "not yet");
        table.note(NAMES[0], turn, Err(io::Error::other("in use")));
        assert_eq!(queued.try_iter().collect::<Vec<_>>(), [NAMES[0]]);
    }

    #[test]
    fn a_device_that_does_not_answer_is_waited_for_once() {
        let (queue, _queued) = channel();
        let table = LinkTable::new(queue, None, &Report::to_caller(crate::report::Level::Error));
        table.ask(NAMES[0]);
        assert_eq!(table.wait(Duration::from_millis(5)), [NAMES[0]]);
        assert!(!table.is_busy());
        table.ask(NAMES[1]);
        assert!(table.is_busy());
        table.look(NAMES[1]);
        assert!(table.wait(Duration::from_secs(60)).is_empty(), "it is gone");
    }
}
