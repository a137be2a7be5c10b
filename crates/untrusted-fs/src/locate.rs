//! Resolves trusted paths where untrusted parties can write to some of the directories on the way.

use crate::{Cause, Directory, Error, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, open, openat, readlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// Links that the kernel follows on one path (path_resolution(7)).
const LINKS_LIMIT: usize = 40;
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Directories in which links are treated specially.
#[derive(Debug, Default, Clone)]
pub struct Regions {
    writable_by_others: Vec<Identity>,
    roots: Vec<Identity>,
    /// The users whose links are followed; without a list, everyone's.
    owners: Option<[u32; 2]>,
}

/// What a path names.
#[derive(Debug)]
pub struct Located {
    /// Not opened to read or write (`O_PATH`).
    pub handle: OwnedFd,
    /// It is one of the directories in which others can write, or lies below one.
    pub is_writable_by_others: bool,
}

/// Device and inode number.
type Identity = (u64, u64);

impl Regions {
    /// In and below `writable_by_others` a link is refused, for an untrusted party may have made it and would choose
    /// the target. In and below `roots` links and `..` stay inside, as after chroot(2): each is the root of another
    /// system.
    ///
    /// # Errors
    /// When the kernel cannot identify a directory (fstat(2)).
    pub fn new(writable_by_others: &[Directory], roots: &[Directory]) -> Result<Self> {
        let (writable_by_others, roots) = (identities(writable_by_others)?, identities(roots)?);
        Ok(Self { writable_by_others, roots, owners: None })
    }

    /// No such directories are known, but a link is refused wherever it is, unless it belongs to root or to the caller:
    /// another user may have made it, and would choose the target.
    #[must_use]
    pub fn without_links_of_others() -> Self {
        let owners = Some([0, rustix::process::geteuid().as_raw()]);
        Self { owners, ..Self::default() }
    }

    /// These regions, and more directories in which untrusted parties can write.
    ///
    /// # Errors
    /// As [`Regions::new`].
    pub fn with_writable_by_others(&self, more: &[Directory]) -> Result<Self> {
        let mut all = self.clone();
        all.writable_by_others.extend(identities(more)?);
        Ok(all)
    }

    /// Finds the file at a trusted absolute path without opening it (`O_PATH`). Missing components are created as
    /// directories with this mode, less the umask. Links are followed as far as the regions allow it; magic links,
    /// those of `/proc`, are followed by their text.
    ///
    /// # Errors
    /// When there is a link that is refused, there are more than 40, something on the path is not a directory, or a directory
    /// cannot be made.
    pub fn locate_or_make(&self, path: impl AsRef<Path>, mode: u32) -> Result<Located> {
        self.walk(path.as_ref(), Some(mode))
    }

    /// The same, but nothing is made.
    ///
    /// # Errors
    /// As [`Regions::locate_or_make`], and when something on the path is missing.
    pub fn locate(&self, path: impl AsRef<Path>) -> Result<Located> {
        self.walk(path.as_ref(), None)
    }

    fn walk(&self, path: &Path, mode: Option<u32>) -> Result<Located> {
        let of_path = |cause| Error::new(path, cause);
        let mut walk = Walk::begin(self).map_err(of_path)?;
        walk.go(path);
        while let Some(step) = walk.ahead.pop_front() {
            if let Some(found) = walk.step(&step, mode).map_err(of_path)? {
                return Ok(found);
            }
        }
        let last = walk.reached.pop().ok_or_else(|| of_path(Errno::NOENT.into()))?;
        Ok(Located { handle: last.directory, is_writable_by_others: last.is_writable_by_others })
    }
}

/// A path that is being resolved.
struct Walk<'a> {
    regions: &'a Regions,
    /// The open directories from the root down. Never empty.
    reached: Vec<Level>,
    /// How many of them `..` and absolute links cannot leave.
    floor: usize,
    ahead: VecDeque<Step>,
    links: usize,
}

struct Level {
    directory: OwnedFd,
    is_writable_by_others: bool,
}

enum Step {
    Root,
    Up,
    Down(OsString),
}

impl<'a> Walk<'a> {
    fn begin(regions: &'a Regions) -> std::result::Result<Self, Cause> {
        let root = open("/", PATH_ONLY | OFlags::DIRECTORY, Mode::empty())?;
        let mut walk = Self { regions, reached: Vec::new(), floor: 1, ahead: VecDeque::new(), links: 0 };
        walk.enter(root)?;
        Ok(walk)
    }

    /// Puts a path before the components that are still to be resolved.
    fn go(&mut self, path: &Path) {
        for component in path.components().rev() {
            let step = match component {
                Component::Prefix(_) | Component::CurDir => continue,
                Component::RootDir => Step::Root,
                Component::ParentDir => Step::Up,
                Component::Normal(name) => Step::Down(name.to_owned()),
            };
            self.ahead.push_front(step);
        }
    }

    fn enter(&mut self, directory: OwnedFd) -> std::result::Result<(), Cause> {
        let own = identity(&directory)?;
        let is_below = self.reached.last().is_some_and(|level| level.is_writable_by_others);
        let is_writable_by_others = is_below || self.regions.writable_by_others.contains(&own);
        self.reached.push(Level { directory, is_writable_by_others });
        if self.regions.roots.contains(&own) {
            self.floor = self.reached.len();
        }
        Ok(())
    }

    /// What the path names, if that is no directory.
    fn step(&mut self, step: &Step, mode: Option<u32>) -> std::result::Result<Option<Located>, Cause> {
        match step {
            Step::Root => self.reached.truncate(self.floor),
            Step::Up => self.reached.truncate(self.floor.max(self.reached.len() - 1)),
            Step::Down(name) => return self.down(name, mode),
        }
        Ok(None)
    }

    fn down(&mut self, name: &OsStr, mode: Option<u32>) -> std::result::Result<Option<Located>, Cause> {
        let (parent, is_writable_by_others) = match self.reached.last() {
            Some(level) => (level.directory.as_fd(), level.is_writable_by_others),
            None => (CWD, true),
        };
        let found = match openat(parent, name, PATH_ONLY, Mode::empty()) {
            Err(Errno::NOENT) => {
                let mode = mode.ok_or(Errno::NOENT)?;
                match mkdirat(parent, name, Mode::from_raw_mode(mode)) {
                    // Another process may have created it meanwhile.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                openat(parent, name, PATH_ONLY, Mode::empty())?
            }
            found => found?,
        };
        let stat = fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.enter(found).map(|()| None),
            FileType::Symlink if is_writable_by_others => Err(Cause::Link),
            FileType::Symlink if self.regions.owners.is_some_and(|owners| !owners.contains(&stat.st_uid)) => {
                Err(Cause::LinkOfOther)
            }
            FileType::Symlink => self.follow(&found).map(|()| None),
            _ if self.ahead.is_empty() => Ok(Some(Located { handle: found, is_writable_by_others })),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn follow(&mut self, link: &OwnedFd) -> std::result::Result<(), Cause> {
        self.links += 1;
        if self.links > LINKS_LIMIT {
            return Err(Errno::LOOP.into());
        }
        let target = readlinkat(link, "", Vec::new())?;
        self.go(&PathBuf::from(OsString::from_vec(target.into_bytes())));
        Ok(())
    }
}

fn identities(directories: &[Directory]) -> Result<Vec<Identity>> {
    let one = |it: &Directory| identity(it).map_err(|errno| Error::new(it.path(), errno));
    directories.iter().map(one).collect()
}

fn identity(directory: impl AsFd) -> std::result::Result<Identity, Errno> {
    let stat = fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;

    fn regions(home: &Path, writable_by_others: &[&str], roots: &[&str]) -> Regions {
        let open = |names: &[&str]| -> Vec<Directory> {
            names.iter().map(|name| Directory::open(home.join(name)).unwrap()).collect()
        };
        Regions::new(&open(writable_by_others), &open(roots)).unwrap()
    }

    fn found(regions: &Regions, path: &Path) -> Result<PathBuf> {
        let handle = regions.locate_or_make(path, 0o755)?.handle;
        Ok(fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd())).unwrap())
    }

    #[test]
    fn links_are_followed_where_nobody_else_can_write_and_refused_where_others_can() {
        let home = tempfile::tempdir().unwrap();
        let top = &home.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("shared/below")).unwrap();
        fs::create_dir_all(top.join("secret")).unwrap();
        fs::write(top.join("secret/file"), "").unwrap();
        for link in ["plain", "shared/link", "shared/below/link"] {
            symlink(top.join("secret"), top.join(link)).unwrap();
        }
        symlink("shared/below", top.join("into")).unwrap();
        let regions = regions(top, &["shared"], &[]);
        let find = |path: &str| found(&regions, &top.join(path));
        assert_eq!(find("plain/file").unwrap(), top.join("secret/file"));
        assert_eq!(find("into").unwrap(), top.join("shared/below"));
        assert_eq!(find("shared/below/new/../one/more").unwrap(), top.join("shared/below/one/more"));
        for path in ["shared/link", "shared/link/file", "shared/below/link", "into/link/file"] {
            let error = find(path).unwrap_err();
            assert!(matches!(error.cause(), Cause::Link), "{path}: {error}");
        }
        let is_writable = |path| regions.locate_or_make(top.join(path), 0o755).unwrap().is_writable_by_others;
        assert!(is_writable("shared") && is_writable("into") && !is_writable("secret/file"));
        assert!(find("secret/file/below").is_err(), "a file is no directory");
        assert_eq!(fs::read_dir(top.join("secret")).unwrap().count(), 1, "nothing was made there");
        symlink("circle", top.join("circle")).unwrap();
        assert!(find("circle").is_err());
        // When the root is writable by others, every link is refused.
        let everything = Regions::new(&[Directory::open("/").unwrap()], &[]).unwrap();
        assert!(matches!(found(&everything, &top.join("plain")).unwrap_err().cause(), Cause::Link));
    }

    #[test]
    fn links_of_another_system_are_resolved_in_that_system() {
        let home = tempfile::tempdir().unwrap();
        let top = &home.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("sysroot/data")).unwrap();
        for (link, target) in [("home", "/data"), ("up", "../../../../etc"), ("kernel", "/proc/self/root")] {
            symlink(target, top.join("sysroot").join(link)).unwrap();
        }
        let regions = regions(top, &[], &["sysroot"]);
        let find = |path: &str| found(&regions, &top.join("sysroot").join(path)).unwrap();
        assert_eq!(find("home/user"), top.join("sysroot/data/user"));
        assert_eq!(find("up"), top.join("sysroot/etc"));
        assert_eq!(find("kernel"), top.join("sysroot/proc/self/root"), "a plain directory, which was made");
    }
}
