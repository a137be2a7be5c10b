//! Temporary directories of this program. What is in one may be as secret as the output that is made from it: another
//! user must not enter it, whatever the umask and the modes of the files inside.

#![allow(clippy::disallowed_methods, reason = "this is the one that does it")]

use anyhow::{Context, Result};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tempfile::{Builder, TempDir};

/// Only the owner enters, lists and writes.
const OWNER_ONLY: u32 = 0o700;

/// A directory for temporary files (`TMPDIR`), which is removed when the value is dropped.
pub(crate) fn directory() -> Result<TempDir> {
    builder().tempdir().context("cannot create a temporary directory")
}

/// The same in `parent`. The name begins with `prefix`.
pub(crate) fn directory_in(parent: &Path, prefix: &str) -> Result<TempDir> {
    let made = builder().prefix(prefix).tempdir_in(parent);
    made.with_context(|| format!("cannot write in `{}`", parent.display()))
}

fn builder() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.permissions(Permissions::from_mode(OWNER_ONLY));
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_directories_can_be_entered_only_by_their_owner() {
        let mode = |directory: &TempDir| directory.path().metadata().unwrap().permissions().mode() & 0o777;
        let first = directory().unwrap();
        let second = directory_in(first.path(), ".new-").unwrap();
        assert_eq!((mode(&first), mode(&second)), (0o700, 0o700));
    }
}
