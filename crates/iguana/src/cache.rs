//! A cache of results that take long to make. The key is the digest of everything that a result is made from.

use crate::temporary;
use anyhow::{Context, Result};
use oci_reference::Digest;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Age at which unused entries are removed; the check runs whenever a new entry is made. A longer time costs disk
/// space (some 40 MB for each kernel), a shorter one costs the time to pack again.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where results are cached, or that they are not.
#[derive(Clone, Debug)]
pub(crate) enum Cache {
    /// Results are cached below this directory.
    Kept(PathBuf),
    /// Nothing is cached or looked up.
    Fresh,
}

/// A directory from the cache, or a temporary one.
#[derive(Debug)]
pub(crate) enum CachedDirectory {
    /// In the cache.
    Kept(PathBuf),
    /// Removed when this value is dropped.
    Temporary(TempDir),
}

impl CachedDirectory {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

impl Cache {
    /// The directory of this `kind` and `key`. If there is none, `make` fills a new one.
    pub(crate) fn directory(
        &self,
        kind: &str,
        key: &Digest,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<CachedDirectory> {
        let Self::Kept(cache) = self else {
            let directory = temporary::directory()?;
            make(directory.path())?;
            return Ok(CachedDirectory::Temporary(directory));
        };
        let cache = cache.join(kind);
        let kept = cache.join(key.to_string().replace(':', "-"));
        if kept.exists() {
            // The age counts from the last use. If setting the time fails, the entry is only removed early.
            fs::File::open(&kept).and_then(|directory| directory.set_modified(SystemTime::now())).ok();
        } else {
            fs::create_dir_all(&cache).with_context(|| format!("cannot create `{}`", cache.display()))?;
            throw_away_unused(&cache);
            make_kept(&cache, &kept, make)?;
        }
        Ok(CachedDirectory::Kept(kept))
    }
}

/// Fills a temporary directory and renames it, so that no other process sees a partial entry.
#[expect(clippy::disallowed_methods, reason = "only this user can write to the cache")]
fn make_kept(cache: &Path, kept: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let directory = temporary::directory_in(cache, ".new-")?;
    make(directory.path())?;
    match fs::rename(directory.path(), kept) {
        Ok(()) => drop(directory.keep()),
        // Another process made the same entry first.
        Err(_) if kept.exists() => {}
        Err(error) => return Err(error).with_context(|| format!("cannot create `{}`", kept.display())),
    }
    Ok(())
}

/// Removes unused entries. Entries that cannot be read or removed stay, because the cache works with them too.
fn throw_away_unused(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|data| data.modified()).map(|time| time.elapsed());
        if matches!(age, Ok(Ok(age)) if age > UNUSED) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |directory| Ok(fs::write(directory.join("f"), text)?)
    }

    #[test]
    fn a_value_is_made_once_per_key() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::Kept(directory.path().join("cache"));
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let content = |found: CachedDirectory| fs::read_to_string(found.path().join("f")).unwrap();
        assert_eq!(content(cache.directory("k", &a, write("first")).unwrap()), "first");
        assert_eq!(content(cache.directory("k", &a, write("second")).unwrap()), "first");
        assert_eq!(content(cache.directory("k", &b, write("third")).unwrap()), "third");
        assert_eq!(content(Cache::Fresh.directory("k", &a, write("fresh")).unwrap()), "fresh");
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::Kept(directory.path().into());
        let fail = |_: &Path| anyhow::bail!("no");
        assert!(cache.directory("k", &Digest::of(b"a"), fail).is_err());
        assert_eq!(fs::read_dir(directory.path().join("k")).unwrap().count(), 0);
    }

    #[test]
    fn entries_unused_for_long_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::Kept(directory.path().into());
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let kept = cache.directory("k", &old, write("x")).unwrap();
        let long_ago = SystemTime::now() - UNUSED - Duration::from_secs(1);
        fs::File::open(kept.path()).unwrap().set_modified(long_ago).unwrap();
        cache.directory("k", &new, write("x")).unwrap();
        assert!(!kept.path().exists());
    }
}
