//! The machine's Ethernet interfaces, as listed in `/sys/class/net`.

use config::network_options::parse_hardware_address;
use std::fs;
use std::path::Path;

/// The kernel always creates the loopback interface first.
pub(super) const LOOPBACK_INDEX: u32 = 1;
/// linux/if_arp.h, `ARPHRD_ETHER`.
const ETHERNET: &str = "1";

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) hardware_address: [u8; 6],
    /// Whether a cable is connected, with a link to the other end.
    pub(super) has_carrier: bool,
}

/// The present interfaces, in the order in which the kernel found them. Bridges, tunnels and the like are left out.
pub(super) fn list() -> Vec<Interface> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut interfaces: Vec<Interface> = entries.filter_map(|entry| read(&entry.path())).collect();
    interfaces.sort_by_key(|interface| interface.index);
    interfaces
}

fn read(directory: &Path) -> Option<Interface> {
    let value = |name: &str| fs::read_to_string(directory.join(name)).ok().map(|text| text.trim().to_owned());
    // Leave out wireless interfaces: they are useless without a key, and some cannot even be brought up.
    let is_radio = directory.join("phy80211").exists();
    if value("type")? != ETHERNET || !directory.join("device").exists() || is_radio {
        return None;
    }
    Some(Interface {
        index: value("ifindex")?.parse().ok()?,
        name: directory.file_name()?.to_str()?.into(),
        hardware_address: parse_hardware_address(&value("address")?)?,
        // The file cannot be read while the interface is down.
        has_carrier: value("carrier").is_some_and(|carrier| carrier == "1"),
    })
}
