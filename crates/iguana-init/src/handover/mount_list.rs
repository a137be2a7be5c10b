//! The mount list: lines of `device mountpoint [options]`, in order.

use super::NEW_ROOT;
use super::device;
use super::filesystem;
use anyhow::{Context as _, ensure};
use iguana_core::hint::{WithHint as _, hinted};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) device: String,
    pub(super) mountpoint: PathBuf,
    options: String,
}

/// Reads a mount list. Empty lines and those that begin with `#` mean nothing.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Entry>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(parse_line).collect()
}

fn parse_line(line: &str) -> anyhow::Result<Entry> {
    let mut fields = line.split_ascii_whitespace();
    let (Some(device), Some(mountpoint)) = (fields.next(), fields.next()) else {
        return Err(hinted(
            format!("`{line}` is not a line of a mount list"),
            format!("write `DEVICE MOUNTPOINT [OPTIONS]`, the new root's mountpoint is `{NEW_ROOT}`"),
        ));
    };
    let path = Path::new(mountpoint);
    ensure!(
        path.starts_with(NEW_ROOT) && !path.components().any(|part| part == Component::ParentDir),
        "the mountpoint `{mountpoint}` is not below `{NEW_ROOT}`"
    );
    Ok(Entry::new(device, mountpoint, fields.next().unwrap_or("defaults")))
}

impl Entry {
    pub(super) fn new(device: &str, mountpoint: &str, options: &str) -> Self {
        Self { device: device.into(), mountpoint: mountpoint.into(), options: options.into() }
    }

    /// Mounts it, once its device is there. `waiting` is told what is waited for, again and again.
    pub(super) fn mount(&self, waiting: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        let device = device::wait_for(&self.device, waiting)?;
        let shown = device.display();
        let kind = filesystem::kind(&device)?;
        let mountpoint = open_mountpoint(&self.mountpoint)
            .with_context(|| format!("cannot make the mountpoint `{}`", self.mountpoint.display()))?;
        let (flags, data) = split_options(&self.options);
        let data = CString::new(data)?;
        let target = format!("/proc/self/fd/{}", mountpoint.as_raw_fd());
        mount(&device, target.as_str(), kind, flags, data.as_c_str())
            .with_context(|| format!("cannot mount `{shown}` ({kind}) at `{}`", self.mountpoint.display()))
            .hint("check the file system, and the options in the mount list")
    }
}

/// The folder to mount at, made if need be. A link of the new system leads where it will lead there:
/// `/home -> /data/home` must not end in the initrd.
fn open_mountpoint(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(inside) = path.strip_prefix(NEW_ROOT).map(|inside| Path::new("/").join(inside)) else {
        fs::create_dir_all(path)?;
        return Ok(open(path, flags, Mode::empty())?);
    };
    fs::create_dir_all(NEW_ROOT)?;
    let mut folder = open(NEW_ROOT, flags, Mode::empty())?;
    let root = folder.try_clone()?;
    for ancestor in inside.ancestors().collect::<Vec<_>>().into_iter().rev().skip(1) {
        let name = ancestor.file_name().context("a mountpoint without a name")?;
        match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        folder = openat2(&root, ancestor, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    }
    Ok(folder)
}

/// Divides the options of fstab(5) into those of mount(2) and those of the file system.
fn split_options(options: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in options.split(',') {
        match option {
            "ro" => flags |= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            // What mount(8) keeps to itself.
            "" | "defaults" | "rw" | "suid" | "dev" | "exec" | "async" | "auto" | "noauto" | "nofail"
            | "_netdev" => {}
            option if option.starts_with("x-") => {}
            option => data.push(option),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_two_or_three_fields() {
        let list =
            parse("# made by hand\n/dev/vda1 /sysroot\n\n  UUID=1 /sysroot/boot  ro,nodev \n").unwrap();
        assert_eq!(list[0], Entry::new("/dev/vda1", "/sysroot", "defaults"));
        assert_eq!(list[1], Entry::new("UUID=1", "/sysroot/boot", "ro,nodev"));
        assert!(parse("/dev/vda1").unwrap_err().to_string().contains("`/dev/vda1`"));
    }

    #[test]
    fn mountpoints_stay_in_the_new_root() {
        for line in ["/dev/vda1 /", "/dev/vda1 /sysroots", "/dev/vda1 /sysroot/../etc"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn options_go_where_they_belong() {
        let (flags, data) = split_options("defaults,ro,noatime,subvol=@,x-systemd.growfs,errors=remount-ro");
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::NOATIME);
        assert_eq!(data, "subvol=@,errors=remount-ro");
    }
}
