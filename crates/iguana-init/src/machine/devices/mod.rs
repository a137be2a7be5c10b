//! The machine's devices, those present and those that appear later: their drivers, and the links to disks.

mod drivers;
mod links;
mod uevent;

use super::modules::Modules;
use crate::report::Report;
use anyhow::Context as _;
use drivers::Drivers;
use links::Links;
use netlink_sys::protocols::NETLINK_KOBJECT_UEVENT;
use netlink_sys::{Socket, SocketAddr};
use std::thread;
use uevent::Uevent;

/// Bytes of the socket's receive buffer: a machine with thousands of devices announces them within a second.
const WAITING_BYTES: i32 = 8 << 20;

/// Loads drivers and maintains links in the background.
#[derive(Clone)]
pub(crate) struct Devices {
    drivers: Drivers,
    links: Links,
}

/// Starts loading the drivers of all devices, present and future, and maintaining the links to all disks, until the
/// process ends.
///
/// # Errors
/// When the kernel's uevents cannot be received.
pub(crate) fn watch(modules: Modules, report: &Report) -> anyhow::Result<Devices> {
    // Listen before enumerating, so that no device in between is missed.
    let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT).context("cannot listen for devices")?;
    socket.bind(&SocketAddr::new(0, uevent::KERNEL_GROUP)).context("cannot listen for devices")?;
    socket.set_rx_buf_sz(WAITING_BYTES).context("cannot listen for devices")?;
    let devices = Devices { drivers: Drivers::start(modules, report), links: Links::start(report) };
    devices.look_at_everything();
    let (observer, report) = (devices.clone(), report.clone());
    thread::spawn(move || observer.listen(&socket, &report));
    Ok(devices)
}

impl Devices {
    /// Waits until the drivers of all devices known so far have been tried, and the disks have been probed.
    pub(crate) fn settle(&self, report: &Report) {
        self.drivers.settle(report);
        self.links.refresh();
    }

    /// Returns when the links match the present content of the disks.
    pub(crate) fn refresh_links(&self) {
        self.links.refresh();
    }

    fn look_at_everything(&self) {
        self.drivers.load_all();
        self.links.look_at_changed();
    }

    fn listen(&self, socket: &Socket, report: &Report) {
        loop {
            match socket.recv_from_full() {
                Ok((message, _)) => self.hear(&message),
                // Uevents were lost.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.look_at_everything(),
                Err(error) => {
                    report.warn(format_args!("new devices are no longer noticed: {error}"));
                    return;
                }
            }
        }
    }

    fn hear(&self, message: &[u8]) {
        match uevent::parse(message) {
            Some(Uevent::WantsDriver(modalias)) => self.drivers.load(modalias),
            Some(Uevent::BlockDevice(name)) => self.links.look_at(name),
            Some(Uevent::BlockDeviceGone(name)) => self.links.forget(name),
            Some(Uevent::BlockDeviceMoved) => self.links.look_at_changed(),
            None => {}
        }
    }
}
