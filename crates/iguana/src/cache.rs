//! Things that take long to make, kept under the digest of all that they are made from.

use anyhow::{Context, Result};
use oci_reference::Digest;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Age at which something unused is thrown away when something new is made. Longer costs disk (some 40 MB
/// for each kernel), shorter costs the time to pack again.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// A folder of things, or the wish to make everything anew.
#[derive(Clone, Debug)]
pub(crate) enum Cache {
    /// Things are kept below the folder.
    Kept(PathBuf),
    /// Nothing is kept, nor looked for.
    Fresh,
}

/// A folder from the cache, or a temporary one.
#[derive(Debug)]
pub(crate) enum Folder {
    /// Lies in the cache.
    Kept(PathBuf),
    /// Is removed when this value is dropped.
    Temporary(TempDir),
}

impl Folder {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

impl Cache {
    /// The folder of this `kind` and `key`; `make` fills a new one if there is none.
    pub(crate) fn folder(
        &self,
        kind: &str,
        key: &Digest,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Folder> {
        let Self::Kept(cache) = self else {
            let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
            make(folder.path())?;
            return Ok(Folder::Temporary(folder));
        };
        let cache = cache.join(kind);
        let kept = cache.join(key.to_string().replace(':', "-"));
        if kept.exists() {
            // Its age is that of its last use; without that it is only thrown away early.
            fs::File::open(&kept).and_then(|folder| folder.set_modified(SystemTime::now())).ok();
        } else {
            fs::create_dir_all(&cache).with_context(|| format!("cannot make `{}`", cache.display()))?;
            throw_away_unused(&cache);
            make_kept(&cache, &kept, make)?;
        }
        Ok(Folder::Kept(kept))
    }
}

/// Fills a folder beside and renames it: nobody sees half of it.
#[expect(clippy::disallowed_methods, reason = "nobody else can write to the cache")]
fn make_kept(cache: &Path, kept: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let prefix = tempfile::Builder::new().prefix(".new-").tempdir_in(cache);
    let folder = prefix.with_context(|| format!("cannot write in `{}`", cache.display()))?;
    make(folder.path())?;
    match fs::rename(folder.path(), kept) {
        Ok(()) => drop(folder.keep()),
        // Another process was faster, with the same content.
        Err(_) if kept.exists() => {}
        Err(error) => return Err(error).with_context(|| format!("cannot make `{}`", kept.display())),
    }
    Ok(())
}

/// What cannot be read or removed stays: the cache still works.
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
        move |folder| Ok(fs::write(folder.join("f"), text)?)
    }

    #[test]
    fn a_thing_is_made_once_for_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::Kept(folder.path().join("cache"));
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let content = |found: Folder| fs::read_to_string(found.path().join("f")).unwrap();
        assert_eq!(content(cache.folder("k", &a, write("first")).unwrap()), "first");
        assert_eq!(content(cache.folder("k", &a, write("second")).unwrap()), "first");
        assert_eq!(content(cache.folder("k", &b, write("third")).unwrap()), "third");
        assert_eq!(content(Cache::Fresh.folder("k", &a, write("fresh")).unwrap()), "fresh");
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::Kept(folder.path().into());
        let fail = |_: &Path| anyhow::bail!("no");
        assert!(cache.folder("k", &Digest::of(b"a"), fail).is_err());
        assert_eq!(fs::read_dir(folder.path().join("k")).unwrap().count(), 0);
    }

    #[test]
    fn what_nobody_used_for_long_goes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::Kept(folder.path().into());
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let kept = cache.folder("k", &old, write("x")).unwrap();
        let long_ago = SystemTime::now() - UNUSED - Duration::from_secs(1);
        fs::File::open(kept.path()).unwrap().set_modified(long_ago).unwrap();
        cache.folder("k", &new, write("x")).unwrap();
        assert!(!kept.path().exists());
    }
}
