//! The tools that installers are made of, unmodified: device-mapper with udev beside it, modprobe, efibootmgr.

use crate::running;
use anyhow::Result;
use iguana_lab::disk::Disk;
use iguana_lab::firmware::Firmware;
use iguana_lab::image::Recipe;
use iguana_lab::payload;
use iguana_lab::scenario::Scenario;
use iguana_lab::source_tree;
use std::path::PathBuf;

/// An encrypted disk with logical volumes. Each program waits, without a limit of its own, until udev has answered it.
const ENCRYPT: &str = "#!/bin/sh
set -e
exec 2>&1
printf secret > /key
cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /key /dev/vda
timeout 60 cryptsetup open --key-file /key /dev/vda safe
timeout 60 pvcreate -q /dev/mapper/safe
timeout 60 vgcreate -q group /dev/mapper/safe
timeout 60 lvcreate -q --yes --size 8M --name data group
mkfs.ext4 -q -L data /dev/group/data
timeout 60 udevadm trigger --settle $(readlink -f /dev/group/data)
echo \"label: $(lsblk --noheadings --output LABEL /dev/group/data)\"
timeout 60 lvremove -q --yes group
timeout 60 vgchange -q --activate n group
timeout 60 cryptsetup close safe
dmsetup udevcookies | grep -c semid > /left || true
echo \"cookies left: $(cat /left)\"
echo poweroff > /iguana/kernelAction
";

/// A Debian with a script as its command.
fn debian(packed: PathBuf, script: &str) -> Result<Recipe> {
    let recipe = Recipe::empty()?.tar(&packed).file("/script.sh", 0o755, script)?;
    Ok(recipe.set("Cmd", ["/script.sh"].as_slice().into()))
}

fn example(path: &str) -> Result<String> {
    Ok(std::fs::read_to_string(source_tree().join("examples/udev-service").join(path))?)
}

/// As the example recommends: with udevd in a service.
#[test]
fn programs_of_device_mapper_are_answered_by_the_udev_beside_them() -> Result<()> {
    let workflow = example("workflow.yaml")?.replace("registry.example.com", "REGISTRY");
    let disk = Disk::empty(96)?;
    let mut boot = Scenario::new()?
        .memory(1024)
        .disk(&disk)
        .image("partition", debian(payload::disk_tools()?, ENCRYPT)?)?
        .image("udev", debian(payload::disk_tools()?, &example("udevd.sh")?)?)?
        .workflow(workflow)
        .append("rd.iguana.on_failure=poweroff")
        .boot()?;
    boot.expect_all(&["service udev: ready", "label: data", "cookies left: 0", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_privileged_container_loads_modules_of_the_initrd() -> Result<()> {
    let script = "#!/bin/sh
exec 2>&1
echo 'poweroff' > /iguana/kernelAction
modprobe -a dm-thin-pool nbd dm-crypt || exit 1
for module in dm_thin_pool nbd dm_crypt; do [ -d /sys/module/$module ] && echo \"loaded: $module\"; done
modinfo -F filename nbd
ls -l /dev/fuse /dev/net/tun /dev/loop-control | awk '{ print $1, $NF }'
touch /lib/modules/$(uname -r)/x 2>&1 | grep -o 'Read-only file system'
";
    let tools = payload::installer_tools()?;
    let mut boot = Scenario::new()?
        .memory(1024)
        .image("tools", debian(tools, script)?)?
        .image("tool", Recipe::busybox()?)?
        .workflow(
            "
jobs:
  load: {container: REGISTRY/tools}
  confined:
    needs: load
    container: {image: REGISTRY/tool, privileged: false}
    steps: [{run: 'ls /lib/modules 2>&1 || echo no modules'}]
",
        )
        .append("rd.iguana.on_failure=poweroff")
        .boot()?;
    boot.expect_all(&["loaded: dm_thin_pool", "loaded: nbd", "loaded: dm_crypt"])?;
    boot.expect_all(&["/lib/modules/", "crw------- /dev/fuse", "crw", "/dev/net/tun"])?;
    boot.expect_all(&["Read-only file system", "no modules", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}

/// The second boot, in which the same firmware starts the kernel, finds what the first one has written.
#[test]
fn a_container_makes_a_boot_entry_in_the_firmware() -> Result<()> {
    let script = "#!/bin/sh
exec 2>&1
echo 'poweroff' > /iguana/kernelAction
efibootmgr | grep -q Installed && echo 'the entry is there' && exit
printf 'label: gpt\\nsize=16M, type=uefi\\n' | sfdisk -q /dev/vda
efibootmgr --quiet --create --disk /dev/vda --part 1 --label Installed --loader '\\EFI\\debian\\grubx64.efi'
efibootmgr --verbose | grep 'Installed.*grubx64.efi' && echo 'an entry is made'
";
    let firmware = Firmware::lenient()?;
    let disk = Disk::empty(64)?;
    let boot = || {
        let arguments = firmware.arguments();
        Scenario::new()?
            .memory(1024)
            .disk(&disk)
            .image("tools", debian(payload::installer_tools()?, script)?)?
            .workflow("jobs: {install: {container: REGISTRY/tools}}")
            .append("rd.iguana.on_failure=poweroff")
            .extra(arguments.iter().map(String::as_str))
            .boot()
    };
    for said in ["an entry is made", "the entry is there"] {
        let mut boot = boot()?;
        boot.expect_all(&[said, "handover: power off"])?;
        boot.ends()?;
    }
    Ok(())
}

/// reboot(2) in a PID namespace ends the container only; the machine ends after the last job.
#[test]
fn a_container_that_powers_off_ends_the_machine_after_the_last_job() -> Result<()> {
    let workflow = "
jobs:
  install: {container: {image: REGISTRY/tool, command: [poweroff, -f]}}
  later: {needs: install, container: {image: REGISTRY/tool, command: [echo, the last job]}}
";
    let mut boot = running(workflow)?.boot()?;
    boot.expect_all(&["asked for `poweroff` by reboot(2)", "the last job", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}

/// Debian's programs, without any option for it but the image's own volume.
#[test]
#[ignore = "long"]
fn buildah_podman_and_bubblewrap_run_in_a_privileged_container() -> Result<()> {
    let script = "#!/bin/sh
exec 2>&1
echo poweroff > /iguana/kernelAction
mkdir -p /tree/bin && cp /bin/busybox /tree/bin/
cat > /tree/Containerfile <<'END'
FROM scratch
COPY bin /bin
RUN [\"/bin/busybox\", \"touch\", \"/made\"]
CMD [\"/bin/busybox\", \"echo\", \"podman has run it\"]
END
timeout 120 buildah build --quiet --tag made /tree && echo 'buildah has built it'
timeout 120 podman run --rm --network=host localhost/made
bwrap --bind / / --proc /proc --dev /dev --unshare-all sh -c 'echo \"bubblewrap: PID 1 is $(cat /proc/1/comm)\"'
podman info --format 'storage: {{.Store.GraphDriverName}}'
";
    let image = debian(payload::container_tools()?, script)?;
    let image = image.set("Volumes", serde_json::json!({"/var/lib/containers": {}}));
    let mut boot = Scenario::new()?
        .memory(3072)
        .image("tools", image)?
        .workflow("jobs: {nested: {container: REGISTRY/tools}}")
        .append("rd.iguana.on_failure=poweroff")
        .boot()?;
    boot.expect_all(&["buildah has built it", "podman has run it", "bubblewrap: PID 1 is bwrap"])?;
    boot.expect_all(&["storage: overlay", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}
