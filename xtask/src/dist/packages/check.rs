//! Checks that the packages install in a fresh Debian, work there, and can be removed completely; and that a machine
//! boots with them.

use anyhow::{Context, Result};
use iguana_lab::bundle::{Workstation, stick};
use iguana_lab::disk::Disk;
use iguana_lab::image::{Maker, Recipe};
use iguana_lab::lab_directory;
use iguana_lab::process::{self, LONG};
use iguana_lab::registry::Registry;
use iguana_lab::scratch_directory;
use iguana_vm::{Echo, Machine, Network, Qemu};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The packages of a Debian that makes initrds.
const PACKAGES: &str = "--include=dracut,dracut-network,network-manager,iputils-arping,procps,systemd-sysv,udev,dbus,\
    kmod,mawk,iproute2,squashfs-tools";

/// The commands that are run in it; each must succeed. The kernel is there for dracut to make an initrd for.
const TRIAL: &str = r#"
set -eu
find / -xdev \( -path /proc -o -path /sys -o -path /trial -o -path /var/lib/dpkg -o -path /var/log -o -path /tmp \) -prune -o -print | sort > /tmp/before
dpkg -i /trial/*.deb
iguana --version
iguana-workflow --help | head -1
echo 'jobs: {hello: {container: registry.example.com/hello}}' > /tmp/workflow.yaml
iguana check /tmp/workflow.yaml
iguana-workflow --dry-run /tmp/workflow.yaml
iguana completion bash > /dev/null
man_pages=$(ls /usr/share/man/man1/iguana*.1.gz | wc -l)
test "$man_pages" -gt 5
test -s /usr/share/iguana/iguana-initrd
kernel=$(ls /usr/share/iguana/vmlinuz-* | sed 's/.*vmlinuz-//')
echo "kernel $kernel"
mkdir -p /lib/modules/6.1.0-trial
depmod 6.1.0-trial
dracut --no-kernel --kver 6.1.0-trial --no-hostonly --add 'network network-manager iguana' --no-compress /tmp/initrd > /tmp/dracut.log 2>&1 || { cat /tmp/dracut.log; exit 1; }
if grep 'iguana:' /tmp/dracut.log; then exit 1; fi
lsinitrd /tmp/initrd | grep -q usr/lib/iguana/iguana-init
rm -rf /lib/modules/6.1.0-trial; rmdir /lib/modules 2> /dev/null || true
dpkg -P iguana iguana-tools dracut-iguana iguana-workflow
find / -xdev \( -path /proc -o -path /sys -o -path /trial -o -path /var/lib/dpkg -o -path /var/log -o -path /tmp \) -prune -o -print | sort > /tmp/after
if ! diff /tmp/before /tmp/after; then echo 'the packages leave something'; exit 1; fi
echo trial passed
"#;

/// Installs, tests and removes the packages.
pub(super) fn in_a_fresh_debian(debs: &[PathBuf]) -> Result<()> {
    let room = scratch_directory("packages")?;
    let trial = room.path().join("trial");
    fs::create_dir(&trial)?;
    for deb in debs {
        fs::copy(deb, trial.join(deb.file_name().context("no name")?))?;
    }
    fs::write(trial.join("trial.sh"), TRIAL)?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase", PACKAGES]);
    mmdebstrap.arg(format!("--customize-hook=copy-in {} /", trial.display()));
    mmdebstrap.arg("--customize-hook=chroot \"$1\" sh /trial/trial.sh");
    mmdebstrap.args(["bookworm", "-"]);
    let output = room.path().join("output");
    let script = "exec \"$@\" > /dev/null 2> \"$0\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(&output).arg(mmdebstrap.get_program()).args(mmdebstrap.get_args());
    let ended = process::run(&mut shell, LONG);
    let said = fs::read_to_string(&output).unwrap_or_default();
    ended.with_context(|| said.clone())?;
    println!("{}", said.trim_end());
    Ok(())
}

/// Boots the kernel and the initrd of the package `iguana` up to the handover. The workflow comes from a bundle on
/// the disk, because the package trusts no registry without TLS.
pub(super) fn in_a_machine(debs: &[PathBuf]) -> Result<()> {
    let is_iguana =
        |deb: &&PathBuf| deb.file_name().is_some_and(|name| name.to_string_lossy().starts_with("iguana_"));
    let deb = debs.iter().find(is_iguana).context("there is no package `iguana`")?;
    let unpacked = scratch_directory("packages")?;
    process::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(unpacked.path()), LONG)?;
    let shipped = unpacked.path().join("usr/share/iguana");
    let files = fs::read_dir(&shipped)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let named = |name: &str| {
        let is_it =
            |file: &&PathBuf| file.file_name().is_some_and(|it| it.to_string_lossy().starts_with(name));
        files.iter().find(is_it).cloned().with_context(|| format!("the package has no `{name}`"))
    };
    let registry = Registry::plain()?;
    let job = Recipe::script("echo it runs; echo poweroff > /iguana/kernelAction")?.make(Maker::Spec)?;
    registry.push(&job, "job")?;
    let workstation = Workstation::using(&registry)?;
    let bundle = workstation.bundle(&registry, "jobs: {job: {container: REGISTRY/job}}", "bundle.tar")?;
    let disk = Disk::ext4(64, "IGUANA", stick(&bundle)?.path())?;
    let machine = Machine {
        initrd: Some(named("iguana-initrd")?),
        append: "console=ttyS0 panic=-1 ip=off rd.iguana.control_url=hd:LABEL=IGUANA:/bundle.tar".into(),
        network: Network::Absent,
        disks: vec![iguana_vm::Disk::raw(disk.image()).throw_away()],
        ..Machine::new(named("vmlinuz-")?)
    };
    let mut console =
        Qemu::find()?.start(&machine, &lab_directory("logs")?.join("packages.log"), Echo::Silent)?;
    for text in ["iguana: version", "it runs", "handover: power off"] {
        println!("{}", console.expect(text, LONG)?.text);
    }
    console.wait_exit(LONG)?;
    Ok(())
}
