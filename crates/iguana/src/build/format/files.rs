//! The files of a medium before it is made.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Paths, separated by `/`, with their contents.
pub(super) type Files = Vec<(String, Vec<u8>)>;

/// Every directory of `files`, parents first.
pub(super) fn directories(files: &Files) -> BTreeSet<&str> {
    files.iter().flat_map(|(path, _)| path.match_indices('/').map(|(end, _)| &path[..end])).collect()
}

/// Writes `files` below `directory`, each with the modification time `date` (Unix seconds).
#[expect(clippy::disallowed_methods, reason = "only this user can write to a temporary directory")]
pub(super) fn stage(files: &Files, directory: &Path, date: u32) -> Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(date.into());
    let write = |path: &str, content: &[u8]| {
        let place = directory.join(path);
        fs::create_dir_all(place.parent().unwrap_or(directory))?;
        fs::write(&place, content)?;
        File::open(&place)?.set_modified(time)
    };
    files.iter().try_for_each(|(path, content)| {
        write(path, content).with_context(|| format!("cannot write `{path}` into a temporary directory"))
    })
}
