//! A container installs a system on a disk, and the machine switches to that system.

use anyhow::Result;
use iguana_lab::disk::Disk;
use iguana_lab::image::{Recipe, busybox_root, put};
use iguana_lab::scenario::Scenario;
use std::path::Path;

/// Partitions the disk, makes a file system, and copies busybox and an init to it.
const INSTALL: &str = "
set -e
echo 'installing' > /iguana/progress
printf 'label: gpt\\ntype=linux, name=root\\n' | /sbin/sfdisk --quiet /dev/vda
until [ -b /dev/vda1 ]; do sleep 0.1; done
/sbin/mke2fs -q -t ext4 /dev/vda1
mount -t ext4 /dev/vda1 /mnt
mkdir -p /mnt/bin /mnt/sbin /mnt/etc /mnt/dev /mnt/proc /mnt/sys /mnt/run /mnt/tmp
cp /bin/busybox /mnt/bin/busybox
ln -s busybox /mnt/bin/sh
cp /installed-init /mnt/sbin/init
cp /iguana/machine-id /mnt/etc/machine-id
umount /mnt
echo PARTUUID=$(/sbin/sfdisk --part-uuid /dev/vda 1) /sysroot > /iguana/mountlist
";

/// The init of the installed system: prints its name, writes to the disk, and ends the machine.
const INIT: &str = "#!/bin/sh
busybox mount -t proc proc /proc 2>/dev/null
echo \"installed: pid $$ as $0 on $(busybox awk '$2 == \"/\" {print $3}' /proc/mounts | busybox tail -n 1)\"
echo \"installed: left over: $(busybox grep -c iguana /proc/mounts) mounts\"
busybox mount -o remount,rw /
echo \"booted with $*\" > /etc/trace
busybox sync
busybox poweroff -f
";

fn installer() -> Result<Recipe> {
    Recipe::busybox()?
        .program("/sbin/sfdisk")?
        .program("/sbin/mke2fs")?
        .file("/mnt/.keep", 0o644, "")?
        .file("/installed-init", 0o755, INIT)?
        .file("/install.sh", 0o755, format!("#!/bin/sh{INSTALL}"))
        .map(|recipe| recipe.set("Entrypoint", ["/install.sh"].into()))
}

#[test]
fn empty_disk_becomes_the_running_system() -> Result<()> {
    let disk = Disk::empty(64)?;
    let mut boot = Scenario::new()?.job(installer()?)?.disk(&disk).boot()?;
    boot.expect_all(&["job job: started", "progress: installing", "job job: succeeded", "memory: peak "])?;
    boot.expect("handover: switch root to PARTUUID=")?;
    boot.expect("installed: pid 1 as /sbin/init on ext4")?;
    boot.expect("installed: left over: 0 mounts")?;
    boot.ends()?;
    assert!(disk.read(1, "/etc/trace")?.starts_with("booted with"));
    assert_eq!(disk.read(1, "/etc/machine-id")?.trim().len(), 32);
    Ok(())
}

fn root_with_inits(directory: &Path) -> Result<()> {
    busybox_root(directory)?;
    put(directory, "/data/.keep", 0o644, b"")?;
    put(directory, "/sbin/init", 0o755, b"#!/bin/sh\necho wrong init\n")?;
    put(
        directory,
        "/sbin/other",
        0o755,
        b"#!/bin/sh\ncat /data/name; mount | grep ' on /data '\npoweroff -f\n",
    )
}

#[test]
fn mounts_are_made_in_order_and_init_is_used() -> Result<()> {
    let (root, data) = (tempfile::tempdir()?, tempfile::tempdir()?);
    root_with_inits(root.path())?;
    put(data.path(), "/name", 0o644, b"here are data\n")?;
    let disks = [Disk::ext4(32, "system", root.path())?, Disk::ext4(16, "data", data.path())?];
    let job = "printf 'LABEL=system /sysroot\\nLABEL=data /sysroot/data ro,noatime\\n' > /iguana/mountlist";
    let scenario = Scenario::new()?.job(Recipe::script(job)?)?;
    let mut boot = scenario.disk(&disks[0]).disk(&disks[1]).append("init=/sbin/other").boot()?;
    boot.expect("handover: switch root to LABEL=system, init /sbin/other")?;
    boot.expect("here are data")?;
    boot.expect("/dev/vdb on /data type ext4 (ro,noatime")?;
    assert!(!boot.ends()?.contains("wrong init"));
    Ok(())
}
