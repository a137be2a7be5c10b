//! Reads the files of a trust directory, with bounded sizes, without blocking, and without following links out of it.
//!
//! Principles:
//!
//! 1. A trust directory may belong to another user than the one who builds it into an initrd. So links must stay
//!    inside it, and only regular files of a bounded size are read.
//! 2. `/etc/containers` of the machine itself belongs to its administrator, so its links may lead anywhere.
//!
//! ```
//! let directory = tempfile::tempdir().unwrap();
//! let files = trust_directory::Files::of(directory.path()).unwrap();
//! assert!(files.read("policy.json").unwrap().is_none());
//! ```
//!
//! Errors: a file that is too large, is not a regular file, or is a link to outside; a dangling link, which is not
//! the same as a missing file.
//!
//! Specifications: containers-policy.json(5) and its relatives; symlink(7), openat2(2).
#![forbid(unsafe_code)]

use anyhow::{Context as _, ensure};
use hint::WithHint as _;
use rustix::fs::{FileType, Stat};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use untrusted_fs::{Directory, Links};

/// Path of the trust directory in an initrd.
pub const HOME: &str = "/etc/containers";

/// Bytes of one file; the largest, a bundle of all public authorities, has 0.3 MB.
pub const FILE_LIMIT: u64 = 4 << 20;
/// Files and directories in one directory.
const NAMES_LIMIT: usize = 1000;
const LINK_HINT: &str = "a trust directory may contain only files, and links to files in it: replace other links by their \
     targets (`cp -rL`)";

/// A trust directory, or a directory in it.
#[derive(Debug, Clone)]
pub struct Files {
    /// `None` if the directory does not exist.
    top: Option<Arc<Directory>>,
    below: PathBuf,
    /// Its path in messages.
    shown: PathBuf,
}

impl Files {
    /// The files of a directory, which need not exist. Links in the machine's own `/etc/containers` may lead
    /// anywhere, because only its administrator can make them.
    ///
    /// # Errors
    /// When it exists and cannot be opened.
    pub fn of(directory: &Path) -> anyhow::Result<Self> {
        let (top, below) = match directory.strip_prefix("/") {
            Ok(below) if directory.starts_with(HOME) => (Path::new("/"), below),
            _ => (directory, Path::new("")),
        };
        let top = match Directory::open(top) {
            Err(error) if error.is_not_found() && directory.symlink_metadata().is_err() => None,
            opened => Some(opened.map(Arc::new).with_context(|| cannot(directory))?),
        };
        Ok(Self { top, below: below.into(), shown: directory.into() })
    }

    /// The files of a subdirectory.
    #[must_use]
    pub fn directory(&self, name: &str) -> Self {
        Self { top: self.top.clone(), below: self.below.join(name), shown: self.shown.join(name) }
    }

    /// The path of a file for messages.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.shown.join(name)
    }

    /// Opens a file; `None` if it does not exist. A dangling link is an error, because it was meant to lead to a
    /// file.
    ///
    /// # Errors
    /// When it is not a regular file, or cannot be opened.
    pub fn open(&self, name: impl AsRef<Path>) -> anyhow::Result<Option<File>> {
        let name = name.as_ref();
        self.find(name, |top, path| top.file(path, Links::Inside))
    }

    /// Reads a whole file; `None` if it does not exist.
    ///
    /// # Errors
    /// As [`Files::open`], and when it has more bytes than [`FILE_LIMIT`].
    pub fn read(&self, name: impl AsRef<Path>) -> anyhow::Result<Option<Vec<u8>>> {
        let name = name.as_ref();
        let Some(file) = self.open(name)? else { return Ok(None) };
        untrusted_fs::read_bounded(file, FILE_LIMIT).map(Some).with_context(|| cannot(&self.path(name)))
    }

    /// Reads a whole text file; `None` if it does not exist.
    ///
    /// # Errors
    /// As [`Files::read`], and when it is not UTF-8.
    pub fn text(&self, name: impl AsRef<Path>) -> anyhow::Result<Option<String>> {
        let name = name.as_ref();
        let text = self.read(name)?.map(String::from_utf8).transpose();
        text.with_context(|| format!("`{}` is not UTF-8 text", self.path(name).display()))
    }

    /// The sorted names in the directory; empty if it does not exist.
    ///
    /// # Errors
    /// When it exists and cannot be read, or has too many names.
    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        let listed = |top: &Directory, path: &Path| top.directory(path, Links::Inside)?.names(NAMES_LIMIT);
        let names = self.find(Path::new(""), listed)?.unwrap_or_default();
        Ok(names.iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    /// Whether it has a subdirectory of this name.
    #[must_use]
    pub fn has_directory(&self, name: &str) -> bool {
        let path = self.below.join(name);
        self.top.as_ref().is_some_and(|top| top.directory(path, Links::Inside).is_ok())
    }

    fn find<T>(
        &self,
        name: &Path,
        find: impl FnOnce(&Directory, &Path) -> Result<T, untrusted_fs::Error>,
    ) -> anyhow::Result<Option<T>> {
        let Some(top) = &self.top else { return Ok(None) };
        let path = self.below.join(name);
        let found = match find(top, &path) {
            Err(error) if error.is_not_found() => self.absent(top, name).map(|()| None),
            found => found.map(Some).with_context(|| cannot(&self.path(name))),
        };
        found.hint(LINK_HINT)
    }

    /// Checks that a file is really missing: no directory on its path is a dangling link.
    fn absent(&self, top: &Directory, name: &Path) -> anyhow::Result<()> {
        let path = self.below.join(name);
        for (above, path) in path.ancestors().filter(|path| !path.as_os_str().is_empty()).enumerate() {
            let is_link = top.stat(without_slash(path), Links::Inside)?.is_some_and(|found| is_link(&found));
            let is_dangling = is_link && top.locate(path, Links::Inside).is_err();
            let shown = self.path(name);
            let shown = shown.ancestors().nth(above).unwrap_or(&shown);
            ensure!(!is_dangling, "`{}` is a dangling symbolic link", shown.display());
        }
        Ok(())
    }
}

/// Removes a trailing slash, with which a link would be followed.
fn without_slash(path: &Path) -> PathBuf {
    path.components().collect()
}

fn is_link(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Symlink
}

/// Reads a key that a file of a trust directory names. Relative paths, and those below [`HOME`], are resolved in the
/// directory, wherever it is.
///
/// # Errors
/// When it does not exist, or cannot be read.
pub fn key(directory: &Path, path: &Path) -> anyhow::Result<Vec<u8>> {
    let inside = path.strip_prefix(HOME).unwrap_or(path);
    let bytes = match inside.is_absolute() {
        true => untrusted_fs::read_file(path, FILE_LIMIT).map(Some).map_err(Into::into),
        false => Files::of(directory)?.read(inside),
    };
    let cannot = || format!("cannot read the key `{}`", place_in(directory, path).display());
    bytes.and_then(|bytes| bytes.context("it does not exist")).with_context(cannot)
}

fn cannot(path: &Path) -> String {
    format!("cannot read `{}`", path.display())
}

/// Resolves a path in a trust directory. Relative paths, and those below [`HOME`], are in the directory, wherever it
/// is.
#[must_use]
pub fn place_in(directory: &Path, path: &Path) -> PathBuf {
    directory.join(path.strip_prefix(HOME).unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_a_trust_directory_stay_inside_it() {
        let (room, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "secret").unwrap();
        fs::create_dir_all(room.path().join("certs.d/r.example")).unwrap();
        fs::write(room.path().join("certs.d/r.example/ca.crt"), "own").unwrap();
        symlink(outside.path().join("secret"), room.path().join("auth.json")).unwrap();
        symlink(outside.path(), room.path().join("keys")).unwrap();
        symlink("certs.d/r.example", room.path().join("ca")).unwrap();
        let files = Files::of(room.path()).unwrap();
        assert_eq!(files.directory("ca").read("ca.crt").unwrap().unwrap(), b"own");
        assert!(files.directory("registries.d").names().unwrap().is_empty());
        assert!(files.read("policy.json").unwrap().is_none());
        let keys = files.directory("keys");
        for error in [
            files.read("auth.json").unwrap_err(),
            keys.read("secret").unwrap_err(),
            keys.names().unwrap_err(),
            key(room.path(), Path::new("/etc/containers/keys/secret")).unwrap_err(),
        ] {
            assert!(format!("{error:#}").contains("dangling symbolic link"), "{error:#}");
            assert_eq!(hint::of(&error), Some(LINK_HINT));
        }
    }

    #[test]
    fn special_and_oversized_files_of_a_trust_are_refused() {
        let room = tempfile::tempdir().unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, room.path().join("policy.json"), kind, mode, 0).unwrap();
        fs::File::create(room.path().join("auth.json")).unwrap().set_len(FILE_LIMIT + 1).unwrap();
        fs::File::create(room.path().join("iguana.conf")).unwrap().set_len(FILE_LIMIT).unwrap();
        let files = Files::of(room.path()).unwrap();
        for (name, expected) in [("policy.json", "it is a FIFO"), ("auth.json", "more than 4194304 bytes")] {
            let error = format!("{:#}", files.read(name).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(files.read("iguana.conf").unwrap().unwrap().len() as u64, FILE_LIMIT);
        let directory = room.path().join("ca");
        fs::create_dir(&directory).unwrap();
        (0..=NAMES_LIMIT).for_each(|name| fs::write(directory.join(name.to_string()), "").unwrap());
        let error = format!("{:#}", files.directory("ca").names().unwrap_err());
        assert!(error.contains("more than 1000 entries"), "{error}");
    }
}
