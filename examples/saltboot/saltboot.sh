#!/bin/sh
# In the manner of saltboot: runs only below Iguana, tells its progress through a link in its own root, puts a system
# on a device that it mounts at $NEWROOT, unmounts everything in its container, and names the device without options.
#
#   DEVICE   what to put the system on; it must have a file system
set -e

if [ -z "$iguana" ]; then
    echo "this container runs below Iguana" >&2
    exit 1
fi
ln -s /iguana/progress /progress

echo "saltboot: mounting $DEVICE" > /progress
mkdir -p "$NEWROOT"
mount "$DEVICE" "$NEWROOT"

tar -xzf /system.tar.gz -C "$NEWROOT"
total=$(find "$NEWROOT" | wc -l)
number=0
find "$NEWROOT" | while read -r file; do
    number=$((number + 1))
    if [ $((number % 50)) = 0 ]; then
        echo "saltboot: $number of $total: $file" > /progress
    fi
done
cp /iguana/machine-id "$NEWROOT/etc/machine-id"

echo "$DEVICE $NEWROOT" > /iguana/mountlist
umount -a
sync
