//! Open files as arguments of other programs. A path that a user names may lead to another file when it is looked up
//! again: other users may change its directory, or a link on it.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// A path by which other programs of this user can open the same file, which may have no name, while this process has
/// it open.
pub(crate) fn of(file: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
}
