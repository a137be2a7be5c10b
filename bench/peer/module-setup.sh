#!/bin/bash
# A dracut module: what a user would write today to run a container from the initrd.

check() {
    return 255
}

depends() {
    echo network-manager
}

installkernel() {
    hostonly='' instmods overlay virtio_net virtio_pci
}

# shellcheck disable=SC2154 # moddir is dracut's
install() {
    inst_multiple podman conmon crun mount umount mkdir cat sleep
    inst_multiple -o /etc/containers/policy.json /etc/containers/registries.conf /usr/share/containers/seccomp.json \
        /usr/share/containers/containers.conf /etc/containers/registries.conf.d/shortnames.conf
    inst_hook cmdline 90 "$moddir/peer-cmdline.sh"
    inst_hook pre-mount 90 "$moddir/peer-run.sh"
}
