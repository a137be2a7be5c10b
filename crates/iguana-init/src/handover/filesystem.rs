//! The content of a device in the mount list.

use crate::block;
use crate::block::{Superblock, Usage};
use anyhow::Context as _;
use hint::{WithHint as _, hinted};
use std::path::Path;

/// How a device is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DeviceContent {
    /// It is mounted as this file system (the kernel's name).
    FileSystem(&'static str),
    /// It has to be opened with a key first.
    Encrypted {
        /// The UUID of the encrypted container.
        uuid: String,
    },
}

/// Probes a device.
///
/// # Errors
/// When it cannot be read, or has neither a file system nor a known encryption.
pub(super) fn content(device: &Path) -> anyhow::Result<DeviceContent> {
    let found = superblock(device)
        .with_context(|| format!("cannot read `{}`", device.display()))
        .hint("check the disk and its cable, and the kernel's messages above")?;
    told(device, found)
}

fn told(device: &Path, found: Option<Superblock>) -> anyhow::Result<DeviceContent> {
    let shown = device.display();
    let found = found
        .with_context(|| format!("`{shown}` has no known file system"))
        .hint("check that the installation formatted it")?;
    let Superblock { kind, usage, uuid, .. } = found;
    let hint = match usage {
        Usage::FileSystem => return Ok(DeviceContent::FileSystem(kind)),
        Usage::Encrypted => return Ok(DeviceContent::Encrypted { uuid }),
        Usage::Swap => "remove it from the mount list; the new system mounts it by its own `/etc/fstab`",
        Usage::Member => "name the device assembled from it, in `/dev/md`, `/dev/mapper` or `/dev/VG/LV`",
    };
    Err(hinted(format!("`{shown}` contains no file system but `{kind}`"), hint))
}

/// The UUID of a device's content; `None` if it has none.
pub(super) fn uuid(device: &Path) -> Option<String> {
    superblock(device).ok()?.map(|found| found.uuid).filter(|uuid| !uuid.is_empty())
}

fn superblock(device: &Path) -> std::io::Result<Option<Superblock>> {
    block::superblock(&block::open(device)?)
}

/// The error for an encrypted device that is needed but not open.
pub(super) fn closed(device: &Path) -> anyhow::Error {
    hinted(
        format!("`{}` is encrypted and has not been opened", device.display()),
        "have the job open it, and name the device in `/dev/mapper`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    /// The content of a device with the given bytes at the given offset.
    fn content_of(name: &str, offset: u64, bytes: &[u8]) -> anyhow::Result<DeviceContent> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        told(Path::new(name), block::superblock(&file).unwrap())
    }

    #[test]
    fn only_file_systems_are_mounted() {
        assert_eq!(content_of("xfs", 0, b"XFSB").unwrap(), DeviceContent::FileSystem("xfs"));
        assert!(matches!(
            content_of("luks", 0, b"LUKS\xba\xbe\0\x02").unwrap(),
            DeviceContent::Encrypted { .. }
        ));
        let error = format!("{:#}", content_of("lvm", 512, &lvm_label()).unwrap_err());
        assert!(error.contains("contains no file system but `LVM2_member`"), "{error}");
        let error = format!("{:#}", content_of("none", 0, b"").unwrap_err());
        assert!(error.contains("has no known file system"), "{error}");
    }

    fn lvm_label() -> Vec<u8> {
        let mut label = b"LABELONE".to_vec();
        label.resize(24, 0);
        label.extend(b"LVM2 001");
        label
    }
}
