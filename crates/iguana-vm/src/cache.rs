//! Where what can be made again is kept.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The folder for Iguana's cached files: `$XDG_CACHE_HOME/iguana`, else `~/.cache/iguana`, else a folder
/// of this user's in the temporary folder. It may not exist yet.
pub fn folder() -> PathBuf {
    folder_for(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))
}

fn folder_for(xdg: Option<OsString>, home: Option<OsString>) -> PathBuf {
    // The XDG Base Directory Specification: a relative path is invalid and is to be ignored.
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(cache) = absolute(xdg) {
        return cache.join("iguana");
    }
    match absolute(home) {
        Some(home) => home.join(".cache/iguana"),
        None => env::temp_dir().join(format!("iguana-{}", user())),
    }
}

/// The number of the user that runs this process.
pub(crate) fn user() -> u32 {
    std::fs::metadata("/proc/self").map_or(0, |own| own.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_comes_before_home_and_relative_paths_do_not_count() {
        let folder = |xdg: &str, home: &str| folder_for(Some(xdg.into()), Some(home.into()));
        assert_eq!(folder("/c", "/home/u"), PathBuf::from("/c/iguana"));
        assert_eq!(folder("c", "/home/u"), PathBuf::from("/home/u/.cache/iguana"));
        assert!(folder_for(None, None).starts_with(env::temp_dir()));
    }
}
