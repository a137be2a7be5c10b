#!/bin/sh
# FAI's programs in the order of its tasks: partition, mountdisks, extrbase, configure.
set -eu
export FAI=/fai FAI_ROOT=/target LOGDIR=/tmp/fai classes=DEFAULT
mkdir -p $LOGDIR $FAI_ROOT

echo "setup-storage" > /iguana/progress
setup-storage -X
/usr/lib/fai/mount2dir $FAI_ROOT $LOGDIR/fstab

echo "ftar" > /iguana/progress
ftar -s $FAI/basefiles -t $FAI_ROOT /
cp $LOGDIR/fstab $FAI_ROOT/etc/fstab
fcopy -v /etc/hostname

umount -R $FAI_ROOT
awk '$2 == "/" { print $1, "/sysroot" }' $LOGDIR/fstab > /iguana/mountlist
