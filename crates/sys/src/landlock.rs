//! Keeps a container that sees other processes from inspecting them (landlock(7)).
//!
//! The kernel decides by user and capabilities which processes a process may inspect (ptrace(2), and `root`, `cwd`,
//! `fd` and others below `/proc/PID`). Root of a container with reduced capabilities can become any user. It could then
//! enter the root directory of every process that has no capabilities, or no more than its own, and access the files
//! there with its own capabilities. A process in a Landlock domain can inspect processes of that domain only.

use super::check;
use rustix::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ffi::{c_int, c_long, c_uint};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// linux/landlock.h: asks for the version of the kernel's Landlock.
const CREATE_RULESET_VERSION: c_uint = 1;
const RULE_PATH_BENEATH: c_int = 1;
/// A domain has to restrict something. It restricts making block devices, which such a container cannot do anyway, and
/// a rule allows it again.
const MAKE_BLOCK: u64 = 1 << 11;
/// Linking and renaming between directories: since version 2, refused unless the domain handles it and a rule allows
/// it.
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

/// Keeps the command and its descendants from inspecting any process that they have not started. Nothing else changes
/// for them, except that they cannot mount in namespaces of their own. Without Landlock (a kernel before 5.13, or built
/// without it) this has no effect.
///
/// # Errors
/// When the kernel refuses.
pub fn inspect_own_processes_only(command: &mut Command, root: impl AsFd) -> io::Result<()> {
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
    // SAFETY: without attributes, the kernel only returns its version.
    let version = unsafe {
        let none = std::ptr::null::<RulesetAttributes>();
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, CREATE_RULESET_VERSION)
    };
    let Ok(version) = called(version) else { return Ok(None) };
    let access = if version < VERSION_WITH_REFER { MAKE_BLOCK } else { MAKE_BLOCK | REFER };
    let attributes = RulesetAttributes { handled_access_fs: access };
    // SAFETY: the kernel reads the attributes, whose size it is given; the descriptor that it returns is new and has no
    // other owner.
    let rules = unsafe {
        let size = size_of::<RulesetAttributes>();
        let made = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0);
        OwnedFd::from_raw_fd(called(made)?)
    };
    let rule = PathBeneath { allowed_access: access, parent: root.as_fd().as_raw_fd() };
    // SAFETY: the kernel reads a rule of this kind, which is alive.
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
