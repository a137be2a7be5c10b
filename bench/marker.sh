#!/bin/sh
# The command of the benchmark's images: says when the first process of the container runs, then asks for a reboot.
read -r uptime _ < /proc/uptime
echo "@@MARK container $uptime" > /dev/console
while read -r key value _; do
    case $key in MemTotal: | MemAvailable:) echo "@@MEM $key $value" > /dev/console ;; esac
done < /proc/meminfo
echo reboot > /iguana/kernelAction
