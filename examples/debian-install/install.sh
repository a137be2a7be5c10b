#!/bin/sh
# The job of the installation container: puts /debian.tar.zst on a disk and says where it is.
#
#   DISK          the disk to install on; without it the first one that is empty
#   NAME          the name of the new system
#   INTERACTIVE   `true`: asks for both on the terminal
set -eu

root_type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 # "Linux root (x86-64)" of the Discoverable Partitions Specification
bios_type=21686148-6449-6E6F-744E-656564454649 # "BIOS boot": room for GRUB's core
esp_type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B # "EFI System": the firmware starts programs from it
target=/mnt

say() {
    echo "$*" > /iguana/progress
}

die() {
    say "installation failed: $*"
    exit 1
}

empty_disk() {
    lsblk --nodeps --paths --noheadings --output NAME,TYPE,RO | while read -r name type read_only; do
        case $name in /dev/zram* | /dev/fd*) continue ;; esac
        if [ "$type" = disk ] && [ "$read_only" = 0 ] && [ -z "$(wipefs --noheadings "$name")" ]; then
            echo "$name"
            break
        fi
    done
}

disks() {
    lsblk --nodeps --paths --noheadings --output NAME,SIZE,TYPE,RO | while read -r name size type read_only; do
        case $name in /dev/zram* | /dev/fd*) continue ;; esac
        [ "$type" = disk ] && [ "$read_only" = 0 ] && printf '%s %s ' "$name" "$size"
    done
}

ask() {
    # shellcheck disable=SC2046 # Each disk is two words: its name and its size.
    DISK=$(whiptail --title 'Debian installation' --menu 'Everything on the disk will be lost.' 15 60 6 $(disks) \
        3>&1 1>&2 2>&3) || die "nobody chose a disk"
    new_name=$(whiptail --title 'Debian installation' --inputbox 'Name of the new system' 10 60 "$new_name" \
        3>&1 1>&2 2>&3) || die "nobody gave a name"
}

await() {
    for _ in $(seq 50); do
        [ -b "$1" ] && return
        sleep 0.1
    done
    die "partition $1 does not appear"
}

new_name=${NAME:-debian}
[ "${INTERACTIVE:-}" = true ] && ask
disk=${DISK:-$(empty_disk)}
[ -n "$disk" ] || die "no empty disk; DISK=/dev/... in the workflow's env chooses one to overwrite"

is_uefi() {
    [ -d /sys/firmware/efi ]
}

say "partitioning $disk"
if is_uefi; then first="size=32MiB, type=$esp_type, name=esp"; else first="size=1MiB, type=$bios_type"; fi
sfdisk --quiet --wipe always --wipe-partitions always "$disk" << TABLE
label: gpt
$first
type=$root_type, name=root
TABLE
case $disk in
*[0-9]) part=${disk}p ;;
*) part=$disk ;;
esac
root=${part}2
await "$root"
partuuid=$(sfdisk --part-uuid "$disk" 2 | tr '[:upper:]' '[:lower:]')

say "making a file system on $root"
mkfs.ext4 -q -L root "$root"
mount "$root" $target

say "unpacking Debian"
tar --zstd -xpf /debian.tar.zst -C $target --xattrs --numeric-owner

say "configuring"
echo "PARTUUID=$partuuid / ext4 errors=remount-ro 0 1" > $target/etc/fstab
cp /iguana/machine-id $target/etc/machine-id
echo "$new_name" > $target/etc/hostname
printf '127.0.0.1 localhost %s\n' "$new_name" > $target/etc/hosts

say "making $disk bootable by itself"
if is_uefi; then
    mkfs.vfat -n ESP "${part}1" > /dev/null
    mkdir -p $target/boot/efi
    mount "${part}1" $target/boot/efi
    echo "LABEL=ESP /boot/efi vfat umask=0077 0 1" >> $target/etc/fstab
    # Writes a boot entry to the firmware with efibootmgr.
    grub-install --target=x86_64-efi --boot-directory=$target/boot --efi-directory=$target/boot/efi --bootloader-id=debian
    umount $target/boot/efi
else
    grub-install --target=i386-pc --boot-directory=$target/boot "$disk"
fi
cat > $target/boot/grub/grub.cfg << MENU
serial
terminal_input console serial
terminal_output console serial
set timeout=1
menuentry Debian {
    linux /vmlinuz root=PARTUUID=$partuuid ro console=tty0 console=ttyS0
    initrd /initrd.img
}
MENU

say "writing to the disk"
umount $target

echo "PARTUUID=$partuuid /sysroot" > /iguana/mountlist
say "Debian is on $root"
