//! A program that sees processes which are not its own is kept from looking into them (landlock(7)).
//!
//! Who a process may look into (ptrace(2), and `root`, `cwd`, `fd` and others below `/proc/PID`) the kernel decides by users
//! and capabilities. Root of a container with fewer rights can become any user: of all that run without capabilities, or
//! with no more than its own, it would have their root, and their files, with its own rights over files.
//! A process in a domain of Landlock's looks into that domain only.

use super::check;
use rustix::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ffi::{c_int, c_long, c_uint};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// linux/landlock.h: asks which version the kernel has.
const CREATE_RULESET_VERSION: c_uint = 1;
const RULE_PATH_BENEATH: c_int = 1;
/// A domain has to rule something: making block devices, which no such container may, and which is allowed again.
const MAKE_BLOCK: u64 = 1 << 11;
/// Linking and renaming from one directory to another: since version 2 refused unless it is ruled and allowed.
const REFER: u64 = 1 << 13;
const VERSION_WITH_REFER: c_int = 2;

#[repr(C)]
struct RulesetAttributes {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent: c_int,
}

/// Has the command, and whatever it starts, look into no process but those that it has started. It may do everything else,
/// but for mounting in namespaces of its own. A kernel without Landlock (before 5.13, or built without it) does not do it.
///
/// # Errors
/// When the kernel refuses.
pub fn look_into_own_processes_only(command: &mut Command, root: impl AsFd) -> io::Result<()> {
    let Some(rules) = rules(root)? else { return Ok(()) };
    // SAFETY: the closure makes system calls without pointers, on a descriptor that it owns.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            called(libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0)).map(drop)
        });
    }
    Ok(())
}

/// Rules that allow everything below `root`.
fn rules(root: impl AsFd) -> io::Result<Option<OwnedFd>> {
    // SAFETY: without attributes, the kernel only says its version.
    let version = unsafe {
        let none = std::ptr::null::<RulesetAttributes>();
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, CREATE_RULESET_VERSION)
    };
    let Ok(version) = called(version) else { return Ok(None) };
    let access = if version < VERSION_WITH_REFER { MAKE_BLOCK } else { MAKE_BLOCK | REFER };
    let attributes = RulesetAttributes { handled_access_fs: access };
    // SAFETY: the kernel reads the attributes, of which it is told the size; the descriptor that it makes is nobody else's.
    let rules = unsafe {
        let size = size_of::<RulesetAttributes>();
        let made = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0);
        OwnedFd::from_raw_fd(called(made)?)
    };
    let rule = PathBeneath { allowed_access: access, parent: root.as_fd().as_raw_fd() };
    // SAFETY: the kernel reads a rule of this kind.
    let added = unsafe {
        let of_rules = rules.as_raw_fd();
        libc::syscall(libc::SYS_landlock_add_rule, of_rules, RULE_PATH_BENEATH, &raw const rule, 0)
    };
    called(added)?;
    Ok(Some(rules))
}

fn called(result: c_long) -> io::Result<c_int> {
    check(result as c_int)
}
