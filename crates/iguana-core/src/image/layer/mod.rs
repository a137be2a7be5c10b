//! Unpacks one layer into a folder of its own, whiteouts as overlayfs wants them
//! (OCI image-spec, layer.md; Linux `Documentation/filesystems/overlayfs.rst`).
//!
//! A layer is unpacked without those below it, because it is the same in every image. What hangs on them is kept as
//! its [`Ties`], and found out when an image is put together.

mod archive;
mod assembly;
mod metadata;
mod pax;
mod root;
mod sparse;
#[cfg(test)]
mod tests;
mod view;

pub(super) use assembly::assemble;
pub use assembly::take_after;

use anyhow::{Context as _, bail, ensure};
use archive::{Archive, Entry, Kind};
use metadata::{Maker, Metadata};
use root::{Root, is_whiteout, kind, make_opaque, make_whiteout, open_folder, relative, stat};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fchmod, fremovexattr, fstatvfs, ftruncate, linkat, makedev, mknodat,
    openat, symlinkat,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Prefix of a file that says that its namesake in the layers below is gone (layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// A file that says that the layers below have nothing in this folder (layer.md, "Opaque Whiteout").
const OPAQUE: &[u8] = b".wh..wh..opq";
/// AUFS' own files, from which the names of whiteouts come; engines pass over them.
const OF_AUFS: &[u8] = b".wh..wh.";

/// Of an entry with an extension: two headers, and the extension's content.
const BYTES_OF_HEADERS: u64 = 3 * archive::BLOCK as u64;

/// Where what a layer holds depends on the layers below it. Paths are below the layer's root and without links in them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ties {
    /// Folders that were made because something in them was to be made: no entry says what they are. Below may be a
    /// folder, whose owner, mode and time are not to change, or a link, that leads to where their content belongs.
    pub folders: BTreeSet<PathBuf>,
    /// Hard links to what is not in this layer, and their targets.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// Unpacks an uncompressed tar stream into `root`, which must be an empty folder.
///
/// Sockets and unknown kinds of entries are passed over. The whole stream is read, also behind
/// the end-of-archive mark, so that the caller's digest covers all of it.
///
/// # Errors
/// When the archive is damaged or longer than the file system has room, an entry points outside, or the folder's file
/// system refuses.
pub fn unpack(mut archive: impl BufRead, root: &Path) -> anyhow::Result<Ties> {
    let mut layer = Unpacker::new(Root::open(root)?)?;
    let mut archive = Archive::new(&mut archive, layer.room()?);
    while let Some(mut entry) = archive.next()? {
        let name = std::mem::take(&mut entry.name);
        let unpacked = layer.entry(&name, entry, &mut archive);
        unpacked.with_context(|| format!("cannot unpack `{}`", String::from_utf8_lossy(&name)))?;
    }
    archive.drain()?;
    layer.finish()
}

struct Unpacker {
    root: Root,
    maker: Maker,
    /// The folder that the last entry was in, and by what name: archives list a folder's files one after the other.
    parent: Option<(PathBuf, Rc<Place>)>,
    /// Described last, because filling a folder changes its time, and its mode may forbid that.
    folders: BTreeMap<PathBuf, Folder>,
    links: Vec<PendingLink>,
}

/// A folder of the layer.
struct Place {
    /// Below the root, without links in it.
    path: PathBuf,
    folder: OwnedFd,
}

/// What is known of a folder.
enum Folder {
    /// What its entry says.
    Described(Metadata),
    /// It has no entry.
    Implied,
    /// It has no entry, and nothing below is seen in its place.
    CutOff,
}

/// A hard link whose target is not there yet.
struct PendingLink {
    path: PathBuf,
    target: PathBuf,
}

impl Unpacker {
    fn new(root: Root) -> anyhow::Result<Self> {
        // What is made must not take after a folder that was there before.
        fchmod(root.as_fd(), Mode::RWXU).context("cannot set the folder's mode")?;
        let _ = fremovexattr(root.as_fd(), "system.posix_acl_default");
        let folders = BTreeMap::from([(PathBuf::new(), Folder::Implied)]);
        Ok(Self { root, maker: Maker::this(), parent: None, folders, links: Vec::new() })
    }

    /// How long an archive may be: what is longer cannot fit, and may not end at all.
    fn room(&self) -> anyhow::Result<u64> {
        let system = fstatvfs(self.root.as_fd())?;
        let content = system.f_blocks.saturating_mul(system.f_frsize);
        let headers = system.f_files.saturating_mul(BYTES_OF_HEADERS);
        Ok(if content == 0 { u64::MAX } else { content.saturating_add(headers) })
    }

    fn entry(&mut self, name: &[u8], mut entry: Entry, archive: &mut Archive<'_>) -> anyhow::Result<()> {
        if entry.kind == Kind::Other {
            return Ok(());
        }
        let path = relative(name)?;
        let meta = Metadata::of(&mut entry);
        let Some(name) = path.file_name() else {
            ensure!(entry.kind == Kind::Folder, "the image's root is said to be no folder");
            self.folders.insert(PathBuf::new(), Folder::Described(meta));
            return Ok(());
        };
        let place = self.enter(path.parent().unwrap_or(Path::new("")))?;
        match name.as_bytes() {
            OPAQUE => return make_opaque(place.folder.as_fd()),
            bytes if bytes.starts_with(OF_AUFS) => return Ok(()),
            bytes if bytes.starts_with(WHITEOUT) => return self.whiteout(&place, &bytes[WHITEOUT.len()..]),
            _ => {}
        }
        match entry.kind {
            Kind::Folder => self.folder(&place, name, meta),
            Kind::File => self.file(&place, name, &entry, archive, &meta),
            Kind::HardLink => {
                let link = PendingLink { path: place.path.join(name), target: relative(&entry.link)? };
                if !self.hard_link(&place, &link)? {
                    self.links.push(link);
                }
                Ok(())
            }
            Kind::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.replace(&place, name, |parent| symlinkat(target, parent, name))?;
                meta.apply_at(place.folder.as_fd(), name, FileType::Symlink, &self.maker)
            }
            Kind::CharacterDevice => self.node(&place, name, FileType::CharacterDevice, &entry, &meta),
            Kind::BlockDevice => self.node(&place, name, FileType::BlockDevice, &entry, &meta),
            Kind::Fifo => self.node(&place, name, FileType::Fifo, &entry, &meta),
            Kind::Other => Ok(()),
        }
    }

    /// The folder of that name, made with its parents if the archive did not list it before.
    fn enter(&mut self, path: &Path) -> anyhow::Result<Rc<Place>> {
        if let Some((known, place)) = &self.parent
            && known == path
        {
            return Ok(Rc::clone(place));
        }
        let reached = self.root.reach(path)?;
        self.folders.extend(reached.made.into_iter().map(|path| (path, Folder::Implied)));
        self.folders.extend(reached.cut_off.into_iter().map(|path| (path, Folder::CutOff)));
        let place = Rc::new(Place { path: reached.path, folder: reached.folder });
        self.parent = Some((path.to_owned(), Rc::clone(&place)));
        Ok(place)
    }

    fn folder(&mut self, place: &Place, name: &OsStr, meta: Metadata) -> anyhow::Result<()> {
        let path = place.path.join(name);
        let parent = place.folder.as_fd();
        match root::make_folder(parent, name) {
            Err(Errno::EXIST) if kind(parent, name)? == Some(FileType::Directory) => {}
            Err(Errno::EXIST) => {
                self.replace(place, name, |parent| root::make_folder(parent, name))?;
                // What was there, a whiteout or something else, hides what is below.
                make_opaque(open_folder(parent, name)?.as_fd())?;
            }
            made => made?,
        }
        self.folders.insert(path, Folder::Described(meta));
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place,
        name: &OsStr,
        entry: &Entry,
        archive: &mut Archive<'_>,
        meta: &Metadata,
    ) -> anyhow::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            self.replace(place, name, |parent| openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        match &entry.pieces {
            None => copy(archive, file.as_fd(), 0, entry.size)?,
            Some(pieces) => {
                // First, because there may be a hole at the end.
                ftruncate(&file, entry.size).context("cannot set its size")?;
                pieces
                    .iter()
                    .try_for_each(|piece| copy(archive, file.as_fd(), piece.offset, piece.length))?;
            }
        }
        meta.apply(file.as_fd(), &self.maker)
    }

    fn node(
        &mut self,
        place: &Place,
        name: &OsStr,
        kind: FileType,
        entry: &Entry,
        meta: &Metadata,
    ) -> anyhow::Result<()> {
        let device = makedev(entry.device.0, entry.device.1);
        self.replace(place, name, |parent| mknodat(parent, name, kind, meta.mode, device))?;
        meta.apply_at(place.folder.as_fd(), name, kind, &self.maker)
    }

    /// False when what it links to is not there.
    fn hard_link(&mut self, place: &Place, link: &PendingLink) -> anyhow::Result<bool> {
        let (Some(target), Some(name)) = (link.target.file_name(), link.path.file_name()) else {
            bail!("a hard link to a folder");
        };
        let folder = match self.root.find(link.target.parent().unwrap_or(Path::new(""))) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            found => found?,
        };
        let Some(found) = stat(folder.as_fd(), target)?.filter(|_| !is_whiteout(folder.as_fd(), target))
        else {
            return Ok(false);
        };
        ensure!(FileType::from_raw_mode(found.st_mode) != FileType::Directory, "a hard link to a folder");
        let is_itself =
            |known: rustix::fs::Stat| (known.st_dev, known.st_ino) == (found.st_dev, found.st_ino);
        if stat(place.folder.as_fd(), name)?.is_some_and(is_itself) {
            return Ok(true);
        }
        self.replace(place, name, |parent| linkat(&folder, target, parent, name, AtFlags::empty()))?;
        Ok(true)
    }

    /// Says that `gone` is not there any more in the layers below. What this layer itself has under that name
    /// stays (layer.md: whiteouts "MUST only apply to resources in lower/parent layers").
    fn whiteout(&mut self, place: &Place, gone: &[u8]) -> anyhow::Result<()> {
        ensure!(!matches!(gone, b"" | b"." | b".."), "a whiteout without a name");
        let gone = OsStr::from_bytes(gone);
        let parent = place.folder.as_fd();
        match make_whiteout(parent, gone) {
            Err(Errno::EXIST) if kind(parent, gone)? == Some(FileType::Directory) => {
                let path = place.path.join(gone);
                if let Some(folder @ Folder::Implied) = self.folders.get_mut(&path) {
                    *folder = Folder::CutOff;
                }
                make_opaque(open_folder(parent, gone)?.as_fd())
            }
            Err(Errno::EXIST) => Ok(()),
            made => Ok(made?),
        }
    }

    /// Makes something in the place of whatever has that name already: in an archive the last entry wins.
    fn replace<T>(
        &mut self,
        place: &Place,
        name: &OsStr,
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> anyhow::Result<T> {
        match make(place.folder.as_fd()) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        // A path that went through the old thing may lead elsewhere from now on.
        self.parent = None;
        let path = place.path.join(name);
        root::remove(place.folder.as_fd(), Path::new(name))?;
        self.folders.retain(|folder, _| !folder.starts_with(&path));
        self.links.retain(|link| !link.path.starts_with(&path));
        Ok(make(place.folder.as_fd())?)
    }

    /// Makes the links whose targets came after them, and gives the folders what they are to have.
    fn finish(mut self) -> anyhow::Result<Ties> {
        self.link_the_rest()?;
        let mut ties = Ties::default();
        ties.links.extend(self.links.into_iter().map(|link| (link.path, link.target)));
        // Those in a folder before it: it may forbid to enter it.
        for (path, folder) in self.folders.into_iter().rev() {
            let meta = match folder {
                Folder::Described(meta) => meta,
                Folder::CutOff => Metadata::unknown(),
                Folder::Implied => {
                    ties.folders.insert(path.clone());
                    Metadata::unknown()
                }
            };
            let opened = self.root.find_directly(&path).map_err(anyhow::Error::from);
            opened
                .and_then(|folder| meta.apply(folder.as_fd(), &self.maker))
                .with_context(|| format!("cannot unpack `{}`", path.display()))?;
        }
        Ok(ties)
    }

    /// A link may lead to another that waits, too.
    fn link_the_rest(&mut self) -> anyhow::Result<()> {
        loop {
            let waiting = std::mem::take(&mut self.links);
            let before = waiting.len();
            for link in waiting {
                let parent = link.path.parent().unwrap_or(Path::new(""));
                let place = Place { path: parent.into(), folder: self.root.find_directly(parent)? };
                if !self.hard_link(&place, &link)? {
                    self.links.push(link);
                }
            }
            if self.links.len() == before {
                return Ok(());
            }
        }
    }
}

/// Moves `length` bytes of the entry's content to the file.
fn copy(archive: &mut Archive<'_>, file: BorrowedFd<'_>, offset: u64, length: u64) -> anyhow::Result<()> {
    let end = offset + length;
    let mut here = offset;
    while here < end {
        let bytes = archive.content().context("cannot read its content")?;
        let wanted = bytes.len().min(usize::try_from(end - here).unwrap_or(usize::MAX));
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, &bytes[..wanted], here));
        let written = written.context("cannot write it")?;
        archive.consume(written)?;
        here += written as u64;
    }
    Ok(())
}
