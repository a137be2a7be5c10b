#!/bin/bash
# Writes a cloud image, and leaves cloud-init's NoCloud seed in it: the first boot does the rest.
set -euo pipefail
curl -fsS "$IMAGE" | gzip -dc | dd of="$DISK" bs=4M iflag=fullblock conv=fsync status=none
blockdev --rereadpt "$DISK"
mount "${DISK}1" /mnt
seed=/mnt/var/lib/cloud/seed/nocloud
mkdir -p $seed
cp /user-data $seed/user-data
echo "instance-id: $(cat /iguana/machine-id)" > $seed/meta-data
umount /mnt
