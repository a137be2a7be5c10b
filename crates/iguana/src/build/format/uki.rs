//! The unified kernel image: kernel, initrd and command line in one program that UEFI starts, and that one signature
//! covers (uapi-group.org/specifications/specs/unified_kernel_image).

use super::parts::Parts;
use super::pe;
use crate::build::tool::packaged_file;
use anyhow::{Context, Result};
use hint::WithHint;
use object::read::pe::PeFile64;
use object::{Object, ObjectSection};
use std::path::Path;

/// The program that UEFI starts and that starts the kernel: systemd-stub(7).
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// The Debian package that has it.
const STUB_PACKAGE: &str = "systemd-boot-efi";

/// Our line in `.sbat`, by which shim can revoke a faulty generation (shim's SBAT.md). Raise the generation when a
/// fault of Iguana lets unsigned code run.
const SBAT: &str =
    concat!("iguana,1,Iguana,iguana,", env!("CARGO_PKG_VERSION"), ",", env!("CARGO_PKG_REPOSITORY"), "\n");

/// The image of `parts`, signed if they have a signer.
pub(super) fn image(parts: &Parts) -> Result<Vec<u8>> {
    check_kernel(parts)?;
    let stub = packaged_file(Path::new(STUB), STUB_PACKAGE)?;
    let image = around(&stub, parts)
        .with_context(|| format!("cannot add a kernel to `{STUB}`"))
        .hint(format!("it differs from that of the package `{STUB_PACKAGE}`: reinstall the package"))?;
    match &parts.signer {
        Some(signer) => signer.sign(&image),
        None => Ok(image),
    }
}

fn around(stub: &[u8], parts: &Parts) -> Result<Vec<u8>> {
    let revocable = pe::section(stub, ".sbat")?.unwrap_or_default();
    let text = revocable.split(|byte| *byte == 0).next().unwrap_or_default();
    let sbat = [text, SBAT.as_bytes()].concat();
    pe::with_sections(
        stub,
        &[
            (".sbat", &sbat),
            (".osrel", os_release(&parts.release).as_bytes()),
            (".uname", parts.release.as_bytes()),
            (".cmdline", parts.cmdline.for_stub().as_bytes()),
            (".initrd", &parts.initrd),
            (".linux", &parts.kernel),
        ],
    )
}

/// The section `.osrel` in the format of os-release(5), which boot menus show.
fn os_release(release: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "ID=iguana\nNAME=Iguana\nVERSION_ID={version}\nPRETTY_NAME=\"Iguana {version} (Linux {release})\"\n"
    )
}

/// Checks that the kernel is a UEFI program (EFI stub): systemd-stub starts it as one.
fn check_kernel(parts: &Parts) -> Result<()> {
    let all_there = || {
        let program = PeFile64::parse(&*parts.kernel)?;
        program.sections().try_for_each(|section| section.data().map(drop))
    };
    all_there()
        .with_context(|| format!("UEFI cannot start the kernel {}", parts.release))
        .hint("it is truncated, or was built without `CONFIG_EFI_STUB`: use a distribution kernel")
}

#[cfg(test)]
mod tests {
    use super::super::parts::tests::parts;
    use super::*;

    fn stub() -> Vec<u8> {
        packaged_file(Path::new(STUB), STUB_PACKAGE).unwrap()
    }

    #[test]
    fn every_part_is_a_section() {
        let image = around(&stub(), &parts()).unwrap();
        let content = |name: &str| pe::section(&image, name).unwrap().unwrap().to_vec();
        assert_eq!(content(".linux"), b"kernel");
        assert_eq!(content(".initrd"), b"initrd");
        assert_eq!(content(".cmdline"), b"quiet console=ttyS0");
        assert_eq!(content(".uname"), b"6.1.0-9-amd64");
        assert!(String::from_utf8(content(".osrel")).unwrap().starts_with("ID=iguana\n"));
        let sbat = String::from_utf8(content(".sbat")).unwrap();
        assert!(sbat.starts_with("sbat,1,") && sbat.contains("\nsystemd,") && sbat.ends_with(SBAT), "{sbat}");
        assert_eq!(content(".text"), pe::section(&stub(), ".text").unwrap().unwrap());
    }

    #[test]
    fn the_section_of_the_command_line_is_never_empty() {
        let parts = Parts { cmdline: super::super::cmdline::CommandLine::default(), ..parts() };
        let image = around(&stub(), &parts).unwrap();
        assert_eq!(pe::section(&image, ".cmdline").unwrap(), Some(&b" "[..]));
    }

    #[test]
    fn an_image_is_reproducible() {
        assert!(around(&stub(), &parts()).unwrap() == around(&stub(), &parts()).unwrap());
    }

    #[test]
    fn a_kernel_that_uefi_cannot_start_is_reported() {
        let error = image(&parts()).unwrap_err().to_string();
        assert_eq!(error, "UEFI cannot start the kernel 6.1.0-9-amd64");
    }

    #[test]
    fn an_invalid_stub_is_reported() {
        let told = |stub: &[u8]| around(stub, &parts()).unwrap_err().to_string();
        assert_eq!(told(b"#!/bin/sh"), "it is not a UEFI program (PE)");
        assert_eq!(told(&stub()[..1000]), "it is truncated");
        for length in 0..4096 {
            around(&stub()[..length], &parts()).unwrap_err();
        }
    }
}
