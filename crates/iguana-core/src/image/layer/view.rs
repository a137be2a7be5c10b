//! What is seen of layers that lie on each other, by overlayfs' rules.

use super::Ties;
use super::root::{LINKS_LIMIT, OPAQUE, parts};
use anyhow::ensure;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// One of the layers.
#[derive(Clone, Copy)]
pub(super) struct Sheet<'a> {
    pub(super) folder: &'a Path,
    pub(super) ties: &'a Ties,
}

/// Layers on each other, the lowest first.
pub(super) struct View<'a>(pub(super) Vec<Sheet<'a>>);

/// What is seen at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// A folder: the numbers of the layers that have it, the topmost first.
    Folder(Vec<usize>),
    /// A link, the layer that has it, and where it leads.
    Link(usize, PathBuf),
    /// Something else, and the layer that has it.
    Other(usize),
}

impl View<'_> {
    /// What a path leads to, and where that is. Links in it are followed, the last one only if it is asked for.
    pub(super) fn find(&self, path: &Path, follows_last: bool) -> anyhow::Result<(PathBuf, Seen)> {
        let mut left: VecDeque<OsString> = parts(path).collect();
        let mut trail = vec![(PathBuf::new(), self.root()?)];
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            let (here, folders) = trail.last().expect("the root is never left");
            if name == ".." {
                trail.truncate((trail.len() - 1).max(1));
                continue;
            }
            let next = here.join(&name);
            match self.step(folders, &next)? {
                Seen::Folder(folders) => trail.push((next, folders)),
                Seen::Link(_, target) if follows_last || !left.is_empty() => {
                    links += 1;
                    ensure!(links <= LINKS_LIMIT, "`{}` leads through too many links", path.display());
                    if target.is_absolute() {
                        trail.truncate(1);
                    }
                    parts(&target).rev().for_each(|part| left.push_front(part));
                }
                // It may be made, with what is to be in it.
                Seen::Nothing => trail.push((next, Vec::new())),
                seen => return Ok((next, seen)),
            }
        }
        let (path, folders) = trail.pop().expect("the root is never left");
        Ok((path, if folders.is_empty() { Seen::Nothing } else { Seen::Folder(folders) }))
    }

    fn root(&self) -> io::Result<Vec<usize>> {
        let mut folders = Vec::new();
        for number in (0..self.0.len()).rev() {
            folders.push(number);
            if is_opaque(self.0[number].folder)? {
                break;
            }
        }
        Ok(folders)
    }

    /// What is seen at a path in a folder that these layers have. A folder without an entry hides no link.
    fn step(&self, layers: &[usize], path: &Path) -> io::Result<Seen> {
        let mut folders = Vec::new();
        let mut may_be_link = true;
        let mut is_hidden = false;
        for &number in layers {
            let sheet = &self.0[number];
            let Some(found) = metadata(&sheet.folder.join(path))? else { continue };
            let is_tied = sheet.ties.folders.contains(path);
            if is_whiteout(&found) {
                break;
            } else if found.is_dir() && !is_hidden {
                folders.push(number);
                may_be_link &= is_tied;
                is_hidden = is_opaque(&sheet.folder.join(path))?;
            } else if found.is_symlink() && may_be_link {
                return Ok(Seen::Link(number, fs::read_link(sheet.folder.join(path))?));
            } else if folders.is_empty() {
                return Ok(Seen::Other(number));
            } else {
                break;
            }
            if is_hidden && !may_be_link {
                break;
            }
        }
        Ok(if folders.is_empty() { Seen::Nothing } else { Seen::Folder(folders) })
    }
}

pub(super) fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

pub(super) fn is_whiteout(found: &Metadata) -> bool {
    found.file_type().is_char_device() && found.rdev() == 0
}

pub(super) fn is_opaque(folder: &Path) -> io::Result<bool> {
    let mut value = [0; 1];
    match rustix::fs::lgetxattr(folder, OPAQUE, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
