//! The directory for a boot server, for clients that use iPXE, PXELINUX, GRUB or the firmware's own PXE or HTTP boot.

use super::files::Files;
use super::parts::Parts;
use super::{loaders, uki};
use crate::output_file::OutputDirectory;
use anyhow::Result;
use hint::{WithHint, hinted};
use std::path::Path;

const KERNEL: &str = "vmlinuz";
const INITRD: &str = "iguana.img";

/// Bytes that are read from an existing configuration; ours have some hundred.
const CONFIGURATION_LIMIT: u64 = 1 << 20;

/// The unified kernel image for UEFI's own PXE and HTTP boot.
const UEFI_PROGRAM: &str = "iguana.efi";

/// Writes the directory and returns the number of bytes. Files of others in it stay.
pub(super) fn write(parts: &Parts, directory: &Path, mode: u32) -> Result<usize> {
    let configurations = configurations(parts);
    let top = OutputDirectory::open(directory)?;
    for (path, _) in &configurations {
        check_ours(&top, path, directory)?;
    }
    let mut files = configurations;
    files.push((UEFI_PROGRAM.into(), uki::image(parts)?));
    files.push((KERNEL.into(), parts.kernel.clone()));
    files.push((INITRD.into(), parts.initrd.clone()));
    for (path, content) in &files {
        top.write(path, mode, content)?;
    }
    Ok(files.iter().map(|(_, content)| content.len()).sum())
}

/// The configurations. GRUB looks for kernel and initrd at the root of its server, so this directory must be that
/// root.
fn configurations(parts: &Parts) -> Files {
    let grub = loaders::grub(&format!("/{KERNEL}"), &format!("/{INITRD}"), &parts.cmdline, None);
    vec![
        ("boot.ipxe".into(), loaders::ipxe(KERNEL, INITRD, &parts.cmdline).into()),
        ("pxelinux.cfg/default".into(), loaders::pxelinux(KERNEL, INITRD, &parts.cmdline).into()),
        ("grub/grub.cfg".into(), grub.into()),
    ]
}

/// Fails if `path` is a configuration that `iguana build` did not write: it must not be replaced.
fn check_ours(top: &OutputDirectory, path: &str, directory: &Path) -> Result<()> {
    let elsewhere = "write to a new directory with `--output`, and merge the two by hand";
    match top.read(path, CONFIGURATION_LIMIT).hint(elsewhere)? {
        Some(text) if !String::from_utf8_lossy(&text).contains(loaders::MARK) => Err(hinted(
            format!("`{}` exists and was not created by this program", directory.join(path).display()),
            elsewhere,
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::tests::parts;
    use super::*;
    use std::fs;

    #[test]
    fn a_foreign_configuration_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let theirs = directory.path().join("grub/grub.cfg");
        fs::create_dir(theirs.parent().unwrap()).unwrap();
        fs::write(&theirs, "menuentry other {}\n").unwrap();
        let error = write(&parts(), directory.path(), 0o644).unwrap_err().to_string();
        assert!(error.ends_with("grub.cfg` exists and was not created by this program"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        fs::write(&theirs, loaders::grub("/k", "/i", &parts().cmdline, None)).unwrap();
        check_ours(&OutputDirectory::open(directory.path()).unwrap(), "grub/grub.cfg", directory.path())
            .unwrap();
    }
}
