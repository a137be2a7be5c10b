//! System calls that no safe library offers: the only unsafe code of the workspace.
//!
//! Principles:
//!
//! 1. Every function is safe to call: what the kernel reads and writes is alive, and of the size that it is told.
//! 2. A function makes one system call, or sets up what a [`Command`] does between fork(2) and execve(2). It decides nothing.
//! 3. What may only be called while the process has one thread says so.
//! 4. What rustix offers is used from there.
//!
//! ```
//! // A pipe is no terminal.
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
mod watchdog;

pub use landlock::look_into_own_processes_only;
pub use watchdog::set_watchdog_timeout;

use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::process::Pid;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::BpfProgram;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulong};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

/// The namespaces that every container has of its own; network and time stay the machine's. That of cgroups
/// has to wait for the container's own cgroup: see [`make_own_cgroup_the_root`].
const CONTAINER_NAMESPACES: c_int = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
/// linux/sched.h (Linux 5.7). The libc crate's is too narrow to hold it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// How readily the kernel kills a process when memory is full (proc_pid_oom_score_adj(5)).
pub const OOM_SCORE: &str = "/proc/self/oom_score_adj";
/// That of programs in containers: as if each used half of all memory more than it does. Before anything of the machine's,
/// and before PID 1 of a container.
pub const PROGRAM_OOM_SCORE: &str = "500";
const OOM_SCORE_C: &CStr = c"/proc/self/oom_score_adj";

/// Has errors and panics come without a backtrace, which this program cannot make and would abort over (`build.rs`).
/// Only before the first thread and the first error.
pub fn want_no_backtrace() {
    for name in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        // SAFETY: the environment is nobody else's while there is one thread.
        unsafe { std::env::remove_var(name) }
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Starts a program that is open under the name `name`: with `input` as its standard input, `output` as its standard
/// output and error, no environment, and no other file that this one was started with.
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
            // A kernel before 5.11 leaves them open.
            libc::syscall(libc::SYS_close_range, first, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
    command.spawn()
}

/// Makes a copy of this process, as fork(2) does: the first process of new namespaces, and a child of this one's
/// parent. `None` in the copy. With `pid_host` it is one of the machine's processes; without, PID 1. It
/// begins in `cgroup`, the directory of one of version 2. Only while this process has one thread.
///
/// # Errors
/// When the kernel refuses (clone(2)); one before 5.7 cannot have it begin in a cgroup.
pub fn copy_into_namespaces(pid_host: bool, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Option<Pid>> {
    let processes = if pid_host { 0 } else { libc::CLONE_NEWPID };
    let flags = CONTAINER_NAMESPACES | processes | libc::CLONE_PARENT;
    // SAFETY: without CLONE_VM both are fork(2): the copy runs on its own copy of everything, where no other
    // thread can have held a lock. The structure is one of numbers, for which zero means "nothing"; the kernel
    // is told its size.
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

/// Makes a copy of this process, its child: `None` in the copy (fork(2)). Only while this process has one thread.
///
/// # Errors
/// When the kernel refuses.
pub fn copy() -> io::Result<Option<Pid>> {
    // SAFETY: the copy runs on its own copy of everything, where no other thread can have held a lock.
    Ok(Pid::from_raw(check(unsafe { libc::fork() })?))
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its user ID, real and effective.
    pub user: u32,
    /// Its group ID.
    pub group: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

/// Has this process' session, which it leads, be controlled by a terminal.
///
/// # Errors
/// When another terminal controls it already.
pub fn control_by_terminal(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: a system call without pointers. 1: even if a session that is about to end still has it.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 1) }).map(drop)
}

/// How many bytes a terminal has still to send.
///
/// # Errors
/// When it is no terminal.
pub fn unsent_bytes(terminal: impl AsFd) -> io::Result<c_int> {
    let mut count = 0;
    // SAFETY: the kernel writes one number, which is alive.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) })?;
    Ok(count)
}

/// Has a screen of this machine show text, and its keyboard give characters (`linux/kd.h`), whatever a killed
/// program had them do.
///
/// # Errors
/// When it is no such screen.
pub fn show_text(screen: impl AsFd) -> io::Result<()> {
    const KDSETMODE: libc::Ioctl = 0x4B3A;
    const KD_TEXT: c_ulong = 0;
    const KDSKBMODE: libc::Ioctl = 0x4B45;
    /// What the kernel begins with.
    const K_UNICODE: c_ulong = 3;
    for (request, mode) in [(KDSETMODE, KD_TEXT), (KDSKBMODE, K_UNICODE)] {
        // SAFETY: both requests take a number.
        check(unsafe { libc::ioctl(screen.as_fd().as_raw_fd(), request, mode) })?;
    }
    Ok(())
}

/// Where a process stands to the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// It leads one of its own, which its standard input controls if that is a terminal.
    Own,
    /// It is in the foreground of its parent's.
    Foreground,
}

/// Has the command run in such a session, with no signal blocked, as `identity`; and, where `capabilities`
/// are given, with no others, now and later.
pub fn set_up_process(
    command: &mut Command,
    identity: Identity,
    session: Session,
    capabilities: Option<CapabilitySet>,
) {
    // SAFETY: the closure makes system calls only, on memory that was allocated before.
    unsafe {
        command.pre_exec(move || {
            be_killed_first();
            match session {
                Session::Own => {
                    check(libc::setsid())?;
                    if libc::isatty(0) == 1 {
                        check(libc::ioctl(0, libc::TIOCSCTTY, 1))?;
                    }
                }
                Session::Foreground => {
                    // Who takes the foreground from the background is stopped unless the signal is blocked.
                    block_signals(&[libc::SIGTTOU])?;
                    check(libc::setpgid(0, 0))?;
                    check(libc::tcsetpgrp(0, libc::getpid()))?;
                }
            }
            let none = signal_set(&[]);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()))?;
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

/// Has the command begin in this directory. Before [`set_up_process`]: its user may lack the right to enter it.
pub fn begin_in(command: &mut Command, directory: OwnedFd) {
    // SAFETY: the closure makes a system call without pointers, on a descriptor that it owns.
    unsafe {
        command.pre_exec(move || check(libc::fchdir(directory.as_raw_fd())).map(drop));
    }
}

/// Has the command not be executed (`EXDEV`) if its working directory is not below its root. After [`set_up_process`],
/// with the rights that the program will have.
pub fn stay_in_root(command: &mut Command) {
    // SAFETY: the closure makes a system call that writes to an array of its own, of which the kernel is told the size.
    unsafe {
        command.pre_exec(|| {
            let mut path = [0_u8; libc::PATH_MAX as usize];
            // The C library would look for a directory that is not below the root; the kernel says `(unreachable)`.
            let length = libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len());
            match check(length as c_int) {
                Ok(_) if path[0] == b'/' => Ok(()),
                Ok(_) => Err(io::Error::from_raw_os_error(libc::EXDEV)),
                Err(error) => Err(error),
            }
        });
    }
}

/// What a container runs is killed first when memory is full. With the right to do so (CAP_SYS_RESOURCE) this sets also
/// what a program without it cannot go below.
fn be_killed_first() {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    // A process that was more likely to be killed than others may lack the right to change that; so be it.
    let _ = rustix::fs::open(OOM_SCORE_C, flags, Mode::empty())
        .and_then(|file| rustix::io::write(&file, PROGRAM_OOM_SCORE.as_bytes()));
}

/// Has no program that this process executes gain other capabilities, not even one that is set-user-ID.
fn bound_capabilities(capabilities: CapabilitySet) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    for number in (0..u64::BITS).filter(|number| capabilities.bits() >> number & 1 == 0) {
        // SAFETY: a system call without pointers.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(number), 0, 0, 0) }) {
            // The kernel does not have so many.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            result => result?,
        };
    }
    Ok(())
}

/// Takes all other capabilities from this process; users besides root have none at all.
fn limit_capabilities(capabilities: CapabilitySet, user: u32) -> io::Result<()> {
    let own = if user == 0 { capabilities } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: own, permitted: own, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Has the command, and whatever it starts, make only the system calls that all filters let through. Where
/// several refuse one, the last says how.
pub fn filter_calls<const COUNT: usize>(command: &mut Command, filters: [BpfProgram; COUNT]) {
    // SAFETY: applying a filter makes system calls only, on memory that was allocated before.
    unsafe {
        command.pre_exec(move || {
            filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter)).map_err(|error| {
                match error {
                    seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
                    // The others are of filters that are empty, or for several threads.
                    _ => io::ErrorKind::InvalidInput.into(),
                }
            })
        });
    }
}

/// Has the command execute exactly this file. std's `Command` goes by execvp(3), which hands a file that
/// the kernel cannot execute to `/bin/sh`.
///
/// # Errors
/// When one of the texts holds a zero byte.
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
    // SAFETY: the closure allocates, which is sound because PID 1 of a container has one thread;
    // the pointers are to texts that outlive the call, in arrays that end with null.
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

/// Gives this process mounts of its own. Only while it has one thread: others would keep those that they have.
///
/// # Errors
/// When the kernel refuses (unshare(2)).
pub fn leave_mounts_of_others() -> io::Result<()> {
    // SAFETY: no thread relies on sharing mounts.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?)
}

/// Has the cgroup that this process is in be the root of all that it can see. Only while it has one thread.
///
/// # Errors
/// When the kernel refuses (unshare(2)). One without such namespaces is no failure.
pub fn make_own_cgroup_the_root() -> io::Result<()> {
    // SAFETY: a view of cgroups is no part of what threads must share.
    match unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) } {
        Err(rustix::io::Errno::INVAL) => Ok(()),
        made => Ok(made?),
    }
}

/// Leaves the machine's session keyring for an empty one, which the programs of this process have, too.
pub fn leave_keyring() {
    // SAFETY: a system call; the null pointer asks for a keyring without a name. A kernel without keys has
    // nothing to be left.
    unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<c_char>()) };
}

/// Kills every process but this one and the kernel's own. Only PID 1 may do this.
pub fn kill_all_others() {
    // SAFETY: a system call without pointers. That there is nobody to kill is no failure.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Blocks signals, so that a [`signal_descriptor`] gets them. [`set_up_process`] unblocks them again.
///
/// # Errors
/// When a number is not a signal.
pub fn block_signals(signals: &[c_int]) -> io::Result<()> {
    let set = signal_set(signals);
    // SAFETY: the set is initialized, and the old mask is not asked for.
    check(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) }).map(drop)
}

/// A descriptor that some blocked signals can be read from, by [`read_signal`].
///
/// # Errors
/// When there are no descriptors left.
pub fn signal_descriptor(signals: &[c_int]) -> io::Result<OwnedFd> {
    let set = signal_set(signals);
    // SAFETY: the set is initialized; -1 asks for a new descriptor, which nobody else owns.
    unsafe {
        let descriptor = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// The next signal of a [`signal_descriptor`], if one has come.
///
/// # Errors
/// When it is another descriptor.
pub fn read_signal(signals: impl AsFd) -> io::Result<Option<c_int>> {
    let mut block = [0; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::retry_on_intr(|| rustix::io::read(&signals, &mut block)) {
        Ok(_) => {
            let [a, b, c, d, ..] = block;
            // signalfd_siginfo begins with the number, ssi_signo.
            Ok(Some(c_int::from_ne_bytes([a, b, c, d])))
        }
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends a signal, also a real-time one, to the process group that `leader` leads.
///
/// # Errors
/// When there is no such group, or no such signal.
pub fn signal_group(leader: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: a system call without pointers.
    check(unsafe { libc::killpg(leader.as_raw_pid(), signal) }).map(drop)
}

/// Restricts a mount, with `recursive` also all below it, by `flags` (read-only, no devices, no set-user-ID), and
/// changes nothing else of them (mount_setattr(2), Linux 5.12). `mount` is the mount itself, open.
///
/// # Errors
/// When it is no mount, or the kernel is older.
pub fn restrict_mounts(mount: impl AsFd, flags: MountFlags, recursive: bool) -> io::Result<()> {
    // SAFETY: a structure of numbers, for which zero means "no change".
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    // These three have the numbers that mount(2) gives them (linux/mount.h).
    let restrictions = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    attributes.attr_set = u64::from((flags & restrictions).bits());
    let reach = if recursive { libc::AT_RECURSIVE } else { 0 } | libc::AT_EMPTY_PATH;
    let descriptor = mount.as_fd().as_raw_fd();
    // SAFETY: the kernel reads an empty path and the structure, which are alive, and is told its size.
    let result = unsafe {
        let (number, size) = (libc::SYS_mount_setattr, size_of::<libc::mount_attr>());
        libc::syscall(number, descriptor, c"".as_ptr(), reach, &raw const attributes, size)
    };
    check(result as c_int).map(drop)
}

fn signal_set(signals: &[c_int]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set before anything else touches it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Has a socket send and receive through one network interface only (socket(7), `SO_BINDTODEVICE`).
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

/// Has the kernel read a disk's partition table again.
///
/// # Errors
/// When one of the partitions that it knows is in use.
pub fn reread_partitions(disk: impl AsFd) -> io::Result<()> {
    // SAFETY: this request takes no argument.
    check(unsafe { libc::ioctl(disk.as_fd().as_raw_fd(), BLKRRPART) }).map(drop)
}

/// linux/loop.h, `LOOP_CONFIGURE` (Linux 5.8).
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
/// linux/loop.h, `LOOP_CTL_GET_FREE`.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
/// linux/loop.h: the device goes away when it is unmounted.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// linux/loop.h: nothing is written through the device.
const LO_FLAGS_READ_ONLY: u32 = 1;

/// linux/loop.h, `struct loop_config` with `struct loop_info64` inside, of which only the flags are used.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device_inode_rdevice_offset_limit: [u64; 5],
    number_encryption_keysize: [u32; 3],
    flags: u32,
    names_and_key: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// The number of a free loop device.
///
/// # Errors
/// When the kernel has none.
pub fn free_loop_device(control: impl AsFd) -> io::Result<u32> {
    // SAFETY: this request takes no argument.
    let number = check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE) })?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Has the kernel swap to a device (swapon(2)).
///
/// # Errors
/// When the device has no header of a swap area, or is in use.
pub fn swap_on(device: &Path) -> io::Result<()> {
    let device = CString::new(device.as_os_str().as_bytes())?;
    // SAFETY: a string that outlives the call.
    check(unsafe { libc::swapon(device.as_ptr(), 0) }).map(drop)
}

/// Ends that, and brings back what lies there.
///
/// # Errors
/// When it does not fit into memory.
pub fn swap_off(device: &Path) -> io::Result<()> {
    let device = CString::new(device.as_os_str().as_bytes())?;
    // SAFETY: a string that outlives the call.
    check(unsafe { libc::swapoff(device.as_ptr()) }).map(drop)
}

/// Puts a file behind a loop device, read-only, until the device is unmounted.
///
/// # Errors
/// When the device is in use, or the file unsuitable.
pub fn set_up_loop_device(device: impl AsFd, file: impl AsFd) -> io::Result<()> {
    let config = LoopConfig {
        fd: file.as_fd().as_raw_fd() as u32,
        block_size: 0,
        device_inode_rdevice_offset_limit: [0; 5],
        number_encryption_keysize: [0; 3],
        flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        names_and_key: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the kernel reads one `loop_config`, which is alive and has the C layout.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE, &raw const config) }).map(drop)
}

/// linux/kexec.h, `KEXEC_FILE_NO_INITRAMFS`.
const KEXEC_FILE_NO_INITRAMFS: libc::c_ulong = 4;

/// Loads a kernel to be started in the place of the one that runs (kexec_file_load(2)).
///
/// # Errors
/// When the running kernel refuses it.
pub fn load_kernel(image: impl AsFd, initrd: Option<impl AsFd>, cmdline: &std::ffi::CStr) -> io::Result<()> {
    let flags = if initrd.is_some() { 0 } else { KEXEC_FILE_NO_INITRAMFS };
    let initrd = initrd.as_ref().map_or(-1, |initrd| initrd.as_fd().as_raw_fd());
    // SAFETY: the kernel reads both files, which are open, and the text, of which it is told the length with its end.
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
        ];
        assert!(pairs.iter().all(|(flag, attribute)| u64::from(flag.bits()) == *attribute));
    }

    #[test]
    fn the_loop_configuration_has_the_kernels_size() {
        // linux/loop.h: two __u32, a loop_info64 of 232 bytes, eight __u64.
        assert_eq!(size_of::<LoopConfig>(), 8 + 232 + 64);
        assert_eq!(std::mem::offset_of!(LoopConfig, flags), 8 + 52);
    }
}
