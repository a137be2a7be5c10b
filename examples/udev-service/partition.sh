#!/bin/sh
# Partitions DISK and waits, as installers do, until udev has named what came of it.
set -e
echo 'type=linux, name=data' | sfdisk --quiet --wipe always --label gpt "$DISK"
udevadm settle --timeout=30 --exit-if-exists=/dev/disk/by-partlabel/data
udevadm info --query=property --name="$(readlink -f /dev/disk/by-partlabel/data)" | grep ID_PART_ENTRY_NAME > /iguana/progress
echo "${THEN:-poweroff}" > /iguana/kernelAction
