//! Namespaces (namespaces(7)).

use super::check;
use rustix::fd::{AsRawFd as _, BorrowedFd};
use rustix::process::Pid;
use std::ffi::c_int;
use std::io;

/// The namespaces that every container gets; those of network and time stay the host's. The IPC namespace may be that
/// of a job; the cgroup namespace has to wait for the container's own cgroup: see [`leave_ipc_of_others`] and
/// [`make_own_cgroup_the_root`].
const CONTAINER_NAMESPACES: c_int = libc::CLONE_NEWNS | libc::CLONE_NEWUTS;
/// linux/sched.h (Linux 5.7). The type in the libc crate is too narrow for the value.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks this process (fork(2)): the copy is the first process of new namespaces, and a child of this process's parent.
/// Returns `None` in the copy. With `pid_host` the copy stays in the host's PID namespace; otherwise it is PID 1 of a
/// new one. It starts in `cgroup`, an open directory of cgroup v2. Only while this process has one thread.
///
/// # Errors
/// When the kernel refuses (clone(2)); a kernel before 5.7 cannot start it in a cgroup.
pub fn copy_into_namespaces(pid_host: bool, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Option<Pid>> {
    let processes = if pid_host { 0 } else { libc::CLONE_NEWPID };
    let flags = CONTAINER_NAMESPACES | processes | libc::CLONE_PARENT;
    // SAFETY: without CLONE_VM both calls act as fork(2): the copy has its own copy of all memory, in which no other
    // thread can hold a lock. The structure consists of numbers, for which zero means "none"; the kernel is given its
    // size.
    let pid = unsafe {
        match cgroup {
            None => libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0),
            Some(cgroup) => {
                let mut wish: libc::clone_args = std::mem::zeroed();
                wish.flags = flags as u64 | CLONE_INTO_CGROUP;
                wish.cgroup = cgroup.as_raw_fd() as u64;
                libc::syscall(libc::SYS_clone3, &raw const wish, size_of::<libc::clone_args>())
            }
        }
    };
    Ok(Pid::from_raw(check(pid as c_int)?))
}

/// Gives this process a mount namespace of its own. Only while it has one thread: other threads would stay in the old
/// one.
///
/// # Errors
/// When the kernel refuses (unshare(2)).
pub fn leave_mounts_of_others() -> io::Result<()> {
    // SAFETY: no thread relies on sharing mounts.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?)
}

/// Gives this thread an IPC namespace of its own (ipc_namespaces(7)).
///
/// # Errors
/// When the kernel refuses (unshare(2)).
pub fn leave_ipc_of_others() -> io::Result<()> {
    // SAFETY: IPC objects are named by numbers and names, not by memory that threads share.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWIPC) }?)
}

/// Has the next child of this process be the PID 1 of a new PID namespace, in which all later ones are, too
/// (pid_namespaces(7)). When that PID 1 has ended, no more can be forked.
///
/// # Errors
/// When the kernel refuses (unshare(2)).
pub fn put_children_into_new_pid_namespace() -> io::Result<()> {
    // SAFETY: this process itself stays in its namespace.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWPID) }?)
}

/// Gives this process a cgroup namespace whose root is its current cgroup. Only while it has one thread.
///
/// # Errors
/// When the kernel refuses (unshare(2)). A kernel without cgroup namespaces is not an error.
pub fn make_own_cgroup_the_root() -> io::Result<()> {
    // SAFETY: the cgroup namespace is not among the things that threads must share.
    match unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) } {
        Err(rustix::io::Errno::INVAL) => Ok(()),
        made => Ok(made?),
    }
}
