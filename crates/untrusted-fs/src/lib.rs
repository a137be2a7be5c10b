//! Files and directories that somebody else can write: a container, another user, whoever made a disk or a bundle.
//!
//! Principles:
//!
//! 1. A path is resolved below a [`Directory`], by descriptor. The kernel keeps it inside (openat2(2)); no path is made by
//!    joining strings and then opened.
//! 2. Symbolic links are refused ([`Links::Refuse`]) or stay inside the directory ([`Links::Inside`]).
//! 3. Only regular files are opened. What lies at a path is looked at first, with `O_PATH`, so that a FIFO cannot block
//!    us and a device node is never opened.
//! 4. Everything that is read has a limit, which the caller names.
//! 5. What is made is new (`O_EXCL`, `O_NOFOLLOW`), gets its mode by descriptor, and replaces another file only by
//!    rename(2).
//!
//! ```
//! use untrusted_fs::{Directory, Links};
//! # fn main() -> Result<(), untrusted_fs::Error> {
//! # let scratch = tempfile::tempdir().unwrap();
//! # std::fs::write(scratch.path().join("output"), "disk=/dev/sda\n").unwrap();
//! let exchange = Directory::open(scratch.path())?;
//! assert_eq!(exchange.read("output", Links::Refuse, 1 << 20)?, b"disk=/dev/sda\n");
//! exchange.replace("result", 0o644, b"done\n")?;
//! # Ok(())
//! # }
//! ```
//!
//! Errors: [`Error`] names the path below the directory, and tells links, files of another kind and limits from failures of the system.
//!
//! Specifications: openat2(2), path_resolution(7), rename(2).
#![forbid(unsafe_code)]

mod error;
mod locate;
mod path;
mod write;

pub use error::{Cause, Error};
pub use locate::Regions;
pub use path::{open_block_device, open_file, open_in_place, read_file};
pub use write::{NewFile, Scratch};

use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat, openat2, readlinkat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Error>;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What symbolic links on a path do. Magic links, those of `/proc`, are always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// A link anywhere on the path is an error, and so is a path that leads out (`RESOLVE_NO_SYMLINKS`,
    /// `RESOLVE_BENEATH`).
    Refuse,
    /// Links are followed as after chroot(2) into the directory: an absolute one begins there (`RESOLVE_IN_ROOT`).
    Inside,
}

impl Links {
    fn resolve(self) -> ResolveFlags {
        ResolveFlags::NO_MAGICLINKS
            | match self {
                Self::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
                Self::Inside => ResolveFlags::IN_ROOT,
            }
    }
}

/// An open directory that somebody else can write to.
#[derive(Debug)]
pub struct Directory {
    descriptor: OwnedFd,
    /// For messages only.
    path: PathBuf,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Directory {
    /// Opens a directory by a path that is trusted itself: its links are followed.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let descriptor = open(path, DIRECTORY, Mode::empty()).map_err(|errno| Error::new(path, errno))?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    /// A directory that is open already; `path` is what messages call it.
    pub fn from_descriptor(descriptor: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self { descriptor, path: path.into() }
    }

    /// What messages call the directory. Not to be opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory below this one.
    ///
    /// # Errors
    /// When there is none, or the path has a link that `links` refuses.
    pub fn directory(&self, path: impl AsRef<Path>, links: Links) -> Result<Self> {
        let path = path.as_ref();
        let descriptor = self.resolve(path, DIRECTORY, links)?;
        Ok(Self { descriptor, path: self.path.join(path) })
    }

    /// Opens a regular file below this directory for reading.
    ///
    /// # Errors
    /// When there is none, the path has a link that `links` refuses, or what is there is not a regular file.
    pub fn file(&self, path: impl AsRef<Path>, links: Links) -> Result<File> {
        self.open_regular(path.as_ref(), links, OFlags::RDONLY)
    }

    fn open_regular(&self, path: &Path, links: Links, access: OFlags) -> Result<File> {
        let found = self.resolve(path, OFlags::PATH | OFlags::CLOEXEC, links)?;
        let stat = fstat(&found).map_err(|errno| self.error(path, errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => reopen(&found, access).map_err(|errno| self.error(path, errno)),
            other => Err(self.error(path, Cause::NotRegular(kind_name(other)))),
        }
    }

    /// Reads a regular file below this directory, whole.
    ///
    /// # Errors
    /// As [`Directory::file`], and when the file has more than `limit` bytes.
    pub fn read(&self, path: impl AsRef<Path>, links: Links, limit: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        read_bounded(self.file(path, links)?, limit).map_err(|cause| self.error(path, cause))
    }

    /// Reads a text file below this directory, whole.
    ///
    /// # Errors
    /// As [`Directory::read`], and when the file is not UTF-8.
    pub fn read_to_string(&self, path: impl AsRef<Path>, links: Links, limit: u64) -> Result<String> {
        let path = path.as_ref();
        let bytes = self.read(path, links, limit)?;
        String::from_utf8(bytes).map_err(|_| self.error(path, Cause::NotText))
    }

    /// Finds whatever is at a path below this directory, without opening it (`O_PATH`): to mount at, or to bind.
    ///
    /// # Errors
    /// When there is nothing, or the path has a link that `links` refuses.
    pub fn locate(&self, path: impl AsRef<Path>, links: Links) -> Result<OwnedFd> {
        self.resolve(path.as_ref(), OFlags::PATH | OFlags::CLOEXEC, links)
    }

    /// What stat(2) says of a path below this directory; a link at its end is not followed, and nothing is opened.
    /// `None` when there is nothing.
    ///
    /// # Errors
    /// When the path cannot be resolved, or has a link that `links` refuses.
    pub fn stat(&self, path: impl AsRef<Path>, links: Links) -> Result<Option<Stat>> {
        let path = path.as_ref();
        match self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, links) {
            Ok(found) => fstat(found).map(Some).map_err(|errno| self.error(path, errno)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes to the disk which names are in this directory (fsync(2)).
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.descriptor).map_err(|errno| Error::new(&self.path, errno))
    }

    /// What a symbolic link below this directory holds. It is not followed.
    ///
    /// # Errors
    /// When there is none, what is there is not a link, or the path to it has a link that `links` refuses.
    pub fn read_link(&self, path: impl AsRef<Path>, links: Links) -> Result<PathBuf> {
        let path = path.as_ref();
        let found = self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, links)?;
        let target = readlinkat(&found, "", Vec::new()).map_err(|errno| self.error(path, errno))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// The names in this directory, sorted.
    ///
    /// # Errors
    /// When there are more than `limit`.
    pub fn names(&self, limit: usize) -> Result<Vec<OsString>> {
        let of_directory = |cause: Cause| Error::new(&self.path, cause);
        let again = openat(&self.descriptor, ".", DIRECTORY, Mode::empty());
        let entries = again.and_then(Dir::new).map_err(|errno| of_directory(errno.into()))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|errno| of_directory(errno.into()))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == limit {
                return Err(of_directory(Cause::TooMany(limit)));
            }
            names.push(OsStr::from_bytes(name).to_owned());
        }
        names.sort();
        Ok(names)
    }

    fn resolve(&self, path: &Path, flags: OFlags, links: Links) -> Result<OwnedFd> {
        let below = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(&self.descriptor, below, flags, Mode::empty(), links.resolve())
            .map_err(|errno| self.error(path, Cause::resolving(errno, links)))
    }

    fn error(&self, path: &Path, cause: impl Into<Cause>) -> Error {
        Error::new(&self.path.join(path), cause)
    }
}

/// Reads what is left of a file, whole.
///
/// # Errors
/// When that is more than `limit` bytes, or reading fails.
pub fn read_bounded(file: File, limit: u64) -> std::result::Result<Vec<u8>, Cause> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Cause::Io)?;
    if bytes.len() as u64 > limit {
        return Err(Cause::TooLarge(limit));
    }
    Ok(bytes)
}

/// Opens what is open with `O_PATH`: the same file, whatever lies at its path by now. Nor does it wait for whoever has a
/// lease of the file (fcntl(2), `F_SETLEASE`).
fn reopen(found: &OwnedFd, access: OFlags) -> std::result::Result<File, Errno> {
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    openat(CWD, path, access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
        .map(File::from)
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "of an unknown type",
    }
}

#[cfg(test)]
mod tests;
