//! Loads a kernel for kexec: kexec_file_load(2).

use super::kernel::Installed;
use anyhow::{Context as _, bail};
use hint::WithHint as _;
use std::ffi::CString;
use std::fs;
use std::path::Path;

/// `1` if a kernel is loaded (Linux, Documentation/ABI/testing/sysfs-kernel-kexec...).
const LOADED: &str = "/sys/kernel/kexec_loaded";
/// The firmware's description of the machine.
const FIRMWARE: &str = "/sys/class/dmi/id";

/// Machines, by vendor and product, on which a kernel started by kexec finds devices in a state that it cannot handle.
/// SUSE's installer (yast-bootloader) does not use kexec on these either.
const KEXEC_BROKEN: &[(&str, &str)] =
    &[("innotek GmbH", "VirtualBox"), ("Microsoft Corporation", "Virtual Machine")];

/// Whether a kernel is loaded, by Iguana or by a container.
pub(super) fn is_loaded() -> bool {
    fs::read_to_string(LOADED).is_ok_and(|text| text.trim() == "1")
}

/// Loads a kernel.
///
/// # Errors
/// When the machine or the running kernel does not allow it, or the file is not a valid kernel.
pub(super) fn load(kernel: &Installed) -> anyhow::Result<()> {
    if let Some((maker, product)) = known_bad(Path::new(FIRMWARE)) {
        bail!("kexec does not work on `{maker} {product}` machines");
    }
    let cmdline = CString::new(kernel.cmdline.as_str()).context("its command line is not UTF-8 text")?;
    sys::load_kernel(&kernel.image, kernel.initrd.as_ref(), &cmdline)
        .with_context(|| format!("cannot load the kernel {}", kernel.name))
        .hint("a locked-down kernel, as under Secure Boot, loads only signed kernels")
}

fn known_bad(firmware: &Path) -> Option<(&'static str, &'static str)> {
    let says = |file: &str| fs::read_to_string(firmware.join(file)).unwrap_or_default().trim().to_owned();
    let (maker, product) = (says("sys_vendor"), says("product_name"));
    KEXEC_BROKEN.iter().find(|known| **known == (maker.as_str(), product.as_str())).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_known_by_maker_and_product() {
        let firmware = tempfile::tempdir().unwrap();
        let is = |maker: &str, product: &str| {
            fs::write(firmware.path().join("sys_vendor"), format!("{maker}\n")).unwrap();
            fs::write(firmware.path().join("product_name"), format!("{product}\n")).unwrap();
            known_bad(firmware.path()).is_some()
        };
        assert!(is("innotek GmbH", "VirtualBox") && is("Microsoft Corporation", "Virtual Machine"));
        assert!(!is("Microsoft Corporation", "Surface Laptop 4") && !is("QEMU", "Standard PC"));
        assert!(known_bad(Path::new("/nowhere")).is_none());
    }
}
