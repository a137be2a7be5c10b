//! Machines unlike a VM with virtio: the kernel for hardware, little memory, late devices.

use crate::POWER_OFF;
use anyhow::{Context as _, Result};
use iguana_lab::authority::Authority;
use iguana_lab::disk::Disk;
use iguana_lab::image::Recipe;
use iguana_lab::initrd::Initrd;
use iguana_lab::kernel::Flavour;
use iguana_lab::monitor::Monitor;
use iguana_lab::registry::Registry;
use iguana_lab::scenario::Scenario;

/// Waits until the machine has `count` disks with the lab's serial numbers, and prints their names.
fn listing(count: usize) -> String {
    format!(
        "disks() {{ for d in /sys/block/sd* /sys/block/nvme* /sys/block/vd*; do [ -e $d ] && echo ${{d##*/}}; done; }}
        until [ $(disks | wc -l) = {count} ]; do sleep 0.2; done
        echo disks: $(disks)
        {POWER_OFF}"
    )
}

fn drive(id: &str, disk: &Disk) -> String {
    format!("if=none,id={id},format=raw,file={}", disk.image().display())
}

#[test]
fn disks_of_every_bus_with_an_intel_interface() -> Result<()> {
    let disks = (0..4).map(|_| Disk::empty(8)).collect::<Result<Vec<_>>>()?;
    let scenario =
        Scenario::hardware()?.memory(1024).network_interface("e1000e").job(Recipe::script(&listing(4))?)?;
    let scenario = ["ahci", "nvme", "scsi", "usb"]
        .iter()
        .zip(&disks)
        .fold(scenario, |scenario, (id, disk)| scenario.extra(["-drive", &drive(id, disk)]));
    let mut boot = scenario
        .extra(["-device", "ich9-ahci,id=sata", "-device", "ide-hd,bus=sata.0,drive=ahci"])
        .extra(["-device", "nvme,serial=lab,drive=nvme"])
        .extra(["-device", "virtio-scsi-pci,id=bus", "-device", "scsi-hd,bus=bus.0,drive=scsi"])
        .extra(["-device", "qemu-xhci", "-device", "usb-storage,drive=usb"])
        .boot()?;
    boot.expect("network: ")?;
    let said = boot.ends()?;
    let disks = said.lines().find_map(|line| line.strip_prefix("disks: ")).unwrap_or_default();
    // The letters of the drives are not predictable: a stick that is reset gets another one.
    let of_scsi = disks.split(' ').filter(|name| name.starts_with("sd")).count();
    assert!(of_scsi == 3 && disks.contains("nvme0n1"), "`{disks}`:\n{said}");
    Ok(())
}

#[test]
fn a_disk_plugged_in_late_is_found() -> Result<()> {
    let disk = Disk::empty(8)?;
    let monitor = Monitor::new()?;
    let mut boot = Scenario::hardware()?
        .memory(1024)
        .network_interface("rtl8139")
        .job(Recipe::script(&format!("echo plug it in\n{}", listing(1)))?)?
        .extra(["-qmp", &monitor.argument(), "-drive", &drive("late", &disk)])
        .boot()?;
    boot.expect("plug it in")?;
    monitor.plug("nvme", &[("serial", "late"), ("drive", "late")])?;
    boot.expect("disks: nvme0n1")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_network_interface_plugged_in_late_is_found() -> Result<()> {
    let monitor = Monitor::new()?;
    let mut boot = Scenario::new()?
        .no_network()
        .job(Recipe::script(POWER_OFF)?)?
        .extra(["-qmp", &monitor.argument(), "-netdev", "user,id=late"])
        .boot()?;
    boot.expect("network: waiting for a network interface")?;
    monitor.plug("virtio-net-pci", &[("netdev", "late")])?;
    boot.expect_all(&["has 10.0.2.15/24", "job job: succeeded"])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_machine_with_little_memory_is_enough() -> Result<()> {
    let initrd = Initrd::bare(Flavour::Cloud)?;
    let mut boot = Scenario::with(&initrd).memory(128).job(Recipe::script(POWER_OFF)?)?.boot()?;
    boot.expect_all(&["job job: succeeded", "memory: peak ", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}

/// Code that does not need secret numbers must not wait for the kernel's random number generator; other code makes
/// the kernel collect entropy.
#[test]
fn a_machine_without_a_source_of_random_numbers_pulls_by_tls() -> Result<()> {
    let registry = Registry::tls(&Authority::named("lab")?)?;
    let scenario = Scenario::new()?.no_random_source().registry(registry);
    let mut boot = scenario.job(Recipe::script(POWER_OFF)?)?.boot()?;
    boot.expect("job job: succeeded")?;
    let said = boot.ends()?;
    let line = said.lines().find(|line| line.contains("from DHCP server")).context("no lease")?;
    let seconds = line.split("after ").nth(1).and_then(|rest| rest.strip_suffix(" s")).context("no time")?;
    assert!(seconds.parse::<f32>()? < 10.0, "{line}");
    Ok(())
}
