#!/bin/sh
# Pulls and runs the image of peer.image= as Iguana does, then reboots.

mark() {
    read -r uptime _ < /proc/uptime
    echo "@@MARK $1 $uptime" > /dev/console
}

# The highest memory use so far, in KiB, told whenever it has grown.
watch_memory() {
    highest=0
    while :; do
        while read -r key value _; do
            case $key in
            MemTotal:) total=$value ;;
            MemAvailable:) used=$((total - value)) ;;
            esac
        done < /proc/meminfo
        if [ "$used" -gt $((highest + 1024)) ]; then
            highest=$used
            echo "@@PEAK $highest" > /dev/console
        fi
        sleep 0.2
    done
}

container() {
    podman --storage-driver overlay --cgroup-manager cgroupfs --events-backend none "$@" > /dev/console 2>&1
}

mark hook
watch_memory &
image=$(getarg peer.image=)
mkdir -p /iguana /var/lib/containers /var/tmp
mount -t tmpfs tmpfs /var/lib/containers
# The root is the initramfs, from which pivot_root(2) is not possible.
printf '[engine]\nno_pivot_root = true\n' > /etc/containers/containers.conf
if container pull -q --tls-verify=false "$image"; then
    mark pulled
    container run --rm --network host --privileged --env iguana=true -v /dev:/dev -v /iguana:/iguana "$image"
fi
mark end
echo b > /proc/sysrq-trigger
sleep 10
