//! The table of installers.

use super::payloads::Payload;
use super::{Installer, Start, Version};
use crate::layout::Firmware;

/// The base of all: BIOS, and Iguana switches to the new system.
const PLAIN: Installer = Installer {
    name: "",
    example: "",
    maker: "",
    version: Version::Pinned(""),
    firmware: Firmware::SeaBios,
    beside: &[],
    served: &[],
    has_master: false,
    says: &["job install: succeeded"],
    hostname: "lab",
    start: Start::Handover,
};

/// The base of those that write no mount list.
const BY_TYPE: Installer =
    Installer { says: &["job install: succeeded", "found the root by its partition type"], ..PLAIN };

/// All installers.
pub const INSTALLERS: &[Installer] = &[
    Installer {
        name: "setup-storage, ftar, fcopy",
        example: "installers/fai",
        maker: "FAI",
        version: Version::Package("fai-setup-storage"),
        beside: &[("debian.tar.zst", Payload::Debian)],
        says: &["progress: setup-storage", "progress: ftar", "job install: succeeded"],
        hostname: "fai",
        ..PLAIN
    },
    Installer {
        name: "systemd-repart",
        example: "installers/repart",
        maker: "systemd",
        version: Version::Package("systemd"),
        beside: &[("system.tar", Payload::DebianTar)],
        ..BY_TYPE
    },
    Installer {
        name: "bmaptool",
        example: "installers/bmaptool",
        maker: "Intel, Yocto",
        version: Version::Package("bmap-tools"),
        served: &[("disk.raw.gz", Payload::DiskGz), ("disk.raw.bmap", Payload::DiskBmap)],
        ..BY_TYPE
    },
    Installer {
        name: "coreos-installer",
        example: "installers/coreos-installer",
        maker: "CoreOS (Fedora, Red Hat)",
        version: Version::Pinned("0.27.0"),
        beside: &[("coreos-installer", Payload::CoreosInstaller)],
        served: &[("disk.raw.xz", Payload::DiskXz)],
        ..BY_TYPE
    },
    Installer {
        name: "swupdate",
        example: "installers/swupdate",
        maker: "SWUpdate",
        version: Version::Package("swupdate"),
        beside: &[("certificate.pem", Payload::UpdateCertificate)],
        served: &[("update.swu", Payload::Update)],
        ..BY_TYPE
    },
    Installer {
        name: "cloud-init, by a seed",
        example: "installers/cloud-init",
        maker: "Canonical",
        version: Version::Pinned("22.4.2"),
        served: &[("cloud.raw.gz", Payload::CloudGz)],
        hostname: "first-boot",
        ..BY_TYPE
    },
    Installer {
        name: "salt-call, with a master",
        example: "installers/salt",
        maker: "Salt (saltboot's shape)",
        version: Version::Pinned("3008.0"),
        beside: &[("salt.tar", Payload::Salt)],
        has_master: true,
        ..PLAIN
    },
    GRUB,
    Installer { name: "grub-install, efibootmgr", firmware: Firmware::Ovmf, ..GRUB },
];

/// Our own example: the part of another maker is what makes the disk bootable.
const GRUB: Installer = Installer {
    name: "grub-install",
    example: "debian-install",
    maker: "GNU GRUB",
    version: Version::Package("grub2-common"),
    beside: &[("debian.tar.zst", Payload::DebianWithKernel)],
    says: &["progress: making /dev/vda bootable by itself", "progress: Debian is on /dev/vda2"],
    hostname: "iguana-demo",
    start: Start::HandoverAndFirmware,
    ..PLAIN
};
