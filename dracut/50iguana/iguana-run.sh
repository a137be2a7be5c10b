#!/bin/sh
# Sourced by dracut, which goes on with what the program has mounted.
# shellcheck disable=SC2154 # root is dracut's
if [ "$root" = iguana ] && ! /usr/lib/iguana/iguana-init dracut pre-mount; then
    emergency_shell -n iguana "Iguana has failed: /run/iguana/log says why"
fi
