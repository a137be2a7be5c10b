#!/bin/sh
# Asks the backend, step by step, and says what comes next.
set -e
for step in probe propose install; do
    echo $step > /run/agama/requests
    read -r answer < /run/agama/answers
    echo "$answer" > /iguana/progress
done
[ -S /var/run/dbus/system_bus_socket ] && echo "the machine's bus is here" > /iguana/progress
echo "${THEN:-reboot}" > /iguana/kernelAction
