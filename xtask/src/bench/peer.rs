//! The peer of the boot benchmark: Debian's dracut initrd with Debian's podman.

use anyhow::{Context, Result};
use iguana_lab::initrd::Initrd;
use iguana_lab::kernel::Kernel;
use iguana_lab::payload::{Debian, Suite, install_kernel};
use iguana_lab::source_tree;
use std::fs;

/// The packages that make the peer's initrd, and those in it.
const PACKAGES: &str = "dracut,dracut-network,network-manager,systemd-sysv,udev,dbus,kmod,linux-base,podman,crun,\
    conmon,ca-certificates,iproute2";

/// The files of its dracut module, in `bench/peer`.
const MODULE: &[&str] = &["module-setup.sh", "peer-cmdline.sh", "peer-run.sh"];

/// The peer's initrd for `kernel`: with all drivers, compressed as dracut does by default.
pub(crate) fn initrd(kernel: &Kernel) -> Result<Initrd> {
    let mut hooks = vec![r#"mkdir -p "$1/usr/lib/dracut/modules.d/90peer""#.to_owned()];
    let mut inputs = vec![kernel.release.clone()];
    for name in MODULE {
        let file = source_tree().join("bench/peer").join(name);
        inputs.push(fs::read_to_string(&file).with_context(|| format!("`{}`", file.display()))?);
        hooks.push(format!(r#"cp '{}' "$1/usr/lib/dracut/modules.d/90peer/""#, file.display()));
    }
    hooks.extend(install_kernel(kernel));
    let dracut = "dracut --force --no-hostonly --no-hostonly-cmdline --add peer";
    hooks.push(format!(r#"chroot "$1" {dracut} --kver {} /peer.img"#, kernel.release));
    hooks.push(r#"cp "$1/peer.img" "$PRODUCTS""#.to_owned());
    let image =
        Debian { name: "peer", suite: Suite::Bookworm, packages: PACKAGES, recommended: true, hooks, inputs }
            .products()?
            .join("peer.img");
    Ok(Initrd { kernel: kernel.clone(), image })
}
