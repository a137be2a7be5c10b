//! What an unprivileged container may do and see: podman's choice (containers-common: `default_capabilities`,
//! `masked_paths`, `read_only_paths`).

use super::mounts::{MountTree, Reach, make_read_only};
use anyhow::Context as _;
use hint::WithHint as _;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Dev, FileType, Mode, OFlags, ResolveFlags, major, minor, mknodat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::thread::CapabilitySet;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use untrusted_fs::{Directory, Links};

/// The capabilities of root in such a container.
pub(super) const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

const NO_PROGRAMS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const READ_ONLY: MountFlags = NO_PROGRAMS.union(MountFlags::RDONLY);

struct KernelMount {
    at: &'static str,
    kind: &'static str,
    flags: MountFlags,
    options: &'static str,
}

const DEVICES_AT: &str = "/dev";
const NULL: &str = "/dev/null";
/// Its major and minor number (Documentation/admin-guide/devices.txt).
const NULL_NUMBERS: (u32, u32) = (1, 3);

const PROC: KernelMount = KernelMount { at: "/proc", kind: "proc", flags: NO_PROGRAMS, options: "" };

const CGROUPS: KernelMount =
    KernelMount { at: "/sys/fs/cgroup", kind: "cgroup2", flags: NO_PROGRAMS, options: "" };

/// Replaces the host's `/dev` and `/sys`, in this order.
const OWN: &[KernelMount] = &[
    KernelMount {
        at: "/dev",
        kind: "tmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: "mode=755,size=64k",
    },
    // The machine has 4096 pseudo-terminals for all (Documentation/admin-guide/sysctl/kernel.rst, `pty.max`); one container
    // must not use up those of others.
    KernelMount {
        at: "/dev/pts",
        kind: "devpts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: "newinstance,gid=5,mode=620,ptmxmode=666,max=256",
    },
    // 64000 KiB: podman's default (`--shm-size`).
    KernelMount { at: "/dev/shm", kind: "tmpfs", flags: NO_PROGRAMS, options: "mode=1777,size=64000k" },
    KernelMount { at: "/dev/mqueue", kind: "mqueue", flags: NO_PROGRAMS, options: "" },
    KernelMount { at: "/sys", kind: "sysfs", flags: READ_ONLY, options: "" },
    KernelMount { flags: READ_ONLY, ..CGROUPS },
];

/// Name, mode, major and minor number (Documentation/admin-guide/devices.txt).
const DEVICES: &[(&str, u32, u32, u32)] = &[
    (NULL, 0o666, 1, 3),
    ("/dev/zero", 0o666, 1, 5),
    ("/dev/full", 0o666, 1, 7),
    ("/dev/random", 0o666, 1, 8),
    ("/dev/urandom", 0o666, 1, 9),
    ("/dev/tty", 0o666, 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Paths that cannot be read. Not every kernel has each of them.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Paths that cannot be written.
const FIXED: &[&str] =
    &["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Mounts `/proc`, and in an unprivileged container its own `/dev` and `/sys`; that of its cgroups only with
/// `shows_cgroups`.
pub(super) fn mount_kernel_file_systems(
    root: &Directory,
    privileged: bool,
    shows_cgroups: bool,
) -> anyhow::Result<()> {
    PROC.mount(root)?;
    if privileged {
        return Ok(());
    }
    let own = OWN.iter().filter(|own| shows_cgroups || own.kind != CGROUPS.kind);
    own.into_iter().try_for_each(|own| own.mount(root))?;
    for (path, mode, major, minor) in DEVICES {
        make_device(CWD, Path::new(path), *mode, rustix::fs::makedev(*major, *minor))?;
    }
    for (link, target) in LINKS {
        symlink(target, link).with_context(|| format!("cannot create `{link}`"))?;
    }
    Ok(())
}

/// Shows the PID namespace and the cgroup namespace of this process in place of those that are shown.
pub(super) fn show_namespaces_of_init(root: &Directory, privileged: bool) -> anyhow::Result<()> {
    unmount(PROC.at, UnmountFlags::DETACH).context("cannot replace `/proc`")?;
    PROC.mount(root)?;
    MountTree::mount_cgroups(CGROUPS.at).with_context(|| format!("cannot mount `{}`", CGROUPS.at))?;
    if privileged { Ok(()) } else { hide_below(PROC.at) }
}

/// Masks paths that reveal too much about the machine, or can change it. Only while every path below `/dev`, `/proc` and
/// `/sys` leads where the kernel and this program have put it: before any volume is mounted.
pub(super) fn hide() -> anyhow::Result<()> {
    hide_below("/")
}

fn hide_below(directory: &str) -> anyhow::Result<()> {
    let is_there = |path: &&Path| path.starts_with(directory) && path.exists();
    for path in MASKED.iter().map(Path::new).filter(is_there) {
        mask(path).with_context(|| format!("cannot hide `{}`", path.display()))?;
    }
    for path in FIXED.iter().map(Path::new).filter(is_there) {
        let fixed =
            mount_bind(path, path).map_err(Into::into).and_then(|()| make_read_only(path, Reach::WholeTree));
        fixed.with_context(|| format!("cannot make `{}` read-only", path.display()))?;
    }
    Ok(())
}

/// Keeps the container from its PID 1.
pub(super) fn shut_off() -> anyhow::Result<()> {
    // PID 1 executes a program of the host; this keeps the container from reaching the host's files through it.
    let whole = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(whole).context("cannot isolate PID 1")
}

fn mask(path: &Path) -> rustix::io::Result<()> {
    if path.is_dir() {
        return mount("tmpfs", path, "tmpfs", READ_ONLY, c"size=0");
    }
    mount_bind(NULL, path)
}

/// Opens `/dev/null`. Only while no program of the container could have put something else there.
pub(super) fn open_null() -> anyhow::Result<File> {
    File::open(NULL).with_context(|| format!("cannot open `{NULL}`"))
}

/// Opens what lies at `/dev/null` in a privileged container, if it is that: programs may look up the name of their
/// input. The container may replace it, but has all rights anyway.
pub(super) fn find_null() -> Option<File> {
    let root = Directory::open("/").ok()?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let open = |flags| openat2(&root, &NULL[1..], flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    let status = rustix::fs::fstat(open(OFlags::PATH).ok()?).ok()?;
    let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && (major(status.st_rdev), minor(status.st_rdev)) == NULL_NUMBERS;
    is_null.then(|| open(OFlags::RDONLY | OFlags::NONBLOCK).ok().map(File::from)).flatten()
}

/// The file systems of the kernel in a container. What is mounted there is taken for the kernel's word, so a link of the
/// image must not lead a volume there.
pub(super) struct KernelFileSystems(Vec<KernelFileSystem>);

struct KernelFileSystem {
    directory: Directory,
    device: Dev,
    /// Nothing is mounted there, but for what the plan has in `/dev`.
    is_ours: bool,
}

impl KernelFileSystems {
    /// Those that [`mount_kernel_file_systems`] has mounted. A privileged container may mount anything there.
    pub(super) fn find(root: &Directory, privileged: bool, shows_cgroups: bool) -> anyhow::Result<Self> {
        let own = OWN.iter().filter(|own| !privileged && (shows_cgroups || own.kind != CGROUPS.kind));
        let places = [&PROC].into_iter().chain(own).map(|own| own.at);
        let find = |at: &str| {
            let directory = root.directory(&at[1..], Links::Refuse)?;
            let device = rustix::fs::fstat(&directory)?.st_dev;
            Ok(KernelFileSystem { directory, device, is_ours: !privileged })
        };
        Ok(Self(places.map(find).collect::<anyhow::Result<_>>()?))
    }

    /// Their directories.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = io::Result<OwnedFd>> {
        self.0.iter().map(|it| it.directory.as_fd().try_clone_to_owned())
    }

    /// Whether a mount at `found` would cover a part of them, other than one in `/dev` that the plan names as such.
    pub(super) fn are_covered_at(&self, found: impl AsFd, target: &Path) -> io::Result<bool> {
        let device = rustix::fs::fstat(found)?.st_dev;
        let is_in_dev =
            |it: &KernelFileSystem| it.directory.path().starts_with(DEVICES_AT) && is_below_dev(target);
        Ok(self.0.iter().any(|it| it.is_ours && it.device == device && !is_in_dev(it)))
    }
}

fn is_below_dev(target: &Path) -> bool {
    target.strip_prefix(DEVICES_AT).is_ok_and(|below| !below.as_os_str().is_empty())
}

fn make_device(at: impl AsFd, name: &Path, mode: u32, device: rustix::fs::Dev) -> anyhow::Result<()> {
    // The umask would clear bits of the mode; a chmod(2) afterwards could change another file.
    let mask = rustix::process::umask(Mode::empty());
    let made = mknodat(at, name, FileType::CharacterDevice, Mode::from_raw_mode(mode), device);
    rustix::process::umask(mask);
    made.with_context(|| format!("cannot create the device `{}`", name.display()))
}

impl KernelMount {
    /// Mounts only on a real directory of the image. Through a link, masked files could be reached by another path
    /// (CVE-2019-19921), or the mount be made elsewhere. No other process of this container runs yet that could change
    /// the path.
    fn mount(&self, root: &Directory) -> anyhow::Result<()> {
        root.make_directories(self.at.trim_start_matches('/'), 0o755, Links::Refuse)
            .with_context(|| format!("cannot mount `{}`", self.at))
            .hint("make it a directory in the image, not a symbolic link")?;
        let options = CString::new(self.options)?;
        match mount(self.kind, self.at, self.kind, self.flags, options.as_c_str()) {
            // Containers can do without these, which a kernel may lack.
            Err(Errno::NODEV) if self.kind == "mqueue" || self.kind == "cgroup2" => Ok(()),
            mounted => mounted.with_context(|| format!("cannot mount `{}`", self.at)),
        }
    }
}
