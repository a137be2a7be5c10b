//! Finds the drivers of all devices: those that are there, and those that come later.

use super::modules::Modules;
use crate::report::Report;
use anyhow::Context as _;
use netlink_sys::protocols::NETLINK_KOBJECT_UEVENT;
use netlink_sys::{Socket, SocketAddr};
use std::collections::HashSet;
use std::fs;
use std::thread;

/// The kernel's own messages, as opposed to those that udev sends on (linux/netlink.h).
const KERNEL_GROUP: u32 = 1;
/// Bytes of waiting messages: a machine with thousands of devices announces them within a second.
const WAITING_BYTES: i32 = 8 << 20;
/// Modules that no device asks for and that every boot needs.
const ALWAYS: &[&str] = &["overlay"];

/// Loads the drivers of all devices in the background, and of each device that appears, until
/// the process ends.
///
/// # Errors
/// When the kernel's messages cannot be listened to.
pub(crate) fn watch(mut modules: Modules, report: &Report) -> anyhow::Result<()> {
    // Listening begins before looking, so that no device comes unseen between the two.
    let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT).context("cannot listen for devices")?;
    socket.bind(&SocketAddr::new(0, KERNEL_GROUP)).context("cannot listen for devices")?;
    socket.set_rx_buf_sz(WAITING_BYTES).context("cannot listen for devices")?;
    let report = report.clone();
    for name in ALWAYS {
        modules.load(name, &report);
    }
    let (found, loaded) = cold_plug(&mut modules, &report);
    report.say(format_args!("devices: {loaded} of {} modules for {found} devices", modules.count()));
    thread::spawn(move || hot_plug(&socket, &mut modules, &report));
    Ok(())
}

/// Loads the drivers of the devices that are there; again while these bring further devices.
fn cold_plug(modules: &mut Modules, report: &Report) -> (usize, usize) {
    let mut seen = HashSet::new();
    let mut loaded = 0;
    loop {
        let new: Vec<String> = modaliases().into_iter().filter(|alias| seen.insert(alias.clone())).collect();
        if new.is_empty() {
            return (seen.len(), loaded);
        }
        loaded += new.iter().map(|alias| modules.load(alias, report)).sum::<usize>();
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

fn hot_plug(socket: &Socket, modules: &mut Modules, report: &Report) {
    loop {
        match socket.recv_from_full() {
            Ok((message, _)) => {
                if let Some(alias) = new_device(&message) {
                    modules.load(alias, report);
                }
            }
            // Messages were lost: look at everything again.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                cold_plug(modules, report);
            }
            Err(error) => {
                report.say(format_args!("warning: new devices are not seen any more: {error}"));
                return;
            }
        }
    }
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
