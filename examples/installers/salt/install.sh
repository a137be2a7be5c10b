#!/bin/sh
# In saltboot's shape: the minion asks its master what to do with the machine's disk, and does it.
set -eu
export PYTHONPATH=/opt/salt
mkdir -p /etc/salt
printf 'master: %s\nid: %s\n' "$MASTER" "$(cat /iguana/machine-id)" > /etc/salt/minion
echo "salt: asking $MASTER" > /iguana/progress
python3 /opt/salt/bin/salt-call --retcode-passthrough --state-output=terse state.apply saltboot
