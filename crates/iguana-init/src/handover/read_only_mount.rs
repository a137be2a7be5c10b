//! A file system that is only looked at.

use super::filesystem::{self, DeviceContent};
use anyhow::Context as _;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use untrusted_fs::Directory;

/// Mounted read-only, until the value is dropped.
pub(super) struct ReadOnlyMount(PathBuf);

/// Nothing on it is executed, and nobody else uses it.
const FLAGS: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// File systems that write down what their journal holds even when they are mounted read-only, unless they are told so.
const WITHOUT_JOURNAL: &[(&str, &str)] = &[
    ("ext3", "noload"),
    ("ext4", "noload"),
    ("xfs", "norecovery"),
    ("btrfs", "rescue=nologreplay"),
    ("f2fs", "norecovery"),
];

impl ReadOnlyMount {
    /// Mounts what is on `device` at `directory`, which is made. Nothing is written to the device.
    ///
    /// # Errors
    /// When there is nothing that can be mounted.
    pub(super) fn of(device: &Path, directory: &Path) -> anyhow::Result<Self> {
        let kind = match filesystem::content(device)? {
            DeviceContent::FileSystem(kind) => kind,
            DeviceContent::Encrypted { .. } => return Err(filesystem::closed(device)),
        };
        fs::create_dir_all(directory)?;
        let options =
            WITHOUT_JOURNAL.iter().find(|(name, _)| *name == kind).map_or("", |(_, option)| *option);
        mount(device, directory, kind, FLAGS, CString::new(options)?.as_c_str())
            .with_context(|| format!("cannot mount `{}` ({kind}) to look at it", device.display()))?;
        Ok(Self(directory.to_owned()))
    }

    /// The top of the file system, which is of whoever has the disk.
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
