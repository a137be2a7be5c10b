#!/bin/sh
# systemd's udevd for installers that ask udev: its database is in the volume /run/udev.
set -e
/lib/systemd/systemd-udevd --daemon
udevadm trigger --type=subsystems --action=add
# Not the interfaces: they would get other names than those that the machine has configured.
udevadm trigger --type=devices --action=add --subsystem-nomatch=net
udevadm settle --timeout=60
touch /run/udev/ready
exec sleep infinity
