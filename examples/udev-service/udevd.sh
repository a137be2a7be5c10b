#!/bin/sh
# systemd's udevd for installers that ask udev: its database is in the volume /run/udev.
set -e
/lib/systemd/systemd-udevd --daemon
udevadm trigger --type=subsystems --action=add
udevadm trigger --type=devices --action=add
udevadm settle --timeout=60
touch /run/udev/ready
exec sleep infinity
