//! Iguana as a module of dracut, on a Debian.

use crate::POWER_OFF;
use anyhow::Result;
use iguana_lab::disk::Disk;
use iguana_lab::dracut::{Dracut, HookRunner};
use iguana_lab::image::{Recipe, busybox_root, put};
use iguana_lab::kernel::{Flavour, Kernel};
use iguana_lab::payload::Suite;
use iguana_lab::scenario::{Boot, Scenario};

/// Memory in MiB: enough for dracut's unpacked initrd.
const MEMORY_MIB: u32 = 1024;

/// The init of the disk's system, which prints its name.
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc 2>/dev/null
echo \"system: pid $$ on $(awk '$2 == \"/\" {print $3}' /proc/mounts | tail -n 1), \
$(grep -c iguana /proc/mounts) mounts left, $(cat /data/name)\"
poweroff -f
";

/// A container with access to the machine's D-Bus calls NetworkManager, as Agama does.
const ASK_NETWORK_MANAGER: &str = "
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/var/run/dbus/system_bus_socket
/usr/bin/dbus-send --system --print-reply --dest=org.freedesktop.NetworkManager /org/freedesktop/NetworkManager \
    org.freedesktop.DBus.Properties.Get string:org.freedesktop.NetworkManager string:Version &&
    echo 'the bus answers' > /iguana/progress
";

const WORKFLOW: &str = "
jobs:
  network:
    container:
      image: REGISTRY/tool
      command: [sh, -c, '[ ! -S /var/run/dbus/system_bus_socket ] || sh /ask.sh']
      volumes: ['/var/run/dbus/system_bus_socket:/var/run/dbus/system_bus_socket']
  install:
    container:
      image: REGISTRY/tool
      command: [sh, -c, 'tty > /iguana/progress; echo LABEL=system /sysroot > /iguana/mountlist;
        echo LABEL=data /sysroot/data ro >> /iguana/mountlist']
";

fn machine(suite: Suite, kind: HookRunner) -> Result<Scenario> {
    let initrd = Dracut::of(&Kernel::debian(Flavour::Cloud)?, suite)?.initrd(kind)?;
    Ok(Scenario::with(&initrd).memory(MEMORY_MIB))
}

/// The disk of the installed system, and a disk with another file system for it.
fn disks() -> Result<[Disk; 2]> {
    let (root, data) = (tempfile::tempdir()?, tempfile::tempdir()?);
    busybox_root(root.path())?;
    put(root.path(), "/data/.keep", 0o644, b"")?;
    put(root.path(), "/etc/os-release", 0o644, b"NAME=installed\n")?;
    put(root.path(), "/sbin/init", 0o755, INIT.as_bytes())?;
    put(data.path(), "/name", 0o644, b"with its data\n")?;
    Ok([Disk::ext4(32, "system", root.path())?, Disk::ext4(16, "data", data.path())?])
}

fn installing(suite: Suite, kind: HookRunner, disks: &[Disk; 2]) -> Result<Scenario> {
    let tool =
        Recipe::busybox()?.program("/usr/bin/dbus-send")?.file("/ask.sh", 0o755, ASK_NETWORK_MANAGER)?;
    let scenario = machine(suite, kind)?.image("tool", tool)?.workflow(WORKFLOW);
    Ok(scenario.disk(&disks[0]).disk(&disks[1]).append("rd.iguana.on_failure=poweroff"))
}

fn systemd_switches(suite: Suite) -> Result<()> {
    let disks = disks()?;
    let mut boot = installing(suite, HookRunner::Systemd, &disks)?.boot()?;
    boot.expect_all(&["job network: started", "progress: the bus answers", "job network: succeeded"])?;
    boot.expect_all(&["progress: /dev/pts/", "handover: switch root to LABEL=system"])?;
    boot.expect("system: pid 1 on ext4, 0 mounts left, with its data")?;
    boot.ends()?;
    Ok(())
}

fn scripts_switch(suite: Suite) -> Result<()> {
    let disks = disks()?;
    let mut boot = installing(suite, HookRunner::Scripts, &disks)?.boot()?;
    boot.expect_all(&["progress: /dev/pts/", "handover: switch root to LABEL=system"])?;
    boot.expect("system: pid 1 on ext4, 0 mounts left, with its data")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn systemd_switches_to_what_a_container_has_installed() -> Result<()> {
    systemd_switches(Suite::Bookworm)
}

#[test]
#[ignore = "long"]
fn scripts_switch_to_what_a_container_has_installed() -> Result<()> {
    scripts_switch(Suite::Bookworm)
}

#[test]
#[ignore = "long"]
fn systemd_of_dracut_ng_switches() -> Result<()> {
    systemd_switches(Suite::Trixie)
}

#[test]
#[ignore = "long"]
fn scripts_of_dracut_ng_switch() -> Result<()> {
    scripts_switch(Suite::Trixie)
}

/// plymouth shows its messages on a serial line too, without Iguana's prefix.
#[test]
#[ignore = "long"]
fn the_splash_screen_shows_the_progress() -> Result<()> {
    let script = format!("echo half is copied > /iguana/progress\n{POWER_OFF}");
    let mut boot = machine(Suite::Bookworm, HookRunner::Systemd)?.job(Recipe::script(&script)?)?.boot()?;
    boot.expect("handover: power off")?;
    let said = boot.ends()?;
    assert!(said.lines().any(|line| line.trim() == "progress: half is copied"), "{said}");
    Ok(())
}

/// The existing system on the disk boots as if Iguana were not there.
fn steps_aside(kind: HookRunner) -> Result<()> {
    let disks = disks()?;
    let scenario = machine(Suite::Bookworm, kind)?.disk(&disks[0]).append("root=LABEL=system");
    let mut boot = scenario.boot()?;
    boot.expect("system: pid 1 on ext4")?;
    assert!(!boot.ends()?.contains("iguana:"));
    Ok(())
}

#[test]
#[ignore = "long"]
fn a_root_alone_is_left_to_systemd() -> Result<()> {
    steps_aside(HookRunner::Systemd)
}

#[test]
#[ignore = "long"]
fn a_root_alone_is_left_to_scripts() -> Result<()> {
    steps_aside(HookRunner::Scripts)
}

#[test]
#[ignore = "long"]
fn a_root_that_does_not_exist_yet_delays_nothing() -> Result<()> {
    for kind in [HookRunner::Systemd, HookRunner::Scripts] {
        let disks = disks()?;
        let mut boot = installing(Suite::Bookworm, kind, &disks)?.append("root=/dev/vdz1").boot()?;
        boot.expect("cannot take the machine-id from `root=/dev/vdz1`")?;
        boot.expect("handover: switch root to LABEL=system")?;
        boot.expect("system: pid 1 on ext4, 0 mounts left, with its data")?;
        boot.ends()?;
    }
    Ok(())
}

/// systemd's shell asks before it starts; that of the scripts has a prompt at once.
fn enter_shell(boot: &mut Boot, kind: HookRunner) -> Result<()> {
    match kind {
        HookRunner::Systemd => {
            boot.expect("or press Control-D to continue").and_then(|_| boot.types("\n"))?
        }
        HookRunner::Scripts => boot.expect("Dropping to debug shell").map(drop)?,
    }
    // Input before the prompt is discarded.
    boot.expect("# ").map(drop)
}

fn leave_shell(boot: &mut Boot, kind: HookRunner) -> Result<()> {
    enter_shell(boot, kind)?;
    boot.types("echo here $((40 + 2))\n")?;
    boot.expect("here 42")?;
    boot.types("exit\n")
}

#[test]
#[ignore = "long"]
fn a_failure_ends_in_dracuts_emergency_shell() -> Result<()> {
    for kind in [HookRunner::Systemd, HookRunner::Scripts] {
        let scenario = machine(Suite::Bookworm, kind)?
            .job(Recipe::script("exit 7")?)?
            .append("rd.iguana.debug rd.break=pre-mount");
        let mut boot = scenario.boot()?;
        leave_shell(&mut boot, kind)?;
        boot.fails_in("job")?;
        boot.expect("dracut's shell (rd.iguana.debug)")?;
        enter_shell(&mut boot, kind)?;
        boot.types("echo the answer is $((6 * 7)); grep -c 'exit status 7' /run/iguana/log\n")?;
        boot.expect("the answer is 42")?;
        boot.types("echo o > /proc/sysrq-trigger\n")?;
        boot.ends()?;
    }
    Ok(())
}

/// Kills the boot process in the hook, as the kernel does when memory is full.
const KILL: &str = "
for process in /proc/[0-9]*; do
    case \"$(tr '\\0' ' ' < $process/cmdline 2> /dev/null)\" in
        *iguana-init*dracut*pre-mount*) kill -9 ${process#/proc/} ;;
    esac
done
sleep 60
";

fn dies(kind: HookRunner) -> Result<()> {
    let workflow = "jobs: {job: {container: {image: REGISTRY/job, pid: host}}}";
    let scenario = machine(Suite::Bookworm, kind)?.image("job", Recipe::script(KILL)?)?.workflow(workflow);
    let mut boot = scenario.boot()?;
    boot.expect("the boot program exited without a decision (status 137)")?;
    boot.expect("on failure: rebooting in 10 s")?;
    let said = boot.ends()?;
    assert!(!said.contains("emergency mode") && !said.contains("debug shell"), "{said}");
    Ok(())
}

#[test]
fn a_crash_of_the_program_opens_no_shell() -> Result<()> {
    dies(HookRunner::Systemd)
}

#[test]
#[ignore = "long"]
fn a_crash_of_the_program_opens_no_shell_of_scripts() -> Result<()> {
    dies(HookRunner::Scripts)
}

/// Options that a person at the machine may try, with the expected message; the system on the disk is not started.
const TRIES: &[(&str, &str)] = &[
    (
        "rd.iguana.control_url=/x rd.break=pre-mount",
        "no shell: the trust directory of this initrd does not allow one",
    ),
    ("rd.break=cmdline rd.shell=1", "no shell: the trust directory of this initrd does not allow one"),
    (
        "root=LABEL=system mount.usr=LABEL=data",
        "does not allow the kernel option `mount.usr=LABEL=data`: dracut and systemd follow it",
    ),
    ("net.ifnames=0", "cannot read the workflow `/etc/iguana/control.yaml`"),
    ("root=LABEL=system", "kernel option `root=LABEL=system` is ignored"),
    (
        "root=LABEL=system init=/bin/sh",
        "the trust directory of this initrd does not allow the kernel option `init=`",
    ),
    ("rd.iguana.debug rd.iguana.on_failure=shell", "kernel option `rd.iguana.debug` is ignored"),
];

/// Options by which systemd would start none of the units that run dracut's hooks.
const UNITS: &[(&str, &str)] = &[(
    "root=LABEL=system systemd.mask=dracut-cmdline.service systemd.mask=dracut-pre-mount.service",
    "does not allow the kernel option `systemd.mask=dracut-cmdline.service` and 1 more",
)];

fn is_closed(kind: HookRunner, tries: &[(&str, &str)]) -> Result<()> {
    let rules = "[command-line]\nshell = false\nallow = ['rd.iguana.control_url']\n";
    let initrd = Dracut::of(&Kernel::debian(Flavour::Cloud)?, Suite::Bookworm)?.initrd_with(kind, rules)?;
    let disks = disks()?;
    for (options, told) in tries {
        let scenario = Scenario::with(&initrd).memory(MEMORY_MIB).disk(&disks[0]);
        let mut boot = scenario.append(*options).boot()?;
        boot.expect(told)?;
        boot.expect("on failure: rebooting in 10 s")?;
        let said = boot.ends()?;
        assert!(!said.contains("emergency mode") && !said.contains("debug shell"), "{options}: {said}");
        assert!(!said.contains("system: pid"), "{options}: {said}");
    }
    Ok(())
}

#[test]
fn a_strict_trust_closes_the_shells_of_dracut() -> Result<()> {
    is_closed(HookRunner::Systemd, &TRIES[..3])?;
    is_closed(HookRunner::Systemd, UNITS)
}

#[test]
#[ignore = "long"]
fn a_strict_trust_closes_the_shells_of_scripts_and_the_rest() -> Result<()> {
    is_closed(HookRunner::Scripts, TRIES)?;
    is_closed(HookRunner::Systemd, &TRIES[3..])?;
    // systemd knows the word, too.
    is_closed(
        HookRunner::Systemd,
        &[("emergency", "no shell: the trust directory of this initrd does not allow one")],
    )
}

#[test]
#[ignore = "long"]
fn a_kernel_action_ends_the_machine() -> Result<()> {
    let mut boot = machine(Suite::Bookworm, HookRunner::Systemd)?
        .job(Recipe::script("echo reboot > /iguana/kernelAction")?)?
        .boot()?;
    boot.expect("handover: reboot")?;
    assert!(boot.ends()?.contains("reboot: Restarting system"));
    Ok(())
}

#[test]
fn missing_dependencies_are_reported_when_the_initrd_is_built() -> Result<()> {
    let dracut = Dracut::of(&Kernel::debian(Flavour::Cloud)?, Suite::Bookworm)?;
    let iguana = ["--add", "iguana"];
    let program = dracut.complains(&iguana, Some("usr/lib/iguana/iguana-init"))?;
    assert!(program.contains("install the package iguana-workflow"), "{program}");
    let network = dracut.complains(&[&iguana[..], &["--omit", "network"]].concat(), None)?;
    assert!(network.contains("'iguana' depends on 'network', which can't be installed"), "{network}");
    Ok(())
}
