#!/bin/bash
# Iguana as a module of dracut: containers in the initrd, in the place of a root. `dracut --add iguana`.
#
# In dracut.conf(5): `iguana_ca="FILE|DIRECTORY …"` names the certificate authorities that alone are trusted; by default
# they are those of this machine.

# As the package iguana-workflow installs it.
iguana_program=/usr/lib/iguana/iguana-init

# called by dracut
check() {
    if ! [[ -x "${dracutsysrootdir-}$iguana_program" ]]; then
        derror "iguana: there is no \`$iguana_program\`; hint: install the package iguana-workflow"
        return 1
    fi
    # shellcheck disable=SC2154 # dracutbasedir is dracut's
    if ! compgen -G "$dracutbasedir/modules.d/[0-9][0-9]network" > /dev/null; then
        derror "iguana: dracut has no module \`network\`; hint: install the package dracut-network"
        return 1
    fi
    if [[ ${iguana_ca-} && -z $(chosen_authorities) ]]; then
        derror "iguana: \`iguana_ca=$iguana_ca\` does not name a file; hint: correct it in /etc/dracut.conf.d"
        return 1
    fi
    local file
    while read -r file; do
        derror "iguana: \`$file\` is a dangling symbolic link; hint: whom to trust must be whole"
        return 1
    done < <(find -L "${dracutsysrootdir-}/etc/containers" -type l 2> /dev/null)
    # Only where it is asked for.
    return 255
}

# called by dracut
depends() {
    echo network
}

# called by dracut
installkernel() {
    # Whatever this machine has: the containers install others.
    hostonly='' instmods overlay loop squashfs ext4 xfs btrfs vfat nls_cp437 nls_iso8859-1 nls_utf8
}

# called by dracut
install() {
    local file
    inst_simple "$iguana_program"
    # shellcheck disable=SC2154 # moddir is dracut's
    inst_hook cmdline 20 "$moddir/iguana-cmdline.sh"
    inst_hook pre-mount 50 "$moddir/iguana-run.sh"
    inst_hook emergency 00 "$moddir/iguana-emergency.sh"
    # The same before the shells of dracut's shutdown, for which systemd comes back to this initrd (dracut.bootup(7)).
    inst_hook shutdown-emergency 00 "$moddir/iguana-emergency.sh"
    inst_simple "$moddir/iguana-died.sh" /usr/lib/iguana/iguana-died.sh
    # Before systemd follows any option. Without systemd nobody runs it.
    mkdir -p "${initdir:?}/usr/lib/systemd/system-generators"
    ln -sf "$iguana_program" "$initdir/usr/lib/systemd/system-generators/iguana-generator"
    close_debug_shell
    # By which the program knows a clock that is behind (reproducible-builds.org, SOURCE_DATE_EPOCH).
    mkdir -p "${initdir:?}/etc/iguana"
    echo "DATE=${SOURCE_DATE_EPOCH:-$(date +%s)}" > "$initdir/etc/iguana/build"
    # Registries, logins, policy, keys, certificates of registries; and the workflow that needs no option.
    while read -r file; do
        inst_simple "$file"
    done < <(find -L "${dracutsysrootdir-}/etc/containers" -type f 2> /dev/null)
    inst_multiple -o /etc/iguana/control.yaml /etc/iguana/control.yaml.lock
    install_authorities
    dracut_need_initqueue
}

# systemd.debug-shell.service(8) is a shell that no hook comes before. TOML has many ways to write `shell = false` (dotted,
# quoted, in one line with others, with escapes): only the plain `shell = true`, or no word of it, leaves that shell open.
close_debug_shell() {
    local conf="${dracutsysrootdir-}/etc/containers/iguana.conf"
    if grep -Es "shell[\"']?[[:space:]]*=|\\\\" "$conf" |
        grep -Eqv '^[[:space:]]*(#|shell[[:space:]]*=[[:space:]]*true[[:space:]]*(#.*)?$)'; then
        mkdir -p "${initdir:?}/etc/systemd/system"
        ln -sf /dev/null "$initdir/etc/systemd/system/debug-shell.service"
    fi
}

install_authorities() {
    local file
    if [[ ${iguana_ca-} ]]; then
        while read -r file; do
            inst_simple "$file" "/etc/containers/ca/${file##*/}"
        done < <(chosen_authorities)
        return
    fi
    # Debian and its kin, Fedora and its kin, SUSE.
    inst_multiple -o /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem
}

chosen_authorities() {
    # shellcheck disable=SC2086 # a list
    find -L $iguana_ca -type f 2> /dev/null
}
