//! The system calls that an unprivileged container may make: podman's choice for its default capabilities
//! (containers-common 0.64, `seccomp.json`).
//!
//! A call that is not listed here fails with `ENOSYS`, as on an older kernel: so programs fall back to an older call. A
//! 32-bit program is killed by `SIGSYS`: podman supports its calls, but the compiler of these filters does not.
//!
//! Stricter than podman: requests to a terminal, which with podman is never the machine's own, and keys, which the
//! kernel keeps by user, whichever container that is, pidfd_getfd(2), and the options of sockets that give a pidfd of a
//! process of the machine or send from an address of another one ([`SOCKET_OPTIONS_SET`]). No namespace can be entered
//! (setns(2)): the kernel lets a user into each user namespace that the same user has made, and root of a container is the
//! machine's root. Handles of namespaces come from sockets, and since Linux 6.12 from an iteration over those of the whole
//! machine (`NS_MNT_GET_NEXT`, ioctl_nsfs(2)). And there are no new cgroup
//! namespaces: whoever makes one, in a user namespace, may mount the hierarchies of version 1, in few of which a container
//! has a cgroup of its own, and freeze the container's PID 1 in a cgroup of version 2, even where that is delegated
//! (`nsdelegate`, cgroups(7)).

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;
use std::ffi::c_long;

/// Allowed.
const ALLOWED: &[c_long] = {
    use libc::*;
    &[
        SYS_accept,
        SYS_accept4,
        SYS_adjtimex,
        SYS_bind,
        SYS_brk,
        SYS_capget,
        SYS_capset,
        SYS_chdir,
        SYS_chroot,
        SYS_clock_adjtime,
        SYS_clock_getres,
        SYS_clock_gettime,
        SYS_clock_nanosleep,
        SYS_clone,
        SYS_close,
        SYS_close_range,
        SYS_connect,
        SYS_copy_file_range,
        SYS_dup,
        SYS_dup3,
        SYS_epoll_create1,
        SYS_epoll_ctl,
        SYS_epoll_pwait,
        SYS_epoll_pwait2,
        SYS_eventfd2,
        SYS_execve,
        SYS_execveat,
        SYS_exit,
        SYS_exit_group,
        SYS_faccessat,
        SYS_faccessat2,
        SYS_fadvise64,
        SYS_fallocate,
        SYS_fanotify_init,
        SYS_fanotify_mark,
        SYS_fchdir,
        SYS_fchmod,
        SYS_fchmodat,
        SYS_fchown,
        SYS_fchownat,
        SYS_fcntl,
        SYS_fdatasync,
        SYS_fgetxattr,
        SYS_flistxattr,
        SYS_flock,
        SYS_fremovexattr,
        SYS_fsconfig,
        SYS_fsetxattr,
        SYS_fsmount,
        SYS_fsopen,
        SYS_fspick,
        SYS_fstat,
        SYS_fstatfs,
        SYS_fsync,
        SYS_ftruncate,
        SYS_futex,
        SYS_get_mempolicy,
        SYS_get_robust_list,
        SYS_getcpu,
        SYS_getcwd,
        SYS_getdents64,
        SYS_getegid,
        SYS_geteuid,
        SYS_getgid,
        SYS_getgroups,
        SYS_getitimer,
        SYS_getpeername,
        SYS_getpgid,
        SYS_getpid,
        SYS_getppid,
        SYS_getpriority,
        SYS_getrandom,
        SYS_getresgid,
        SYS_getresuid,
        SYS_getrusage,
        SYS_getsid,
        SYS_getsockname,
        SYS_getsockopt,
        SYS_gettid,
        SYS_gettimeofday,
        SYS_getuid,
        SYS_getxattr,
        SYS_inotify_add_watch,
        SYS_inotify_init1,
        SYS_inotify_rm_watch,
        SYS_io_cancel,
        SYS_io_destroy,
        SYS_io_getevents,
        SYS_io_setup,
        SYS_io_submit,
        SYS_ioctl,
        SYS_ioprio_get,
        SYS_ioprio_set,
        SYS_kill,
        SYS_landlock_add_rule,
        SYS_landlock_create_ruleset,
        SYS_landlock_restrict_self,
        SYS_lgetxattr,
        SYS_linkat,
        SYS_listen,
        SYS_listxattr,
        SYS_llistxattr,
        SYS_lremovexattr,
        SYS_lseek,
        SYS_lsetxattr,
        SYS_madvise,
        SYS_mbind,
        SYS_membarrier,
        SYS_memfd_create,
        SYS_memfd_secret,
        SYS_mincore,
        SYS_mkdirat,
        SYS_mknodat,
        SYS_mlock,
        SYS_mlock2,
        SYS_mlockall,
        SYS_mmap,
        SYS_mount,
        SYS_mount_setattr,
        SYS_move_mount,
        SYS_mprotect,
        SYS_mq_getsetattr,
        SYS_mq_notify,
        SYS_mq_open,
        SYS_mq_timedreceive,
        SYS_mq_timedsend,
        SYS_mq_unlink,
        SYS_mremap,
        SYS_msgctl,
        SYS_msgget,
        SYS_msgrcv,
        SYS_msgsnd,
        SYS_msync,
        SYS_munlock,
        SYS_munlockall,
        SYS_munmap,
        SYS_name_to_handle_at,
        SYS_nanosleep,
        SYS_newfstatat,
        SYS_open_tree,
        SYS_openat,
        SYS_openat2,
        SYS_pidfd_open,
        SYS_pidfd_send_signal,
        SYS_pipe2,
        SYS_pivot_root,
        SYS_pkey_alloc,
        SYS_pkey_free,
        SYS_pkey_mprotect,
        SYS_ppoll,
        SYS_prctl,
        SYS_pread64,
        SYS_preadv,
        SYS_preadv2,
        SYS_prlimit64,
        SYS_process_mrelease,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_pselect6,
        SYS_ptrace,
        SYS_pwrite64,
        SYS_pwritev,
        SYS_pwritev2,
        SYS_read,
        SYS_readahead,
        SYS_readlinkat,
        SYS_readv,
        SYS_reboot,
        SYS_recvfrom,
        SYS_recvmmsg,
        SYS_recvmsg,
        SYS_remap_file_pages,
        SYS_removexattr,
        SYS_renameat2,
        SYS_restart_syscall,
        SYS_rseq,
        SYS_rt_sigaction,
        SYS_rt_sigpending,
        SYS_rt_sigprocmask,
        SYS_rt_sigqueueinfo,
        SYS_rt_sigreturn,
        SYS_rt_sigsuspend,
        SYS_rt_sigtimedwait,
        SYS_rt_tgsigqueueinfo,
        SYS_sched_get_priority_max,
        SYS_sched_get_priority_min,
        SYS_sched_getaffinity,
        SYS_sched_getattr,
        SYS_sched_getparam,
        SYS_sched_getscheduler,
        SYS_sched_rr_get_interval,
        SYS_sched_setaffinity,
        SYS_sched_setattr,
        SYS_sched_setparam,
        SYS_sched_setscheduler,
        SYS_sched_yield,
        SYS_seccomp,
        SYS_semctl,
        SYS_semget,
        SYS_semop,
        SYS_semtimedop,
        SYS_sendfile,
        SYS_sendmmsg,
        SYS_sendmsg,
        SYS_sendto,
        SYS_set_mempolicy,
        SYS_set_robust_list,
        SYS_set_tid_address,
        SYS_setfsgid,
        SYS_setfsuid,
        SYS_setgid,
        SYS_setgroups,
        SYS_setitimer,
        SYS_setpgid,
        SYS_setpriority,
        SYS_setregid,
        SYS_setresgid,
        SYS_setresuid,
        SYS_setreuid,
        SYS_setsid,
        SYS_setsockopt,
        SYS_setuid,
        SYS_setxattr,
        SYS_shmat,
        SYS_shmctl,
        SYS_shmdt,
        SYS_shmget,
        SYS_shutdown,
        SYS_sigaltstack,
        SYS_signalfd4,
        SYS_socket,
        SYS_socketpair,
        SYS_splice,
        SYS_statfs,
        SYS_statx,
        SYS_symlinkat,
        SYS_sync,
        SYS_syncfs,
        SYS_sysinfo,
        SYS_syslog,
        SYS_tee,
        SYS_tgkill,
        SYS_timer_create,
        SYS_timer_delete,
        SYS_timer_getoverrun,
        SYS_timer_gettime,
        SYS_timer_settime,
        SYS_timerfd_create,
        SYS_timerfd_gettime,
        SYS_timerfd_settime,
        SYS_times,
        SYS_tkill,
        SYS_truncate,
        SYS_umask,
        SYS_umount2,
        SYS_uname,
        SYS_unlinkat,
        SYS_unshare,
        SYS_utimensat,
        SYS_wait4,
        SYS_waitid,
        SYS_write,
        SYS_writev,
    ]
};

/// Allowed on this architecture.
const ALLOWED_OF_THIS_ARCHITECTURE: &[c_long] = {
    use libc::*;
    &[
        SYS_access,
        SYS_alarm,
        SYS_arch_prctl,
        SYS_chmod,
        SYS_chown,
        SYS_creat,
        SYS_dup2,
        SYS_epoll_create,
        SYS_epoll_ctl_old,
        SYS_epoll_wait,
        SYS_epoll_wait_old,
        SYS_eventfd,
        SYS_fchmodat2,
        SYS_fork,
        SYS_futimesat,
        SYS_get_thread_area,
        SYS_getdents,
        SYS_getpgrp,
        SYS_getrlimit,
        SYS_inotify_init,
        SYS_lchown,
        SYS_link,
        SYS_lstat,
        SYS_mkdir,
        SYS_mknod,
        SYS_modify_ldt,
        SYS_open,
        SYS_pause,
        SYS_pipe,
        SYS_poll,
        SYS_readlink,
        SYS_rename,
        SYS_renameat,
        SYS_rmdir,
        SYS_select,
        SYS_set_thread_area,
        SYS_setrlimit,
        SYS_signalfd,
        SYS_stat,
        SYS_symlink,
        SYS_sync_file_range,
        SYS_time,
        SYS_unlink,
        SYS_utime,
        SYS_utimes,
        SYS_vfork,
    ]
};

/// Refused with `EPERM`.
const REFUSED: &[c_long] = {
    use libc::*;
    &[
        SYS_acct,
        SYS_bpf,
        SYS_clock_settime,
        SYS_delete_module,
        SYS_finit_module,
        SYS_init_module,
        SYS_kcmp,
        SYS_kexec_file_load,
        SYS_kexec_load,
        SYS_keyctl,
        SYS_lookup_dcookie,
        SYS_migrate_pages,
        SYS_move_pages,
        SYS_nfsservctl,
        SYS_open_by_handle_at,
        SYS_perf_event_open,
        SYS_pidfd_getfd,
        SYS_process_madvise,
        SYS_quotactl,
        SYS_setdomainname,
        SYS_sethostname,
        SYS_setns,
        SYS_settimeofday,
        SYS_swapoff,
        SYS_swapon,
        SYS_userfaultfd,
        SYS_vhangup,
        SYS_vmsplice,
    ]
};

/// Refused on this architecture.
const REFUSED_OF_THIS_ARCHITECTURE: &[c_long] = {
    use libc::*;
    &[SYS_ioperm, SYS_iopl, SYS_sysfs, SYS_uselib, SYS_ustat]
};

/// Also refused with `EPERM`; the libc crate has no names for them (asm/unistd_64.h).
#[cfg(target_arch = "x86_64")]
const REFUSED_WITHOUT_A_NAME: &[c_long] = &[QUERY_MODULE, IO_PGETEVENTS];
#[cfg(target_arch = "x86_64")]
const QUERY_MODULE: c_long = 178;
#[cfg(target_arch = "x86_64")]
const IO_PGETEVENTS: c_long = 333;

/// Allowed arguments of personality(2): Linux and 32-bit Linux, each with or without `UNAME26`, and the query of the
/// current one.
const PERSONALITIES: &[u64] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Requests to a terminal that affect its next user (asm-generic/ioctls.h). `TIOCSTI`, and `TIOCLINUX` through the
/// clipboard of the console, inject input (CVE-2017-5226, CVE-2023-28100); `TIOCSETD` changes the line discipline.
const TERMINAL_REQUESTS: &[u64] = &[libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD];
/// Requests to a virtual console and its keyboard (linux/kd.h, linux/vt.h): `0x4B00` to `0x4BFF`, `0x5600` to `0x56FF`.
const SCREEN_REQUESTS: &[u64] = &[0x4B00, 0x5600];
const SCREEN_REQUESTS_MASK: u64 = 0xFFFF_FF00;

/// Options of sockets, as level and name, that lead out of the container, as its network is the machine's (asm-generic/socket.h,
/// linux/in.h, linux/in6.h). A pidfd of the process at the other end of an abstract socket is one for setns(2) and
/// pidfd_getfd(2), whatever its PID namespace. Free binding lets anyone send from the IPv6 address of a name server.
const SOCKET_OPTIONS_READ: &[(u64, u64)] = &[(libc::SOL_SOCKET as u64, SO_PEERPIDFD)];
const SOCKET_OPTIONS_SET: &[(u64, u64)] = &[
    (libc::SOL_SOCKET as u64, SO_PASSPIDFD),
    (libc::SOL_IP as u64, libc::IP_FREEBIND as u64),
    (libc::SOL_IPV6 as u64, IPV6_FREEBIND),
];
const SO_PASSPIDFD: u64 = 76;
const SO_PEERPIDFD: u64 = 77;
const IPV6_FREEBIND: u64 = 78;

/// Makes a cgroup namespace (linux/sched.h): a bit of the first argument of clone(2) and unshare(2). clone3(2) has it in
/// memory, where no filter sees it, so that call is not listed: whoever gets `ENOSYS` goes back to clone.
const NEW_CGROUP_NAMESPACE: u64 = libc::CLONE_NEWCGROUP as u64;

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// The filters, to be applied in this order: of two that refuse a call, the later one says how.
pub(super) fn filters() -> Result<[BpfProgram; 3], BackendError> {
    let (allowed, refused) = (allowed()?, refused()?);
    Ok([
        filter(allowed, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow)?,
        filter(refused, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?,
        filter(unsupported()?, SeccompAction::Allow, SeccompAction::Errno(libc::EINVAL as u32))?,
    ])
}

fn filter(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, others, these, std::env::consts::ARCH.try_into()?)?.try_into()
}

fn allowed() -> Result<Rules, BackendError> {
    let mut rules = unconditional(&[ALLOWED, ALLOWED_OF_THIS_ARCHITECTURE]);
    let personalities = PERSONALITIES.iter().map(|value| SeccompRule::new(vec![argument(0, *value)?]));
    rules.insert(libc::SYS_personality, personalities.collect::<Result<_, _>>()?);
    Ok(rules)
}

fn refused() -> Result<Rules, BackendError> {
    let mut rules = unconditional(&[REFUSED, REFUSED_OF_THIS_ARCHITECTURE, REFUSED_WITHOUT_A_NAME]);
    let terminal = TERMINAL_REQUESTS.iter().map(|request| terminal_request(SeccompCmpOp::Eq, *request));
    let screen = SCREEN_REQUESTS
        .iter()
        .map(|group| terminal_request(SeccompCmpOp::MaskedEq(SCREEN_REQUESTS_MASK), *group));
    rules.insert(libc::SYS_ioctl, terminal.chain(screen).collect::<Result<_, _>>()?);
    for (call, options) in
        [(libc::SYS_getsockopt, SOCKET_OPTIONS_READ), (libc::SYS_setsockopt, SOCKET_OPTIONS_SET)]
    {
        rules.insert(call, options.iter().copied().map(socket_option).collect::<Result<_, _>>()?);
    }
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        rules.insert(call, vec![new_cgroup_namespace()?]);
    }
    Ok(rules)
}

/// The kernel uses 32 bits of both (getsockopt(2)).
fn socket_option((level, name): (u64, u64)) -> Result<SeccompRule, BackendError> {
    let is = |number, value| SeccompCondition::new(number, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    SeccompRule::new(vec![is(1, level)?, is(2, name)?])
}

/// The kernel uses 32 bits of a request (ioctl(2)); a filter that compares 64 can be bypassed (CVE-2019-7303).
fn terminal_request(operator: SeccompCmpOp, request: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(1, SeccompCmpArgLen::Dword, operator, request)?])
}

fn new_cgroup_namespace() -> Result<SeccompRule, BackendError> {
    let is_asked_for = SeccompCmpOp::MaskedEq(NEW_CGROUP_NAMESPACE);
    let argument = SeccompCondition::new(0, SeccompCmpArgLen::Dword, is_asked_for, NEW_CGROUP_NAMESPACE)?;
    SeccompRule::new(vec![argument])
}

/// The kernel's audit cannot be spoken to; programs take `EINVAL` for a kernel without it.
fn unsupported() -> Result<Rules, BackendError> {
    let to_audit = [argument(0, libc::AF_NETLINK as u64)?, argument(2, libc::NETLINK_AUDIT as u64)?];
    Ok(Rules::from([(libc::SYS_socket, vec![SeccompRule::new(to_audit.into())?])]))
}

fn unconditional(tables: &[&[c_long]]) -> Rules {
    tables.iter().copied().flatten().map(|call| (*call, Vec::new())).collect()
}

fn argument(number: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(number, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_call_is_in_exactly_one_table() {
        let tables = [
            ALLOWED,
            ALLOWED_OF_THIS_ARCHITECTURE,
            REFUSED,
            REFUSED_OF_THIS_ARCHITECTURE,
            REFUSED_WITHOUT_A_NAME,
            &[libc::SYS_personality],
        ];
        let all: Vec<c_long> = tables.concat();
        let rules = unconditional(&tables);
        assert_eq!(rules.len(), all.len(), "a call is named twice");
    }

    #[test]
    fn the_filters_do_not_exceed_the_kernels_limit() {
        // linux/bpf_common.h: BPF_MAXINSNS.
        assert!(filters().unwrap().iter().all(|filter| !filter.is_empty() && filter.len() <= 4096));
    }
}
