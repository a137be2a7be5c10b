//! Why a path was refused.

use crate::Links;
use rustix::io::Errno;
use std::fmt;
use std::path::{Path, PathBuf};

/// A path that was refused, and why.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    cause: Cause,
}

/// Why a path was refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// An error of the kernel.
    Io(std::io::Error),
    /// There is a symbolic link on the path, and links are refused.
    Link,
    /// There is a symbolic link of another user on the path.
    LinkOfOther,
    /// The path leads out of its directory.
    Outside,
    /// It is not a regular file but of this kind.
    NotRegular(&'static str),
    /// It is not a block device but of this kind.
    NotABlockDevice(&'static str),
    /// It has more bytes than this limit.
    TooLarge(u64),
    /// The directory has more entries than this limit.
    TooMany(usize),
    /// The file is not UTF-8.
    NotText,
    /// The name is not a single component: it has a `/`, or is `.` or `..`.
    NotAName,
}

impl Error {
    pub(crate) fn new(path: &Path, cause: impl Into<Cause>) -> Self {
        Self { path: path.to_owned(), cause: cause.into() }
    }

    /// The cause.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Whether the path exists already.
    #[must_use]
    pub fn is_already_there(&self) -> bool {
        matches!(&self.cause, Cause::Io(error) if error.kind() == std::io::ErrorKind::AlreadyExists)
    }

    /// Whether the path does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(&self.cause, Cause::Io(error) if error.kind() == std::io::ErrorKind::NotFound)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error.cause {
            Cause::Io(cause) => cause.kind(),
            _ => std::io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl Cause {
    pub(crate) fn resolving(errno: Errno, links: Links) -> Self {
        match (errno, links) {
            (Errno::LOOP, Links::Refuse) => Self::Link,
            (Errno::XDEV, _) => Self::Outside,
            (errno, _) => errno.into(),
        }
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string_lossy();
        match &self.cause {
            Cause::Io(_) => write!(out, "cannot open `{}`", path.escape_debug()),
            cause => write!(out, "`{}` is refused: {cause}", path.escape_debug()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(out),
            Self::Link => out.write_str("there is a symbolic link on the path"),
            Self::LinkOfOther => out.write_str("a symbolic link on the path belongs to another user"),
            Self::Outside => out.write_str("the path leads out of its directory"),
            Self::NotRegular(kind) => write!(out, "it is {kind}, not a regular file"),
            Self::NotABlockDevice(kind) => write!(out, "it is {kind}, not a block device"),
            Self::TooLarge(limit) => write!(out, "it has more than {limit} bytes"),
            Self::TooMany(limit) => write!(out, "it has more than {limit} entries"),
            Self::NotText => out.write_str("it is not UTF-8 text"),
            Self::NotAName => out.write_str("it is not a single file name"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl std::error::Error for Cause {}
