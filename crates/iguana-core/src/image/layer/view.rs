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

/// A folder that layers have in one place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folder {
    /// Those whose content is seen, the topmost first.
    pub(super) layers: Vec<usize>,
    /// The topmost that has an entry for it, which may be below one that hides the content of others.
    pub(super) described_by: Option<usize>,
}

/// What is seen at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    Folder(Folder),
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
            let (here, folder) = trail.last().expect("the root is never left");
            if name == ".." {
                trail.truncate((trail.len() - 1).max(1));
                continue;
            }
            let next = here.join(&name);
            match self.step(&folder.layers, &next)? {
                Seen::Folder(folder) => trail.push((next, folder)),
                Seen::Link(_, target) if follows_last || !left.is_empty() => {
                    links += 1;
                    ensure!(links <= LINKS_LIMIT, "`{}` leads through too many links", path.display());
                    if target.is_absolute() {
                        trail.truncate(1);
                    }
                    parts(&target).rev().for_each(|part| left.push_front(part));
                }
                // It may be made, with what is to be in it.
                Seen::Nothing => trail.push((next, Folder::default())),
                seen => return Ok((next, seen)),
            }
        }
        let (path, folder) = trail.pop().expect("the root is never left");
        Ok((path, if folder.layers.is_empty() { Seen::Nothing } else { Seen::Folder(folder) }))
    }

    fn root(&self) -> io::Result<Folder> {
        self.step(&(0..self.0.len()).rev().collect::<Vec<_>>(), Path::new("")).map(|seen| match seen {
            Seen::Folder(folder) => folder,
            _ => Folder::default(),
        })
    }

    /// What is seen at a path in a folder that these layers have. A folder without an entry hides no link.
    fn step(&self, layers: &[usize], path: &Path) -> io::Result<Seen> {
        let mut seen = Folder::default();
        let mut is_opaque_so_far = false;
        for &number in layers {
            let sheet = &self.0[number];
            let place = sheet.folder.join(path);
            let Some(found) = metadata(&place)? else { continue };
            if found.is_dir() {
                if !is_opaque_so_far {
                    seen.layers.push(number);
                    is_opaque_so_far = is_opaque(&place)?;
                }
                if seen.described_by.is_none() && !sheet.ties.folders.contains(path) {
                    seen.described_by = Some(number);
                }
            } else if found.is_symlink() {
                return Ok(match seen {
                    Folder { described_by: None, .. } => Seen::Link(number, fs::read_link(place)?),
                    seen => Seen::Folder(seen),
                });
            } else if seen.layers.is_empty() && !is_whiteout(&found) {
                return Ok(Seen::Other(number));
            } else {
                break;
            }
            if is_opaque_so_far && seen.described_by.is_some() {
                break;
            }
        }
        Ok(if seen.layers.is_empty() { Seen::Nothing } else { Seen::Folder(seen) })
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
