//! QEMU and the current directory, which may belong to another user. A process has one current directory, so this test has
//! its own. Needs QEMU.

use iguana_vm::{Disk, Echo, Machine, Network, Qemu};
use std::time::Duration;

/// What the boot sector writes to the serial line.
const SAID: &[u8] = b"booted\r\n";

/// A disk of 1 MiB: the firmware does not boot from one that is smaller than a cylinder.
const DISK: usize = 1 << 20;

/// A disk whose boot sector writes [`SAID`] to the first serial line.
fn disk() -> Vec<u8> {
    let mut disk = vec![0xba, 0xf8, 0x03]; // mov dx, 0x3f8
    disk.extend(SAID.iter().flat_map(|byte| [0xb0, *byte, 0xee])); // mov al, byte; out dx, al
    disk.extend([0xf4, 0xeb, 0xfd]); // again: hlt; jmp again
    disk.resize(510, 0);
    disk.extend([0x55, 0xaa]);
    disk.resize(DISK, 0);
    disk
}

#[test]
fn firmware_in_the_current_directory_is_not_used_and_relative_paths_are_found() {
    let directory = tempfile::tempdir().unwrap();
    std::env::set_current_dir(&directory).unwrap();
    for (name, bytes) in [("bios-256k.bin", 256 << 10), ("bios.bin", 128 << 10), ("kvmvapic.bin", 9 << 10)] {
        std::fs::write(name, vec![0xf4; bytes]).unwrap();
    }
    std::fs::write("disk.raw", disk()).unwrap();
    let machine = Machine {
        memory_mib: 32,
        network: Network::Absent,
        ..Machine::from_disks(vec![Disk::raw("disk.raw")])
    };
    let log = directory.path().join("log");
    let mut console = Qemu::find().unwrap().start(&machine, &log, Echo::Silent).unwrap();
    // The emulated firmware takes seconds on a busy machine.
    console.expect("booted", Duration::from_secs(60)).unwrap();
}
