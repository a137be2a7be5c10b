//! A disk's names in `by-path`: its path through the machine's buses, in the format of udev-builtin-path_id.c. Disks
//! behind SAS, Fibre Channel and iSCSI get none here, because udev makes those names from attributes of the remote
//! side.

use crate::block::device::Device;

/// Parts of sysfs paths of disks that are not attached to a local controller.
const ELSEWHERE: &[&str] = &["/virtual/", "/rport-", "/end_device-", "/session", "/vmbus_", "/VMBUS"];
/// Buses with stable device names, to which all other buses are attached.
const BUSES: &[&str] = &["pci", "platform", "acpi", "xen", "ccw", "scm"];
/// Those of them that also tell how the disk itself is attached.
const DIRECT: &[&str] = &["platform", "ccw", "scm"];

/// The names of a whole disk.
pub(super) fn places(disk: &Device) -> Vec<String> {
    let path = disk.path().to_string_lossy().into_owned();
    if ELSEWHERE.iter().any(|part| path.contains(part)) {
        return Vec::new();
    }
    let mut way = BusPath::default();
    let mut done_with = String::new();
    for device in disk.ancestors() {
        let Some(bus) = device.subsystem().filter(|bus| *bus != done_with) else { continue };
        done_with.clear();
        if way.pass(&device, &bus, disk) {
            done_with = bus;
        }
    }
    way.names(disk)
}

/// The path from a disk to the processor, as far as it is known.
#[derive(Default)]
struct BusPath {
    /// The part nearest to the disk comes first.
    parts: Vec<String>,
    /// A part, and the form that it has in older names.
    old_form: Option<(String, String)>,
    is_reached: bool,
    has_bus: bool,
}

impl BusPath {
    /// Adds a device on the path. `true` if further devices of the same bus add nothing.
    fn pass(&mut self, device: &Device, bus: &str, disk: &Device) -> bool {
        match bus {
            "scsi" => self.pass_scsi(device),
            "usb" => self.pass_usb(device),
            "virtio" => {
                self.is_reached = true;
                true
            }
            "nvme" => {
                let Some(number) = disk.attribute("nsid") else { return false };
                self.parts.push(format!("nvme-{number}"));
                (self.is_reached, self.has_bus) = (true, true);
                true
            }
            _ if BUSES.contains(&bus) => {
                self.parts.push(format!("{bus}-{}", device.name()));
                self.has_bus = true;
                self.is_reached |= DIRECT.contains(&bus);
                true
            }
            _ => false,
        }
    }

    fn pass_scsi(&mut self, device: &Device) -> bool {
        let Some([host, channel, target, unit]) = device.scsi_address() else { return false };
        self.is_reached = true;
        if let Some(port) = ata_port(device) {
            // Behind a port multiplier the channel identifies the disk, otherwise the target.
            let part = match channel.as_str() {
                "0" => format!("ata-{port}.{target}"),
                channel => format!("ata-{port}.{channel}.0"),
            };
            self.old_form = Some((part.clone(), format!("ata-{port}")));
            self.parts.push(part);
            return true;
        }
        let host = host_of_controller(device, &host).unwrap_or(host);
        self.parts.push(format!("scsi-{host}:{channel}:{target}:{unit}"));
        true
    }

    fn pass_usb(&mut self, device: &Device) -> bool {
        self.is_reached = true;
        // The root hub has no port.
        let Some((_, port)) = device.name().split_once('-') else { return false };
        self.parts.push(format!("usb-0:{port}"));
        true
    }

    fn names(self, disk: &Device) -> Vec<String> {
        if !self.is_reached || !self.has_bus {
            return Vec::new();
        }
        let joined = self.parts.iter().rev().cloned().collect::<Vec<_>>().join("-");
        let old = match &self.old_form {
            Some((new, old)) => Some(joined.replace(new, old)),
            None if disk.name().starts_with("vd") && joined.starts_with("pci-") => {
                Some(format!("virtio-{joined}"))
            }
            None => None,
        };
        [joined].into_iter().chain(old).collect()
    }
}

/// The number of the SATA controller's port, from 1.
fn ata_port(device: &Device) -> Option<String> {
    let is_port = |name: &str| {
        let number = name.strip_prefix("ata").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    };
    let port = device.ancestors().find(|it| is_port(it.name()))?;
    port.attribute(&format!("ata_port/{}/port_no", port.name()))
}

/// The SCSI host's number within its controller, from 0. The kernel numbers the hosts of the whole machine.
fn host_of_controller(device: &Device, host: &str) -> Option<String> {
    let own = device.ancestors().find(|it| it.name() == format!("host{host}"))?;
    let hosts = own.siblings().filter_map(|name| name.strip_prefix("host")?.parse::<u32>().ok());
    Some((host.parse::<u32>().ok()? - hosts.min()?).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::device::tests::Tree;

    const CONTROLLER: &str = "pci0000:00/0000:00:1f.2";

    /// A controller behind a bridge, both on the PCI bus.
    fn tree(name: &str) -> Tree {
        let bridge = "pci0000:00/0000:00:02.0";
        Tree::new(name)
            .subsystem(CONTROLLER, "pci")
            .subsystem(bridge, "pci")
            .subsystem(&format!("{bridge}/0000:01:00.0"), "pci")
    }

    #[test]
    fn a_virtio_disk_is_where_its_controller_is() {
        let directory = "pci0000:00/0000:00:02.0/0000:01:00.0/virtio3";
        let tree = tree("route-virtio").subsystem(directory, "virtio");
        let disk = tree.device(&format!("{directory}/block/vda"));
        assert_eq!(places(&disk), ["pci-0000:01:00.0", "virtio-pci-0000:01:00.0"]);
    }

    #[test]
    fn a_sata_disk_is_at_a_port() {
        let port = format!("{CONTROLLER}/ata3");
        let scsi = format!("{port}/host2/target2:0:0/2:0:0:0");
        let tree = tree("route-sata")
            .file(&format!("{port}/ata_port/ata3/port_no"), "1\n")
            .subsystem(&scsi, "scsi")
            .subsystem(&format!("{port}/host2"), "scsi");
        let disk = tree.device(&format!("{scsi}/block/sda"));
        assert_eq!(places(&disk), ["pci-0000:00:1f.2-ata-1.0", "pci-0000:00:1f.2-ata-1"]);
    }

    #[test]
    fn a_scsi_disk_is_numbered_within_its_controller() {
        let directory = format!("{CONTROLLER}/virtio1");
        let scsi = format!("{directory}/host7/target7:0:4/7:0:4:1");
        let tree = tree("route-scsi")
            .subsystem(&directory, "virtio")
            .subsystem(&scsi, "scsi")
            .subsystem(&format!("{directory}/host7"), "scsi")
            .subsystem(&format!("{directory}/host6"), "scsi");
        let disk = tree.device(&format!("{scsi}/block/sdb"));
        assert_eq!(places(&disk), ["pci-0000:00:1f.2-scsi-1:0:4:1"]);
    }

    #[test]
    fn usb_and_nvme_disks_have_paths_of_their_own() {
        let interface = format!("{CONTROLLER}/usb1/1-2/1-2:1.0");
        let scsi = format!("{interface}/host0/target0:0:0/0:0:0:0");
        let tree = tree("route-usb")
            .subsystem(&format!("{CONTROLLER}/usb1"), "usb")
            .subsystem(&format!("{CONTROLLER}/usb1/1-2"), "usb")
            .subsystem(&interface, "usb")
            .subsystem(&scsi, "scsi")
            .subsystem(&format!("{interface}/host0"), "scsi");
        let disk = tree.device(&format!("{scsi}/block/sda"));
        assert_eq!(places(&disk), ["pci-0000:00:1f.2-usb-0:2:1.0-scsi-0:0:0:0"]);
        let nvme = format!("{CONTROLLER}/nvme/nvme0");
        let tree = tree_of_nvme(&nvme);
        assert_eq!(places(&tree.device(&format!("{nvme}/nvme0n1"))), ["pci-0000:00:1f.2-nvme-1"]);
    }

    fn tree_of_nvme(directory: &str) -> Tree {
        tree("route-nvme").subsystem(directory, "nvme").file(&format!("{directory}/nvme0n1/nsid"), "1\n")
    }

    #[test]
    fn a_device_without_a_path_has_no_name() {
        let tree = Tree::new("route-none").subsystem("pnp0/00:01", "pnp");
        assert!(places(&tree.device("pnp0/00:01/block/fd0")).is_empty());
        assert!(places(&tree.device("virtual/block/loop0")).is_empty());
        let remote = format!("{CONTROLLER}/host1/rport-1:0-0/target1:0:0/1:0:0:0");
        let tree = Tree::new("route-remote").subsystem(CONTROLLER, "pci").subsystem(&remote, "scsi");
        assert!(places(&tree.device(&format!("{remote}/block/sda"))).is_empty());
    }
}
