//! git in the source tree.

use iguana_lab::source_tree;
use std::process::Command;

/// A command of git, to be given its arguments.
pub(crate) fn git() -> Command {
    let mut command = Command::new("git");
    command.current_dir(source_tree());
    command
}
