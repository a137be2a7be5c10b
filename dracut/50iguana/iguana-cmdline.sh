#!/bin/sh
# Sourced by dracut. Whether this boot is Iguana's the program says; then no other module handles the root.
# shellcheck disable=SC2154 # hookdir is dracut's
/usr/lib/iguana/iguana-init dracut cmdline "$hookdir"
iguana_status=$?
# shellcheck disable=SC1091 # it is only in the initrd
case $iguana_status in
    0)
        # shellcheck disable=SC2034 # dracut reads both
        root=iguana
        # shellcheck disable=SC2034
        rootok=1
        ;;
    10) ;; # this boot is not Iguana's
    11) emergency_shell -n iguana "Iguana has refused an option: /run/iguana/log says why" ;;
    *) . /usr/lib/iguana/iguana-died.sh ;;
esac
