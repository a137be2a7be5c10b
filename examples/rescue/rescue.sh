#!/bin/sh
# A shell with tools on the console, and by ssh for whoever has the key. When the shell on the console ends, the
# machine reboots, unless somebody has written another kernel action or a mount list.
#
#   SSH_KEY   a line of authorized_keys(5); without it nobody gets in from the network
set -eu

if [ -n "${SSH_KEY:-}" ]; then
    mkdir -p /run/sshd
    install -d -m 700 /root/.ssh
    echo "$SSH_KEY" > /root/.ssh/authorized_keys
    ssh-keygen -A > /dev/null
    /usr/sbin/sshd -o PasswordAuthentication=no -o PermitRootLogin=prohibit-password
    ip -brief -family inet address show scope global | while read -r card _ address _; do
        echo "ssh root@${address%/*} ($card)" > /iguana/progress
    done
fi

echo reboot > /iguana/kernelAction
echo "This is a rescue shell in a container: the machine's disks are in /dev. 'exit' reboots."
cd /root
exec bash --login
