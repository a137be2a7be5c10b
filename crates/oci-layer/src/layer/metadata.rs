//! The metadata of an entry, and how it is applied to a file.

use super::archive::ArchiveEntry;
use super::memory::OF_EACH;
use anyhow::{Context as _, ensure};
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, fstat, futimens, lsetxattr, utimensat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The attributes that control overlayfs. They are dropped: an image must not set them.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// Attributes that the kernel allows only on files and directories (xattr(7)).
const USER: &[u8] = b"user.";
/// Bytes of a list of attribute names, and of one value (linux/limits.h).
const XATTR_LIST_MAX: usize = 64 << 10;
const XATTR_SIZE_MAX: usize = 64 << 10;
/// Bytes of an entry's extended attributes, names and values. The kernel limits a single value and the list of names of
/// one file (xattr(7)); this is the sum of both limits.
pub(super) const XATTRS_LIMIT: usize = XATTR_LIST_MAX + XATTR_SIZE_MAX;

/// Owner, mode, time and extended attributes.
#[derive(PartialEq)]
pub(super) struct Metadata {
    owner: Uid,
    group: Gid,
    pub(super) mode: Mode,
    mtime: Timespec,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Metadata {
    /// The metadata of an entry.
    ///
    /// # Errors
    /// When it has more attributes than a file can have.
    pub(super) fn of(entry: &mut ArchiveEntry) -> anyhow::Result<Self> {
        let mut xattrs = std::mem::take(&mut entry.xattrs);
        xattrs.retain(|(name, _)| !name.starts_with(OVERLAY));
        let this = Self {
            owner: Uid::from_raw(entry.owner),
            group: Gid::from_raw(entry.group),
            mode: Mode::from_raw_mode(entry.mode),
            mtime: entry.mtime,
            xattrs,
        };
        let size = this.size();
        ensure!(
            size <= XATTRS_LIMIT,
            "its extended attributes have {size} bytes, more than the limit of {XATTRS_LIMIT}"
        );
        Ok(this)
    }

    /// Bytes of its extended attributes, names and values.
    pub(super) fn size(&self) -> usize {
        self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Bytes of memory that its extended attributes take: a short one costs more than its text.
    pub(super) fn memory(&self) -> usize {
        self.size() + self.xattrs.len() * OF_EACH
    }

    /// The metadata of an existing directory.
    pub(super) fn of_directory(directory: BorrowedFd<'_>) -> anyhow::Result<Self> {
        let stat = fstat(directory)?;
        let mut names = vec![0; XATTR_LIST_MAX];
        let length = match flistxattr(directory, &mut names[..]) {
            Err(Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        let mut xattrs = Vec::new();
        for name in names[..length].split(|byte| *byte == 0) {
            if !name.is_empty() && !name.starts_with(OVERLAY) {
                let mut value = vec![0; XATTR_SIZE_MAX];
                let length = fgetxattr(directory, OsStr::from_bytes(name), &mut value[..])?;
                value.truncate(length);
                xattrs.push((name.to_vec(), value));
            }
        }
        Ok(Self {
            owner: Uid::from_raw(stat.st_uid),
            group: Gid::from_raw(stat.st_gid),
            mode: Mode::from_raw_mode(stat.st_mode),
            mtime: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
            xattrs,
        })
    }

    /// The metadata of a directory without an entry. The specification defines none, so it is the same every time.
    pub(super) fn unknown() -> Self {
        Self {
            owner: Uid::ROOT,
            group: Gid::ROOT,
            mode: Mode::from_raw_mode(0o755),
            mtime: Timespec { tv_sec: 0, tv_nsec: 0 },
            xattrs: Vec::new(),
        }
    }

    /// Applies it to a file or directory. Owner first: changing it clears the set-user-ID bit and the capabilities.
    pub(super) fn apply(&self, file: BorrowedFd<'_>, maker: &Maker) -> anyhow::Result<()> {
        if !maker.owns_as(self) {
            fchown(file, Some(self.owner), Some(self.group)).context("cannot set its owner")?;
        }
        fchmod(file, self.mode).context("cannot set its mode")?;
        for (name, value) in &self.xattrs {
            check(name, fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()))?;
        }
        futimens(file, &self.times()).context("cannot set its time")
    }

    /// Applies it to links and special files, which must not be opened.
    pub(super) fn apply_at(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
        maker: &Maker,
    ) -> anyhow::Result<()> {
        if !maker.owns_as(self) {
            let owner = chownat(parent, name, Some(self.owner), Some(self.group), AtFlags::SYMLINK_NOFOLLOW);
            owner.context("cannot set its owner")?;
        }
        if kind != FileType::Symlink {
            // mknod(2) applies the umask to the mode.
            chmodat(parent, name, self.mode, AtFlags::empty()).context("cannot set its mode")?;
        }
        for (attribute, value) in self.xattrs.iter().filter(|(name, _)| !name.starts_with(USER)) {
            let path = Path::new("/proc/self/fd").join(parent.as_fd().as_raw_fd().to_string()).join(name);
            check(attribute, lsetxattr(path, OsStr::from_bytes(attribute), value, XattrFlags::empty()))?;
        }
        utimensat(parent, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW).context("cannot set its time")
    }

    fn times(&self) -> Timestamps {
        Timestamps { last_access: self.mtime, last_modification: self.mtime }
    }
}

fn check(name: &[u8], set: Result<(), Errno>) -> anyhow::Result<()> {
    match set {
        // tmpfs before Linux 6.6 has no `user.` attributes; podman drops them there, too.
        Err(Errno::OPNOTSUPP) => Ok(()),
        set => set.with_context(|| format!("cannot set its attribute `{}`", name.escape_ascii())),
    }
}

/// The owner of new files, for which a chown(2) is not needed.
pub(super) struct Maker {
    owner: Uid,
    group: Gid,
}

impl Maker {
    /// The owner of files that this process makes.
    pub(super) fn this() -> Self {
        Self { owner: geteuid(), group: getegid() }
    }

    fn owns_as(&self, wanted: &Metadata) -> bool {
        (self.owner, self.group) == (wanted.owner, wanted.group)
    }
}
