//! Copies a directory of an image with everything in it, for a volume that the image declares.
//!
//! No program of the container runs yet, so nothing changes meanwhile. All names are resolved by descriptor, one at a time,
//! and no link is followed.

use anyhow::Context as _;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, linkat, mkdirat, mknodat, openat, readlinkat,
    statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const OLD_FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);
/// The mode of a file until all of it is copied.
const MODE_MEANWHILE: Mode = Mode::from_raw_mode(0o700);
/// Directories in one another: each holds two of the open files of this process, which may have 1024.
const DEPTH: usize = 250;
/// Bytes of the list of a file's extended attributes, and of the value of one (xattr(7), `XATTR_SIZE_MAX`).
const ATTRIBUTE_SIZE: usize = 64 << 10;

/// Copies what is in one directory to an empty one, and the directory's own owner, mode, times and attributes.
///
/// # Errors
/// When memory is full, or directories are nested too deeply.
pub(super) fn copy_directory(from: impl AsFd, to: impl AsFd) -> anyhow::Result<()> {
    let open = |directory: BorrowedFd<'_>| openat(directory, ".", DIRECTORY, Mode::empty());
    let (from, to) = (open(from.as_fd())?, open(to.as_fd())?);
    let mut copy = Copy { linked: HashMap::new(), depth: 0 };
    copy.content(&from, &to)?;
    Ok(take_metadata(&from, &to)?)
}

struct Copy {
    /// The copies of files with several names, by device and number: a directory and the name in it.
    linked: HashMap<(u64, u64), (OwnedFd, CString)>,
    depth: usize,
}

impl Copy {
    fn content(&mut self, from: &OwnedFd, to: &OwnedFd) -> anyhow::Result<()> {
        anyhow::ensure!(self.depth < DEPTH, "more than {DEPTH} directories are nested in one another");
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.entry(name, from, to)
                    .with_context(|| format!("cannot copy `{}`", name.to_string_lossy()))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &CStr, from: &OwnedFd, to: &OwnedFd) -> anyhow::Result<()> {
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            mkdirat(to, name, MODE_MEANWHILE)?;
            let open = |above| openat(above, name, DIRECTORY, Mode::empty());
            let (from, to) = (open(from)?, open(to)?);
            self.depth += 1;
            self.content(&from, &to)?;
            self.depth -= 1;
            return Ok(take_metadata(&from, &to)?);
        }
        let number = (stat.st_dev, stat.st_ino);
        if let Some((directory, first)) = self.linked.get(&number) {
            return Ok(linkat(directory, first.as_c_str(), to, name, AtFlags::empty())?);
        }
        match kind {
            FileType::RegularFile => {
                let old = File::from(openat(from, name, OLD_FILE, Mode::empty())?);
                let new = File::from(openat(to, name, NEW_FILE, MODE_MEANWHILE)?);
                io::copy(&mut &old, &mut &new)?;
                take_metadata(&old, &new)?;
            }
            FileType::Symlink => {
                symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
                take_owner(name, to, &stat)?;
            }
            special => {
                mknodat(to, name, special, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
                take_owner(name, to, &stat)?;
            }
        }
        if stat.st_nlink > 1 {
            self.linked.insert(number, (to.try_clone()?, name.to_owned()));
        }
        Ok(())
    }
}

/// Gives an open file the owner, mode, attributes and times of another one.
fn take_metadata(old: impl AsFd, new: impl AsFd) -> io::Result<()> {
    let stat = fstat(&old)?;
    // Before the mode and the attributes, which a change of the owner takes away in part.
    fchown(&new, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(&new, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    take_attributes(&old, &new)?;
    Ok(futimens(new, &times(&stat))?)
}

fn take_attributes(old: impl AsFd, new: impl AsFd) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTE_SIZE];
    let count = match flistxattr(&old, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        count => count?,
    };
    let mut value = vec![0; ATTRIBUTE_SIZE];
    for name in names[..count].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let length = fgetxattr(&old, name, &mut value[..])?;
        match fsetxattr(&new, name, &value[..length], XattrFlags::empty()) {
            // A tmpfs of an older kernel has no attributes of users.
            Err(Errno::OPNOTSUPP) => {}
            set => set?,
        }
    }
    Ok(())
}

/// The same for a file that cannot be opened.
fn take_owner(name: &CStr, directory: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(directory, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
    }
}
