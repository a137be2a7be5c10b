//! The kernel's uevents, sent when a device is added, changed or removed (lib/kobject_uevent.c).

/// The group of the kernel's own messages; udev forwards them to another group (linux/netlink.h).
pub(super) const KERNEL_GROUP: u32 = 1;

/// A uevent, reduced to what is needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Uevent<'a> {
    /// A device was added that needs a driver; its modalias.
    WantsDriver(&'a str),
    /// A disk or partition of this name was added or changed.
    BlockDevice(&'a str),
    BlockDeviceGone(&'a str),
    /// A disk or partition was renamed.
    BlockDeviceMoved,
}

/// Parses a message: `KEY=value` fields, each ended by a zero byte.
pub(super) fn parse(message: &[u8]) -> Option<Uevent<'_>> {
    let value = |key: &str| {
        let mut fields = message.split(|byte| *byte == 0).filter_map(|field| std::str::from_utf8(field).ok());
        fields.find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
    };
    if value("SUBSYSTEM") == Some("block") {
        let name = value("DEVPATH")?.rsplit('/').next()?;
        return match value("ACTION")? {
            "add" | "change" => Some(Uevent::BlockDevice(name)),
            "remove" => Some(Uevent::BlockDeviceGone(name)),
            "move" => Some(Uevent::BlockDeviceMoved),
            _ => None,
        };
    }
    (value("ACTION")? == "add").then(|| value("MODALIAS").map(Uevent::WantsDriver))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_added_devices_need_a_driver() {
        let message =
            |action: &str| format!("{action}@/devices/x\0ACTION={action}\0MODALIAS=usb:v1\0SEQNUM=1\0");
        assert_eq!(parse(message("add").as_bytes()), Some(Uevent::WantsDriver("usb:v1")));
        assert_eq!(parse(message("remove").as_bytes()), None);
        assert_eq!(parse(b"add@/devices/x\0ACTION=add\0"), None);
    }

    #[test]
    fn disks_and_partitions_come_change_and_go() {
        let message = |action: &str| {
            format!(
                "{action}@/devices/x/block/vda/vda1\0ACTION={action}\0DEVPATH=/devices/x/block/vda/vda1\0SUBSYSTEM=block\0DEVNAME=vda1\0"
            )
        };
        let parsed = |action: &str| format!("{:?}", parse(message(action).as_bytes()));
        assert_eq!(parsed("add"), r#"Some(BlockDevice("vda1"))"#);
        assert_eq!(parsed("change"), r#"Some(BlockDevice("vda1"))"#);
        assert_eq!(parsed("remove"), r#"Some(BlockDeviceGone("vda1"))"#);
        assert_eq!(parsed("move"), "Some(BlockDeviceMoved)");
        assert_eq!(parsed("bind"), "None");
        assert_eq!(parse(b"ACTION=add\0SUBSYSTEM=bdi\0DEVPATH=/devices/virtual/bdi/1\0"), None);
    }
}
