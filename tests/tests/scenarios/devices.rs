//! Disks that a container changes are available to the next container and to the handover, with udev's links,
//! although the initrd has no udev.

use anyhow::Result;
use iguana_lab::disk::Disk;
use iguana_lab::image::Recipe;
use iguana_lab::payload;
use iguana_lab::scenario::Scenario;
use std::path::Path;

/// Waits until a device or a link exists, or with `!` until it does not; installers wait for udev in this way.
const AWAIT: &str = r#"
await() {
    for _ in $(seq 100); do
        if [ "$1" = "!" ]; then [ -e "$2" ] || [ -L "$2" ] || return 0; else [ -e "$1" ] && return; fi
        sleep 0.1
    done
    echo "waited in vain for $*"
    ls -lR /dev/disk /dev/mapper
    exit 1
}
"#;

/// Partitions, a mapped device, a loop device, and something to find on each. The content of the third partition is
/// written through a device node that is not watched. Another device takes seconds for each answer.
const MAKE: &str = r#"
set -e
sfdisk --quiet /dev/vda << TABLE
label: gpt
size=64MiB, type=linux, name="the root"
size=32MiB, type=linux, name=data
size=16MiB, type=swap, name=swap
size=8MiB, name=slow
TABLE
timeout 2 udevadm settle; echo "udevadm settle ends with $?"
await '/dev/disk/by-partlabel/the\x20root'
mkfs.ext4 -q -L ROOT -U 00112233-4455-6677-8899-aabbccddeeff '/dev/disk/by-partlabel/the\x20root'
await /dev/disk/by-label/ROOT
mount /dev/disk/by-label/ROOT /mnt
mkdir -p /mnt/bin /mnt/sbin /mnt/dev /mnt/proc /mnt/sys /mnt/run /mnt/mapped
cp /busybox /mnt/bin/busybox
ln -s busybox /mnt/bin/sh
cp /installed-init /mnt/sbin/init
umount /mnt
mkswap -q /dev/vda3
dmsetup create mapped --table "0 65536 linear /dev/vda2 0"
mkfs.ext4 -q -L "on mapped" /dev/mapper/mapped
truncate -s 8M /iguana/loop
loop=$(losetup --find --show /iguana/loop)
mkfs.ext4 -q -L LOOP "$loop"
mknod /own b $(stat -c '0x%t 0x%T' /dev/vda3)
mkswap -q -L SWAP /own
dmsetup create slow --table "0 16384 delay /dev/vda4 0 6000"
"#;

/// Finds all of these by every name.
const FIND: &str = r#"
set -e
shows() { echo "$1 is $(basename "$(readlink -f "$1")")"; }
uuid=$(sfdisk --part-uuid /dev/vda 1 | tr A-Z a-z)
echo "the partition is of group $(stat -c '%g with mode %a' /dev/vda1)"
cd /dev/disk
for link in \
    by-label/ROOT by-uuid/00112233-4455-6677-8899-aabbccddeeff "by-partuuid/$uuid" 'by-partlabel/the\x20root' \
    by-id/virtio-lab-part1 by-path/*-part1; do
    mount "/dev/disk/$link" /mnt
    [ -x /mnt/sbin/init ]
    umount /mnt
    echo "mounted $link"
done
shows /dev/disk/by-label/SWAP
shows /dev/mapper/mapped
shows '/dev/disk/by-label/on\x20mapped'
shows /dev/disk/by-id/dm-name-mapped
mount /dev/disk/by-label/LOOP /mnt && umount /mnt && echo "mounted the loop device"
wipefs --quiet --all /dev/vda3
await ! /dev/disk/by-label/SWAP
echo "the link to what was wiped is gone"
dd if=/dev/vda of=/dev/vdb bs=1M count=120 status=none
await /dev/disk/by-id/virtio-copy-part1
echo "the partitions of the copy are there"
shows /dev/disk/by-label/ROOT
dd if=/dev/zero of=/dev/vdb bs=1M count=8 status=none
await ! /dev/vdb1
await ! /dev/disk/by-id/virtio-copy-part1
echo "the partitions of the copy are gone"
shows /dev/disk/by-label/ROOT
printf '/dev/disk/by-label/ROOT /sysroot\n/dev/mapper/mapped /sysroot/mapped ro\n' > /iguana/mountlist
"#;

/// The init of the installed system: prints the mounts and ends the machine.
const INIT: &str = "#!/bin/sh
busybox mount -t proc proc /proc 2> /dev/null
busybox grep -E ' (/|/mapped) ' /proc/mounts
[ -L /dev/disk/by-label/ROOT ] && echo 'the links are here'
busybox poweroff -f
";

fn tools() -> Result<Recipe> {
    Ok(Recipe::empty()?.tar(&payload::disk_tools()?))
}

fn drive(id: &str, disk: &Disk) -> String {
    format!("if=none,id={id},format=raw,file={}", disk.image().display())
}

fn script(text: &str) -> String {
    format!("#!/bin/bash\n{AWAIT}\n{text}")
}

#[test]
fn devices_created_by_a_container_are_visible_to_others() -> Result<()> {
    let disks = [Disk::empty(256)?, Disk::empty(256)?];
    let image = tools()?
        .copy(Path::new("/bin/busybox"), "/busybox")?
        .file("/installed-init", 0o755, INIT)?
        .file("/make", 0o755, script(MAKE))?
        .file("/find", 0o755, script(FIND))?;
    let workflow = "
jobs:
  make: {container: {image: REGISTRY/tools, command: /make}}
  find: {needs: [make], container: {image: REGISTRY/tools, command: /find}}
";
    let mut boot = Scenario::new()?
        .memory(1536)
        .extra(["-drive", &drive("lab", &disks[0]), "-device", "virtio-blk-pci,drive=lab,serial=lab"])
        .extra(["-drive", &drive("copy", &disks[1]), "-device", "virtio-blk-pci,drive=copy,serial=copy"])
        .image("tools", image)?
        .workflow(workflow)
        .boot()?;
    boot.expect_all(&[
        "udevadm settle ends with 0",
        "job make: succeeded",
        "`dm-1` does not respond; continuing without its content",
        "the partition is of group 6 with mode 660",
        "mounted by-label/ROOT",
        "mounted by-uuid/00112233-4455-6677-8899-aabbccddeeff",
        "mounted by-partuuid/",
        "mounted by-partlabel/the",
        "mounted by-id/virtio-lab-part1",
        "mounted by-path/pci-0000:00:",
        "/dev/disk/by-label/SWAP is vda3",
        "/dev/mapper/mapped is dm-0",
        "on\\x20mapped is dm-0",
        "dm-name-mapped is dm-0",
        "mounted the loop device",
        "the link to what was wiped is gone",
        "the partitions of the copy are there",
        "/dev/disk/by-label/ROOT is vda1",
        "the partitions of the copy are gone",
        "/dev/disk/by-label/ROOT is vda1",
        "job find: succeeded",
        "handover: switch root to /dev/disk/by-label/ROOT",
        "/dev/vda1 / ext4 rw",
        "/dev/mapper/mapped /mapped ext4 ro",
        "the links are here",
    ])?;
    boot.ends()?;
    Ok(())
}

/// One device of every kind, with a label where possible. LVM expects its links at once, unless it makes them itself;
/// these are removed so that Iguana's are tested.
const ONE_OF_EACH: &str = r#"
set -e
sfdisk --quiet /dev/vda << TABLE
label: gpt
size=16MiB, name="the root"
size=320MiB, name=xfs
size=128MiB, name=btrfs
size=40MiB, name=vfat, type=uefi
size=16MiB, name=exfat
size=16MiB, name=ntfs
size=64MiB, name=f2fs
size=16MiB, name=swap, type=swap
size=24MiB, name=luks1
size=24MiB, name=luks2
size=64MiB, name=lvm, type=lvm
size=24MiB, name=raid1
size=24MiB, name=raid2
size=16MiB, name=iso
size=16MiB, name=erofs
TABLE
mkfs.ext4 -q -L "my root/1" /dev/vda1
mkfs.xfs -q -L XFS /dev/vda2
mkfs.btrfs -q -L "BTRFS ä" /dev/vda3
mkfs.vfat -n ESP /dev/vda4 > /dev/null
mkfs.exfat /dev/vda5 > /dev/null
mkfs.ntfs -q -Q /dev/vda6 > /dev/null
mkfs.f2fs -q -l F2FS /dev/vda7 > /dev/null
mkswap -q -L SWAP /dev/vda8
luks() { printf secret | cryptsetup "$@" --key-file -; }
luks luksFormat --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --type luks1 /dev/vda9
luks luksFormat --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --type luks2 --label LUKS2 /dev/vda10
luks open /dev/vda10 opened
mkfs.ext4 -q -L OPENED /dev/mapper/opened
pvcreate -q /dev/vda11
vgcreate -q my-group /dev/vda11
lvcreate -q -y -n my-root -L 20M my-group --config "activation { udev_sync=0 udev_rules=0 }"
mkfs.ext4 -q -L VOLUME /dev/my-group/my-root
mdadm --quiet --create /dev/md/array --run --level=1 --raid-devices=2 --metadata=1.2 --homehost=lab --name=array \
    /dev/vda12 /dev/vda13
mkfs.ext4 -q -L ARRAY /dev/md/array
mkdir /tree
echo hello > /tree/hello
genisoimage -quiet -V DISC /tree | dd of=/dev/vda14 status=none
mkfs.erofs --quiet -U 11112222-3333-4444-5555-666677778888 /image /tree && dd if=/image of=/dev/vda15 status=none
sfdisk --quiet /dev/sda << TABLE
label: dos
size=8MiB
size=8MiB, type=extended
size=4MiB
TABLE
for disk in /dev/sdb /dev/sdc /dev/nvme0n1; do echo 'label: gpt
,' | sfdisk --quiet $disk; done
rm /dev/mapper/opened /dev/mapper/my--group-my--root /dev/my-group/my-root
udevadm trigger --action=change --subsystem-match=block
await /dev/mapper/opened
await /dev/my-group/my-root
echo "all are made"
"#;

/// Prints each link that differs from udev's, as `LINK DEVICE`.
const COMPARE: &str = r#"
set -e
cd /dev
find disk mapper md my-group cdrom -type l -printf '%p %l\n' | sed 's, .*/, ,' | sort > /ours
rm -r disk
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=change --subsystem-match=block
udevadm settle
for device in /sys/class/block/*; do
    for link in $(udevadm info --query=symlink --path="$device"); do echo "$link ${device##*/}"; done
done | sort > /theirs
echo "udev has $(wc -l < /theirs) links"
comm -23 /ours /theirs | sed 's/^/only ours: /'
comm -13 /ours /theirs | sed 's/^/only theirs: /'
echo poweroff > /iguana/kernelAction
"#;

/// Known differences from this udev: it asks an optical drive for its serial number, and newer versions also count
/// partitions and composed devices.
const KNOWN_DIFFERENCES: &[&str] = &["disk/by-id/ata-QEMU_DVD-ROM_", "disk/by-diskseq/"];

#[test]
fn the_links_are_those_of_udev() -> Result<()> {
    let disks = (0..5).map(|_| Disk::empty(1024)).collect::<Result<Vec<_>>>()?;
    let image =
        tools()?.file("/make", 0o755, script(ONE_OF_EACH))?.file("/compare", 0o755, script(COMPARE))?;
    let workflow = "
jobs:
  make: {container: {image: REGISTRY/tools, command: /make}}
  compare: {needs: [make], container: {image: REGISTRY/tools, command: /compare}}
";
    let scenario = Scenario::hardware()?.memory(2048).image("tools", image)?.workflow(workflow);
    let scenario = ["virtio", "ahci", "scsi", "usb", "nvme"]
        .iter()
        .zip(&disks)
        .fold(scenario, |it, (id, disk)| it.extra(["-drive", &drive(id, disk)]));
    let mut boot = scenario
        .extra(["-device", "virtio-blk-pci,drive=virtio,serial=lab"])
        .extra(["-device", "ich9-ahci,id=sata", "-device", "ide-hd,bus=sata.0,drive=ahci"])
        .extra(["-device", "ide-cd,bus=sata.1"])
        .extra([
            "-device",
            "virtio-scsi-pci,id=bus",
            "-device",
            "scsi-hd,bus=bus.0,drive=scsi,wwn=0x5000c50015ea71ac",
        ])
        .extra(["-device", "qemu-xhci", "-device", "usb-storage,drive=usb"])
        .extra(["-device", "nvme,serial=lab,drive=nvme"])
        .boot()?;
    boot.expect_all(&["all are made", "job make: succeeded", "udev has ", "job compare: succeeded"])?;
    let said = boot.ends()?;
    let differences =
        said.lines().filter(|line| line.contains("only ours: ") || line.contains("only theirs: "));
    let differences = differences.filter(|line| !KNOWN_DIFFERENCES.iter().any(|known| line.contains(known)));
    assert_eq!(differences.collect::<Vec<_>>().join("\n"), "");
    Ok(())
}
