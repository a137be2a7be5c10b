//! System calls that no safe library offers: the only unsafe code of the workspace.
//!
//! Principles:
//!
//! 1. Every function is safe to call: the memory that the kernel reads and writes is alive and has the size that is
//!    passed.
//! 2. A function makes one system call, or sets up what a [`Command`] does between fork(2) and execve(2). It makes no
//!    decisions.
//! 3. A function that may only be called while the process has one thread says so.
//! 4. If rustix offers a call, it is used from there.
//!
//! ```
//! // A pipe is not a terminal.
//! let (reader, _writer) = std::io::pipe()?;
//! assert!(sys::unsent_bytes(&reader).is_err());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Errors are those of the system calls, as [`io::Error`].
//!
//! Specifications: the man pages of the calls, and the kernel's headers where a constant has no page.
#![expect(unsafe_code, reason = "this is the crate with the unsafe code of all others")]

mod landlock;
mod loop_device;
mod namespaces;
mod packets;
mod watchdog;

pub use landlock::inspect_own_processes_only;
pub use loop_device::{LoopPart, clear_loop_device, free_loop_device, set_up_loop_device};
pub use namespaces::{
    copy_into_namespaces, leave_ipc_of_others, leave_mounts_of_others, make_own_cgroup_the_root,
    put_children_into_new_pid_namespace,
};
pub use packets::{Received, attach_filter, bind_to_packets, receive_packet};
pub use watchdog::set_watchdog_timeout;

use rustix::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::process::Pid;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::BpfProgram;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_uint, c_ulong};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

/// How likely the OOM killer is to choose a process (proc_pid_oom_score_adj(5)).
pub const OOM_SCORE: &str = "/proc/self/oom_score_adj";
/// The OOM score adjustment of programs in containers: as if each used half of all memory in addition. So the kernel
/// kills them before any process of the host, and before the PID 1 of a container.
pub const PROGRAM_OOM_SCORE: &str = "500";
const OOM_SCORE_C: &CStr = c"/proc/self/oom_score_adj";

/// Removes all variables from the environment of this process, and returns them. Only before the first thread.
#[must_use]
pub fn take_environment() -> Vec<(OsString, OsString)> {
    let given = std::env::vars_os().collect();
    // SAFETY: there is one thread, so nothing else accesses the environment.
    unsafe { libc::clearenv() };
    given
}

/// Turns backtraces off for errors and panics: this program cannot produce one and would abort (`build.rs`). Only
/// before the first thread and the first error.
pub fn want_no_backtrace() {
    for name in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        // SAFETY: there is one thread, so nothing else accesses the environment.
        unsafe { std::env::remove_var(name) }
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Starts the program in the open file `program`, with `name` as its first argument, `input` as its standard input,
/// `output` as its standard output and error, no environment, and no other inherited descriptor.
///
/// # Errors
/// When the kernel refuses.
pub fn start(program: impl AsFd, name: &str, input: OwnedFd, output: &File) -> io::Result<Child> {
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_fd().as_raw_fd()));
    command.arg0(name).env_clear().stdin(input).stdout(output.try_clone()?).stderr(output.try_clone()?);
    // SAFETY: the closure makes a system call without pointers.
    unsafe {
        command.pre_exec(|| {
            let first = libc::STDERR_FILENO + 1;
            // A kernel before 5.11 does not know the flag and leaves the descriptors open.
            libc::syscall(libc::SYS_close_range, first, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    command.spawn()
}

/// Forks this process (fork(2)); `None` in the child. Only while this process has one thread.
///
/// # Errors
/// When the kernel refuses.
pub fn copy() -> io::Result<Option<Pid>> {
    // SAFETY: the copy has its own copy of all memory, in which no other thread can hold a lock.
    Ok(Pid::from_raw(check(unsafe { libc::fork() })?))
}

/// The user and groups that a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its user ID, real and effective.
    pub user: u32,
    /// Its group ID.
    pub group: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

/// Makes a terminal the controlling terminal of this process's session, which the process leads.
///
/// # Errors
/// When another terminal controls it already.
pub fn control_by_terminal(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: a system call without pointers. The 1 takes the terminal from a session that is about to end.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 1) }).map(drop)
}

/// The number of bytes that a terminal has not sent yet.
///
/// # Errors
/// When it is not a terminal.
pub fn unsent_bytes(terminal: impl AsFd) -> io::Result<c_int> {
    let mut count = 0;
    // SAFETY: the kernel writes one number, which is alive.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) })?;
    Ok(count)
}

/// Resets a virtual console to text mode and its keyboard to characters (`linux/kd.h`): a killed program may have left
/// both in another mode.
///
/// # Errors
/// When it is not a virtual console.
pub fn show_text(screen: impl AsFd) -> io::Result<()> {
    const KDSETMODE: libc::Ioctl = 0x4B3A;
    const KD_TEXT: c_ulong = 0;
    const KDSKBMODE: libc::Ioctl = 0x4B45;
    /// The kernel's default.
    const K_UNICODE: c_ulong = 3;
    for (request, mode) in [(KDSETMODE, KD_TEXT), (KDSKBMODE, K_UNICODE)] {
        // SAFETY: both requests take a number.
        check(unsafe { libc::ioctl(screen.as_fd().as_raw_fd(), request, mode) })?;
    }
    Ok(())
}

/// The relation of a process to its terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// It leads a session of its own, whose controlling terminal is its standard input if that is a terminal.
    Own,
    /// It is in the foreground process group of its parent's session.
    Foreground,
}

/// Has the command run in such a session, with no signal blocked or ignored, as `identity`. With `capabilities`, neither it nor
/// the programs that it executes can have any others.
pub fn set_up_process(
    command: &mut Command,
    identity: Identity,
    session: Session,
    capabilities: Option<CapabilitySet>,
) {
    // SAFETY: the closure makes system calls only, on memory that was allocated before.
    unsafe {
        command.pre_exec(move || {
            prefer_for_oom_killer();
            match session {
                Session::Own => {
                    check(libc::setsid())?;
                    if libc::isatty(0) == 1 {
                        check(libc::ioctl(0, libc::TIOCSCTTY, 1))?;
                    }
                }
                Session::Foreground => {
                    // A background process that takes the foreground is stopped by this signal unless it is blocked.
                    block_signals(&[libc::SIGTTOU])?;
                    check(libc::setpgid(0, 0))?;
                    check(libc::tcsetpgrp(0, libc::getpid()))?;
                }
            }
            let none = signal_set(&[]);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()))?;
            reset_signals();
            if let Some(capabilities) = capabilities {
                bound_capabilities(capabilities)?;
            }
            check(libc::setgroups(identity.groups.len(), identity.groups.as_ptr()))?;
            check(libc::setgid(identity.group))?;
            check(libc::setuid(identity.user))?;
            if let Some(capabilities) = capabilities {
                limit_capabilities(capabilities, identity.user)?;
            }
            Ok(())
        });
    }
}

/// Sets the working directory of the command. Call it before [`set_up_process`]: the user of the command may lack the
/// right to enter the directory.
pub fn begin_in(command: &mut Command, directory: OwnedFd) {
    // SAFETY: the closure makes a system call without pointers, on a descriptor that it owns.
    unsafe {
        command.pre_exec(move || check(libc::fchdir(directory.as_raw_fd())).map(drop));
    }
}

/// Fails the execution of the command with `EXDEV` if its working directory is not below its root. Call it after
/// [`set_up_process`], so that the check runs with the rights of the program.
pub fn stay_in_root(command: &mut Command) {
    // SAFETY: the closure makes a system call that writes to its own array, whose size the kernel is given.
    unsafe {
        command.pre_exec(|| {
            let mut path = [0_u8; libc::PATH_MAX as usize];
            // The system call, as getcwd(3) would search for a directory outside the root; the kernel returns
            // `(unreachable)`.
            let length = libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len());
            match check(length as c_int) {
                Ok(_) if path[0] == b'/' => Ok(()),
                Ok(_) => Err(io::Error::from_raw_os_error(libc::EXDEV)),
                Err(error) => Err(error),
            }
        });
    }
}

/// Gives every signal its default action. The C library has posix_spawn(3) ignore those that it uses itself, and
/// sigaction(2) of the library does not reach them.
fn reset_signals() {
    /// The largest `struct sigaction` of the kernel: action, flags, restorer, mask. Zero stands for the default.
    const DEFAULT_ACTION: [u64; 4] = [0; 4];
    /// Bytes of the kernel's signal set.
    const SET: usize = size_of::<u64>();
    /// signal(7); the real-time signals come last.
    const LAST: c_int = 64;
    for signal in 1..=LAST {
        // SAFETY: the kernel reads the structure, which is alive and at least as large as its own. It refuses the
        // signals whose action cannot change.
        unsafe {
            let old = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT_ACTION.as_ptr(), old, SET)
        };
    }
}

/// Has the OOM killer choose the programs of containers first. With CAP_SYS_RESOURCE this also sets the minimum below
/// which a program without it cannot go.
fn prefer_for_oom_killer() {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    // Ignored: a process that already has a higher score may lack the right to change it.
    let _ = rustix::fs::open(OOM_SCORE_C, flags, Mode::empty())
        .and_then(|file| rustix::io::write(&file, PROGRAM_OOM_SCORE.as_bytes()));
}

/// Keeps every program that this process executes from gaining other capabilities, even if it is set-user-ID.
fn bound_capabilities(capabilities: CapabilitySet) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    for number in (0..u64::BITS).filter(|number| capabilities.bits() >> number & 1 == 0) {
        // SAFETY: a system call without pointers.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(number), 0, 0, 0) }) {
            // The kernel has no capability of that number.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            result => result?,
        };
    }
    Ok(())
}

/// Drops all other capabilities of this process; users other than root get none at all.
fn limit_capabilities(capabilities: CapabilitySet, user: u32) -> io::Result<()> {
    let own = if user == 0 { capabilities } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: own, permitted: own, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Limits the command and its descendants to the system calls that every filter allows. Where several refuse a call,
/// the last one decides how.
pub fn filter_calls<const COUNT: usize>(command: &mut Command, filters: [BpfProgram; COUNT]) {
    // SAFETY: applying a filter makes system calls only, on memory that was allocated before.
    unsafe {
        command.pre_exec(move || {
            filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter)).map_err(|error| {
                match error {
                    seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
                    // The remaining errors concern empty filters and filters for several threads.
                    _ => io::ErrorKind::InvalidInput.into(),
                }
            })
        });
    }
}

/// Has the command execute exactly this file. std's `Command` uses execvp(3), which passes a file that the kernel
/// cannot execute to `/bin/sh`.
///
/// # Errors
/// When one of the texts contains a NUL byte.
pub fn execute_exactly(
    command: &mut Command,
    path: &Path,
    arguments: &[String],
    environment: &[String],
) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let texts = |texts: &[String]| {
        texts.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>()
    };
    let (arguments, environment) = (texts(arguments)?, texts(environment)?);
    // SAFETY: the closure allocates, which is sound because PID 1 of a container has one thread; the pointers lead to
    // texts that outlive the call, in arrays that end with null.
    unsafe {
        command.pre_exec(move || {
            let pointers = |texts: &[CString]| {
                texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
            };
            libc::execve(path.as_ptr(), pointers(&arguments).as_ptr(), pointers(&environment).as_ptr());
            Err(io::Error::last_os_error())
        });
    }
    Ok(())
}

/// Replaces the session keyring of the host by an empty one, which the descendants of this process inherit.
pub fn leave_keyring() {
    // SAFETY: a system call; the null pointer asks for a keyring without a name. A kernel without keyrings has nothing
    // to replace.
    unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<c_char>()) };
}

/// Kills every process that this one sees except itself. Only PID 1 may do this.
pub fn kill_all_others() {
    // SAFETY: a system call without pointers. That there is no process to kill is not an error.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Blocks signals, so that a [`signal_descriptor`] receives them. [`set_up_process`] unblocks them.
///
/// # Errors
/// When a number is not a signal.
pub fn block_signals(signals: &[c_int]) -> io::Result<()> {
    let set = signal_set(signals);
    // SAFETY: the set is initialized, and the null pointer means that the old mask is not wanted.
    check(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) }).map(drop)
}

/// A descriptor from which [`read_signal`] reads the given signals, which must be blocked.
///
/// # Errors
/// When no descriptor is left.
pub fn signal_descriptor(signals: &[c_int]) -> io::Result<OwnedFd> {
    let set = signal_set(signals);
    // SAFETY: the set is initialized; -1 asks for a new descriptor, which has no other owner.
    unsafe {
        let descriptor = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// The next pending signal of a [`signal_descriptor`].
///
/// # Errors
/// When the descriptor is another one.
pub fn read_signal(signals: impl AsFd) -> io::Result<Option<c_int>> {
    let mut block = [0; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::retry_on_intr(|| rustix::io::read(&signals, &mut block)) {
        Ok(_) => {
            let [a, b, c, d, ..] = block;
            // signalfd_siginfo begins with the number of the signal, ssi_signo.
            Ok(Some(c_int::from_ne_bytes([a, b, c, d])))
        }
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends a signal, which may be a real-time one, to the process group that `leader` leads.
///
/// # Errors
/// When there is no such group, or no such signal.
pub fn signal_group(leader: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: a system call without pointers.
    check(unsafe { libc::killpg(leader.as_raw_pid(), signal) }).map(drop)
}

/// Sends a signal, which may be a real-time one, to a process that is a child or this one.
///
/// # Errors
/// When there is no such process, or no such signal.
pub fn signal_process(process: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: a system call without pointers.
    check(unsafe { libc::kill(process.as_raw_pid(), signal) }).map(drop)
}

/// Adds the restrictions in `flags` (read-only, no devices, set-user-ID, programs) to a mount, and with `recursive` to all
/// mounts below it. Their other flags stay (mount_setattr(2), Linux 5.12). `mount` is an open descriptor of the mount
/// point.
///
/// # Errors
/// When it is not a mount, or the kernel is older.
pub fn restrict_mounts(mount: impl AsFd, flags: MountFlags, recursive: bool) -> io::Result<()> {
    // SAFETY: a structure of numbers, for which zero means "no change".
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    // These flags have the same values in mount(2) and in mount_setattr(2) (linux/mount.h).
    let restrictions = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    attributes.attr_set = u64::from((flags & restrictions).bits());
    let reach = if recursive { libc::AT_RECURSIVE } else { 0 } | libc::AT_EMPTY_PATH;
    let descriptor = mount.as_fd().as_raw_fd();
    // SAFETY: the kernel reads an empty path and the structure, which are alive, and is given the size of the latter.
    let result = unsafe {
        let (number, size) = (libc::SYS_mount_setattr, size_of::<libc::mount_attr>());
        libc::syscall(number, descriptor, c"".as_ptr(), reach, &raw const attributes, size)
    };
    check(result as c_int).map(drop)
}

fn signal_set(signals: &[c_int]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set before it is used.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Binds a socket to one network interface (socket(7), `SO_BINDTODEVICE`).
///
/// # Errors
/// When there is no such interface.
pub fn bind_to_interface(socket: impl AsFd, interface: &str) -> io::Result<()> {
    let length = interface.len() as libc::socklen_t;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `length` bytes of the name, which is alive.
    check(unsafe {
        libc::setsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            interface.as_ptr().cast(),
            length,
        )
    })
    .map(drop)
}

/// linux/fs.h, `BLKRRPART`.
const BLKRRPART: libc::Ioctl = 0x125f;

/// Has the kernel read the partition table of a disk again.
///
/// # Errors
/// When a known partition of the disk is in use.
pub fn reread_partitions(disk: impl AsFd) -> io::Result<()> {
    // SAFETY: this request takes no argument.
    check(unsafe { libc::ioctl(disk.as_fd().as_raw_fd(), BLKRRPART) }).map(drop)
}

/// Uses a device for swap (swapon(2)).
///
/// # Errors
/// When the device has no swap header, or is in use.
pub fn swap_on(device: &Path) -> io::Result<()> {
    let device = CString::new(device.as_os_str().as_bytes())?;
    // SAFETY: a string that outlives the call.
    check(unsafe { libc::swapon(device.as_ptr(), 0) }).map(drop)
}

/// Stops using a device for swap, and reads its pages back into memory (swapoff(2)).
///
/// # Errors
/// When they do not fit into memory.
pub fn swap_off(device: &Path) -> io::Result<()> {
    let device = CString::new(device.as_os_str().as_bytes())?;
    // SAFETY: a string that outlives the call.
    check(unsafe { libc::swapoff(device.as_ptr()) }).map(drop)
}

/// linux/kexec.h, `KEXEC_FILE_NO_INITRAMFS`.
const KEXEC_FILE_NO_INITRAMFS: libc::c_ulong = 4;

/// Loads a kernel for kexec (kexec_file_load(2)).
///
/// # Errors
/// When the running kernel refuses it.
pub fn load_kernel(image: impl AsFd, initrd: Option<impl AsFd>, cmdline: &std::ffi::CStr) -> io::Result<()> {
    let flags = if initrd.is_some() { 0 } else { KEXEC_FILE_NO_INITRAMFS };
    let initrd = initrd.as_ref().map_or(-1, |initrd| initrd.as_fd().as_raw_fd());
    // SAFETY: the kernel reads both files, which are open, and the text, whose length with the terminating NUL it is
    // given.
    let loaded = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            image.as_fd().as_raw_fd(),
            initrd,
            cmdline.count_bytes() + 1,
            cmdline.as_ptr(),
            flags,
        )
    };
    if loaded == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restrictions_of_mounts_have_the_same_numbers_for_both_calls() {
        let pairs = [
            (MountFlags::RDONLY, libc::MOUNT_ATTR_RDONLY),
            (MountFlags::NOSUID, libc::MOUNT_ATTR_NOSUID),
            (MountFlags::NODEV, libc::MOUNT_ATTR_NODEV),
            (MountFlags::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        ];
        assert!(pairs.iter().all(|(flag, attribute)| u64::from(flag.bits()) == *attribute));
    }
}
