//! What kind of file system a mount list's device has.

use crate::block::{self, Superblock, Usage};
use anyhow::Context as _;
use iguana_core::hint::{WithHint as _, hinted};
use std::path::Path;

/// The kernel's name of the file system on a device.
pub(super) fn kind(device: &Path) -> anyhow::Result<&'static str> {
    let shown = device.display();
    let found = block::open(device).and_then(|device| block::superblock(&device));
    let Superblock { kind, usage, .. } = found
        .with_context(|| format!("cannot read `{shown}`"))?
        .with_context(|| format!("`{shown}` has no file system that is known here"))
        .hint("check that the installation has formatted it")?;
    let hint = match usage {
        Usage::FileSystem => return Ok(kind),
        Usage::Encrypted => "have the container open it and name the device in `/dev/mapper`",
        Usage::Swap => "leave it out of the mount list; the new system has it in its own `/etc/fstab`",
        Usage::Member => "name the device that is made of it, in `/dev/md`, `/dev/mapper` or `/dev/VG/LV`",
    };
    Err(hinted(format!("`{shown}` has no file system, it has `{kind}`"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// What is said of a device with these bytes at this offset.
    fn kind_of(name: &str, offset: usize, bytes: &[u8]) -> anyhow::Result<&'static str> {
        let path = std::env::temp_dir().join(format!("iguana-kind-{name}-{}", std::process::id()));
        let mut content = vec![0; 8192];
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
        fs::write(&path, content).unwrap();
        let kind = kind(&path);
        fs::remove_file(&path).unwrap();
        kind
    }

    #[test]
    fn only_file_systems_are_mounted() {
        assert_eq!(kind_of("xfs", 0, b"XFSB").unwrap(), "xfs");
        let error = format!("{:#}", kind_of("luks", 0, b"LUKS\xba\xbe\0\x02").unwrap_err());
        assert!(error.contains("has no file system, it has `crypto_LUKS`"), "{error}");
        let error = format!("{:#}", kind_of("none", 0, b"").unwrap_err());
        assert!(error.contains("has no file system that is known here"), "{error}");
    }
}
