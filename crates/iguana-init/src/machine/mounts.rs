//! The mounts of the initrd, as a table.

use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

struct Mount {
    what: &'static str,
    at: &'static str,
    kind: &'static str,
    flags: MountFlags,
    options: &'static str,
}

const NO_PROGRAMS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// A file system for Iguana's own files, so that neither it nor `/run` can fill the other. It holds the log, at most 4
/// MiB as text and again as events, and 0.4 MiB per service; the store is a file system of its own.
const OWN: Mount = Mount {
    what: "tmpfs",
    at: "/run/iguana",
    kind: "tmpfs",
    flags: MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC),
    options: "mode=0755,size=32m,nr_inodes=4096",
};

/// In order. A kernel without one of the file systems (cgroup2, mqueue) still boots.
const EARLY: &[Mount] = &[
    Mount { what: "proc", at: "/proc", kind: "proc", flags: NO_PROGRAMS, options: "" },
    Mount { what: "sysfs", at: "/sys", kind: "sysfs", flags: NO_PROGRAMS, options: "" },
    Mount { what: "devtmpfs", at: "/dev", kind: "devtmpfs", flags: MountFlags::NOSUID, options: "mode=0755" },
    Mount {
        what: "devpts",
        at: "/dev/pts",
        kind: "devpts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: "gid=5,mode=620,ptmxmode=666",
    },
    Mount {
        what: "tmpfs",
        at: "/dev/shm",
        kind: "tmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: "mode=1777",
    },
    Mount { what: "mqueue", at: "/dev/mqueue", kind: "mqueue", flags: NO_PROGRAMS, options: "" },
    Mount {
        what: "tmpfs",
        at: "/run",
        kind: "tmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: "mode=0755",
    },
    OWN,
    Mount {
        what: "cgroup2",
        at: "/sys/fs/cgroup",
        kind: "cgroup2",
        flags: NO_PROGRAMS,
        options: "nsdelegate",
    },
];

/// The variables of the firmware: programs that install boot loaders make boot entries there (efivarfs.rst). The kernel
/// provides the directory on machines with UEFI.
const FIRMWARE_VARIABLES: Mount = Mount {
    what: "efivarfs",
    at: "/sys/firmware/efi/efivars",
    kind: "efivarfs",
    flags: NO_PROGRAMS,
    options: "",
};

/// Links that programs expect in `/dev` and that devtmpfs does not create.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Mounts the file systems of the table that are not mounted yet.
///
/// # Errors
/// When one of them failed; the others are mounted nevertheless.
pub(crate) fn early() -> anyhow::Result<()> {
    let failed: Vec<String> = EARLY
        .iter()
        .filter_map(|entry| entry.mount().err().map(|error| format!("`{}`: {error}", entry.at)))
        .collect();
    for (link, target) in LINKS {
        // They may exist already if the kernel mounted devtmpfs.
        let _ = std::os::unix::fs::symlink(target, link);
    }
    anyhow::ensure!(failed.is_empty(), "cannot mount {}", failed.join(", "));
    Ok(())
}

/// Mounts Iguana's own file system if it is not mounted yet. Call it before the log is opened, which it would hide.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn own() -> anyhow::Result<()> {
    OWN.mount().map_err(|error| error.context(format!("cannot mount `{}`", OWN.at)))
}

/// Mounts the variables of the firmware, if it has any and nothing has mounted them yet. Call it when modules can be
/// loaded.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn firmware_variables() -> anyhow::Result<()> {
    if !Path::new(FIRMWARE_VARIABLES.at).is_dir() {
        return Ok(());
    }
    let at = FIRMWARE_VARIABLES.at;
    FIRMWARE_VARIABLES.mount().map_err(|error| error.context(format!("cannot mount `{at}`")))
}

impl Mount {
    fn mount(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.at)?;
        if is_mountpoint(Path::new(self.at))? {
            return Ok(());
        }
        let options = CString::new(self.options)?;
        match mount(self.what, self.at, self.kind, self.flags, options.as_c_str()) {
            // The kernel lacks this file system.
            Err(rustix::io::Errno::NODEV) => Ok(()),
            mounted => Ok(mounted?),
        }
    }
}

/// Whether it is a mount point: the kernel mounts `/dev` itself, and dracut nearly everything.
fn is_mountpoint(directory: &Path) -> std::io::Result<bool> {
    let above = directory.parent().unwrap_or(directory);
    Ok(fs::metadata(directory)?.dev() != fs::metadata(above)?.dev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mount_hides_an_earlier_one() {
        for (index, entry) in EARLY.iter().enumerate() {
            let hidden =
                EARLY[..index].iter().find(|earlier| earlier.at.starts_with(&format!("{}/", entry.at)));
            assert!(hidden.is_none(), "{} would hide {}", entry.at, hidden.unwrap().at);
        }
    }
}
