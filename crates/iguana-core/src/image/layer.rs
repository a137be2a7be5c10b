//! Unpacks one layer into a folder of its own, whiteouts as overlayfs wants them
//! (OCI image-spec, layer.md; Linux `Documentation/filesystems/overlayfs.rst`).
//!
//! The `tar` crate only parses. Every path is resolved by the kernel inside the layer's root
//! (openat2(2), `RESOLVE_IN_ROOT`), so that neither `..` nor a link made by an earlier entry leads out.

use anyhow::{Context as _, bail, ensure};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, open, openat, openat2,
    statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// Prefix of a file that says that its namesake in the layers below is gone (layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// A file that says that the layers below have nothing in this folder (layer.md, "Opaque Whiteout").
const OPAQUE: &[u8] = b".wh..wh..opq";
/// PAX records with this prefix are extended attributes, as GNU tar and Go's archive/tar write them.
const PAX_XATTR: &str = "SCHILY.xattr.";
/// Bytes moved from the archive to a file at once; larger ones gained nothing on tmpfs.
const BLOCK: usize = 128 << 10;

/// Unpacks an uncompressed tar stream into `root`, which must be an empty folder.
///
/// Sockets and unknown kinds of entries are passed over. The whole stream is read, also behind
/// the end-of-archive mark, so that the caller's digest covers all of it.
///
/// # Errors
/// When the archive is damaged, an entry points outside, or the folder's file system refuses.
pub fn unpack(archive: impl Read, root: &Path) -> anyhow::Result<()> {
    let folder = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open `{}`", root.display()))?;
    let mut layer = Unpacker { root: folder, parent: None, folder_times: Vec::new(), buffer: vec![0; BLOCK] };
    let position = Cell::new(0);
    let mut archive = tar::Archive::new(Counted { inner: archive, position: &position });
    let mut content_end = 0;
    for entry in archive.entries().context("cannot read the archive")? {
        let mut entry = match entry {
            // umoci leaves out what should fill the last block, and GNU tar and podman read on.
            Err(_) if position.get() == content_end => break,
            entry => entry.context("the archive is damaged")?,
        };
        content_end = entry.raw_file_position() + entry.header().entry_size()?;
        let name = OsString::from_vec(entry.path_bytes().into_owned());
        layer.entry(&mut entry).with_context(|| format!("cannot unpack `{}`", name.display()))?;
    }
    io::copy(&mut archive.into_inner(), &mut io::sink()).context("cannot read the end of the archive")?;
    layer.set_folder_times()
}

/// Knows how far an archive has been read.
struct Counted<'a, R> {
    inner: R,
    position: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}

struct Unpacker {
    root: OwnedFd,
    /// The folder that the last entry was in: archives list a folder's files one after the other.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Set last, because filling a folder changes its time.
    folder_times: Vec<(PathBuf, Timespec)>,
    buffer: Vec<u8>,
}

impl Unpacker {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> anyhow::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        let path = relative(&entry.path_bytes())?;
        let meta = Metadata::of(entry)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else { return self.root_folder(&meta) };
        let parent = self.open_parent(path.parent().unwrap_or(Path::new("")))?;
        let parent = parent.as_fd();
        match name.as_bytes() {
            OPAQUE => return make_opaque(parent),
            bytes if bytes.starts_with(WHITEOUT) => return whiteout(parent, &bytes[WHITEOUT.len()..]),
            _ => {}
        }
        match kind {
            EntryType::Directory => self.folder(parent, &name, path, &meta),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(parent, &name, entry, &meta)
            }
            EntryType::Link => {
                let target = relative(&entry.link_name_bytes().context("a hard link without a target")?)?;
                self.hard_link(parent, &name, &target)
            }
            EntryType::Symlink => {
                let target =
                    entry.link_name_bytes().context("a symbolic link without a target")?.into_owned();
                self.replace(parent, &name, |parent| symlinkat(OsStr::from_bytes(&target), parent, &name))?;
                meta.apply_at(parent, &name)
            }
            EntryType::Char => {
                self.node(parent, &name, FileType::CharacterDevice, device(entry.header())?, &meta)
            }
            EntryType::Block => {
                self.node(parent, &name, FileType::BlockDevice, device(entry.header())?, &meta)
            }
            EntryType::Fifo => self.node(parent, &name, FileType::Fifo, 0, &meta),
            _ => Ok(()),
        }
    }

    /// The archive's `./`.
    fn root_folder(&mut self, meta: &Metadata) -> anyhow::Result<()> {
        let root =
            openat(&self.root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        self.folder_times.push((PathBuf::from("."), meta.mtime));
        meta.apply(root.as_fd())
    }

    fn folder(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: PathBuf,
        meta: &Metadata,
    ) -> anyhow::Result<()> {
        let hides_lower = is_whiteout(parent, name);
        match mkdirat(parent, name, Mode::RWXU) {
            Err(Errno::EXIST) if is_folder(parent, name)? => {}
            Err(Errno::EXIST) => self.replace(parent, name, |parent| mkdirat(parent, name, Mode::RWXU))?,
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(parent, name, flags, Mode::empty())?;
        if hides_lower {
            make_opaque(folder.as_fd())?;
        }
        meta.apply(folder.as_fd())?;
        self.folder_times.push((path, meta.mtime));
        Ok(())
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        content: &mut impl Read,
        meta: &Metadata,
    ) -> anyhow::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            self.replace(parent, name, |parent| openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot read its content"),
            };
            write_all(file.as_fd(), &self.buffer[..count]).context("cannot write it")?;
        }
        meta.apply(file.as_fd())?;
        Ok(futimens(&file, &meta.times())?)
    }

    fn node(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
        device: u64,
        meta: &Metadata,
    ) -> anyhow::Result<()> {
        self.replace(parent, name, |parent| mknodat(parent, name, kind, meta.mode, device))?;
        meta.apply_at(parent, name)?;
        // mknod(2) leaves out the bits of the umask.
        Ok(chmodat(parent, name, meta.mode, AtFlags::empty())?)
    }

    fn hard_link(&mut self, parent: BorrowedFd<'_>, name: &OsStr, target: &Path) -> anyhow::Result<()> {
        let missing = || format!("its hard link's target `{}` is not in this layer", target.display());
        let target_name = target.file_name().with_context(missing)?;
        let folder = self.resolve(target.parent().unwrap_or(Path::new(""))).with_context(missing)?;
        self.replace(parent, name, |parent| linkat(&folder, target_name, parent, name, AtFlags::empty()))
            .with_context(missing)
    }

    /// Makes something in the place of whatever has that name already: in an archive the last entry wins.
    fn replace<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> anyhow::Result<T> {
        match make(parent) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        // A path that went through the old thing may lead elsewhere from now on.
        self.parent = None;
        remove(parent, name)?;
        Ok(make(parent)?)
    }

    /// The folder `path`, made with its parents if the archive did not list it before.
    fn open_parent(&mut self, path: &Path) -> anyhow::Result<OwnedFd> {
        if let Some((known, folder)) = &self.parent
            && known == path
        {
            return Ok(folder.try_clone()?);
        }
        let folder = match self.resolve(path) {
            Err(Errno::NOENT) => {
                let above = self.open_parent(path.parent().unwrap_or(Path::new("")))?;
                let name = path.file_name().context("the layer's folder is gone")?;
                match mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => self.resolve(path)?,
                    Err(error) => return Err(error.into()),
                }
            }
            resolved => resolved?,
        };
        self.parent = Some((path.to_owned(), folder.try_clone()?));
        Ok(folder)
    }

    fn resolve(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, flags, Mode::empty(), inside)
    }

    fn set_folder_times(&self) -> anyhow::Result<()> {
        for (path, mtime) in &self.folder_times {
            match self.resolve(path) {
                Ok(folder) => futimens(&folder, &times(*mtime))?,
                // A later entry replaced the folder.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot date `{}`", path.display())),
            }
        }
        Ok(())
    }
}

/// What an entry says of itself besides its content.
struct Metadata {
    owner: Uid,
    group: Gid,
    mode: Mode,
    mtime: Timespec,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Metadata {
    fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> anyhow::Result<Self> {
        let mut mtime = Timespec { tv_sec: entry.header().mtime()?.try_into().unwrap_or(0), tv_nsec: 0 };
        let mut xattrs = Vec::new();
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                let extension = extension.context("a damaged PAX header")?;
                match extension.key().unwrap_or_default() {
                    "mtime" => mtime = parse_time(extension.value_bytes()).unwrap_or(mtime),
                    key if key.starts_with(PAX_XATTR) => {
                        xattrs.push((
                            OsString::from(&key[PAX_XATTR.len()..]),
                            extension.value_bytes().to_vec(),
                        ));
                    }
                    _ => {}
                }
            }
        }
        let header = entry.header();
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        Ok(Self {
            owner: Uid::from_raw(id(header.uid()?).context("an owner beyond 32 bits")?),
            group: Gid::from_raw(id(header.gid()?).context("a group beyond 32 bits")?),
            mode: Mode::from_raw_mode(header.mode()? & 0o7777),
            mtime,
            xattrs,
        })
    }

    fn times(&self) -> Timestamps {
        times(self.mtime)
    }

    /// Owner first: changing it clears the set-user-id bit and the capabilities.
    fn apply(&self, file: BorrowedFd<'_>) -> anyhow::Result<()> {
        fchown(file, Some(self.owner), Some(self.group)).context("cannot set its owner")?;
        fchmod(file, self.mode).context("cannot set its mode")?;
        for (name, value) in &self.xattrs {
            match fsetxattr(file, name, value, XattrFlags::empty()) {
                // tmpfs before Linux 6.6 has no `user.` attributes; podman drops them there, too.
                Err(Errno::OPNOTSUPP) => {}
                set => set.with_context(|| format!("cannot set its attribute `{}`", name.display()))?,
            }
        }
        Ok(())
    }

    /// For what must not be opened: links and special files.
    fn apply_at(&self, parent: BorrowedFd<'_>, name: &OsStr) -> anyhow::Result<()> {
        chownat(parent, name, Some(self.owner), Some(self.group), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(utimensat(parent, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn times(mtime: Timespec) -> Timestamps {
    Timestamps { last_access: mtime, last_modification: mtime }
}

/// A PAX time: decimal seconds since 1970, perhaps with a fraction.
fn parse_time(text: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Timespec { tv_sec: seconds.parse().ok()?, tv_nsec: nanoseconds.parse().ok()? })
}

/// An entry's name as a path below the root.
fn relative(name: &[u8]) -> anyhow::Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => bail!("its name leads out of the image"),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(path)
}

fn device(header: &tar::Header) -> anyhow::Result<u64> {
    Ok(makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
}

/// Says that `gone` is not there any more in the layers below. What this layer itself has under that name
/// stays (layer.md: whiteouts "MUST only apply to resources in lower/parent layers").
fn whiteout(parent: BorrowedFd<'_>, gone: &[u8]) -> anyhow::Result<()> {
    ensure!(!matches!(gone, b"" | b"." | b".."), "a whiteout without a name");
    let gone = OsStr::from_bytes(gone);
    match mknodat(parent, gone, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::EXIST) if is_folder(parent, gone)? => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            make_opaque(openat(parent, gone, flags, Mode::empty())?.as_fd())
        }
        Err(Errno::EXIST) => Ok(()),
        made => Ok(made?),
    }
}

fn is_whiteout(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

/// Hides what the layers below have in this folder.
fn make_opaque(folder: BorrowedFd<'_>) -> anyhow::Result<()> {
    Ok(fsetxattr(folder, "trusted.overlay.opaque", b"y", XattrFlags::empty())?)
}

fn is_folder(parent: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Removes a name and, if it is a folder, all below it.
fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> anyhow::Result<()> {
    if !is_folder(parent, name)? {
        return Ok(unlinkat(parent, name, AtFlags::empty())?);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            remove(folder.as_fd(), name)?;
        }
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::write(file, bytes))?;
        bytes = &bytes[count..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

    struct Tar(tar::Builder<Vec<u8>>);

    impl Tar {
        fn new() -> Self {
            Self(tar::Builder::new(Vec::new()))
        }

        fn add(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
            let mut header = tar::Header::new_gnu();
            // Written raw: the builder itself refuses the names that an attacker would use.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            header.set_mode(if kind == EntryType::Directory { 0o750 } else { 0o4755 });
            header.set_mtime(1_000_000_000);
            header.set_uid(u64::from(rustix::process::getuid().as_raw()));
            header.set_gid(u64::from(rustix::process::getgid().as_raw()));
            header.set_cksum();
            self.0.append(&header, content).unwrap();
            self
        }

        fn file(self, name: &str, content: &str) -> Self {
            self.add(EntryType::Regular, name, "", content.as_bytes())
        }

        fn unpack(self) -> (tempfile::TempDir, anyhow::Result<()>) {
            let outer = tempfile::tempdir().unwrap();
            fs::write(outer.path().join("victim"), "safe").unwrap();
            let root = outer.path().join("root");
            fs::create_dir(&root).unwrap();
            let done = unpack(&self.0.into_inner().unwrap()[..], &root);
            assert_eq!(fs::read_to_string(outer.path().join("victim")).unwrap(), "safe");
            assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2, "something was made outside");
            (outer, done)
        }
    }

    #[test]
    fn files_folders_and_links_keep_what_they_are() {
        let (outer, done) = Tar::new()
            .file("late/made/file", "hello")
            .add(EntryType::Directory, "./late/", "", b"")
            .add(EntryType::Symlink, "soft", "late/made", b"")
            .add(EntryType::Link, "hard", "./late/made/file", b"")
            .add(EntryType::Fifo, "pipe", "", b"")
            .unpack();
        done.unwrap();
        let root = outer.path().join("root");
        let file = fs::metadata(root.join("late/made/file")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.mtime(), file.nlink()), (0o4755, 1_000_000_000, 2));
        let folder = fs::metadata(root.join("late")).unwrap();
        assert_eq!((folder.mode() & 0o7777, folder.mtime()), (0o750, 1_000_000_000));
        assert_eq!(fs::read_to_string(root.join("soft/file")).unwrap(), "hello");
        assert!(fs::symlink_metadata(root.join("pipe")).unwrap().file_type().is_fifo());
    }

    #[test]
    fn the_last_entry_of_a_name_wins() {
        let (outer, done) = Tar::new()
            .file("a/b/c", "folder")
            .file("a", "file")
            .add(EntryType::Directory, "f", "", b"")
            .file("f/x", "1")
            .file("f/x", "2")
            .unpack();
        done.unwrap();
        let root = outer.path().join("root");
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "file");
        assert_eq!(fs::read_to_string(root.join("f/x")).unwrap(), "2");
    }

    #[test]
    fn links_do_not_lead_out() {
        let (outer, done) = Tar::new()
            .add(EntryType::Symlink, "out", "../..", b"")
            .file("out/victim", "changed")
            .add(EntryType::Directory, "etc", "", b"")
            .add(EntryType::Symlink, "abs", "/etc", b"")
            .file("abs/made", "inside")
            .unpack();
        done.unwrap();
        assert_eq!(fs::read_to_string(outer.path().join("root/etc/made")).unwrap(), "inside");
        let (_, done) = Tar::new().file("../victim", "changed").unpack();
        assert!(format!("{:#}", done.unwrap_err()).contains("leads out"));
        let (_, done) = Tar::new().add(EntryType::Link, "x", "../victim", b"").unpack();
        assert!(done.is_err());
        for name in [".wh.", ".wh..", ".wh..."] {
            let (_, done) = Tar::new().file(name, "").unpack();
            assert!(format!("{:#}", done.unwrap_err()).contains("without a name"), "{name}");
        }
    }

    #[test]
    fn whiteouts_become_overlays_own() {
        if !rustix::process::getuid().is_root() {
            return; // Device nodes and trusted attributes are root's alone.
        }
        let (outer, done) = Tar::new()
            .file("d/.wh.gone", "")
            .file("d/.wh..wh..opq", "")
            .file("own/file", "kept")
            .file(".wh.own", "")
            .file(".wh.new", "")
            .add(EntryType::Directory, "new", "", b"")
            .unpack();
        done.unwrap();
        let root = outer.path().join("root");
        let gone = fs::symlink_metadata(root.join("d/gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        let mut value = [0; 8];
        for folder in ["d", "own", "new"] {
            let path = root.join(folder);
            let length = rustix::fs::getxattr(path, "trusted.overlay.opaque", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"y", "{folder}");
        }
        assert_eq!(fs::read_to_string(root.join("own/file")).unwrap(), "kept");
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let mut bytes = Tar::new().file("a", "hello").0.into_inner().unwrap();
        bytes.truncate(514);
        let root = tempfile::tempdir().unwrap();
        assert!(unpack(&bytes[..], root.path()).is_err());
    }

    #[test]
    fn an_archive_may_end_with_its_last_byte() {
        let mut bytes = Tar::new().file("a", "hello").0.into_inner().unwrap();
        bytes.truncate(517);
        let root = tempfile::tempdir().unwrap();
        unpack(&bytes[..], root.path()).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("a")).unwrap(), "hello");
    }

    #[test]
    fn pax_times_have_fractions() {
        let time = parse_time(b"1700000000.25").unwrap();
        assert_eq!((time.tv_sec, time.tv_nsec), (1_700_000_000, 250_000_000));
        assert_eq!(parse_time(b"5").unwrap().tv_nsec, 0);
        assert!(parse_time(b"x").is_none());
    }
}
