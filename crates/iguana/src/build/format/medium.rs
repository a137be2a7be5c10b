//! The files on a medium (an ISO image or a stick), independent of its file system.

use super::files::Files;
use super::loaders::End;
use super::parts::Parts;
use super::{bios, loaders, uki};
use anyhow::Result;

/// Label of the file system, by which a booted machine finds the other files on its medium.
pub(super) const LABEL: &str = "IGUANA";

/// Path of the program that UEFI starts from a removable medium (UEFI specification, section 3.5.1.1).
const UEFI_PROGRAM: &str = "EFI/BOOT/BOOTX64.EFI";

const KERNEL: &str = "iguana/vmlinuz";
const INITRD: &str = "iguana/initrd";

/// Path of the file that is written last.
pub(super) const END: &str = "iguana/end.cfg";

/// The file for UEFI: kernel, initrd and command line in one program, so that one signature covers them.
pub(super) fn for_uefi(parts: &Parts) -> Result<Files> {
    Ok(vec![(UEFI_PROGRAM.into(), uki::image(parts)?)])
}

/// The files for BIOS: those that GRUB starts, then `between`, then the file by which GRUB recognizes a complete
/// medium.
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
