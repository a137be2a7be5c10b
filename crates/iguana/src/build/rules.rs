//! Selects the kernel modules that a machine may need until its system is installed and started: disks, network
//! interfaces, USB, input and file systems of every kind, the guest drivers of hypervisors, and what containers use.
//! It leaves out sound, graphics, cameras, sensors and radios.
//!
//! Dependencies of a module are added automatically and are not listed here.

use Verdict::{Leave, Take};

/// Whether modules below a path are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Take,
    Leave,
}

/// Paths below `kernel/` of a modules directory. For each module the longest matching path decides; a module without
/// a match is left out. Each path taken here makes every initrd larger and takes memory of every machine.
#[rustfmt::skip]
const RULES: &[(&str, Verdict, &str)] = &[
    // Disks.
    ("block",                       Take,  "I/O schedulers"),
    ("drivers/ata",                 Take,  "SATA and IDE disks"),
    ("drivers/block",               Take,  "loop, zram, nbd, virtio, Xen and other disks"),
    ("drivers/cdrom",               Take,  "optical drives"),
    ("drivers/dax",                 Take,  "persistent memory"),
    ("drivers/firewire",            Take,  "disks on FireWire"),
    ("drivers/md",                  Take,  "RAID, LVM, encryption, caches"),
    ("drivers/memstick",            Take,  "card readers"),
    ("drivers/message/fusion",      Take,  "SAS controllers"),
    ("drivers/misc/cardreader",     Take,  "card readers"),
    ("drivers/mmc",                 Take,  "eMMC and SD cards"),
    ("drivers/mtd",                 Take,  "raw flash"),
    ("drivers/nvdimm",              Take,  "persistent memory"),
    ("drivers/nvme",                Take,  "NVMe disks, local and over fabrics"),
    ("drivers/nvme/target",         Leave, "exports disks to others"),
    ("drivers/scsi",                Take,  "SAS, Fibre Channel, iSCSI, RAID controllers"),
    ("drivers/scsi/qla2xxx/tcm_qla2xxx", Leave, "exports disks to others"),
    ("drivers/ufs",                 Take,  "UFS disks"),

    // Network interfaces, and the virtual ones of containers.
    ("drivers/infiniband",          Take,  "InfiniBand and RDMA adapters, and disks behind them"),
    ("drivers/infiniband/ulp/isert", Leave, "exports disks to others"),
    ("drivers/infiniband/ulp/srpt", Leave, "exports disks to others"),
    ("drivers/net",                 Take,  "network interfaces, bonds, bridges, VLANs, tunnels"),
    ("drivers/net/can",             Leave, "field buses"),
    ("drivers/net/hamradio",        Leave, "amateur radio"),
    ("drivers/net/ieee802154",      Leave, "sensor radios"),
    ("drivers/net/wireless",        Leave, "Wi-Fi: useless without firmware, keys and a daemon; 7.8 MB"),
    ("drivers/staging/qlge",        Take,  "QLogic 10 Gbit adapters"),
    ("drivers/thunderbolt",         Take,  "docks, network over Thunderbolt"),
    ("net/802",                     Take,  "VLANs"),
    ("net/8021q",                   Take,  "VLANs"),
    ("net/bridge",                  Take,  "bridge filters for containers"),
    ("net/core",                    Take,  "tests of links, packet generators"),
    ("net/dns_resolver",            Take,  "DNS names of file servers"),
    ("net/ipv4",                    Take,  "tunnels, packet filters"),
    ("net/ipv6",                    Take,  "IPv6, tunnels, packet filters"),
    ("net/key",                     Take,  "IPsec"),
    ("net/mptcp",                   Take,  "socket diagnostics, used by `ss`"),
    ("net/netfilter",               Take,  "packet filters for containers"),
    ("net/netfilter/ipset",         Leave, "large firewalls"),
    ("net/netfilter/ipvs",          Leave, "load balancers"),
    ("net/netlink",                 Take,  "socket diagnostics, used by `ss`"),
    ("net/sched/sch_fq_codel",      Take,  "the default queueing discipline of network interfaces"),
    ("net/packet",                  Take,  "DHCP, tcpdump"),
    ("net/tls",                     Take,  "TLS in the kernel, for disks and files"),
    ("net/unix",                    Take,  "socket diagnostics, used by `ss`"),
    ("net/vmw_vsock",               Take,  "sockets between guests and their host"),
    ("net/xfrm",                    Take,  "IPsec"),

    // File systems, and the protocols of network file systems.
    ("fs",                          Take,  "file systems and their character sets"),
    ("fs/nfsd",                     Leave, "exports files to others"),
    ("fs/smb/server",               Leave, "exports files to others"),
    ("net/9p",                      Take,  "shared directories of the host"),
    ("net/sunrpc",                  Take,  "NFS"),

    // Keyboards, mice and their buses: a laptop's keyboard may be behind I2C, SPI or the Surface's bus.
    ("drivers/gpio",                Take,  "GPIO lines for I2C keyboards"),
    ("drivers/hid",                 Take,  "USB, I2C and Bluetooth keyboards and mice"),
    ("drivers/i2c/algos",           Take,  "buses of I2C keyboards"),
    ("drivers/i2c/busses",          Take,  "buses of I2C keyboards"),
    ("drivers/input",               Take,  "keyboards and mice"),
    ("drivers/input/gameport",      Leave, "games"),
    ("drivers/input/joystick",      Leave, "games"),
    ("drivers/input/tablet",        Leave, "drawing"),
    ("drivers/input/touchscreen",   Leave, "useless on a text console"),
    ("drivers/mfd/intel-lpss",      Take,  "buses of I2C and SPI keyboards"),
    ("drivers/mfd/intel-lpss-acpi", Take,  "buses of I2C and SPI keyboards"),
    ("drivers/mfd/intel-lpss-pci",  Take,  "buses of I2C and SPI keyboards"),
    ("drivers/pinctrl",             Take,  "GPIO lines for I2C keyboards"),
    ("drivers/platform/surface",    Take,  "keyboards of Surface laptops"),
    ("drivers/spi",                 Take,  "SPI keyboards and flash"),

    // USB: hosts, hubs, disks, network, consoles.
    ("drivers/usb",                 Take,  "all USB devices"),
    ("drivers/usb/atm",             Leave, "DSL modems"),
    ("drivers/usb/gadget",          Leave, "acting as a USB device"),
    ("drivers/usb/image",           Leave, "scanners"),
    ("drivers/usb/typec/altmodes",  Leave, "displays over USB"),
    ("drivers/usb/usbip",           Leave, "USB devices of other machines"),

    // Guest drivers of hypervisors.
    ("drivers/hv",                  Take,  "Hyper-V"),
    ("drivers/misc/vmw_balloon",    Take,  "VMware"),
    ("drivers/misc/vmw_vmci",       Take,  "VMware"),
    ("drivers/virt",                Take,  "VirtualBox and confidential guests"),
    ("drivers/virtio",              Take,  "KVM and others"),
    ("drivers/xen",                 Take,  "Xen"),
    ("drivers/xen/xen-scsiback",    Leave, "the host's side"),
    ("drivers/xen/xen-pciback",     Leave, "the host's side"),
    ("drivers/net/xen-netback",     Leave, "the host's side"),
    ("drivers/block/xen-blkback",   Leave, "the host's side"),

    // The board: buses of disks and interfaces, consoles, trust, clocks.
    ("drivers/acpi/nfit",           Take,  "persistent memory"),
    ("drivers/bus",                 Take,  "network interfaces behind MHI"),
    ("drivers/char/hw_random",      Take,  "entropy for TLS"),
    ("drivers/char/ipmi",           Take,  "the board's management controller"),
    ("drivers/char/tpm",            Take,  "keys of encrypted disks"),
    ("drivers/char/virtio_console", Take,  "consoles of guests"),
    ("drivers/firmware",            Take,  "EFI variables, QEMU's configuration"),
    ("drivers/misc/mei",            Take,  "Intel's management engine, for firmware updates"),
    ("drivers/misc/mei/hdcp",       Leave, "protected video"),
    ("drivers/pci",                 Take,  "NVMe behind VMD, Hyper-V's PCI"),
    ("drivers/pcmcia",              Leave, "only as a dependency"),
    ("drivers/tty/serial",          Take,  "serial consoles"),
    ("drivers/vhost",               Leave, "the host's side"),
    ("drivers/watchdog",            Take,  "restarts a machine that hangs"),
    ("drivers/watchdog/softdog",    Leave, "no device: it hangs together with the kernel"),

    // Modules that the kernel requests by name at run time.
    ("arch/x86/crypto",             Take,  "encrypted disks, checksums of file systems"),
    ("crypto",                      Take,  "encrypted disks, checksums of file systems"),
    ("lib",                         Take,  "compression, checksums"),
    ("lib/test",                    Leave, "tests of the kernel"),
    ("mm/zsmalloc",                 Take,  "zram"),
    ("security",                    Take,  "keys"),
];

/// Whether the rules take the module at `path` (as in `modules.dep`: `kernel/drivers/net/dummy.ko`).
pub(crate) fn wants(path: &str) -> bool {
    let Some(path) = path.strip_prefix("kernel/") else { return false };
    let name = path.split_once(".ko").map_or(path, |(name, _)| name);
    let fits = RULES.iter().filter(|(prefix, ..)| is_below(name, prefix));
    fits.max_by_key(|(prefix, ..)| prefix.len()).is_some_and(|(_, verdict, _)| *verdict == Take)
}

/// Whether `path` is `directory` or below it.
pub(crate) fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_longest_path_decides() {
        assert!(wants("kernel/drivers/nvme/host/nvme.ko"));
        assert!(!wants("kernel/drivers/nvme/target/nvmet.ko"));
        assert!(wants("kernel/drivers/net/ethernet/intel/igb/igb.ko.xz"));
        assert!(!wants("kernel/drivers/net/can/vcan.ko"));
    }

    #[test]
    fn a_path_may_name_one_module() {
        assert!(wants("kernel/drivers/acpi/nfit/nfit.ko"));
        assert!(wants("kernel/drivers/mfd/intel-lpss-pci.ko.zst"));
        assert!(!wants("kernel/drivers/mfd/lpc_ich.ko"));
    }

    #[test]
    fn a_name_with_the_same_prefix_is_another_directory() {
        assert!(!wants("kernel/libfoo/x.ko"));
        assert!(!wants("kernel/drivers/network/x.ko"));
        assert!(!wants("kernel/sound/soundcore.ko"));
        assert!(!wants("updates/dkms/nvidia.ko"));
    }

    #[test]
    fn no_path_is_named_twice() {
        let paths: BTreeSet<_> = RULES.iter().map(|(path, ..)| path).collect();
        assert_eq!(paths.len(), RULES.len());
    }
}
