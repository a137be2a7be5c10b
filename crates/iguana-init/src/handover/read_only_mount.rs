//! Mounts a file system read-only to read a few files.

use super::filesystem::{self, DeviceContent};
use anyhow::Context as _;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use untrusted_fs::Directory;

/// A read-only mount, unmounted on drop.
pub(super) struct ReadOnlyMount(PathBuf);

/// Nothing is executed from it, and it is not used by others.
const FLAGS: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// File systems that replay their journal even when mounted read-only, and the option that prevents it.
const WITHOUT_JOURNAL: &[(&str, &str)] = &[
    ("ext3", "noload"),
    ("ext4", "noload"),
    ("xfs", "norecovery"),
    ("btrfs", "rescue=nologreplay"),
    ("f2fs", "norecovery"),
];

impl ReadOnlyMount {
    /// Mounts `device` at `directory`, which is created. Nothing is written to the device.
    ///
    /// # Errors
    /// When the device has no file system, is encrypted, or cannot be mounted.
    pub(super) fn of(device: &Path, directory: &Path) -> anyhow::Result<Self> {
        let kind = match filesystem::content(device)? {
            DeviceContent::FileSystem(kind) => kind,
            DeviceContent::Encrypted { .. } => return Err(filesystem::closed(device)),
        };
        fs::create_dir_all(directory)?;
        let options =
            WITHOUT_JOURNAL.iter().find(|(name, _)| *name == kind).map_or("", |(_, option)| *option);
        mount(device, directory, kind, FLAGS, CString::new(options)?.as_c_str())
            .with_context(|| format!("cannot mount `{}` ({kind}) for inspection", device.display()))?;
        Ok(Self(directory.to_owned()))
    }

    /// The root directory of the file system. Its content is untrusted: anyone with access to the disk may have written
    /// it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn top(&self) -> Result<Directory, untrusted_fs::Error> {
        Directory::open(&self.0)
    }
}

impl Drop for ReadOnlyMount {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
