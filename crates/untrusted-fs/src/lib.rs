//! Access to files and directories that untrusted parties can write: containers, other users, makers of disks and
//! bundles.
//!
//! Principles:
//!
//! 1. A path is resolved below a [`Directory`], by descriptor. The kernel keeps it inside (openat2(2)); no path is made
//!    by joining strings and then opened.
//! 2. Symbolic links are refused ([`Links::Refuse`]) or stay inside the directory ([`Links::Inside`]).
//! 3. Only regular files are opened. The file at a path is first examined with `O_PATH`, so that a FIFO cannot block
//!    the caller and a device node is never opened.
//! 4. Every read has a limit, which the caller names.
//! 5. A new file is really new (`O_EXCL`, `O_NOFOLLOW`), gets its mode by descriptor, and replaces another file only by
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
//! Errors: [`Error`] names the path below the directory, and distinguishes links, files of the wrong kind and exceeded
//! limits from failures of the system.
//!
//! Specifications: openat2(2), path_resolution(7), rename(2).
#![forbid(unsafe_code)]

mod error;
mod locate;
mod path;
mod write;

pub use error::{Cause, Error};
pub use locate::{Located, Regions};
pub use path::{
    open_block_device, open_file, open_in_its_directory, open_in_place, open_to_change, read_file,
};
pub use write::{NewFile, Scratch, remove_access_lists};

use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{
    CWD, Dir, DirEntry, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat, openat2, readlinkat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Error>;

/// How long a path with `..` is tried again. Each attempt fails if anyone on the machine renames a file or mounts
/// something during the few hundred nanoseconds that it takes (openat2(2), `EAGAIN`); against a program that does
/// nothing else, one of ten does, and more of a long path.
const ATTEMPTS_LIMIT: Duration = Duration::from_secs(2);

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How symbolic links on a path are treated. Magic links, those of `/proc`, are always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// A link anywhere on the path is an error, and so is a path that leads out (`RESOLVE_NO_SYMLINKS`,
    /// `RESOLVE_BENEATH`).
    Refuse,
    /// Links are followed as after chroot(2) into the directory: an absolute link starts at the directory
    /// (`RESOLVE_IN_ROOT`).
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

/// An open directory that untrusted parties can write to.
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
    /// Opens a directory by a trusted path: its links are followed.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let descriptor = open(path, DIRECTORY, Mode::empty()).map_err(|errno| Error::new(path, errno))?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    /// Wraps a directory that is open already; `path` is its name in messages.
    pub fn from_descriptor(descriptor: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self { descriptor, path: path.into() }
    }

    /// The name of the directory in messages. Must not be opened.
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

    /// Finds the file at a path below this directory, of any kind, without opening it (`O_PATH`): to mount at, or to
    /// bind.
    ///
    /// # Errors
    /// When there is nothing, or the path has a link that `links` refuses.
    pub fn locate(&self, path: impl AsRef<Path>, links: Links) -> Result<OwnedFd> {
        self.resolve(path.as_ref(), OFlags::PATH | OFlags::CLOEXEC, links)
    }

    /// The stat(2) result for a path below this directory; a link as its last component is not followed, and nothing is
    /// opened. `None` when there is nothing.
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

    /// Writes the entries of this directory to the disk (fsync(2)).
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.descriptor).map_err(|errno| Error::new(&self.path, errno))
    }

    /// The target of a symbolic link below this directory, which is not followed.
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
        let mut names = self.first_names(limit.saturating_add(1))?;
        if names.len() > limit {
            return Err(Error::new(&self.path, Cause::TooMany(limit)));
        }
        names.sort();
        Ok(names)
    }

    /// The first names in this directory, `limit` of them at most.
    fn first_names(&self, limit: usize) -> Result<Vec<OsString>> {
        let of_directory = |errno: Errno| Error::new(&self.path, errno);
        let again = openat(&self.descriptor, ".", DIRECTORY, Mode::empty());
        let entries = again.and_then(Dir::new).map_err(of_directory)?;
        let name = |entry: DirEntry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        let names = entries.map(|entry| entry.map(name).map_err(of_directory));
        let is_of_entry =
            |name: &Result<OsString>| !name.as_ref().is_ok_and(|name| name == "." || name == "..");
        names.filter(is_of_entry).take(limit).collect()
    }

    fn resolve(&self, path: &Path, flags: OFlags, links: Links) -> Result<OwnedFd> {
        let below = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = || openat2(&self.descriptor, below, flags, Mode::empty(), links.resolve());
        let (start, mut found) = (Instant::now(), resolve());
        while found.as_ref().err() == Some(&Errno::AGAIN) && start.elapsed() < ATTEMPTS_LIMIT {
            found = resolve();
        }
        found.map_err(|errno| self.error(path, Cause::resolving(errno, links)))
    }

    fn error(&self, path: &Path, cause: impl Into<Cause>) -> Error {
        Error::new(&self.path.join(path), cause)
    }
}

/// Reads the rest of a file.
///
/// # Errors
/// When it has more than `limit` bytes, or reading fails.
pub fn read_bounded(file: File, limit: u64) -> std::result::Result<Vec<u8>, Cause> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Cause::Io)?;
    if bytes.len() as u64 > limit {
        return Err(Cause::TooLarge(limit));
    }
    Ok(bytes)
}

/// Opens a file that was found with `O_PATH`: the same file, even if its path names another one by now. `O_NONBLOCK`
/// keeps the call from waiting for the holder of a lease (fcntl(2), `F_SETLEASE`).
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
