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
use iguana_lab::{initrd, lab_directory, packages, scratch_directory};
use iguana_vm::{Console, Disk, Echo, Machine, Qemu};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
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

/// Where `iguana build` finds systemd-stub.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// A UKI with Debian 13's stub (systemd 257), which reads options from more places than Debian 12's: SMBIOS, and
/// add-ons beside the UKI and in `loader/addons`.
struct LaterStub {
    home: TempDir,
    stubs: PathBuf,
    owner: Owner,
    _registry: Registry,
}

impl LaterStub {
    fn running(image: &Image) -> Result<Self> {
        packages::ensure(&["binutils", "mtools"])?;
        let (registry, home) = (Registry::plain()?, scratch_directory("secure-boot")?);
        let stubs = packages::of_debian_13("systemd-boot-efi")?.join("usr/lib/systemd/boot/efi");
        let (owner, reference) = (Owner::named("owner")?, registry.push(image, "job")?);
        let workflow = home.path().join("workflow.yaml");
        fs::write(&workflow, format!("jobs: {{job: {{container: {reference}}}}}\n"))?;
        let mut build = initrd::command(&Kernel::debian(Flavour::Cloud)?, &home.path().join("uki"));
        build.args(initrd::lab_trust()?).args(["--format", "uki", "--cmdline", "panic=-1", "--workflow"]);
        build.arg(workflow).arg("--sign-key").arg(owner.key()).arg("--sign-cert").arg(owner.certificate());
        // In place of this system's stub, for this build only.
        let mut own = Command::new("unshare");
        own.args(["--mount", "sh", "-c", &format!("mount --bind \"$0\" {STUB} && exec \"$@\"")]);
        own.arg(stubs.join("linuxx64.efi.stub")).arg(build.get_program()).args(build.get_args());
        process::run(&mut own, LONG)?;
        Ok(Self { home, stubs, owner, _registry: registry })
    }

    /// An add-on with these options, signed or not.
    fn add_on(&self, options: &str, is_signed: bool) -> Result<PathBuf> {
        let at = |ending: &str| self.home.path().join(format!("{options}.{ending}"));
        fs::write(at("options"), options)?;
        let stub = self.stubs.join("addonx64.efi.stub");
        let mut add = Command::new("objcopy");
        add.arg("--add-section").arg(format!(".cmdline={}", at("options").display()));
        add.args(["--change-section-vma", &format!(".cmdline={:#x}", end_of_sections(&stub)?)]);
        process::run(add.arg(stub).arg(at("efi")), QUICK)?;
        if !is_signed {
            return Ok(at("efi"));
        }
        let mut sign = Command::new("sbsign");
        sign.arg("--key").arg(self.owner.key()).arg("--cert").arg(self.owner.certificate());
        process::run(sign.arg("--output").arg(at("signed.efi")).arg(at("efi")), QUICK)?;
        Ok(at("signed.efi"))
    }

    /// A medium with the UKI and add-ons, each with its path.
    fn medium(&self, add_ons: &[(&Path, &str)]) -> Result<PathBuf> {
        let medium = self.home.path().join("medium");
        File::create(&medium)?.set_len(256 << 20)?;
        let run = |program: &str, words: &[&str]| {
            let mut command = Command::new(program);
            process::run(command.arg("-i").arg(&medium).args(words), LONG)
        };
        run("mformat", &["-F", "::"])?;
        run(
            "mmd",
            &["::/EFI", "::/EFI/BOOT", "::/EFI/BOOT/BOOTX64.EFI.extra.d", "::/loader", "::/loader/addons"],
        )?;
        let uki = self.home.path().join("uki");
        for (file, path) in [(uki.as_path(), "EFI/BOOT/BOOTX64.EFI")].iter().chain(add_ons) {
            run("mcopy", &[&file.display().to_string(), &format!("::/{path}")])?;
        }
        Ok(medium)
    }
}

/// The first free address after the sections of a program, as objdump(1) lists them.
fn end_of_sections(program: &Path) -> Result<u64> {
    let listed = process::run(Command::new("objdump").arg("-h").arg(program), QUICK)?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let ends = listed.lines().filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [number, name, size, address, ..] if name.starts_with('.') && number.parse::<u32>().is_ok() => {
            Some(hex(size)? + hex(address)?)
        }
        _ => None,
    });
    Ok(ends.max().context("it has no sections")?.next_multiple_of(0x1000))
}

/// Besides the signed command line, options of the machine's or virtual machine's SMBIOS and of signed add-ons count;
/// docs/security.md says so. Those of a boot entry and of unsigned add-ons do not.
#[test]
#[ignore = "long"]
fn of_debian_13s_stub_smbios_and_signed_add_ons_count_beside_the_signed_options() -> Result<()> {
    let stub = LaterStub::running(&says_its_command_line()?)?;
    let add_on = |options: &str, is_signed| stub.add_on(options, is_signed);
    let files = [add_on("signed.add-on", true)?, add_on("unsigned.add-on", false)?];
    let [signed, unsigned] = [files[0].as_path(), files[1].as_path()];
    let medium = stub.medium(&[
        (signed, "EFI/BOOT/BOOTX64.EFI.extra.d/signed.addon.efi"),
        (unsigned, "EFI/BOOT/BOOTX64.EFI.extra.d/unsigned.addon.efi"),
        (unsigned, "loader/addons/unsigned.addon.efi"),
    ])?;
    let firmware = Firmware::passing(ATTACK, Some(&stub.owner))?;
    let smbios = "type=11,value=io.systemd.stub.kernel-cmdline-extra=from.smbios";
    let extra = firmware.arguments().into_iter().chain(["-smbios".to_owned(), smbios.to_owned()]);
    let machine =
        Machine { extra: extra.map(Into::into).collect(), ..Machine::from_disks(vec![Disk::raw(&medium)]) };
    let log = lab_directory("logs")?.join("secure-boot-debian-13.log");
    let mut console = Qemu::find()?.start(&machine, &log, Echo::Silent)?;
    let line = console.expect("the options are <", LIMIT)?.text;
    console.wait_exit(LIMIT)?;
    let given = line.split(['<', '>']).nth(1).context("the options are incomplete")?;
    let mut options: Vec<&str> = given.split_whitespace().collect();
    options.sort_unstable();
    assert_eq!(options, ["from.smbios", "panic=-1", "signed.add-on"], "{line}");
    Ok(())
}

/// The marker at the end of a signed module (Documentation/admin-guide/module-signing.rst).
const MODULE_SIGNED: &[u8] = b"~Module signature appended~\n";

/// Checks what a locked-down kernel lets even a privileged container do; installs nothing.
const LOOK: &str = "
mount -t securityfs none /sys/kernel/security && cat /sys/kernel/security/lockdown
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
