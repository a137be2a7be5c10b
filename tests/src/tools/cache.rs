//! A cache under `target/lab` for results that are slow to make.

use crate::lab_directory;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The directory `target/lab/ROOM/NAME`, which `make` fills on first use. Concurrent callers wait.
pub fn cached(room_name: &str, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let room = lab_directory(room_name)?;
    let home = room.join(name);
    let _one_at_a_time = lock(&room, name)?;
    if !home.exists() {
        let fresh = tempfile::Builder::new().prefix("make-").tempdir_in(&room)?;
        make(fresh.path()).with_context(|| format!("{room_name} `{name}`"))?;
        fs::rename(fresh.path(), &home).with_context(|| format!("`{}`", home.display()))?;
    }
    Ok(home)
}

/// Waits for the lock of that name, which other threads and processes may hold. The lock is released when the value
/// is dropped.
pub(crate) fn lock(room: &Path, name: &str) -> Result<File> {
    let path = room.join(format!(".{name}.lock"));
    let file = File::create(&path).with_context(|| format!("`{}`", path.display()))?;
    file.lock().with_context(|| format!("lock `{}`", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn concurrent_requests_create_one_entry() {
        let name = format!("test-{}", std::process::id());
        let made = AtomicUsize::new(0);
        let make = |directory: &Path| {
            made.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(50));
            Ok(fs::write(directory.join("result"), "done")?)
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(cached("kept", &name, make).unwrap().join("result").exists()));
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
        fs::remove_dir_all(lab_directory("kept").unwrap()).unwrap();
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        assert!(cached("kept-failure", "x", |_| anyhow::bail!("no")).is_err());
        assert!(cached("kept-failure", "x", |_| Ok(())).is_ok());
        fs::remove_dir_all(lab_directory("kept-failure").unwrap()).unwrap();
    }
}
