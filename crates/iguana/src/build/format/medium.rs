//! What lies on a medium, an ISO image or a stick, whatever its file system is.

use super::files::Files;
use super::loaders::End;
use super::parts::Parts;
use super::{bios, loaders, uki};
use anyhow::Result;

/// The name of the file system, by which a machine finds what else lies on its medium.
pub(super) const LABEL: &str = "IGUANA";

/// Where UEFI looks for the program of a removable medium (UEFI specification, section 3.5.1.1).
const UEFI_PROGRAM: &str = "EFI/BOOT/BOOTX64.EFI";

const KERNEL: &str = "iguana/vmlinuz";
const INITRD: &str = "iguana/initrd";

/// What is written last.
pub(super) const END: &str = "iguana/end.cfg";

/// What UEFI starts: all in one, so that a signature covers all.
pub(super) fn for_uefi(parts: &Parts) -> Result<Files> {
    Ok(vec![(UEFI_PROGRAM.into(), uki::image(parts)?)])
}

/// What GRUB starts on a machine with a BIOS, `between`, and what GRUB takes for the end of all.
pub(super) fn for_bios(parts: &Parts, between: Files) -> Files {
    let mut files = vec![(KERNEL.into(), parts.kernel.clone()), (INITRD.into(), parts.initrd.clone())];
    files.extend(between);
    let end = End::of(END, &files);
    let configuration =
        loaders::grub(&format!("/{KERNEL}"), &format!("/{INITRD}"), &parts.cmdline, Some(&end));
    files.push((bios::CONFIGURATION.into(), configuration.into()));
    files.push((END.into(), end.content().into()));
    files
}
