//! The group and mode of block devices, as udev sets them. Programs ask for them: FAI's `fai-disk-info` takes for a
//! disk only what belongs to the group `disk`.

use rustix::fd::{AsFd, AsRawFd as _};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawMode, chmod, chownat, fstat, open};
use std::path::Path;

/// The group `disk`, which has this number in Debian, Fedora and openSUSE. The initrd has no group file, and the
/// containers may have different ones.
const DISK_GROUP: u32 = 6;

/// The mode that udev's rules give block devices (50-udev-default.rules).
const MODE: RawMode = 0o660;

/// The mode of the kernel's own nodes (`devtmpfs`).
const KERNEL_MODE: RawMode = 0o600;

/// Gives the node of a block device the group and mode that udev would give it, unless somebody has changed them.
///
/// # Errors
/// When the node cannot be changed.
pub(super) fn grant(node: &Path) -> rustix::io::Result<()> {
    let file = open(node, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = fstat(&file)?;
    let is_untouched = (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, 0, KERNEL_MODE);
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice || !is_untouched {
        return Ok(());
    }
    chownat(&file, "", None, Some(Gid::from_raw(DISK_GROUP)), AtFlags::EMPTY_PATH)?;
    chmod(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()), Mode::from_raw_mode(MODE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mknodat};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    fn is_granted(path: &Path) -> bool {
        let found = std::fs::symlink_metadata(path).unwrap();
        (found.gid(), found.mode() & 0o7777) == (DISK_GROUP, MODE)
    }

    #[test]
    fn a_new_block_device_belongs_to_the_group_disk() {
        let home = tempfile::tempdir().unwrap();
        let node = home.path().join("vda");
        // Without the right to make devices there is nothing to test.
        let kind = FileType::BlockDevice;
        if mknodat(CWD, &node, kind, Mode::from_raw_mode(KERNEL_MODE), rustix::fs::makedev(7, 0)).is_err() {
            return;
        }
        grant(&node).unwrap();
        assert!(is_granted(&node));
        std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o600)).unwrap();
        grant(&node).unwrap();
        assert!(!is_granted(&node), "what somebody has set stays");
    }

    #[test]
    fn only_block_devices_are_touched() {
        let home = tempfile::tempdir().unwrap();
        let (file, link) = (home.path().join("file"), home.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        grant(&file).unwrap();
        grant(&link).unwrap();
        assert!(!is_granted(&file));
        assert!(grant(&home.path().join("missing")).is_err());
    }
}
