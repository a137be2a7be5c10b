//! Selects the next system and its kernel without a mount list.

use anyhow::Result;
use iguana_lab::disk::{Disk, Part};
use iguana_lab::image::{Recipe, busybox_root, put};
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::process::{self, QUICK};
use iguana_lab::scenario::Scenario;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The partition type of a root for x86-64, and another type without a meaning for the discovery.
pub(crate) const ROOT: &str = "type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const USR: &str = "type=8484680c-9521-48c6-9c11-b0720656f69e";
const VERITY: &str = "type=2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
const OTHER: &str = "type=linux";

/// The release of a kernel other than the running one.
const OTHER_RELEASE: &str = "9.9-other";

/// An init that prints a text.
fn init_that_says(text: &str) -> String {
    format!("#!/bin/sh\nmount -t proc proc /proc 2>/dev/null\necho \"{text}\"\npoweroff -f\n")
}

/// Busybox, and an init that prints the name of the system.
pub(crate) fn system(name: &str) -> Result<tempfile::TempDir> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    put(
        root.path(),
        "/sbin/init",
        0o755,
        init_that_says(&format!("system: {name}, $(cat /usr/name)")).as_bytes(),
    )?;
    put(root.path(), "/usr/name", 0o644, b"its own usr\n")?;
    Ok(root)
}

fn one<'a>(row: &'a str, directory: &'a Path) -> Part<'a> {
    Part { mib: 16, row, directory }
}

/// A machine with these disks, and a job that does nothing.
fn machine(disks: &[&Disk], job: &str) -> Result<Scenario> {
    let scenario = Scenario::new()?.job(Recipe::script(job)?)?.append("rd.iguana.on_failure=poweroff");
    Ok(disks.iter().fold(scenario, |scenario, disk| scenario.disk(disk)))
}

#[test]
fn the_root_is_found_by_its_type_with_its_usr() -> Result<()> {
    let (root, usr) = (system("found")?, tempfile::tempdir()?);
    put(usr.path(), "/name", 0o644, b"usr of a partition\n")?;
    let read_only = format!("{USR}, attrs=\"GUID:60\"");
    let found = Disk::gpt(&[one(OTHER, usr.path()), one(ROOT, root.path()), one(&read_only, usr.path())])?;
    let other = Disk::gpt(&[one(OTHER, usr.path())])?;
    let mut boot = machine(&[&other, &found], "true")?.boot()?;
    boot.expect(
        "handover: found the root by its partition type: `/dev/vdb`, the only disk with a root partition",
    )?;
    boot.expect("handover: the new system has no kernel: it continues with this one")?;
    boot.expect("handover: switch root to /dev/vdb2, init /sbin/init")?;
    boot.expect("system: found, usr of a partition")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn the_root_on_the_disk_that_was_written_to_is_preferred() -> Result<()> {
    let (first, second) = (system("first")?, system("second")?);
    let disks = [Disk::gpt(&[one(ROOT, first.path())])?, Disk::gpt(&[one(ROOT, second.path())])?];
    let disks: Vec<&Disk> = disks.iter().collect();
    let mut boot = machine(&disks, "true")?.boot()?;
    let block = boot.fails_in("handover")?;
    assert!(
        block.contains("2 candidates for the new root") && block.contains("`/dev/vda1`, `/dev/vdb1`"),
        "{block}"
    );
    boot.ends()?;
    let write = "mount /dev/vdb1 /tmp && echo written > /tmp/file && umount /tmp";
    let mut boot = machine(&disks, write)?.boot()?;
    boot.expect("handover: found the root by its partition type: `/dev/vdb`, the disk that a job wrote to")?;
    boot.expect("system: second")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_root_that_cannot_be_found_is_explained() -> Result<()> {
    let root = system("never")?;
    let manual = format!("{ROOT}, attrs=\"GUID:63\"");
    let mbr = Disk::empty(8)?;
    let script = r#"echo 'start=2048, type=83' | /sbin/sfdisk --quiet --label dos "$0""#;
    process::run(Command::new("sh").args(["-c", script]).arg(mbr.image()), QUICK)?;
    let disks = [mbr, Disk::gpt(&[one(&manual, root.path())])?, Disk::gpt(&[one(OTHER, root.path())])?];
    let mut boot = machine(&disks.iter().collect::<Vec<_>>(), "true")?.boot()?;
    let block = boot.fails_in("handover")?;
    for part in [
        "no job decided what comes next",
        "`/dev/vda` (no GPT, and an MBR has no partition type for a root)",
        "`/dev/vdb` (its root partition has the flag `no-auto`)",
        "`/dev/vdc` (none of its 1 partitions is a root",
        "hint: have a job write `DEVICE /sysroot`",
    ] {
        assert!(block.contains(part), "{part}: {block}");
    }
    boot.ends()?;
    let sealed = Disk::gpt(&[one(ROOT, root.path()), one(VERITY, root.path())])?;
    let mut boot = machine(&[&sealed], "true")?.boot()?;
    assert!(boot.fails_in("handover")?.contains("is protected by dm-verity (`/dev/vda2`)"));
    boot.ends()?;
    Ok(())
}

/// The running kernel, and an initrd that prints its command line.
pub(crate) struct Successor {
    pub(crate) kernel: Kernel,
    pub(crate) initrd: Vec<u8>,
}

impl Successor {
    pub(crate) fn new() -> Result<Successor> {
        let root = tempfile::tempdir()?;
        busybox_root(root.path())?;
        let init = init_that_says("successor: started with $(cat /proc/cmdline)");
        put(root.path(), "/init", 0o755, init.as_bytes())?;
        let file = tempfile::NamedTempFile::new()?;
        let pack = r#"cd "$0" && find . | cpio --quiet -o -H newc > "$1""#;
        process::run(Command::new("sh").args(["-c", pack]).arg(root.path()).arg(file.path()), QUICK)?;
        Ok(Successor { kernel: Kernel::debian(Flavour::Cloud)?, initrd: fs::read(file.path())? })
    }

    /// Installs both into a system, with Debian's file names.
    pub(crate) fn install(&self, root: &Path) -> Result<()> {
        put(root, &format!("/boot/vmlinuz-{OTHER_RELEASE}"), 0o644, &fs::read(&self.kernel.image)?)?;
        put(root, &format!("/boot/initrd.img-{OTHER_RELEASE}"), 0o644, &self.initrd)?;
        put(root, &format!("/lib/modules/{OTHER_RELEASE}/modules.dep"), 0o644, b"")
    }
}

#[test]
fn a_job_can_load_the_next_kernel() -> Result<()> {
    let successor = Successor::new()?;
    let job = "kexec --kexec-file-syscall --load /kernel --initrd=/initrd --command-line='console=ttyS0 by=job' && \
        printf ' Kexec\\r\\n' > /iguana/kernelAction";
    let recipe = Recipe::script(job)?
        .program("/sbin/kexec")?
        .copy(&successor.kernel.image, "/kernel")?
        .file("/initrd", 0o644, &successor.initrd)?;
    let mut boot = Scenario::new()?.job(recipe)?.boot()?;
    boot.expect_all(&[
        "handover: start the loaded kernel (kexec)",
        "successor: started with console=ttyS0 by=job",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn kexec_without_a_loaded_kernel_becomes_a_reboot() -> Result<()> {
    let mut boot = machine(&[], "echo kexec > /iguana/kernelAction")?.boot()?;
    boot.expect("warning: `/iguana/kernelAction` asks for `kexec`, but no kernel is loaded")?;
    boot.expect("handover: reboot")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_system_with_another_kernel_is_started_by_its_own() -> Result<()> {
    let root = system("never")?;
    Successor::new()?.install(root.path())?;
    let disk = Disk::gpt(&[Part { mib: 48, row: ROOT, directory: root.path() }])?;
    let list = "echo /dev/vda1 /sysroot ro > /iguana/mountlist";
    let mut boot = machine(&[&disk], list)?.boot()?;
    boot.expect("handover: the new system has modules only for 9.9-other, not for ")?;
    boot.expect("handover: kexec into `vmlinuz-9.9-other` of `/boot` with `root=UUID=")?;
    boot.expect("successor: started with root=UUID=")?;
    assert!(!boot.ends()?.contains("system: never"));

    let forbid = "echo 1 > /proc/sys/kernel/kexec_load_disabled";
    let mut boot = machine(&[&disk], &format!("{forbid}; {list}"))?.boot()?;
    boot.expect("handover: cannot load the kernel `vmlinuz-9.9-other` of `/boot`: Operation not permitted")?;
    boot.expect_all(&["rebooting into", "handover: reboot"])?;
    assert!(boot.ends()?.contains("reboot: Restarting system"));
    Ok(())
}
