//! The directory for cached files, which can be made again.

use anyhow::{Context, Result, ensure};
use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Permission bits that a cache directory must not have: write access for group or others.
const WRITABLE: u32 = 0o022;
/// The bit with which others may create files, but remove only their own (inode(7), `S_ISVTX`).
const STICKY: u32 = 0o1000;
/// The mode of new directories (XDG Base Directory Specification).
const MODE: u32 = 0o700;

/// The directory for Iguana's cached files: `$XDG_CACHE_HOME/iguana`, else `~/.cache/iguana`. It is created if
/// necessary. `None` if neither variable is set: anyone could prepare a predictable path in a directory that all can
/// write to.
///
/// # Errors
/// When it cannot be created, or another user could write to it or to a parent directory.
pub fn directory() -> Result<Option<PathBuf>> {
    let Some(directory) = directory_for(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) else {
        return Ok(None);
    };
    private(&directory).map(Some)
}

fn directory_for(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // XDG Base Directory Specification: a relative path is invalid and must be ignored.
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute(home).map(|home| home.join(".cache"));
    Some(absolute(xdg).or_else(home)?.join("iguana"))
}

/// Creates a directory and checks that no other user can write to it or replace it, also by way of a parent
/// directory.
fn private(directory: &Path) -> Result<PathBuf> {
    let own = user()?;
    let there =
        directory.ancestors().find(|path| path.is_dir()).context("none of its parent directories exists")?;
    let there = there.canonicalize().with_context(|| format!("cannot stat `{}`", there.display()))?;
    there.ancestors().try_for_each(|path| refuse_foreign(path, own))?;
    let made = DirBuilder::new().recursive(true).mode(MODE).create(directory);
    made.with_context(|| format!("cannot create `{}`", directory.display()))?;
    let directory = directory.canonicalize()?;
    directory.ancestors().try_for_each(|path| refuse_foreign(path, own))?;
    let found = fs::metadata(&directory)?;
    ensure!(
        found.uid() == own && found.mode() & WRITABLE == 0,
        "others can write to `{}`: its owner is {} and its mode {:o}",
        directory.display(),
        found.uid(),
        found.mode() & 0o7777
    );
    Ok(directory)
}

fn refuse_foreign(path: &Path, own: u32) -> Result<()> {
    let found = fs::metadata(path).with_context(|| format!("cannot stat `{}`", path.display()))?;
    ensure!(
        is_ours(&found, own),
        "others can write to `{}`: its owner is {} and its mode {:o}",
        path.display(),
        found.uid(),
        found.mode() & 0o7777
    );
    Ok(())
}

fn is_ours(found: &Metadata, own: u32) -> bool {
    [0, own].contains(&found.uid()) && (found.mode() & WRITABLE == 0 || found.mode() & STICKY != 0)
}

/// The effective user ID of this process.
fn user() -> Result<u32> {
    Ok(fs::metadata("/proc/self").context("cannot stat `/proc/self`")?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn xdg_comes_before_home_and_relative_paths_do_not_count() {
        let directory = |xdg: &str, home: &str| directory_for(Some(xdg.into()), Some(home.into()));
        assert_eq!(directory("/c", "/home/u"), Some(PathBuf::from("/c/iguana")));
        assert_eq!(directory("c", "/home/u"), Some(PathBuf::from("/home/u/.cache/iguana")));
        assert_eq!(directory("c", "h"), None);
        assert_eq!(directory_for(None, None), None, "none is made up");
    }

    #[test]
    fn a_cache_that_others_can_write_to_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let cache = home.path().join("cache/iguana");
        assert_eq!(private(&cache).unwrap(), cache.canonicalize().unwrap());
        assert_eq!(fs::metadata(&cache).unwrap().mode() & 0o7777, MODE);
        for (path, bad) in [(cache.as_path(), 0o720), (&cache, 0o1777), (home.path(), 0o702)] {
            mode(path, bad);
            let error = private(&cache).unwrap_err().to_string();
            assert!(error.contains(&format!("its mode {bad:o}")), "{error}");
            mode(path, 0o700);
        }
        let open = home.path().join("open");
        fs::create_dir(&open).unwrap();
        mode(&open, 0o777);
        symlink(&open, home.path().join("link")).unwrap();
        for path in ["open/iguana", "link/iguana"] {
            assert!(private(&home.path().join(path)).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(&open).unwrap().count(), 0, "nothing is made there");
    }

    /// Only root can change the owner of a directory.
    #[test]
    fn a_cache_of_another_user_is_refused() {
        let home = tempfile::tempdir().unwrap();
        if user().unwrap() != 0 {
            return;
        }
        std::os::unix::fs::chown(home.path(), Some(1234), None).unwrap();
        let error = private(&home.path().join("cache")).unwrap_err().to_string();
        assert!(error.contains("its owner is 1234"), "{error}");
    }
}
