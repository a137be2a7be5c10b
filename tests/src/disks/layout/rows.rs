//! The table of layouts.

use super::Step::{BootsWith, FirmwareStarts, InstallsAgain, Login, Refusal, Says, Types};
use super::{Firmware, Layout, System};
use crate::kernel::Flavour;

/// The base of all layouts: one disk, Debian with systemd, the same kernel for Iguana and the installed system, BIOS.
const PLAIN: Layout = Layout {
    name: "",
    script: "ext4",
    disks: 1,
    system: System::Systemd,
    kernel: Flavour::Cloud,
    firmware: Firmware::SeaBios,
    append: "",
    extra: &[],
    steps: &[],
};

/// Facts of every system that was entered by switch root.
const SWITCHED: &[&str] = &["left: 0", "machine-id: yes", "log: yes"];
const SWITCH: &str = "handover: switch root to ";
const KEXEC: &str = "handover: kexec into ";

/// The DMI data of a machine on which kexec is known not to work.
const VIRTUALBOX: &[&str] = &["-smbios", "type=1,manufacturer=innotek GmbH,product=VirtualBox"];

/// All layouts.
pub const LAYOUTS: &[Layout] = &[
    Layout {
        name: "ext4",
        steps: &[
            Says(SWITCH),
            Login(&["init: systemd", "mounts: ext4 on /", "left: 0", "machine-id: yes", "log: yes"]),
        ],
        ..PLAIN
    },
    Layout { name: "xfs", script: "xfs", steps: &[Says(SWITCH), Login(&["mounts: xfs on /"])], ..PLAIN },
    Layout {
        name: "btrfs subvolumes",
        script: "btrfs",
        steps: &[Says(SWITCH), Login(&["mounts: btrfs on /, btrfs on /home", "machine-id: yes"])],
        ..PLAIN
    },
    Layout {
        name: "LVM",
        script: "lvm",
        steps: &[Says(SWITCH), Login(&["mounts: ext4 on /, ext4 on /home", "machine-id: yes"])],
        ..PLAIN
    },
    Layout {
        name: "md RAID1",
        script: "raid",
        disks: 2,
        steps: &[Says(SWITCH), Login(&["mounts: ext4 on /", "machine-id: yes"])],
        ..PLAIN
    },
    Layout {
        name: "LUKS, opened",
        script: "luks_opened",
        steps: &[Says("handover: switch root to /dev/mapper/secret"), Login(&["mounts: ext4 on /"])],
        ..PLAIN
    },
    Layout {
        name: "LUKS, closed",
        script: "luks_closed",
        steps: &[
            Says("is encrypted and locked: its own initrd has to unlock it"),
            Says(KEXEC),
            Says("unlock disk secret"),
            Types("secret\n"),
            Login(&["init: systemd"]),
        ],
        ..PLAIN
    },
    Layout {
        name: "separate /usr, /boot, ESP",
        script: "separate",
        steps: &[
            Says("`LABEL=spare` is not mounted at `/sysroot/srv` (`nofail`)"),
            Says(SWITCH),
            Login(&["mounts: ext4 on /, ext4 on /usr, ext4 on /boot, vfat on /boot/efi", "machine-id: yes"]),
        ],
        ..PLAIN
    },
    Layout {
        name: "UKI on the ESP, another kernel than the initrd's",
        script: "unified",
        kernel: Flavour::Full,
        steps: &[Says("handover: kexec into `debian.efi`"), Login(&["init: systemd"])],
        ..PLAIN
    },
    Layout {
        name: "no mount list: root and /usr by their types",
        script: "discovered",
        steps: &[
            Says("found the root by its partition type: `/dev/vda`, the disk that a job wrote to"),
            Says(SWITCH),
            Login(&["mounts: ext4 on /, ext4 on /usr"]),
        ],
        ..PLAIN
    },
    Layout {
        name: "no mount list, MBR",
        script: "mbr",
        steps: &[Refusal(&[
            "`/dev/vda` (no GPT, and an MBR has no partition type for a root)",
            "hint: have a job write",
        ])],
        ..PLAIN
    },
    Layout {
        name: "another kernel than the initrd's, ext4",
        kernel: Flavour::Full,
        steps: &[Says("has modules only for"), Says(KEXEC), Login(&["init: systemd", "mounts: ext4 on /"])],
        ..PLAIN
    },
    Layout {
        name: "another kernel than the initrd's, btrfs subvolume",
        script: "btrfs",
        kernel: Flavour::Full,
        steps: &[Says(KEXEC), Says("rootflags=subvol=@"), Login(&["mounts: btrfs on /, btrfs on /home"])],
        ..PLAIN
    },
    Layout {
        name: "another kernel than the initrd's, LVM",
        script: "lvm",
        kernel: Flavour::Full,
        steps: &[Says(KEXEC), Login(&["mounts: ext4 on /, ext4 on /home"])],
        ..PLAIN
    },
    Layout {
        name: "another kernel, kexec forbidden, UEFI",
        script: "no_kexec",
        kernel: Flavour::Full,
        firmware: Firmware::Ovmf,
        steps: &[Says("rebooting into"), FirmwareStarts, Login(&["init: systemd"])],
        ..PLAIN
    },
    Layout {
        name: "another kernel, a machine on which kexec does not work, UEFI",
        script: "unified",
        kernel: Flavour::Full,
        firmware: Firmware::Ovmf,
        extra: VIRTUALBOX,
        steps: &[
            Says("kexec does not work on `innotek GmbH VirtualBox` machines"),
            FirmwareStarts,
            Login(&["init: systemd"]),
        ],
        ..PLAIN
    },
    Layout {
        name: "ext4, UEFI",
        firmware: Firmware::Ovmf,
        steps: &[Says(SWITCH), Login(&["mounts: ext4 on /"])],
        ..PLAIN
    },
    Layout {
        name: "busybox",
        system: System::Busybox,
        steps: &[
            Says("the new system has no kernel: it continues with this one"),
            Says(SWITCH),
            Login(&["init: init", "mounts: ext4 on /", "left: 0", "machine-id: yes", "log: yes"]),
        ],
        ..PLAIN
    },
    Layout { name: "OpenRC", system: System::OpenRc, steps: &[Says(SWITCH), Login(SWITCHED)], ..PLAIN },
    Layout { name: "sysvinit", system: System::SysVinit, steps: &[Says(SWITCH), Login(SWITCHED)], ..PLAIN },
    Layout {
        name: "two disks with a root each, both just made",
        script: "two_disks",
        disks: 2,
        steps: &[Refusal(&["there are 2 candidates for the new root", "`/dev/vda1`, `/dev/vdb1`"])],
        ..PLAIN
    },
    Layout {
        name: "two disks with a root each, the second just made",
        script: "discovered",
        disks: 2,
        steps: &[
            Says("login: "),
            Types("root\n"),
            Says("# "),
            Types("sync; poweroff -f\n"),
            InstallsAgain("second_disk"),
            Says("found the root by its partition type: `/dev/vdb`, the disk that a job wrote to"),
            Login(&["mounts: ext4 on /, ext4 on /usr"]),
        ],
        ..PLAIN
    },
    Layout {
        name: "policy `local`: the server cannot be reached",
        append: "rd.iguana.on_failure=local",
        steps: &[
            Says("login: "),
            Types("root\n"),
            Says("# "),
            Types("sync; poweroff -f\n"),
            BootsWith("rd.iguana.control_url=http://10.0.2.2:9/none root=LABEL=system"),
            Says("on failure: booting the system on the disk (local)"),
            Says(SWITCH),
            Login(&["mounts: ext4 on /"]),
        ],
        ..PLAIN
    },
];
