//! The directory that a layer is unpacked into. The kernel resolves every path inside it (openat2(2),
//! `RESOLVE_IN_ROOT`), so that neither `..` nor a link made by an earlier entry leads out. Creating and removing takes
//! a single name in an open directory.

use super::work::{Work, steps_of_path};
use anyhow::{Context as _, bail, ensure};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, XattrFlags, fgetxattr, fsetxattr, mkdirat, mknodat, openat,
    readlinkat, statat, unlinkat,
};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use untrusted_fs::{Directory, Links};

/// Links that are followed on one path: the kernel's own limit (path_resolution(7)).
pub(super) const LINKS_LIMIT: usize = 40;
/// Names on one path, those of its links included. Each costs a system call or two; a usual path has ten.
pub(super) const STEPS_LIMIT: usize = 1024;
/// Bytes of an entry's name: PATH_MAX without the NUL at its end (linux/limits.h).
pub(super) const NAME_LIMIT: usize = 4095;
/// Depth of directories, and of a file in them. Usual layers have less than 40. Walking a tree keeps one or two
/// directories open for each level (of 1,024, getrlimit(2)), and removing a directory costs as much as it is deep.
pub(super) const DEPTH_LIMIT: usize = 256;
/// The attribute by which overlayfs marks an opaque directory.
const OPAQUE: &str = "trusted.overlay.opaque";
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// The mode while the layer is unpacked: no other user has access. The directory's own mode is set at the end.
const MODE_MEANWHILE: Mode = Mode::RWXU;

pub(super) struct Root<'a> {
    top: Directory,
    work: &'a Work,
}

/// Why a directory is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For content.
    Content,
    /// For a whiteout or an opaque whiteout.
    Whiteout,
    /// As the target of a hard link: nothing is created.
    Target,
}

/// A directory that was reached, and what was created on the way.
pub(super) struct Reached {
    /// Below the root, without links.
    pub(super) path: PathBuf,
    pub(super) directory: Directory,
    /// The directories that were created.
    pub(super) made: Vec<PathBuf>,
    /// Those of them that replaced a whiteout.
    pub(super) cut_off: Vec<PathBuf>,
}

impl<'a> Root<'a> {
    pub(super) fn new(top: Directory, work: &'a Work) -> Self {
        Self { top, work }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// The directory at a path, if it exists; links are resolved inside the root.
    pub(super) fn find(&self, path: &Path) -> anyhow::Result<Option<Directory>> {
        Ok(self.reach(path, Purpose::Target)?.map(|reached| reached.directory))
    }

    /// The directory at a path without links.
    pub(super) fn find_directly(&self, path: &Path) -> Result<Directory, untrusted_fs::Error> {
        self.top.directory(path, Links::Refuse)
    }

    /// The directory at a path, created with its parents where they are missing. That includes the targets of dangling
    /// links, which may exist in a lower layer.
    ///
    /// `None` for a whiteout that has nothing to hide: something on the path is not a directory and hides all of it
    /// already. Also `None` for the target of a hard link that does not exist.
    pub(super) fn reach(&self, path: &Path, purpose: Purpose) -> anyhow::Result<Option<Reached>> {
        if let Ok(directory) = self.find_directly(path) {
            let (made, cut_off) = (Vec::new(), Vec::new());
            return Ok(Some(Reached { path: path.to_owned(), directory, made, cut_off }));
        }
        let (mut made, mut cut_off) = (Vec::new(), Vec::new());
        let mut walk = Walk::new(path, Some(self.work));
        let (mut here, mut directory) = (PathBuf::new(), Some(self.find_directly(Path::new(""))?));
        while let Some(name) = walk.next()? {
            if name == ".." {
                if here.pop() {
                    directory = None;
                }
                continue;
            }
            // Opened only when a name is looked up, so that a link of many `..` does not cost a system call for each.
            let parent = match directory.take() {
                Some(directory) => directory,
                None => self.find_directly(&here)?,
            };
            here.push(&name);
            match kind(parent.as_fd(), &name)? {
                Some(FileType::Directory) => {}
                Some(FileType::Symlink) => {
                    let target = OsString::from_vec(readlinkat(&parent, &name, Vec::new())?.into_bytes());
                    let is_absolute = walk.follow(Path::new(&target))?;
                    here.pop();
                    if is_absolute {
                        here = PathBuf::new();
                    } else {
                        directory = Some(parent);
                    }
                    continue;
                }
                None if purpose == Purpose::Target => return Ok(None),
                None => {
                    check_depth(here.components().count())?;
                    make_directory(parent.as_fd(), &name)?;
                    made.push(here.clone());
                }
                Some(_) if purpose != Purpose::Content => return Ok(None),
                Some(FileType::CharacterDevice) if is_whiteout(parent.as_fd(), &name) => {
                    unlinkat(&parent, &name, AtFlags::empty())?;
                    make_directory(parent.as_fd(), &name)?;
                    make_opaque(open_directory(parent.as_fd(), &name)?.as_fd())?;
                    cut_off.push(here.clone());
                }
                Some(_) => bail!("`{}` is not a directory", here.display()),
            }
            directory = Some(parent.directory(&name, Links::Refuse)?);
        }
        let directory = match directory {
            Some(directory) => directory,
            None => self.find_directly(&here)?,
        };
        Ok(Some(Reached { path: here, directory, made, cut_off }))
    }
}

/// Iterates over the names on a path, with those of the links on it.
pub(super) struct Walk<'a> {
    path: &'a Path,
    left: VecDeque<OsString>,
    steps: usize,
    links: usize,
    /// Counts the steps with those of the whole image.
    work: Option<&'a Work>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(path: &'a Path, work: Option<&'a Work>) -> Self {
        Self { path, left: parts(path).collect(), steps: 0, links: 0, work }
    }

    /// The next name, or `..`.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<OsString>> {
        self.steps += 1;
        ensure!(
            self.steps <= STEPS_LIMIT,
            "resolving `{}` takes more than {STEPS_LIMIT} steps",
            self.path.display()
        );
        self.take(1)?;
        Ok(self.left.pop_front())
    }

    /// Whether the last name was returned.
    pub(super) fn is_at_end(&self) -> bool {
        self.left.is_empty()
    }

    /// Continues with the target of a link; returns whether that is an absolute path.
    pub(super) fn follow(&mut self, target: &Path) -> anyhow::Result<bool> {
        self.links += 1;
        ensure!(self.links <= LINKS_LIMIT, "too many symbolic links in `{}`", self.path.display());
        self.take(steps_of_path(target.as_os_str().len()))?;
        parts(target).rev().for_each(|part| self.left.push_front(part));
        Ok(target.is_absolute())
    }

    fn take(&self, steps: u64) -> anyhow::Result<()> {
        self.work.map_or(Ok(()), |work| work.take(steps))
    }
}

/// The names and `..` of a path, from left to right.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// The name of an entry as a path below the root. As in podman, `..` cancels the name before it, and cannot leave the
/// root.
pub(super) fn relative(name: &[u8]) -> anyhow::Result<PathBuf> {
    ensure!(
        name.len() <= NAME_LIMIT,
        "its name has {} bytes, more than the limit of {NAME_LIMIT}",
        name.len()
    );
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => ensure!(path.pop(), "its name leads out of the image"),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    check_depth(path.components().count())?;
    Ok(path)
}

/// Refuses a path that is too deep; `depth` is the number of its names.
pub(super) fn check_depth(depth: usize) -> anyhow::Result<()> {
    ensure!(
        depth <= DEPTH_LIMIT,
        "it is {depth} directories deep with links resolved, more than the limit of {DEPTH_LIMIT}"
    );
    Ok(())
}

/// Creates a directory with the mode that it has during unpacking.
pub(super) fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    mkdirat(parent, name, MODE_MEANWHILE)
}

/// Creates overlayfs' whiteout: it hides `name` in the lower layers.
pub(super) fn make_whiteout(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Makes a directory opaque: it hides the content that lower layers have in it.
pub(crate) fn make_opaque(directory: BorrowedFd<'_>) -> anyhow::Result<()> {
    fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty()).context("cannot hide the lower directory")
}

/// Whether a directory is opaque.
pub(crate) fn is_opaque(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut value = [0; 1];
    match fgetxattr(directory, OPAQUE, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a directory transparent again, so that it is merged with those of lower layers.
pub(crate) fn make_transparent(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fremovexattr(directory, OPAQUE)
}

/// Opens a directory that is not a link.
pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

pub(crate) fn stat(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Stat>, Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        stat => stat.map(Some),
    }
}

pub(crate) fn kind(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Option<FileType>, Errno> {
    Ok(stat(parent, name)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
}

fn is_whiteout(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    stat(parent, name).is_ok_and(|stat| stat.is_some_and(|stat| is_stat_of_whiteout(&stat)))
}

/// Whether this is overlayfs' whiteout: a character device 0/0.
pub(crate) fn is_stat_of_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
