#!/bin/sh
# What belongs to the machine, for `ask.sh` to compare with; $1 is the directory with `calls.pl`.
# shellcheck disable=SC2012

say() { printf 'MACHINE_%s=%s\n' "$1" "$(echo "$2" | tr '\n' ' ' | sed 's/ $//')"; }

say HOSTNAME "$(hostname)"
# This process has mounts of its own, which go with it, and their number is given to others.
say NAMESPACES "$(readlink /proc/1/ns/mnt; for file in /proc/self/ns/*; do readlink "$file"; done | grep -v mnt: | sort -u)"
say SUMS "$(for file in /etc/resolv.conf /etc/hosts /etc/hostname; do echo "$file:$(md5sum < $file | cut -c 1-32)"; done)"
say KEYRING "$(perl "$1/calls.pl" keyring)"
say INIT "$(cat /proc/1/comm)"
# A tmpfs of the kernel's own size.
say HALF "$(df -k /run | awk 'END { print $2 }')"
say DEV "$(stat -c %d /dev)"
say PTS "$(stat -c %d /dev/pts)"
say SHM "$(stat -c %d /dev/shm)"
