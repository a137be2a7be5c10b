#!/bin/sh
# Sourced by dracut. Whether this boot is Iguana's the program says; then no other module handles the root.
# shellcheck disable=SC2154 # hookdir is dracut's
if /usr/lib/iguana/iguana-init dracut cmdline "$hookdir"; then
    # shellcheck disable=SC2034 # dracut reads both
    root=iguana
    # shellcheck disable=SC2034
    rootok=1
fi
