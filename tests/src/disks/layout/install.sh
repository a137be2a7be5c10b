#!/bin/sh
# The job of the layouts' container: makes the layout `$1` on empty disks, puts /system.tar.zst on it, and says where it is.
set -eu

root_type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709 # "Root Partition (amd64/x86_64)" of the Discoverable Partitions Specification
usr_type=8484680c-9521-48c6-9c11-b0720656f69e
boot_type=bc13c2ff-59e6-4262-a352-b275fd6f7172
key=/key

say() {
    echo "$*" > /iguana/progress
}

# DISK, and rows of sfdisk(8) on standard input.
partition() {
    { echo "label: ${label:-gpt}"; cat; } | sfdisk --quiet "$1"
    for _ in $(seq 100); do
        [ "$(find /sys/class/block/"${1#/dev/}"/ -name partition | wc -l)" -gt 0 ] && [ -b "${1}1" ] && return
        sleep 0.1
    done
}

# Nobody else makes nodes here: LVM has to.
lvm_() {
    command=$1
    shift
    "$command" --quiet --quiet --yes --config 'activation { udev_sync=0 udev_rules=0 }' "$@"
}

luks() {
    printf secret > $key
    cryptsetup --batch-mode luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "$1" $key
    cryptsetup open --key-file $key "$1" secret
}

unpack() {
    say "unpacking"
    tar --zstd -xpf /system.tar.zst -C /mnt --numeric-owner
}

uuid() {
    blkid --probe --match-tag UUID --output value "$1"
}

# Its lines are the arguments. An installed system has the same in its fstab(5).
list() {
    printf '%s\n' "$@" > /iguana/mountlist
    if [ -d /mnt/etc ]; then
        awk '$2 ~ "^/sysroot" {
            kind = $1 == "tmpfs" ? "tmpfs" : $3 ~ "bind" ? "none" : "auto"
            for (field = 1; field < 3; field++) { sub("^/sysroot", "", $field); if ($field == "") $field = "/" }
            print $1, $2, kind, $3 ? $3 : "defaults", 0, 0
        }' /iguana/mountlist > /mnt/etc/fstab
    fi
}

one_partition() {
    echo 'type=linux, name=root' | partition /dev/vda
    "mkfs.$1" -q -L system /dev/vda1
    mount /dev/vda1 /mnt
    unpack
}

ext4() {
    one_partition ext4
    list '# made by the layout' '' "UUID=$(uuid /dev/vda1)   /sysroot"
}

xfs() {
    one_partition xfs
    list 'PARTLABEL=root /sysroot noatime'
}

btrfs() {
    echo 'type=linux, name=root' | partition /dev/vda
    mkfs.btrfs -q -L system /dev/vda1
    mount /dev/vda1 /mnt
    for volume in @ @home; do command btrfs -q subvolume create /mnt/$volume; done
    umount /mnt
    mount -o subvol=@ /dev/vda1 /mnt
    unpack
    list 'LABEL=system /sysroot subvol=@' 'LABEL=system /sysroot/home noatime,subvol=@home'
}

lvm() {
    echo 'type=lvm' | partition /dev/vda
    lvm_ pvcreate /dev/vda1
    lvm_ vgcreate group /dev/vda1
    lvm_ lvcreate -n home -L 64M group
    lvm_ lvcreate -n root -l 100%FREE group
    mkfs.ext4 -q /dev/group/home
    mkfs.ext4 -q /dev/group/root
    mount /dev/group/root /mnt
    unpack
    list '/dev/mapper/group-root /sysroot' '/dev/group/home /sysroot/home'
}

raid() {
    for disk in /dev/vda /dev/vdb; do echo 'type=raid' | partition $disk; done
    mdadm --quiet --create /dev/md/system --run --level=1 --raid-devices=2 --metadata=1.2 --homehost=any --name=system \
        /dev/vda1 /dev/vdb1
    mkfs.ext4 -q -L system /dev/md/system
    mount /dev/md/system /mnt
    unpack
    list '/dev/md/system /sysroot'
}

luks_opened() {
    echo 'type=linux, name=secret' | partition /dev/vda
    luks /dev/vda1
    mkfs.ext4 -q /dev/mapper/secret
    mount /dev/mapper/secret /mnt
    unpack
    list '/dev/mapper/secret /sysroot'
}

# The boot partition has the kernel with an entry (Boot Loader Specification): the root cannot be looked into.
luks_closed() {
    partition /dev/vda << ROWS
size=128MiB, type=$boot_type, name=boot
type=linux, name=secret
ROWS
    mkfs.ext4 -q -L boot /dev/vda1
    luks /dev/vda2
    mkfs.ext4 -q /dev/mapper/secret
    mount /dev/mapper/secret /mnt
    mkdir /mnt/boot
    mount /dev/vda1 /mnt/boot
    unpack
    mkdir -p /mnt/boot/loader/entries
    (cd /mnt/boot && cat > loader/entries/debian.conf) << ENTRY
title   Debian
linux   /$(cd /mnt/boot && echo vmlinuz-*)
initrd  /$(cd /mnt/boot && echo initrd.img-*)
options root=/dev/mapper/secret ro console=ttyS0
options cryptopts=target=secret,source=UUID=$(cryptsetup luksUUID /dev/vda2)
ENTRY
    umount /mnt/boot /mnt
    cryptsetup close secret
    list "UUID=$(cryptsetup luksUUID /dev/vda2) /sysroot" 'LABEL=boot /sysroot/boot'
}

separate() {
    partition /dev/vda << ROWS
size=64MiB, type=uefi, name=esp
size=128MiB, type=$boot_type, name=boot
size=700MiB, type=linux, name=usr
type=linux, name=root
ROWS
    mkfs.vfat -n ESP /dev/vda1 > /dev/null
    mkfs.ext4 -q -L boot /dev/vda2
    mkfs.ext4 -q -L usr /dev/vda3
    mkfs.ext4 -q -L system /dev/vda4
    mount /dev/vda4 /mnt
    mkdir -p /mnt/boot /mnt/usr
    mount /dev/vda2 /mnt/boot
    mount /dev/vda3 /mnt/usr
    unpack
    umount /mnt/boot /mnt/usr
    list 'LABEL=system /sysroot' 'LABEL=usr /sysroot/usr ro' 'LABEL=boot /sysroot/boot' \
        'LABEL=ESP /sysroot/boot/efi umask=0077' 'LABEL=spare /sysroot/srv nofail' \
        'tmpfs /sysroot/var/tmp size=16m,mode=1777' '/sysroot/usr/share /sysroot/media bind,ro'
}

discovered() {
    partition "${1:-/dev/vda}" << ROWS
size=700MiB, type=$usr_type, name=usr, attrs="GUID:60"
type=$root_type, name=root
ROWS
    mkfs.ext4 -q "${1:-/dev/vda}1"
    mkfs.ext4 -q "${1:-/dev/vda}2"
    mount "${1:-/dev/vda}2" /mnt
    mkdir -p /mnt/usr
    mount "${1:-/dev/vda}1" /mnt/usr
    unpack
    umount /mnt/usr
}

mbr() {
    echo 'type=83' | label=dos partition /dev/vda
    mkfs.ext4 -q /dev/vda1
}

two_disks() {
    for disk in /dev/vda /dev/vdb; do
        echo "type=$root_type" | partition $disk
        mkfs.ext4 -q ${disk}1
    done
}

second_disk() {
    discovered /dev/vdb
}

# The firmware starts the image itself where it finds it by this name.
unified() {
    partition /dev/vda << ROWS
size=128MiB, type=uefi, name=esp
type=linux, name=root
ROWS
    mkfs.vfat -n ESP /dev/vda1 > /dev/null
    mkfs.ext4 -q -L system /dev/vda2
    mount /dev/vda1 /mnt
    mkdir -p /mnt/EFI/Linux /mnt/EFI/BOOT
    cp /debian.efi /mnt/EFI/Linux/debian.efi
    cp /debian.efi /mnt/EFI/BOOT/BOOTX64.EFI
    umount /mnt
    mount /dev/vda2 /mnt
    unpack
    rm -rf /mnt/boot/*
    list 'PARTLABEL=root /sysroot'
}

no_kexec() {
    unified
    echo 1 > /proc/sys/kernel/kexec_load_disabled
}

say "making the layout $1"
"$1"
if mountpoint -q /mnt; then umount /mnt; fi
