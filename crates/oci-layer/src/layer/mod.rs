//! Unpacks one layer into a directory of its own, with the whiteouts of overlayfs (OCI image-spec, layer.md; Linux
//! `Documentation/filesystems/overlayfs.rst`).
//!
//! A layer is unpacked independently of lower ones, because it is the same in every image. Whatever depends on them is
//! recorded as its [`LowerDependencies`], and resolved when an image is assembled.

mod archive;
mod assembly;
mod fit;
mod links;
mod memory;
mod metadata;
mod pax;
pub(super) mod root;
mod sparse;
#[cfg(test)]
mod tests;
mod view;
mod work;

pub use assembly::ASSEMBLY_TIME_LIMIT;
pub use assembly::assemble;
pub use assembly::take_after;
pub use work::Work;

use super::store::{Layer, Store};
use anyhow::{Context as _, bail, ensure};
use archive::{Archive, ArchiveEntry, EntryKind};
use memory::Memory;
use metadata::{Maker, Metadata};
use oci_reference::digest::Digest;
use root::{Purpose, Root, kind, make_opaque, make_whiteout, open_directory, relative, stat};
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fchmod, fstatvfs, ftruncate, linkat, makedev, mknodat, openat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{BufRead, ErrorKind};
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use untrusted_fs::{Cause, Directory, remove_access_lists};
use work::steps_of_path;

/// Prefix of a file that hides its namesake in the lower layers (layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// A file that hides everything that the lower layers have in its directory (layer.md, "Opaque Whiteout").
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of the internal files of AUFS, where the names of whiteouts come from; engines ignore them.
const OF_AUFS: &[u8] = b".wh..wh.";

/// Entries of a layer. Each has at least a header and costs some system calls; usual layers have less than a tenth of
/// it.
pub(super) const ENTRIES_LIMIT: u64 = 4_000_000;

/// Bytes of the headers of an entry with an extension: two headers, and the extension's content.
const BYTES_OF_HEADERS: u64 = 3 * archive::BLOCK as u64;

/// The parts of a layer that depend on the layers below it. Paths are below the layer's root and contain no links.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LowerDependencies {
    /// Directories without an entry, made because an entry is inside them. A lower layer may have a directory there,
    /// whose owner, mode and time must stay, or a link to the place where the content belongs.
    pub directories: BTreeSet<PathBuf>,
    /// Those of them that contain only whiteouts and opaque whiteouts. Where the lower layers have no such directory
    /// they hide nothing, and are not part of the image.
    pub hollow: BTreeSet<PathBuf>,
    /// Directories without an entry that hide everything of the lower layers at their path.
    pub cut_off: BTreeSet<PathBuf>,
    /// Directories with whiteouts in them. Where the lower layers have no such directory these hide nothing, and
    /// overlayfs would list their names.
    pub marked: BTreeSet<PathBuf>,
    /// Hard links whose targets are not in this layer, with the targets.
    pub links: Vec<(PathBuf, PathBuf)>,
}

impl LowerDependencies {
    /// The approximate memory that they take, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let sets = [&self.directories, &self.hollow, &self.cut_off, &self.marked].into_iter().flatten();
        let links = self.links.iter().flat_map(|(path, target)| [path, target]);
        sets.chain(links).map(|path| path.as_os_str().len() + memory::OF_EACH).sum()
    }
}

/// Unpacks uncompressed layers, the lowest first, and assembles them. Nothing proves that their content was signed or
/// requested: no image is made of them, so they cannot be started.
///
/// # Errors
/// As [`unpack`], and when the layers do not fit together.
pub fn unpack_all(store: &Store, archives: &[&[u8]]) -> anyhow::Result<Vec<Arc<Layer>>> {
    let (mut unpacked, work) = (Vec::new(), Work::of_image());
    for archive in archives {
        let digest = Digest::of(archive);
        let layer = match store.find(&digest) {
            Some(known) => known,
            None => {
                let incoming = store.incoming()?;
                let lower_dependencies = unpack(*archive, incoming.directory(Path::new(""))?, &work)?;
                store.admit(digest, incoming, lower_dependencies)?
            }
        };
        unpacked.push((digest, layer));
    }
    assemble(store, unpacked)
}

/// Unpacks an uncompressed tar stream into `root`, which must be an empty directory. `work` is shared by all layers of
/// an image.
///
/// Sockets and unknown kinds of entries are skipped. The whole stream is read, even after the end-of-archive mark, so
/// that the caller's digest covers all of it.
///
/// # Errors
/// When the archive is damaged or longer than the file system has room, an entry leads outside or exceeds a limit
/// (`docs/limits.md`), or the directory's file system refuses.
pub fn unpack(mut archive: impl BufRead, root: Directory, work: &Work) -> anyhow::Result<LowerDependencies> {
    let mut layer = Unpacker::new(Root::new(root, work))?;
    let mut archive = Archive::new(&mut archive, layer.room()?, work);
    let mut entries = 0;
    while let Some(mut entry) = archive.next()? {
        let name = std::mem::take(&mut entry.name);
        entries += 1;
        let unpacked = check_count(entries)
            .and_then(|()| work.take(steps_of(&name, &entry)))
            .and_then(|()| layer.entry(&name, entry, &mut archive));
        unpacked.with_context(|| format!("cannot unpack `{}`", String::from_utf8_lossy(&name)))?;
    }
    archive.drain()?;
    layer.finish()
}

fn check_count(entries: u64) -> anyhow::Result<()> {
    ensure!(entries <= ENTRIES_LIMIT, "the layer has more than {ENTRIES_LIMIT} entries");
    Ok(())
}

/// The steps that an entry takes, besides those for its content and for links on its path.
fn steps_of(name: &[u8], entry: &ArchiveEntry) -> u64 {
    let pieces = entry.pieces.as_ref().map_or(0, Vec::len);
    1 + (entry.xattrs.len() + pieces) as u64 + steps_of_path(name.len() + entry.link.len())
}

struct Unpacker<'a> {
    root: Root<'a>,
    maker: Maker,
    /// The directory of the last entry, and its name in the archive: archives list the files of a directory one after
    /// the other.
    parent: Option<(PathBuf, Rc<OpenDirectory>)>,
    /// Their metadata is applied at the end, because filling a directory changes its time, and its mode may forbid
    /// that.
    directories: BTreeMap<PathBuf, DirectoryState>,
    /// Directories without an entry that contain only whiteouts and opaque whiteouts; their parents are hollow, or not
    /// in this set.
    hollow: BTreeSet<PathBuf>,
    /// Directories that contain whiteouts.
    marked: BTreeSet<PathBuf>,
    /// Hard links whose targets do not exist yet.
    links: BTreeMap<PathBuf, PathBuf>,
    /// The memory that all these take.
    memory: Memory,
}

/// A directory of the layer.
struct OpenDirectory {
    /// Below the root, without links.
    path: PathBuf,
    directory: Directory,
}

/// The origin of a directory's metadata.
enum DirectoryState {
    /// It has an entry.
    Described(Metadata),
    /// It has no entry.
    Implied,
    /// It has no entry, and hides everything of the lower layers at its path.
    CutOff,
}

impl<'a> Unpacker<'a> {
    fn new(root: Root<'a>) -> anyhow::Result<Self> {
        // New files must not inherit properties of a directory that existed before.
        remove_access_lists(root.as_fd()).context("cannot remove the directory's access control lists")?;
        fchmod(root.as_fd(), Mode::RWXU).context("cannot set the directory's mode")?;
        let directories = BTreeMap::from([(PathBuf::new(), DirectoryState::Implied)]);
        Ok(Self {
            root,
            maker: Maker::this(),
            parent: None,
            directories,
            hollow: BTreeSet::new(),
            marked: BTreeSet::new(),
            links: BTreeMap::new(),
            memory: Memory::for_unpacking(),
        })
    }

    /// The longest archive that is read: a longer one cannot fit, and may be endless.
    fn room(&self) -> anyhow::Result<u64> {
        let system = fstatvfs(self.root.as_fd())?;
        let content = system.f_blocks.saturating_mul(system.f_frsize);
        let headers = system.f_files.saturating_mul(BYTES_OF_HEADERS);
        Ok(if content == 0 { u64::MAX } else { content.saturating_add(headers) })
    }

    fn entry(
        &mut self,
        name: &[u8],
        mut entry: ArchiveEntry,
        archive: &mut Archive<'_>,
    ) -> anyhow::Result<()> {
        if entry.kind == EntryKind::Other {
            return Ok(());
        }
        let path = relative(name)?;
        let Some(name) = path.file_name() else {
            ensure!(entry.kind == EntryKind::Directory, "the image's root is not a directory");
            return self.describe(PathBuf::new(), Metadata::of(&mut entry)?);
        };
        let above = path.parent().unwrap_or(Path::new(""));
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.mark(above, name.as_bytes());
        }
        let meta = Metadata::of(&mut entry)?;
        let Some(place) = self.enter(above, Purpose::Content)? else { return Ok(()) };
        fill(&mut self.hollow, &place.path);
        self.make(&place, name, &entry, archive, meta)
    }

    fn make(
        &mut self,
        place: &OpenDirectory,
        name: &OsStr,
        entry: &ArchiveEntry,
        archive: &mut Archive<'_>,
        meta: Metadata,
    ) -> anyhow::Result<()> {
        // The last entry of a name wins, also over a hard link that is still waiting for its target.
        if !self.links.is_empty() {
            self.links.remove(&place.path.join(name));
        }
        match entry.kind {
            EntryKind::Directory => self.directory(place, name, meta),
            EntryKind::File => self.file(place, name, entry, archive, &meta),
            EntryKind::HardLink => {
                let target = relative(&entry.link).context("the target of a hard link")?;
                if self.hard_link(place, name, &target)? {
                    return Ok(());
                }
                let path = place.path.join(name);
                self.memory.take(path.as_os_str().len() + target.as_os_str().len())?;
                self.links.insert(path, target);
                Ok(())
            }
            EntryKind::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.replace(place, name, |parent| symlinkat(target, parent, name))?;
                meta.apply_at(place.directory.as_fd(), name, FileType::Symlink, &self.maker)
            }
            EntryKind::CharacterDevice => self.node(place, name, FileType::CharacterDevice, entry, &meta),
            EntryKind::BlockDevice => self.node(place, name, FileType::BlockDevice, entry, &meta),
            EntryKind::Fifo => self.node(place, name, FileType::Fifo, entry, &meta),
            EntryKind::Other => Ok(()),
        }
    }

    /// Handles a whiteout, an opaque whiteout, or an internal file of AUFS.
    fn mark(&mut self, above: &Path, name: &[u8]) -> anyhow::Result<()> {
        let gone = &name[WHITEOUT.len()..];
        ensure!(!matches!(gone, b"" | b"." | b".."), "a whiteout without a name");
        if name.starts_with(OF_AUFS) && name != OPAQUE {
            return Ok(());
        }
        let Some(place) = self.enter(above, Purpose::Whiteout)? else { return Ok(()) };
        if name == OPAQUE { make_opaque(place.directory.as_fd()) } else { self.whiteout(&place, gone) }
    }

    /// The directory of that name, created with its parents if the archive has not listed it before. `None` for a
    /// whiteout that has nothing to hide.
    fn enter(&mut self, path: &Path, purpose: Purpose) -> anyhow::Result<Option<Rc<OpenDirectory>>> {
        if let Some((known, place)) = &self.parent
            && known == path
        {
            return Ok(Some(Rc::clone(place)));
        }
        let Some(reached) = self.root.reach(path, purpose)? else { return Ok(None) };
        root::check_depth(reached.path.components().count() + 1)?;
        let first = reached.made.first().into_iter().chain(&reached.cut_off).filter_map(|path| path.parent());
        if purpose == Purpose::Content {
            first.for_each(|above| fill(&mut self.hollow, above));
        }
        for path in reached.made {
            self.memory.take(path.as_os_str().len())?;
            if purpose == Purpose::Whiteout {
                self.memory.take(path.as_os_str().len())?;
                self.hollow.insert(path.clone());
            }
            self.directories.insert(path, DirectoryState::Implied);
        }
        for path in reached.cut_off {
            self.memory.take(path.as_os_str().len())?;
            self.directories.insert(path, DirectoryState::CutOff);
        }
        let place = Rc::new(OpenDirectory { path: reached.path, directory: reached.directory });
        self.parent = Some((path.to_owned(), Rc::clone(&place)));
        Ok(Some(place))
    }

    /// Records the metadata in the entry of a directory.
    fn describe(&mut self, path: PathBuf, meta: Metadata) -> anyhow::Result<()> {
        self.memory.take(path.as_os_str().len() + meta.memory())?;
        self.hollow.remove(&path);
        self.directories.insert(path, DirectoryState::Described(meta));
        Ok(())
    }

    fn directory(&mut self, place: &OpenDirectory, name: &OsStr, meta: Metadata) -> anyhow::Result<()> {
        let path = place.path.join(name);
        let parent = place.directory.as_fd();
        match root::make_directory(parent, name) {
            Err(Errno::EXIST) if kind(parent, name)? == Some(FileType::Directory) => {}
            Err(Errno::EXIST) => {
                self.replace(place, name, |parent| root::make_directory(parent, name))?;
                // What was there, whether a whiteout or a file, hides the lower layers.
                make_opaque(open_directory(parent, name)?.as_fd())?;
            }
            made => made?,
        }
        self.describe(path, meta)
    }

    fn file(
        &mut self,
        place: &OpenDirectory,
        name: &OsStr,
        entry: &ArchiveEntry,
        archive: &mut Archive<'_>,
        meta: &Metadata,
    ) -> anyhow::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            self.replace(place, name, |parent| openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        match &entry.pieces {
            None => copy(archive, file.as_fd(), 0, entry.size)?,
            Some(pieces) => {
                // Before the content, because there may be a hole at the end.
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
        place: &OpenDirectory,
        name: &OsStr,
        kind: FileType,
        entry: &ArchiveEntry,
        meta: &Metadata,
    ) -> anyhow::Result<()> {
        let device = makedev(entry.device.0, entry.device.1);
        self.replace(place, name, |parent| mknodat(parent, name, kind, meta.mode, device))?;
        meta.apply_at(place.directory.as_fd(), name, kind, &self.maker)
    }

    /// Makes a hard link; `false` if its target does not exist yet.
    fn hard_link(&mut self, place: &OpenDirectory, name: &OsStr, target: &Path) -> anyhow::Result<bool> {
        let Some(target_name) = target.file_name() else { bail!("a hard link to a directory") };
        let above = target.parent().unwrap_or(Path::new(""));
        let Some(directory) = self.root.find(above)? else { return Ok(false) };
        let Some(found) =
            stat(directory.as_fd(), target_name)?.filter(|stat| !root::is_stat_of_whiteout(stat))
        else {
            return Ok(false);
        };
        // A directory without an entry may turn out to be a link of a lower layer.
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            return Ok(false);
        }
        let is_itself =
            |known: rustix::fs::Stat| (known.st_dev, known.st_ino) == (found.st_dev, found.st_ino);
        if stat(place.directory.as_fd(), name)?.is_some_and(is_itself) {
            return Ok(true);
        }
        self.replace(place, name, |parent| linkat(&directory, target_name, parent, name, AtFlags::empty()))?;
        Ok(true)
    }

    /// Hides `gone` in the lower layers. An entry of this layer under that name stays (layer.md: whiteouts "MUST only
    /// apply to resources in lower/parent layers").
    fn whiteout(&mut self, place: &OpenDirectory, gone: &[u8]) -> anyhow::Result<()> {
        if !self.marked.contains(&place.path) {
            self.memory.take(place.path.as_os_str().len())?;
            self.marked.insert(place.path.clone());
        }
        let gone = OsStr::from_bytes(gone);
        let parent = place.directory.as_fd();
        match make_whiteout(parent, gone) {
            Err(Errno::EXIST) if kind(parent, gone)? == Some(FileType::Directory) => {
                let path = place.path.join(gone);
                if self.hollow.contains(&path) {
                    // The directory contains only whiteouts, for content that this whiteout hides as a whole.
                    return self.replace(place, gone, |parent| make_whiteout(parent, gone));
                }
                if let Some(directory @ DirectoryState::Implied) = self.directories.get_mut(&path) {
                    *directory = DirectoryState::CutOff;
                }
                make_opaque(open_directory(parent, gone)?.as_fd())
            }
            Err(Errno::EXIST) => Ok(()),
            made => Ok(made?),
        }
    }

    /// Creates something in place of an existing entry of that name: in an archive the last one wins.
    fn replace<T>(
        &mut self,
        place: &OpenDirectory,
        name: &OsStr,
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> anyhow::Result<T> {
        match make(place.directory.as_fd()) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        // A path through the replaced entry may lead elsewhere now.
        self.parent = None;
        match unlinkat(&place.directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {
                place.directory.remove(name)?;
                self.forget(&place.path.join(name));
            }
            removed => removed?,
        }
        Ok(make(place.directory.as_fd())?)
    }

    /// Forgets a directory that was removed, and everything below it.
    fn forget(&mut self, path: &Path) {
        let from = (Bound::Included(path), Bound::Unbounded);
        for gone in with_below(self.directories.range::<Path, _>(from).map(|(known, _)| known), path) {
            self.directories.remove(&gone);
            self.hollow.remove(&gone);
            self.marked.remove(&gone);
        }
        // A hard link at the path itself stays: the directory may have been made only for a whiteout, while the link
        // waits.
        let links = self.links.range::<Path, _>((Bound::Excluded(path), Bound::Unbounded));
        for gone in with_below(links.map(|(known, _)| known), path) {
            self.links.remove(&gone);
        }
    }

    /// Makes the hard links whose targets came later, and applies the metadata of directories.
    fn finish(mut self) -> anyhow::Result<LowerDependencies> {
        self.link_the_rest()?;
        let links = self.links.into_iter().collect();
        let mut lower_dependencies = LowerDependencies {
            hollow: self.hollow,
            marked: self.marked,
            links,
            ..LowerDependencies::default()
        };
        // Children first: the mode of a directory may forbid to enter it.
        for (path, directory) in self.directories.into_iter().rev() {
            let meta = match directory {
                DirectoryState::Described(meta) => meta,
                DirectoryState::CutOff => {
                    lower_dependencies.cut_off.insert(path.clone());
                    Metadata::unknown()
                }
                DirectoryState::Implied => {
                    lower_dependencies.directories.insert(path.clone());
                    Metadata::unknown()
                }
            };
            let opened = self.root.find_directly(&path).map_err(anyhow::Error::from);
            opened
                .and_then(|directory| meta.apply(directory.as_fd(), &self.maker))
                .with_context(|| format!("cannot unpack `{}`", path.display()))?;
        }
        Ok(lower_dependencies)
    }

    /// Makes the remaining hard links, of which one may lead to another.
    fn link_the_rest(&mut self) -> anyhow::Result<()> {
        let waiting = std::mem::take(&mut self.links).into_iter().collect();
        let left = links::make_all(waiting, |path, target| {
            let made = self.link_late(path, target);
            made.with_context(|| format!("cannot unpack `{}`", path.display()))
        })?;
        self.links.extend(left);
        Ok(())
    }

    /// Makes one of them; `false` if its target does not exist.
    fn link_late(&mut self, path: &Path, target: &Path) -> anyhow::Result<bool> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(true) };
        let place = match &self.parent {
            Some((known, place)) if known == above && place.path == above => Rc::clone(place),
            _ => match self.root.find_directly(above) {
                // Another link has replaced the directory.
                Err(error) if is_absent(&error) => return Ok(true),
                found => Rc::new(OpenDirectory { path: above.to_owned(), directory: found? }),
            },
        };
        self.parent = Some((above.to_owned(), Rc::clone(&place)));
        self.hard_link(&place, name, target)
    }
}

/// Notes that a directory contains more than whiteouts: then neither it nor its parents are hollow.
fn fill(hollow: &mut BTreeSet<PathBuf>, path: &Path) {
    // Only if there are any, as this runs for each entry.
    if !hollow.is_empty() {
        let _ = path.ancestors().try_for_each(|path| hollow.remove(path).then_some(()));
    }
}

/// Whether an error means that a path does not exist.
fn is_absent(error: &untrusted_fs::Error) -> bool {
    let Cause::Io(error) = error.cause() else { return false };
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Of sorted paths, the given one and those below it: they follow each other.
fn with_below<'a>(paths: impl Iterator<Item = &'a PathBuf>, path: &Path) -> Vec<PathBuf> {
    paths.take_while(|known| known.starts_with(path)).cloned().collect()
}

/// Copies `length` bytes of the entry's content to the file.
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
