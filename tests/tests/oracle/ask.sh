#!/bin/sh
# What a process can ask about its surroundings. Each line that begins with `? ` is a question and its answer.
# Only answers that are the same on every machine: what belongs to the machine is compared with MACHINE_*. A run
# that has one question only has its name in RUN.
# shellcheck disable=SC2012,SC2016,SC2039,SC2086,SC3043

answer() { printf '? %s = %s\n' "$1" "$(echo "$2" | tr '\t\n|' '  /' | sed 's/  */ /g; s/ $//')"; }
succeeds() { local name=$1; shift; if ("$@") >/dev/null 2>&1; then answer "$name" yes; else answer "$name" no; fi; }
whose() { if [ "$2" = "$3" ]; then answer "$1" "the machine's"; else answer "$1" 'its own'; fi; }
status() { sed -n "s/^$1:\t//p" /proc/self/status; }

# The uppermost mount at a path: its line of proc_pid_mountinfo(5).
mount_at() { awk -v at="$1" '$5 == at { line = $0 } END { if (line) print line }' /proc/self/mountinfo; }
# Flags of the mount itself, but for access times, and whether its file system can be written. The rest is the
# machine's.
mount_flags() {
    mount_at "$1" | awk '{
        for (dash = 7; $dash != "-"; dash++);
        gsub(/,(relatime|noatime)/, "", $6)
        print $6 ($(dash + 3) ~ /^ro(,|$)/ && $6 !~ /^ro/ ? ", file system ro" : "")
    }'
}
describe_mount() {
    mount_at "$1" | awk '{ for (dash = 7; $dash != "-"; dash++); printf "%s ", $(dash + 1) }'
    mount_flags "$1"
}

kind_of() {
    if [ ! -e "$1" ] && [ ! -L "$1" ]; then echo none
    elif [ -L "$1" ]; then echo "link to $(readlink "$1")"
    elif [ -c "$1" ]; then echo "device $(stat -c '%t:%T mode %a owner %u:%g' "$1")"
    elif [ -d "$1" ]; then echo "directory $(stat -c 'mode %a owner %u:%g' "$1")"
    else echo "file $(stat -c 'mode %a owner %u:%g' "$1")"
    fi
}

seen() {
    if [ ! -e "$1" ]; then echo 'not there'
    elif [ -d "$1" ]; then if [ -n "$(ls -A "$1" 2>/dev/null)" ]; then echo shown; else echo empty; fi
    elif head -c 1 "$1" 2>/dev/null | grep -q .; then echo shown
    else echo empty
    fi
}

writable() {
    local file=$1
    if [ ! -e "$file" ]; then echo 'not there'; return; fi
    # Opened for appending and closed: nothing is changed.
    if (: >> "$file") 2>/dev/null; then echo yes; else echo no; fi
}

process() {
    answer 'user' "$(id -u)"
    answer 'group' "$(id -g)"
    answer 'groups' "$(id -G)"
    for set in CapInh CapPrm CapEff CapBnd CapAmb; do answer "capabilities $set" "$(status $set)"; done
    answer 'no_new_privs' "$(status NoNewPrivs)"
    answer 'seccomp mode' "$(status Seccomp)"
    answer 'seccomp filters' "$(status Seccomp_filters)"
    # Without 32 and 33: libc keeps them for itself (nptl(7)), and whoever started podman may have them ignored.
    answer 'ignored signals' "$(printf '%016x' $((0x$(status SigIgn) & ~0x180000000)))"
    answer 'blocked signals' "$(status SigBlk)"
    answer 'umask' "$(umask)"
    answer 'working directory' "$(pwd)"
    answer 'nice' "$(nice)"
    answer 'oom_score_adj' "$(cat /proc/self/oom_score_adj)"
    answer 'coredump filter' "$(cat /proc/self/coredump_filter)"
    answer 'personality' "$(cat /proc/self/personality)"
    answer 'AppArmor or SELinux label' "$(cat /proc/self/attr/current 2>/dev/null)"
    answer 'leads its session' "$([ "$(cut -d ' ' -f 6 /proc/$$/stat)" = $$ ] && echo yes || echo no)"
    answer 'leads its process group' "$([ "$(cut -d ' ' -f 5 /proc/$$/stat)" = $$ ] && echo yes || echo no)"
    answer 'its number' "$(if [ $$ = 1 ]; then echo 1; else echo another; fi)"
    answer 'parent' "$PPID"
    answer 'PID 1' "$(cat /proc/1/comm)"
    answer 'standard input' "$(readlink /proc/self/fd/0)"
    answer 'standard output' "$(readlink /proc/$$/fd/1 | sed 's/:.*//')"
    succeeds 'standard input is a terminal' test -t 0
    succeeds 'has a controlling terminal' sh -c ': > /dev/tty'
    answer 'environment, names' "$(env | sed -n 's/^\([A-Za-z_]*\)=.*/\1/p' | grep -vE '^(MACHINE_.*|RUN|SHLVL|PWD|_)$' | sort | tr '\n' ' ')"
    for name in PATH HOME TERM container NEWROOT FROM_IMAGE; do
        answer "environment, $name" "$(env | sed -n "s/^$name=//p")"
    done
    whose 'environment, HOSTNAME' "$(env | sed -n 's/^HOSTNAME=//p')" "$MACHINE_HOSTNAME"
}

limits() {
    # Open files and processes: the oracle is told its limits.
    sed '1d; /^Max open files/d; /^Max processes/d' /proc/self/limits | while read -r line; do
        name=$(echo "$line" | sed 's/   *.*//')
        answer "limit, $name" "$(echo "$line" | sed 's/^[^0-9u]*  *//; s/  */ /g' | awk '{ print $1, $2 }')"
    done
}

namespaces() {
    for name in cgroup ipc mnt net pid time user uts; do
        machine=$(echo "$MACHINE_NAMESPACES" | tr ' ' '\n' | grep "^$name:")
        whose "namespace, $name" "$(readlink /proc/self/ns/$name)" "$machine"
    done
    answer '/proc/self/cgroup' "$(sed -n 's/^0:://p' /proc/self/cgroup)"
    whose 'session keyring' "$(perl /calls.pl keyring)" "$MACHINE_KEYRING"
    whose 'host name' "$(hostname)" "$MACHINE_HOSTNAME"
    for file in /etc/resolv.conf /etc/hosts /etc/hostname; do
        machine=$(echo "$MACHINE_SUMS" | tr ' ' '\n' | sed -n "s,^$file:,,p")
        whose "$file" "$(md5sum < $file 2>&1 | cut -c 1-32)" "$machine"
    done
    answer '/proc/sys/net/ipv4/ping_group_range' "$(cat /proc/sys/net/ipv4/ping_group_range)"
}

mounts() {
    for at in / /proc /dev /dev/pts /dev/shm /dev/mqueue /sys /sys/fs/cgroup /run /tmp; do
        answer "mount, $at" "$(describe_mount $at)"
    done
    for at in /run/.containerenv /run/secrets /iguana /run/iguana /run/iguana/output /run/iguana/env /run/iguana/path /run/iguana/summary /etc/resolv.conf /etc/hosts /etc/hostname; do
        answer "mount, $at" "$(mount_flags $at)"
    done
    answer 'mounts elsewhere' "$(cut -d ' ' -f 5 /proc/self/mountinfo |
        grep -vE '^(/|/(proc|dev|sys|run|tmp|iguana)(/.*)?|/etc/(resolv.conf|hosts|hostname))$' | sort | tr '\n' ' ')"
    answer 'propagation of /' "$(mount_at / | awk '{ print $7 == "-" ? "private" : $7 }' | sed 's/:.*//')"
    for path in /run/.containerenv /.dockerenv /etc/mtab /etc/passwd /proc/1/root; do
        answer "$path" "$(kind_of $path)"
    done
    answer 'first line of /run/.containerenv' "$(head -n 1 /run/.containerenv | sed 's/-.*"/"/')"
    [ "$(stat -c %d /dev/shm)" = "$MACHINE_SHM" ] || 
        answer 'size of /dev/shm in KiB' "$(df -k /dev/shm | awk 'END { print $2 }' | sed "s/^$MACHINE_HALF\$/half of the memory/")"
    answer 'mode of /dev/shm' "$(stat -c %a /dev/shm)"
    answer 'mode of /dev/mqueue' "$(stat -c %a /dev/mqueue)"
    succeeds 'a file can be made in /dev/shm' sh -c ': > /dev/shm/oracle && rm /dev/shm/oracle'
    succeeds 'a message queue can be made' sh -c ': > /dev/mqueue/oracle && rm /dev/mqueue/oracle'
    succeeds 'a group can be made in /sys/fs/cgroup' sh -c 'mkdir /sys/fs/cgroup/oracle && rmdir /sys/fs/cgroup/oracle'
    succeeds 'a file can be made in /' sh -c ': > /oracle && rm /oracle'
    succeeds 'a file can be made in /run' sh -c ': > /run/oracle && rm /run/oracle'
}

devices() {
    whose '/dev' "$(stat -c %d /dev)" "$MACHINE_DEV"
    whose '/dev/pts' "$(stat -c %d /dev/pts)" "$MACHINE_PTS"
    whose '/dev/shm' "$(stat -c %d /dev/shm)" "$MACHINE_SHM"
    if [ "$(stat -c %d /dev)" != "$MACHINE_DEV" ]; then
        answer 'nodes in /dev' "$(ls /dev | tr '\n' ' ')"
        for node in /dev/*; do answer "$node" "$(kind_of "$node")"; done
        answer '/dev/pts/ptmx' "$(kind_of /dev/pts/ptmx)"
    fi
    succeeds 'a terminal can be made' perl /calls.pl terminal
}

# What a container with less rights must not see or change.
hidden() {
    for path in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi \
        /proc/timer_list /proc/timer_stats /sys/dev/block /sys/devices/virtual/powercap /sys/firmware \
        /sys/fs/selinux; do
        answer "$path" "$(seen $path)"
    done
    for path in /proc/sys/kernel/domainname /proc/sysrq-trigger /proc/irq/default_smp_affinity /proc/bus/pci/devices \
        /proc/fs/jbd2 /sys/kernel/uevent_helper /sys/fs/cgroup/cgroup.procs /proc/self/oom_score_adj; do
        answer "$path can be written" "$(writable $path)"
    done
    succeeds '/proc/1/environ can be read' sh -c 'cat /proc/1/environ > /dev/null'
    succeeds '/proc/1/root can be entered' ls /proc/1/root/
}

rights() {
    succeeds 'may mount' sh -c 'mount -t tmpfs none /mnt && umount /mnt'
    succeeds 'may make a device' sh -c 'mknod /oracle c 1 3 && rm /oracle'
    succeeds 'may use a device that it makes' sh -c 'mknod /oracle c 1 5 && head -c 1 /oracle && rm /oracle'
    succeeds 'may change the root' chroot / true
    succeeds 'may change owners' sh -c ': > /oracle && chown 77:77 /oracle && rm /oracle'
    succeeds 'may become another user' su guest -c true
    succeeds 'may gain rights by a set-user-ID program' su guest -c 'test "$(/set-user-id -u)" = 0'
    succeeds 'may set the host name' sh -c 'hostname "$(hostname)"'
    succeeds 'may make a user namespace' unshare -U true
    succeeds 'may make a mount namespace' unshare -m true
    succeeds 'may be a 32-bit machine' linux32 true
    succeeds 'may send and receive raw packets' ping -c 1 -W 1 127.0.0.1
    succeeds 'may ping as a user' su guest -c 'ping -c 1 -W 1 127.0.0.1'
    succeeds 'may listen at port 11' timeout 1 sh -c 'nc -l -p 11 & p=$!; sleep 0.2; kill $p'
    succeeds 'may raise its priority' nice -n -5 true
    succeeds 'may lower its oom_score_adj' sh -c 'echo -500 > /proc/self/oom_score_adj'
    succeeds 'may raise its limit of open files' sh -c 'ulimit -H -n $(($(ulimit -H -n) + 1))'
    succeeds 'may bring a network interface up' ip link set lo up
}

value() { printf %s "$BROKEN" | od -An -c | tr '\n' ' '; }

processes() {
    whose "$RUN: PID 1" "$(cat /proc/1/comm)" "$MACHINE_INIT"
    whose "$RUN: namespace" "$(readlink /proc/self/ns/pid)" "$(echo "$MACHINE_NAMESPACES" | tr ' ' '\n' | grep ^pid:)"
}

fixed() {
    for directory in / /etc /tmp /run /var /var/tmp /dev/shm; do
        succeeds "$RUN: a file can be made in $directory" sh -c "mkdir -p $directory && : > $directory/oracle && rm $directory/oracle"
    done
    answer "$RUN: mount, /" "$(describe_mount /)"
}

volume() {
    answer "$RUN: mount" "$(mount_flags "$1")"
    answer "$RUN: files" "$(ls -A "$1" | tr '\n' ' ')"
    answer "$RUN: mode and owner" "$(stat -c '%a %u:%g' "$1")"
    succeeds "$RUN: a file can be made" sh -c ": > $1/oracle && rm $1/oracle"
    answer "$RUN: propagation" "$(mount_at "$1" | awk '{ print $7 == "-" ? "private" : $7 }' | sed 's/:.*//')"
}

asked=$1
shift
case $asked in
all) process; limits; namespaces; mounts; devices; hidden; rights ;;
who) answer "$RUN" "$(id -u):$(id -g) groups $(id -G) home $HOME in $(pwd) capabilities $(status CapEff)" ;;
form) answer "$RUN" "$# words: $*, in $(pwd), PATH $PATH" ;;
value) answer "$RUN" "$(value)" ;;
calls) perl /calls.pl calls ;;
*) "$asked" "$@" ;;
esac
