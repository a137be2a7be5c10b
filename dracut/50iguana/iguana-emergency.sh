#!/bin/sh
# Sourced by dracut before any shell, of its own or of systemd's, for whatever reason: the trust may allow none.
/usr/lib/iguana/iguana-init dracut emergency
iguana_status=$?
# shellcheck disable=SC1091 # it is only in the initrd
[ "$iguana_status" -eq 11 ] || . /usr/lib/iguana/iguana-died.sh
