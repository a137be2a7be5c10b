//! Machines with Secure Boot: which options are used, and what containers can do under a locked-down kernel.

use crate::POWER_OFF;
use crate::successors::{ROOT, Successor, system};
use anyhow::{Context, Result};
use iguana_lab::disk::{self, Part};
use iguana_lab::firmware::{Firmware, Owner};
use iguana_lab::image::{Image, Maker, Recipe};
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::registry::Registry;
use iguana_lab::way::LIMIT;
use iguana_lab::{initrd, lab_directory, scratch_directory};
use iguana_vm::{Console, Disk, Echo, Machine, Qemu};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Options that an attacker puts into a boot entry: another first program, another job, a console to see them.
const ATTACK: &str = "console=ttyS0 rdinit=/bin/sh init=/bin/sh rd.iguana.containers=attack";

/// A signed stick whose container is not named on any command line.
struct Stick {
    home: TempDir,
    _registry: Registry,
}

impl Stick {
    /// A stick that runs `image`, built with additional `options` of `iguana build`.
    fn running(image: &Image, options: &[&str]) -> Result<Stick> {
        let owner = Owner::named("owner")?;
        let (registry, home) = (Registry::plain()?, scratch_directory("secure-boot")?);
        let reference = registry.push(image, "job")?;
        let workflow = home.path().join("workflow.yaml");
        fs::write(&workflow, format!("jobs: {{job: {{container: {reference}}}}}\n"))?;
        let mut build = initrd::command(&Kernel::debian(Flavour::Cloud)?, &home.path().join("stick"));
        build.args(initrd::lab_trust()?).args(["--format", "usb", "--shell", "--workflow"]).arg(workflow);
        build.arg("--sign-key").arg(owner.key()).arg("--sign-cert").arg(owner.certificate());
        process::run(build.args(options), LONG)?;
        Ok(Stick { home, _registry: registry })
    }

    /// Starts a machine from it, with additional `disks`.
    fn boot(&self, firmware: &Firmware, disks: &[&Path], log: &str) -> Result<Console> {
        let stick = self.home.path().join("stick");
        let disks = [stick.as_path()].into_iter().chain(disks.iter().copied());
        let machine = Machine {
            extra: firmware.arguments().into_iter().map(Into::into).collect(),
            ..Machine::from_disks(disks.map(Disk::raw).collect())
        };
        Qemu::find()?.start(&machine, &lab_directory("logs")?.join(log), Echo::Silent)
    }
}

/// The container writes to the serial line itself, because no console is configured.
fn says_its_command_line() -> Result<Image> {
    let script = format!("echo \"the options are <$(cat /proc/cmdline)>\" > /dev/ttyS0\n{POWER_OFF}");
    Recipe::script(&script)?.make(Maker::Spec)
}

/// First without Secure Boot, where the options have an effect. This proves that they reach the program.
#[test]
fn options_of_a_boot_entry_count_only_without_secure_boot() -> Result<()> {
    let owner = Owner::named("owner")?;
    let image = says_its_command_line()?;
    let bare = Stick::running(&image, &[])?;
    let firmware = Firmware::passing(ATTACK, None)?;
    let mut console = bare.boot(&firmware, &[], "secure-boot-off.log")?;
    console.expect(ATTACK, LIMIT)?;
    drop(console);
    for (stick, own, log) in [
        (bare, "", "secure-boot-bare.log"),
        (Stick::running(&image, &["--cmdline", "panic=-1"])?, "panic=-1", "secure-boot-own.log"),
    ] {
        let firmware = Firmware::passing(ATTACK, Some(&owner))?;
        let mut console = stick.boot(&firmware, &[], log)?;
        let expected = format!("the options are <{own}>");
        let (found, line) = console.expect_any(&[&expected, "rdinit="], LIMIT)?;
        assert_eq!(found, 0, "the options are not the signed ones: {}", line.text);
        console.wait_exit(LIMIT)?;
    }
    Ok(())
}

/// The marker at the end of a signed module (Documentation/admin-guide/module-signing.rst).
const MODULE_SIGNED: &[u8] = b"~Module signature appended~\n";

/// Checks what a locked-down kernel lets even a privileged container do; installs nothing.
const LOOK: &str = "
mount -t securityfs none /sys/kernel/security && cat /sys/kernel/security/lockdown
mount -t efivarfs none /sys/firmware/efi/efivars
echo variable: $(od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c)
insmod /unsigned.ko || echo an unsigned module: refused
insmod /signed.ko && grep -q ^dummy /proc/modules && echo a signed module: loaded
head -c 1 /dev/mem > /dev/null || echo memory: closed
kexec --kexec-file-syscall --load /unsigned-kernel --command-line=x || echo an unsigned kernel: refused
kexec --kexec-syscall --load /unsigned-kernel --command-line=x > /dev/null 2>&1 || echo by the older call: refused
echo /dev/vdb1 /sysroot ro > /iguana/mountlist
";

/// A module of the kernel with and without the signature of its distribution.
fn modules(kernel: &Kernel) -> Result<[Vec<u8>; 2]> {
    let signed = fs::read(kernel.modules.join("kernel/drivers/net/dummy.ko"))?;
    let unsigned =
        signed.strip_suffix(MODULE_SIGNED).context("the kernel's modules are not signed")?.to_vec();
    Ok([signed, unsigned])
}

/// The kernel without its distribution's signature, which this firmware does not trust, and with its owner's. The
/// first signature is the one that is checked.
fn kernels(kernel: &Kernel, owner: &Owner, home: &Path) -> Result<[Kernel; 2]> {
    let [signed, unsigned] = ["signed", "unsigned"].map(|name| home.join(name));
    fs::copy(&kernel.image, &unsigned)?;
    process::run(Command::new("sbattach").arg("--remove").arg(&unsigned), QUICK)?;
    let mut sign = Command::new("sbsign");
    sign.arg("--key").arg(owner.key()).arg("--cert").arg(owner.certificate());
    process::run(sign.arg("--output").arg(&signed).arg(&unsigned), QUICK)?;
    Ok([signed, unsigned].map(|image| Kernel { image, ..kernel.clone() }))
}

#[test]
fn a_locked_down_kernel_accepts_only_signed_kernels() -> Result<()> {
    let home = scratch_directory("secure-boot")?;
    let owner = Owner::named("owner")?;
    let kernel = Kernel::debian(Flavour::Cloud)?;
    let [signed, unsigned] = kernels(&kernel, &owner, home.path())?;
    let [signed_module, unsigned_module] = modules(&kernel)?;
    let image = Recipe::script(LOOK)?
        .program("/sbin/kexec")?
        .copy(&unsigned.image, "/unsigned-kernel")?
        .file("/signed.ko", 0o644, signed_module)?
        .file("/unsigned.ko", 0o644, unsigned_module)?;
    let stick = Stick::running(&image.make(Maker::Spec)?, &["--cmdline", "console=ttyS0 panic=-1"])?;
    let firmware = Firmware::trusting(&owner)?;
    let start = |kernel: &Kernel, log: &str| {
        let root = system("never")?;
        Successor { kernel: kernel.clone(), ..Successor::new()? }.install(root.path())?;
        let disk = disk::Disk::gpt(&[Part { mib: 48, row: ROOT, directory: root.path() }])?;
        anyhow::Ok((stick.boot(&firmware, &[disk.image()], log)?, disk))
    };
    let (mut console, _disk) = start(&signed, "secure-boot-signed.log")?;
    for text in [
        "none [integrity] confidentiality",
        "variable: 6 0 0 0 1",
        "an unsigned module: refused",
        "a signed module: loaded",
        "memory: closed",
        "an unsigned kernel: refused",
        "by the older call: refused",
        "handover: kexec into `vmlinuz-9.9-other`",
        "successor: started with ",
    ] {
        console.expect(text, LIMIT)?;
    }
    console.wait_exit(LIMIT)?;
    let (mut console, _disk) = start(&unsigned, "secure-boot-unsigned.log")?;
    for text in ["handover: cannot load the kernel `vmlinuz-9.9-other`", "rebooting into", "handover: reboot"]
    {
        console.expect(text, LIMIT)?;
    }
    console.wait_exit(LIMIT)?;
    Ok(())
}
