//! Making and replacing files where somebody else can write, too.

use crate::{Cause, Directory, Error, Links, Result};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fchmod, fstat, fsync, mkdirat, mknodat, openat, renameat,
    renameat_with, unlinkat,
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
/// While it is made nobody else may read a file.
const MODE_MEANWHILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Random names that are tried before a directory in which each one exists is given up.
const TRIES: usize = 16;
/// Directories below one another that are open at once while a tree is removed: each takes a descriptor (of 1,024,
/// getrlimit(2)) and a frame of the stack. A tree may be deeper.
const DEPTH_AT_ONCE: usize = 64;
/// As often is a tree gone through that goes on being deeper than that: four million directories below one another, which
/// take gigabytes. Whoever goes on making them keeps nobody for ever.
const ROUNDS_LIMIT: usize = 1 << 16;

/// A new file below a random name, which takes its own name when it is whole. Dropped before that, it is removed.
#[derive(Debug)]
pub struct NewFile<'a> {
    directory: &'a Directory,
    temporary: String,
    file: File,
    is_placed: bool,
}

/// A new directory below a random name, with mode 0700; removed with all that is in it when it is dropped.
#[derive(Debug)]
pub struct Scratch<'a> {
    parent: &'a Directory,
    name: String,
    directory: Directory,
}

impl Scratch<'_> {
    /// The directory: what was made, whatever has its name by now.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // Somebody else may have moved it.
        let _ = self.parent.remove(&self.name);
    }
}

impl Directory {
    /// Makes a directory for what is not whole yet.
    ///
    /// # Errors
    /// When nothing can be made in this directory.
    pub fn scratch(&self) -> Result<Scratch<'_>> {
        let name = random_name();
        let directory = self.create_directory(&name, Mode::RWXU.bits())?;
        Ok(Scratch { parent: self, name, directory })
    }

    /// Moves what has a name here to a name in another directory of the same file system (rename(2)).
    ///
    /// # Errors
    /// When a name is not a single one, there is nothing, or what has the other name cannot be replaced.
    pub fn move_to(&self, name: impl AsRef<OsStr>, to: &Self, new: impl AsRef<OsStr>) -> Result<()> {
        let (name, new) = (self.single(name.as_ref())?, to.single(new.as_ref())?);
        renameat(self, name, to, new).map_err(|errno| to.error(Path::new(new), errno))
    }

    /// Makes a file that must not be there yet, with exactly this mode, and leaves it open for reading and writing.
    ///
    /// # Errors
    /// When `name` is not a single name, there is something of that name, or it cannot be made.
    pub fn create(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<File> {
        let name = self.single(name.as_ref())?;
        let made = openat(self, name, NEW, MODE_MEANWHILE);
        let made = made.and_then(|file| fchmod(&file, Mode::from_raw_mode(mode)).map(|()| file));
        made.map(File::from).map_err(|errno| self.error(Path::new(name), errno))
    }

    /// Makes a FIFO that must not be there yet, with exactly this mode, and opens it both ways: neither this nor a later
    /// write of somebody else waits for a reader. Reading and writing do not block (`O_NONBLOCK`).
    ///
    /// # Errors
    /// When `name` is not a single name, there is something of that name, or it cannot be made.
    pub fn create_fifo(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<File> {
        let name = self.single(name.as_ref())?;
        mknodat(self, name, FileType::Fifo, MODE_MEANWHILE, 0)
            .map_err(|errno| self.error(Path::new(name), errno))?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo =
            openat(self, name, flags, Mode::empty()).map_err(|errno| self.error(Path::new(name), errno))?;
        let stat = fstat(&fifo).map_err(|errno| self.error(Path::new(name), errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
            // Somebody else has put something in its place.
            return Err(self.error(Path::new(name), Errno::EXIST));
        }
        fchmod(&fifo, Mode::from_raw_mode(mode)).map_err(|errno| self.error(Path::new(name), errno))?;
        Ok(fifo.into())
    }

    /// Makes a directory that must not be there yet, with exactly this mode.
    ///
    /// # Errors
    /// When `name` is not a single name, there is something of that name, or it cannot be made.
    pub fn create_directory(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self> {
        let name = self.single(name.as_ref())?;
        mkdirat(self, name, Mode::RWXU).map_err(|errno| self.error(Path::new(name), errno))?;
        let made = self.directory(name, Links::Refuse)?;
        fchmod(&made, Mode::from_raw_mode(mode)).map_err(|errno| self.error(Path::new(name), errno))?;
        Ok(made)
    }

    /// Opens a directory, which is made with this mode if there is nothing of its name.
    ///
    /// # Errors
    /// When `name` is not a single name, something else than a directory has it, or it cannot be made.
    pub fn directory_or_new(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self> {
        let name = self.single(name.as_ref())?;
        match self.create_directory(name, mode) {
            Err(error) if error.is_already_there() => self.directory(name, Links::Refuse),
            made => made,
        }
    }

    /// Opens a directory below this one, and makes what is missing of its path, with this mode less the umask.
    ///
    /// # Errors
    /// When the path has a link that `links` refuses or that leads nowhere, something on it is not a directory, or a directory
    /// cannot be made.
    pub fn make_directories(&self, path: impl AsRef<Path>, mode: u32, links: Links) -> Result<Self> {
        let mut reached = self.directory("", links)?;
        let mut so_far = PathBuf::new();
        for component in path.as_ref().components() {
            match component {
                Component::Prefix(_) | Component::RootDir | Component::CurDir => continue,
                Component::ParentDir => so_far.push(".."),
                Component::Normal(name) => so_far.push(name),
            }
            // Each step begins at this directory again: there a link of the path is resolved.
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
            // Somebody else was faster; or it is a link that leads nowhere, which opening it will tell.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.error(path, errno)),
        }
    }

    /// Begins a file below a random name; [`NewFile::place`] gives it its own.
    ///
    /// # Errors
    /// When nothing can be made in this directory.
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

    /// Writes a file whole, with exactly this mode, in place of whatever has its name: a link there is replaced, not
    /// followed.
    ///
    /// # Errors
    /// When `name` is not a single name, or names a directory, or writing fails; then what was there is unchanged.
    pub fn replace(&self, name: impl AsRef<OsStr>, mode: u32, content: &[u8]) -> Result<()> {
        let name = name.as_ref();
        let mut new = self.begin()?;
        new.file().write_all(content).map_err(|error| self.error(Path::new(name), Cause::Io(error)))?;
        new.place(name, mode)
    }

    /// Writes a file that is there already, in place: what is mounted or open elsewhere must stay the same file. Whoever
    /// reads it meanwhile may see a mixture.
    ///
    /// # Errors
    /// When there is none, it is not a regular file, or writing fails: then it may be half written.
    pub fn overwrite(&self, name: impl AsRef<OsStr>, content: &[u8]) -> Result<()> {
        let name = Path::new(self.single(name.as_ref())?);
        let file = self.open_regular(name, Links::Refuse, OFlags::WRONLY)?;
        // Not emptied first: so a reader sees a mixture rather than nothing.
        let written = file.write_all_at(content, 0).and_then(|()| file.set_len(content.len() as u64));
        written.map_err(|error| self.error(name, Cause::Io(error)))
    }

    /// Removes whatever has this name, with all that is below it, however deep. Links are removed, not followed. Nothing
    /// there is no error.
    ///
    /// # Errors
    /// When `name` is not a single name, something cannot be removed, or somebody goes on making new directories.
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

    /// Removes what is in this directory. Directories that lie too deep for one round are moved up into `top`; then it is
    /// false, and `top` has to be emptied again.
    fn empty(&self, top: &Self, depth: usize) -> Result<bool> {
        let mut is_empty = true;
        for name in self.names(usize::MAX)? {
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
        Ok(is_empty)
    }

    /// False for a directory. Most of what is removed is files, and the kernel tells whether it is one.
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

    /// A name that is one component of a path.
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
    /// The file, to be written.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its mode and its name, in place of whatever has that name.
    ///
    /// # Errors
    /// When `name` is not a single name, or is a directory, or writing fails; then what was there is unchanged.
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
            // Somebody else may have removed it.
            let _ = unlinkat(self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

/// `O_EXCL` protects from whoever guesses the name; so it must differ, not be secret, and an empty pool of random numbers
/// (`GRND_INSECURE`, since Linux 5.6) does not matter.
fn random_name() -> String {
    let mut bytes = [0_u8; 8];
    // Without random numbers the name is the same each time, and the second file of this name is refused.
    let _ = getrandom(&mut bytes[..], GetRandomFlags::INSECURE);
    format!(".new-{:016x}", u64::from_ne_bytes(bytes))
}
