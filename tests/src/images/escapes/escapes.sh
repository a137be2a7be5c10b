#!/bin/sh
# The commands are texts for shells of their own, and functions are called by name.
# shellcheck disable=SC2016,SC2317
# Ways out of a container that others have found. Each line that begins with `? ` is a way, and whether it is shut. Run by
# root of a container with `privileged: false`. VICTIM is a directory of the host with a file `secret` that says `secret`.
# shellcheck disable=SC2039,SC3043

tried() { printf '? %s = %s\n' "$1" "$2"; }
# A way that is open if the command succeeds.
way() { local name="$1"; shift; if ("$@") >/dev/null 2>&1; then tried "$name" OPEN; else tried "$name" shut; fi; }
# A way that is open if the command says so.
tells() { local name="$1"; shift; if ("$@") 2>/dev/null | grep -q OPEN; then tried "$name" OPEN; else tried "$name" shut; fi; }
# Writes to a file of the kernel's what it says already.
keep() { sh -c 'old=$(cat "$1") && echo "$old" > "$1"' sh "$1"; }
# With all rights in namespaces of its own, and new mounts of the kernel's file systems.
inside() { unshare -Urmpnf sh -c "$1"; }

way 'the root of PID 1' ls "/proc/1/root$VICTIM"
tells 'the roots of all processes' sh -c 'cat /proc/[0-9]*/root"$VICTIM"/secret /proc/[0-9]*/cwd/../../../../../../"$VICTIM"/secret | sed s/secret/OPEN/'
boot=$(sed -n 's/^PPid:\t//p' "/proc/$PPID/status")
way 'files that PID 1 has open' sh -c "readlink /proc/1/fd/0 || cat /proc/1/fd/[3-9]*"
way 'files that PID 1 of the container has open' sh -c "readlink /proc/$PPID/fd/0 || cat /proc/$PPID/fd/[3-9]*"
way 'files that the boot has open' sh -c "readlink /proc/$boot/fd/0 || cat /proc/$boot/fd/[3-9]*"
way 'the program of PID 1 (CVE-2019-5736)' sh -c ': >> /proc/1/exe'
way 'the mode of its program' sh -c 'chmod 755 /proc/1/exe'
way 'the memory of PID 1' sh -c 'dd if=/proc/1/mem of=/dev/null bs=1 count=1 skip=4194304'
way 'the namespaces of PID 1' nsenter -t 1 -m true
way 'tracing PID 1' perl /escapes.pl 101 16 1
way 'a file of PID 1 (pidfd_getfd)' perl /escapes.pl getfd
way 'the kernel asks a program of the container (core_pattern)' keep /proc/sys/kernel/core_pattern
way 'the kernel asks a program of the container (modprobe)' keep /proc/sys/kernel/modprobe
way 'the kernel asks a program of the container (uevent_helper)' keep /sys/kernel/uevent_helper
way 'programs of other kinds (binfmt_misc)' sh -c 'echo -1 > /proc/sys/fs/binfmt_misc/status'
way 'release_agent (CVE-2022-0492)' inside 'mount -t cgroup -o none,name=escape none /mnt && echo /x > /mnt/release_agent'
way 'release_agent of a controller' unshare -UrmC sh -c 'mount -t cgroup -o rdma none /mnt && echo /x > /mnt/release_agent'
way 'limits of its own cgroup' sh -c 'echo max > /sys/fs/cgroup/pids.max || echo 1 > /sys/fs/cgroup/cgroup.procs'
way 'sysrq' sh -c 'echo h > /proc/sysrq-trigger'
way 'a new /proc with nothing hidden' inside 'mount -t proc proc /mnt'
way 'core_pattern by a new /proc' inside 'mount -t proc proc /mnt && old=$(cat /mnt/sys/kernel/core_pattern) && echo "$old" > /mnt/sys/kernel/core_pattern'
way 'a new /sys that can be written' inside 'mount -t sysfs sysfs /mnt && old=$(cat /mnt/kernel/uevent_helper) && echo "$old" > /mnt/kernel/uevent_helper'
way 'what covers /proc/kcore taken away' inside 'umount /proc/kcore || umount /proc/keys'
way '/proc/sys made writable' inside 'mount -o remount,bind,rw /proc/sys'
way '/sys made writable' inside 'mount -o remount,bind,rw /sys'
way 'mounts without a namespace of its own' mount -t tmpfs none /mnt
way 'a device of the image' sh -c 'head -c 1 /zero-of-the-image'
way 'a device that it makes: memory' sh -c 'mknod /mem c 1 1 && head -c 1 /mem'
way 'a device that it makes: a disk' sh -c 'mknod /disk b 254 0 || mknod /disk b 7 0'
way 'a device that it makes in /dev' sh -c 'mknod /dev/kmsg c 1 11'
way 'a device that it makes in a user namespace' inside 'mknod /zero c 1 5 && head -c 1 /zero'
way 'a file by its handle (open_by_handle_at)' perl /escapes.pl handle
way 'a module of the kernel' perl /escapes.pl 313 0 0 0
way 'another kernel (kexec_load)' perl /escapes.pl 246 0 0 0 0
way 'a program of the kernel (bpf)' perl /escapes.pl 321 0 0 0
way 'perf_event_open' perl /escapes.pl 298 0 0 0 0 0
way 'userfaultfd' perl /escapes.pl 323 0
way 'io_uring' perl /escapes.pl 425 1 0
way 'keys of root' perl /escapes.pl 250 0 -4 1
way 'ports of the machine (iopl)' perl /escapes.pl 172 3
way 'reboot' perl /escapes.pl 169 0xfee1dead 672274793 0
way 'the clock (settimeofday)' perl /escapes.pl 164 0 0
way 'the name of the host' hostname escaped
way 'the host name in a user namespace' inside 'hostname escaped'
way 'swap' swapon /zero-of-the-image
way 'out of a chroot' perl /escapes.pl chroot
way 'rights by a set-user-ID program' su guest -c 'test "$(/set-user-id -u)" = 0'
way 'the end of a hidden mount (move_mount)' sh -c 'mount --move /proc/sys /mnt'
way 'limits of its own' sh -c 'ulimit -H -n $(($(ulimit -H -n) + 1))'
way 'an interface of the network' sh -c 'ip link add escape type dummy && ip link del escape'
# With a terminal it has that, by a node of its own.
way 'a file of the log, the console or the caller' sh -c '! [ -p "/proc/$1/fd/1" ] && ! [ -t 0 ]' sh $$
for file in hosts resolv.conf hostname; do echo escaped >> /etc/$file; done
echo escaped > "/iguana/by-escapes" 2>/dev/null
exit 0
