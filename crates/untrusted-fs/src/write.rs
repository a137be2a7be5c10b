//! Creates and replaces files where untrusted parties can write, too.

use crate::{Cause, Directory, Error, Links, Result};
use rustix::fd::AsFd;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fchmod, fremovexattr, fstat, fsync, mkdirat, mknodat,
    openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

const NEW: OFlags =
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The mode of a file while it is written: no other user may read it.
const MODE_MEANWHILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Names of a directory that are in memory at once while it is emptied: whoever filled it chose their number.
const NAMES_AT_ONCE: usize = 4096;
/// Random names that are tried before giving up because each one exists.
const TRIES: usize = 16;
/// Nested directories that are open at once while a tree is removed: each takes a descriptor (of 1,024, getrlimit(2))
/// and a stack frame. A tree may be deeper.
const DEPTH_AT_ONCE: usize = 64;
/// Passes over a tree that is deeper than that: enough for four million nested directories, which take gigabytes. A
/// process that keeps making directories cannot block the removal forever.
const ROUNDS_LIMIT: usize = 1 << 16;

/// Removes the access control lists of a directory: its own, and the one that new files in it would inherit (acl(5)).
///
/// # Errors
/// When the file system refuses; not when it knows no such lists.
pub fn remove_access_lists(directory: impl AsFd) -> std::result::Result<(), Errno> {
    for list in ["system.posix_acl_default", "system.posix_acl_access"] {
        match fremovexattr(&directory, list) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A new file with a random name, which is renamed when it is complete. It is removed when dropped before that.
#[derive(Debug)]
pub struct NewFile<'a> {
    directory: &'a Directory,
    temporary: String,
    file: File,
    is_placed: bool,
}

/// A new directory with a random name and mode 0700; removed with all its content when dropped.
#[derive(Debug)]
pub struct Scratch<'a> {
    parent: &'a Directory,
    name: String,
    directory: Directory,
}

impl Scratch<'_> {
    /// The directory that was created, even if its name belongs to another one by now.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // Ignored: another process may have moved it.
        let _ = self.parent.remove(&self.name);
    }
}

impl Directory {
    /// Creates a directory for incomplete content.
    ///
    /// # Errors
    /// When nothing can be created in this directory.
    pub fn scratch(&self) -> Result<Scratch<'_>> {
        let name = random_name();
        let directory = self.create_directory(&name, Mode::RWXU.bits())?;
        Ok(Scratch { parent: self, name, directory })
    }

    /// Moves an entry to a name in another directory of the same file system (rename(2)).
    ///
    /// # Errors
    /// When a name is not a single one, there is no such entry, or what has the new name cannot be replaced.
    pub fn move_to(&self, name: impl AsRef<OsStr>, to: &Self, new: impl AsRef<OsStr>) -> Result<()> {
        let (name, new) = (self.single(name.as_ref())?, to.single(new.as_ref())?);
        renameat(self, name, to, new).map_err(|errno| to.error(Path::new(new), errno))
    }

    /// Creates a file that must not exist yet, with exactly this mode, and opens it for reading and writing.
    ///
    /// # Errors
    /// When `name` is not a single name, exists already, or cannot be created.
    pub fn create(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<File> {
        let name = self.single(name.as_ref())?;
        let made = openat(self, name, NEW, MODE_MEANWHILE);
        let made = made.and_then(|file| fchmod(&file, Mode::from_raw_mode(mode)).map(|()| file));
        made.map(File::from).map_err(|errno| self.error(Path::new(name), errno))
    }

    /// Creates a FIFO that must not exist yet, with exactly this mode, and opens it for reading and writing: so neither
    /// this call nor a later writer waits for a reader. Reading and writing do not block (`O_NONBLOCK`).
    ///
    /// # Errors
    /// When `name` is not a single name, exists already, or cannot be created.
    pub fn create_fifo(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<File> {
        let name = self.single(name.as_ref())?;
        mknodat(self, name, FileType::Fifo, MODE_MEANWHILE, 0)
            .map_err(|errno| self.error(Path::new(name), errno))?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo =
            openat(self, name, flags, Mode::empty()).map_err(|errno| self.error(Path::new(name), errno))?;
        let stat = fstat(&fifo).map_err(|errno| self.error(Path::new(name), errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
            // Another process has put something in its place.
            return Err(self.error(Path::new(name), Errno::EXIST));
        }
        fchmod(&fifo, Mode::from_raw_mode(mode)).map_err(|errno| self.error(Path::new(name), errno))?;
        Ok(fifo.into())
    }

    /// Creates a directory that must not exist yet, with exactly this mode: it inherits no access control list (acl(5)) of
    /// this one, and passes none on.
    ///
    /// # Errors
    /// When `name` is not a single name, exists already, or cannot be created.
    pub fn create_directory(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self> {
        let name = self.single(name.as_ref())?;
        mkdirat(self, name, Mode::RWXU).map_err(|errno| self.error(Path::new(name), errno))?;
        let made = self.directory(name, Links::Refuse)?;
        let limited = remove_access_lists(&made).and_then(|()| fchmod(&made, Mode::from_raw_mode(mode)));
        limited.map_err(|errno| self.error(Path::new(name), errno))?;
        Ok(made)
    }

    /// Opens a directory, and creates it with this mode if it does not exist.
    ///
    /// # Errors
    /// When `name` is not a single name, is not a directory, or cannot be created.
    pub fn directory_or_new(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self> {
        let name = self.single(name.as_ref())?;
        match self.create_directory(name, mode) {
            Err(error) if error.is_already_there() => self.directory(name, Links::Refuse),
            made => made,
        }
    }

    /// Opens a directory below this one, and creates the missing components of its path, with this mode less the umask.
    ///
    /// # Errors
    /// When the path has a link that `links` refuses or that leads nowhere, a component is not a directory, or a
    /// directory cannot be created.
    pub fn make_directories(&self, path: impl AsRef<Path>, mode: u32, links: Links) -> Result<Self> {
        let mut reached = self.directory("", links)?;
        let mut so_far = PathBuf::new();
        for component in path.as_ref().components() {
            match component {
                Component::Prefix(_) | Component::RootDir | Component::CurDir => continue,
                Component::ParentDir => so_far.push(".."),
                Component::Normal(name) => so_far.push(name),
            }
            // Each step starts at this directory again, as only from there links of the path resolve correctly.
            reached = match self.directory(&so_far, links) {
                Err(error) if error.is_not_found() => {
                    self.make_in(&reached, component.as_os_str(), mode, &so_far)?;
                    self.directory(&so_far, links)?
                }
                found => found?,
            };
        }
        Ok(reached)
    }

    fn make_in(&self, parent: &Self, name: &OsStr, mode: u32, path: &Path) -> Result<()> {
        match mkdirat(parent, name, Mode::from_raw_mode(mode)) {
            // Another process may have created it; or it is a dangling link, which fails when it is opened.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.error(path, errno)),
        }
    }

    /// Creates a file with a random name; [`NewFile::place`] gives it its final one.
    ///
    /// # Errors
    /// When nothing can be created in this directory.
    pub fn begin(&self) -> Result<NewFile<'_>> {
        let mut last = Errno::EXIST;
        for _ in 0..TRIES {
            let temporary = random_name();
            match openat(self, &temporary, NEW, MODE_MEANWHILE) {
                Ok(file) => {
                    return Ok(NewFile { directory: self, temporary, file: file.into(), is_placed: false });
                }
                Err(errno) => last = errno,
            }
            if last != Errno::EXIST {
                break;
            }
        }
        Err(Error::new(self.path(), last))
    }

    /// Writes a whole file, with exactly this mode, in place of whatever has its name: a link there is replaced, not
    /// followed.
    ///
    /// # Errors
    /// When `name` is not a single name, or names a directory, or writing fails; then the old file is unchanged.
    pub fn replace(&self, name: impl AsRef<OsStr>, mode: u32, content: &[u8]) -> Result<()> {
        let name = name.as_ref();
        let mut new = self.begin()?;
        new.file().write_all(content).map_err(|error| self.error(Path::new(name), Cause::Io(error)))?;
        new.place(name, mode)
    }

    /// Overwrites an existing file in place, for one that is mounted or open elsewhere and must stay the same file. A
    /// concurrent reader may see a mixture.
    ///
    /// # Errors
    /// When there is none, it is not a regular file, or writing fails: then it may be half written.
    pub fn overwrite(&self, name: impl AsRef<OsStr>, content: &[u8]) -> Result<()> {
        let name = Path::new(self.single(name.as_ref())?);
        let file = self.open_regular(name, Links::Refuse, OFlags::WRONLY)?;
        // The file is not truncated first, so that a reader sees a mixture rather than nothing.
        let written = file.write_all_at(content, 0).and_then(|()| file.set_len(content.len() as u64));
        written.map_err(|error| self.error(name, Cause::Io(error)))
    }

    /// Removes the entry of this name with everything below it, however deep. Links are removed, not followed. A
    /// missing entry is not an error.
    ///
    /// # Errors
    /// When `name` is not a single name, something cannot be removed, or another process keeps making new directories.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = self.single(name.as_ref())?;
        if self.remove_plain(name)? {
            return Ok(());
        }
        let top = self.directory(name, Links::Refuse)?;
        for _ in 0..ROUNDS_LIMIT {
            if top.empty(&top, DEPTH_AT_ONCE)? {
                return self.remove_directory(name);
            }
        }
        Err(self.error(Path::new(name), Errno::NAMETOOLONG))
    }

    /// Removes the content of this directory. Directories that are too deep for one pass are moved up into `top`; the
    /// result is then `false`, and `top` has to be emptied again.
    fn empty(&self, top: &Self, depth: usize) -> Result<bool> {
        let mut is_empty = true;
        loop {
            let names = self.first_names(NAMES_AT_ONCE)?;
            if names.is_empty() {
                return Ok(is_empty);
            }
            for name in names {
                if self.remove_plain(&name)? {
                    continue;
                }
                if depth == 0 {
                    self.move_up(&name, top)?;
                    is_empty = false;
                } else {
                    is_empty &= self.directory(&name, Links::Refuse)?.empty(top, depth - 1)?;
                    self.remove_directory(&name)?;
                }
            }
        }
    }

    /// Removes an entry; `false` if it is a directory. Most entries are files, so unlink(2) is tried without a look at
    /// the kind.
    fn remove_plain(&self, name: &OsStr) -> Result<bool> {
        match unlinkat(self, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::ISDIR) => Ok(false),
            Err(errno) => Err(self.error(Path::new(name), errno)),
        }
    }

    fn remove_directory(&self, name: &OsStr) -> Result<()> {
        match unlinkat(self, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.error(Path::new(name), errno)),
        }
    }

    fn move_up(&self, name: &OsStr, top: &Self) -> Result<()> {
        let mut last = Errno::EXIST;
        for _ in 0..TRIES {
            match renameat_with(self, name, top, random_name(), RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(errno) => last = errno,
            }
            if last != Errno::EXIST {
                break;
            }
        }
        Err(self.error(Path::new(name), last))
    }

    /// Checks that a name is one component of a path.
    fn single<'n>(&self, name: &'n OsStr) -> Result<&'n OsStr> {
        let mut parts = Path::new(name).components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(only)), None) if only == name && !name.as_bytes().contains(&0) => {
                Ok(name)
            }
            _ => Err(self.error(Path::new(name), Cause::NotAName)),
        }
    }
}

impl NewFile<'_> {
    /// The file, for writing.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its mode and its name, in place of whatever has that name.
    ///
    /// # Errors
    /// When `name` is not a single name, or is a directory, or writing fails; then the old file is unchanged.
    pub fn place(mut self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        let name = self.directory.single(name.as_ref())?;
        let placed = fchmod(&self.file, Mode::from_raw_mode(mode))
            .and_then(|()| fsync(&self.file))
            .and_then(|()| renameat(self.directory, &self.temporary, self.directory, name));
        placed.map_err(|errno| self.directory.error(Path::new(name), errno))?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            // Ignored: another process may have removed it.
            let _ = unlinkat(self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

/// The name must be unlikely to exist. It need not be secret, since `O_EXCL` protects from a party that guesses it; so
/// random numbers from an uninitialized pool (`GRND_INSECURE`, since Linux 5.6) suffice.
fn random_name() -> String {
    let mut bytes = [0_u8; 8];
    // Without random numbers the name is the same each time, and a second file of this name fails.
    let _ = getrandom(&mut bytes[..], GetRandomFlags::INSECURE);
    format!(".new-{:016x}", u64::from_ne_bytes(bytes))
}
