//! A root on everything at once: a btrfs subvolume on LVM on LUKS on RAID, and whatever else a mount list can name.

use anyhow::Result;
use iguana_lab::disk::Disk;
use iguana_lab::image::Recipe;
use iguana_lab::payload;
use iguana_lab::scenario::Scenario;
use serde_json::json;

const MAKE: &str = r#"#!/bin/sh
set -e
mdadm --quiet --create /dev/md/array --run --level=1 --raid-devices=2 --metadata=1.2 --homehost=lab --name=array \
    /dev/vda /dev/vdb
printf secret > /key
cryptsetup --batch-mode luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/md/array /key
cryptsetup open --key-file /key /dev/md/array secret
lvm() { command=$1; shift; "$command" -qq -y --config 'activation { udev_sync=0 udev_rules=0 }' "$@"; }
lvm pvcreate /dev/mapper/secret
lvm vgcreate my-group /dev/mapper/secret
lvm lvcreate -n my-root -l 100%FREE my-group
mkfs.btrfs -q -L "my root" /dev/my-group/my-root
mount /dev/my-group/my-root /mnt
for volume in @ @home; do btrfs -q subvolume create /mnt/$volume; done
cd /mnt/@
mkdir bin dev etc proc run sbin sys var
cp /bin/busybox bin/
chroot . /bin/busybox --install -s /bin
cp /installed-init sbin/init
cd /
umount /mnt
cat > /iguana/mountlist << 'LIST'
# the root, by its label
LABEL=my\040root /sysroot subvol=@
/dev/mapper/my--group-my--root	/sysroot/home	noatime,subvol=@home

LABEL=not-there /sysroot/srv nofail
tmpfs /sysroot/var/with\040space size=1m,nodev
/sysroot/bin /sysroot/bound bind,ro
overlay /sysroot/layered lowerdir=/sysroot/etc,upperdir=/sysroot/home/upper,workdir=/sysroot/home/work
LIST
mkdir -p /upper
mount -o subvol=@home /dev/my-group/my-root /mnt
mkdir /mnt/upper /mnt/work
umount /mnt
"#;

const INIT: &str = r#"#!/bin/sh
mount -t proc proc /proc 2>/dev/null
awk '$2 ~ "^/(home|var|bound|layered|$)" {print "mounted: " $1 " at " $2 " " $3 " " $4}' /proc/mounts
echo written > /layered/file && cat /home/upper/file
touch /bound/file || echo bound read-only
poweroff -f
"#;

#[test]
fn a_root_on_all_layers_at_once() -> Result<()> {
    let recipe = Recipe::empty()?
        .tar(&payload::disk_tools()?)
        .program("/bin/busybox")?
        .file("/installed-init", 0o755, INIT)?
        .file("/make", 0o755, MAKE)?
        .set("Cmd", json!(["/make"]));
    let disks = [Disk::empty(512)?, Disk::empty(512)?];
    let scenario = Scenario::new()?.memory(1024).job(recipe)?.append("rd.iguana.on_failure=poweroff");
    let mut boot = disks.iter().fold(scenario, |scenario, disk| scenario.disk(disk)).boot()?;
    boot.expect_all(&[
        "`LABEL=not-there` is not mounted at `/sysroot/srv` (`nofail`)",
        "handover: switch root to LABEL=my root, init /sbin/init",
        "mounted: /dev/mapper/my--group-my--root at / btrfs rw,relatime",
        "mounted: /dev/mapper/my--group-my--root at /home btrfs rw,noatime",
        r"mounted: tmpfs at /var/with\040space tmpfs rw,nodev",
        "at /bound btrfs ro,",
        "mounted: overlay at /layered overlay rw",
        "written",
        "bound read-only",
    ])?;
    boot.ends()?;
    Ok(())
}
