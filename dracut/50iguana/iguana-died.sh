#!/bin/sh
# Sourced by the hooks when the program has ended with a status that decides nothing, as after a crash. Never a shell without
# its word; it tells, and follows the policy of failures.
# shellcheck disable=SC2154 # iguana_status is the hook's
/usr/lib/iguana/iguana-init dracut died "$iguana_status"
iguana_status=$?
if [ "$iguana_status" -eq 11 ]; then
    # From the hooks `emergency` and `shutdown-emergency` the shell comes anyway.
    # shellcheck disable=SC2154 # hook is dracut's
    case $hook in
        *emergency) ;;
        *) emergency_shell -n iguana "Iguana has died: /run/iguana/log says why" ;;
    esac
else
    # It has died again: the kernel restarts the machine (Documentation/admin-guide/sysrq.rst).
    echo "iguana: error: the boot program cannot be run; restarting" > /dev/console
    while :; do
        sleep 10
        echo s > /proc/sysrq-trigger
        echo b > /proc/sysrq-trigger
    done
fi
