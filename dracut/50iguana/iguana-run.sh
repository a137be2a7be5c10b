#!/bin/sh
# Sourced by dracut, which goes on with what the program has mounted.
# shellcheck disable=SC2154 # root is dracut's
if [ "$root" = iguana ]; then
    /usr/lib/iguana/iguana-init dracut pre-mount
    iguana_status=$?
    # shellcheck disable=SC1091 # it is only in the initrd
    case $iguana_status in
        0) ;;
        11) emergency_shell -n iguana "Iguana has failed: /run/iguana/log says why" ;;
        *) . /usr/lib/iguana/iguana-died.sh ;;
    esac
fi
