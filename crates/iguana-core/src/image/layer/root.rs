//! The folder that a layer is unpacked into. The kernel resolves every path inside it (openat2(2), `RESOLVE_IN_ROOT`),
//! so that neither `..` nor a link made by an earlier entry leads out.

use anyhow::{Context as _, bail, ensure};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags, fsetxattr, mkdirat, mknodat, open,
    openat, openat2, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

/// As many links are followed on one path: the kernel's own number (path_resolution(7)).
pub(super) const LINKS_LIMIT: usize = 40;
/// overlayfs' mark of a folder that hides those below it.
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// While the layer is unpacked nobody else looks at it. The folder's mode comes last.
const MODE_MEANWHILE: Mode = Mode::RWXU;

pub(super) struct Root(OwnedFd);

/// What became of the folders on the way.
pub(super) struct Reached {
    /// Below the root, without a link in it.
    pub(super) path: PathBuf,
    pub(super) folder: OwnedFd,
    /// Folders that had to be made.
    pub(super) made: Vec<PathBuf>,
    /// Those of them in whose place a whiteout was.
    pub(super) cut_off: Vec<PathBuf>,
}

impl Root {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(
            open(path, FOLDER, Mode::empty()).with_context(|| format!("cannot open `{}`", path.display()))?,
        ))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The folder at a path; links lead where they lead inside the root.
    pub(super) fn find(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open_inside(path, ResolveFlags::empty())
    }

    /// The folder at a path in which no link is.
    pub(super) fn find_directly(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open_inside(path, ResolveFlags::NO_SYMLINKS)
    }

    fn open_inside(&self, path: &Path, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV | more;
        openat2(&self.0, path, FOLDER, Mode::empty(), inside)
    }

    /// The folder at a path, made with those above it where they are missing, also at the end of links that lead to
    /// nothing: what they lead to may be in a layer below.
    pub(super) fn reach(&self, path: &Path) -> anyhow::Result<Reached> {
        let (mut made, mut cut_off) = (Vec::new(), Vec::new());
        if let Ok(folder) = self.find_directly(path) {
            return Ok(Reached { path: path.to_owned(), folder, made, cut_off });
        }
        let mut left: VecDeque<OsString> = parts(path).collect();
        let mut here = PathBuf::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            match self.kind(&next)? {
                Some(FileType::Directory) => here = next,
                Some(FileType::Symlink) => {
                    links += 1;
                    ensure!(links <= LINKS_LIMIT, "`{}` leads through too many links", path.display());
                    let target = OsString::from_vec(readlinkat(&self.0, &next, Vec::new())?.into_bytes());
                    let target = Path::new(&target);
                    if target.is_absolute() {
                        here = PathBuf::new();
                    }
                    for part in parts(target).rev() {
                        left.push_front(part);
                    }
                }
                None => {
                    mkdirat(&self.0, &next, MODE_MEANWHILE)?;
                    made.push(next.clone());
                    here = next;
                }
                Some(FileType::CharacterDevice) if is_whiteout(self.as_fd(), next.as_os_str()) => {
                    unlinkat(&self.0, &next, AtFlags::empty())?;
                    mkdirat(&self.0, &next, MODE_MEANWHILE)?;
                    make_opaque(self.find_directly(&next)?.as_fd())?;
                    cut_off.push(next.clone());
                    here = next;
                }
                Some(_) => bail!("`{}` is no folder", next.display()),
            }
        }
        let folder = self.find_directly(&here)?;
        Ok(Reached { path: here, folder, made, cut_off })
    }

    fn kind(&self, path: &Path) -> Result<Option<FileType>, Errno> {
        kind(self.as_fd(), path.as_os_str())
    }
}

/// Names and `..`, from left to right.
pub(super) fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// An entry's name as a path below the root. As with podman, `..` takes back a name before it, and no more.
pub(super) fn relative(name: &[u8]) -> anyhow::Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => ensure!(path.pop(), "its name leads out of the image"),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(path)
}

/// Makes a folder for the layer's time of being unpacked.
pub(super) fn make_folder(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    mkdirat(parent, name, MODE_MEANWHILE)
}

/// Says that `name` is not there in the layers below.
pub(super) fn make_whiteout(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Hides what the layers below have in this folder.
pub(super) fn make_opaque(folder: BorrowedFd<'_>) -> anyhow::Result<()> {
    fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty()).context("cannot hide what is below it")
}

/// A folder that is no link.
pub(super) fn open_folder(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
}

pub(super) fn stat(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Stat>, Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        stat => stat.map(Some),
    }
}

pub(super) fn kind(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Option<FileType>, Errno> {
    Ok(stat(parent, name)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
}

pub(super) fn is_whiteout(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    let is_zero =
        |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0;
    stat(parent, name).is_ok_and(|stat| stat.is_some_and(is_zero))
}

/// Removes a name and, if it is a folder, all below it. However deep it is, only one folder is open at a time.
pub(super) fn remove(root: BorrowedFd<'_>, path: &Path) -> anyhow::Result<()> {
    if kind(root, path.as_os_str())? != Some(FileType::Directory) {
        return Ok(unlinkat(root, path, AtFlags::empty())?);
    }
    for name in names(root, path)? {
        remove(root, &path.join(name))?;
    }
    Ok(unlinkat(root, path, AtFlags::REMOVEDIR)?)
}

fn names(root: BorrowedFd<'_>, path: &Path) -> anyhow::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(open_folder(root, path.as_os_str())?)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}
