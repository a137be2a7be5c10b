//! The new system, mounted below `/sysroot`. It is unmounted again unless the machine enters it, so that an error
//! leaves no file system in use.

use super::NEW_ROOT;
use super::filesystem;
use super::filesystem::DeviceContent;
use super::mount_list::{EntrySource, MountEntry};
use crate::block::named;
use crate::report::Report;
use anyhow::Context as _;
use hint::WithHint as _;
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount, unmount,
};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;
use sys::LoopPart;
use untrusted_fs::{Directory, Links};

/// A mounted system, unmounted on drop.
pub(super) struct System {
    /// In the order in which they were mounted.
    mountpoints: Vec<PathBuf>,
    pub(super) root: Root,
}

/// What the new root is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Root {
    /// It is mounted.
    Open {
        /// The name in the mount list.
        name: String,
        /// The node in `/dev`; `None` for a root without a device.
        device: Option<PathBuf>,
        /// The mount options without `ro`.
        options: String,
    },
    /// It is encrypted and was not opened.
    Closed {
        device: PathBuf,
        /// The UUID of the encrypted container.
        uuid: String,
    },
}

/// The result of mounting one line.
enum Mounted {
    At(PathBuf, Option<PathBuf>),
    Closed { device: PathBuf, uuid: String },
}

impl System {
    /// Mounts the list in order, and waits for each device.
    ///
    /// # Errors
    /// When a line without `nofail` fails. Then nothing stays mounted.
    pub(super) fn mount(list: &[MountEntry], report: &Report) -> anyhow::Result<Self> {
        let name = list.iter().find(|entry| entry.is_root()).map_or("nothing", |root| &root.device);
        let root = Root::Open { name: name.into(), device: None, options: String::new() };
        let mut system = Self { mountpoints: Vec::new(), root };
        list.iter().try_for_each(MountEntry::refuse_containers_files)?;
        for entry in list {
            let start = Instant::now();
            // Again: what a line names may be there only since the line before.
            let mounted = entry.refuse_containers_files().and_then(|()| mount_one(entry, report));
            match mounted.and_then(|mounted| spread(entry, mounted)) {
                Ok(mounted) => {
                    system.take(entry, mounted)?;
                    // With `rbind` as part of something larger.
                    if exchange::is_mounted_below(Path::new(NEW_ROOT)).context("cannot read the mounts")? {
                        return Err(entry.of_containers());
                    }
                    report.detail(format_args!(
                        "handover: mounted `{}` in {} ms",
                        entry.mountpoint.display(),
                        start.elapsed().as_millis()
                    ));
                }
                Err(error) if entry.may_fail() => report.warn(format_args!(
                    "`{}` is not mounted at `{}` (`nofail`): {error:#}",
                    entry.device,
                    entry.mountpoint.display()
                )),
                Err(error) => return Err(error),
            }
        }
        Ok(system)
    }

    fn take(&mut self, entry: &MountEntry, mounted: Mounted) -> anyhow::Result<()> {
        match mounted {
            Mounted::Closed { device, uuid } if entry.is_root() => self.root = Root::Closed { device, uuid },
            Mounted::Closed { device, .. } => return Err(filesystem::closed(&device)),
            Mounted::At(place, device) => {
                self.mountpoints.push(place);
                if entry.is_root() {
                    let (name, options) = (entry.device.clone(), entry.flags_and_data().1);
                    self.root = Root::Open { name, device, options };
                }
            }
        }
        Ok(())
    }

    /// Reads a text file of the new system. Links are resolved inside the new root, as that system will resolve them.
    pub(super) fn text(&self, path: &str, limit: u64) -> Result<String, untrusted_fs::Error> {
        new_root()?.read_to_string(path, Links::Inside, limit)
    }

    /// Leaves everything mounted, because the machine enters this system.
    pub(super) fn keep(mut self) {
        self.mountpoints.clear();
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for place in self.mountpoints.drain(..).rev() {
            // A busy file system is detached, and unmounted once it is no longer in use.
            if unmount(&place, UnmountFlags::empty()).is_err() {
                let _ = unmount(&place, UnmountFlags::DETACH);
            }
        }
    }
}

/// The new system's root, as far as it is mounted. Its content is untrusted: anyone with access to the disk may have
/// written it.
pub(super) fn new_root() -> Result<Directory, untrusted_fs::Error> {
    Directory::open(NEW_ROOT)
}

fn mount_one(entry: &MountEntry, report: &Report) -> anyhow::Result<Mounted> {
    let shown = entry.mountpoint.display();
    match entry.source() {
        EntrySource::Device => mount_device(entry, report),
        EntrySource::Kernel(kind) => {
            let target = mountpoint(entry)?;
            let (flags, data) = entry.flags_and_data();
            mount(kind, target.handle(), kind, flags, CString::new(data)?.as_c_str())
                .with_context(|| format!("cannot mount `{kind}` at `{shown}`"))
                .hint("check its options in the mount list")?;
            Ok(Mounted::At(target.path, None))
        }
        EntrySource::File(part) => {
            let mounted = loop_device(entry, part).and_then(|(device, _open)| mount_block(entry, device));
            mounted
                .with_context(|| format!("cannot mount the file `{}` at `{shown}`", entry.device))
                .hint("check that it exists; paths in the new system begin with `/sysroot`, too")
        }
        EntrySource::Path { with_mounts } => {
            let bound = bind(entry, with_mounts);
            bound
                .with_context(|| format!("cannot bind-mount `{}` at `{shown}`", entry.device))
                .hint("check that it exists; paths in the new system begin with `/sysroot`, too")
        }
    }
}

fn mount_device(entry: &MountEntry, report: &Report) -> anyhow::Result<Mounted> {
    let mut wait = |waiting: &str| report.say(format_args!("handover: waiting for {waiting}"));
    mount_block(entry, named::wait_for(&entry.device, &mut wait)?)
}

/// Applies the options for how a mount spreads to other namespaces.
fn spread(entry: &MountEntry, mounted: Mounted) -> anyhow::Result<Mounted> {
    if let Mounted::At(place, _) = &mounted {
        for flags in entry.propagation() {
            mount_change(place, flags)
                .with_context(|| format!("cannot change how `{}` spreads", entry.mountpoint.display()))
                .hint("check the options `shared`, `private`, `slave` and `unbindable` in the mount list")?;
        }
    }
    Ok(mounted)
}

/// A loop device with the file that a line names.
fn loop_device(entry: &MountEntry, part: LoopPart) -> anyhow::Result<(PathBuf, File)> {
    let file = opened_file(&located(entry)?, part.is_writable)?;
    let control = File::open("/dev/loop-control").context("this kernel has no loop devices")?;
    let device = PathBuf::from(format!("/dev/loop{}", sys::free_loop_device(&control)?));
    let opened = OpenOptions::new().read(true).write(part.is_writable).open(&device)?;
    sys::set_up_loop_device(&opened, &file, part)
        .with_context(|| format!("cannot set up `{}`", device.display()))?;
    // Without a mount, the device is detached from the file as soon as nothing has it open.
    Ok((device, opened))
}

/// Opens what was found with `O_PATH`. It is a file before it is opened, because whoever wrote the disk may have put a
/// FIFO or a device node there, and opening these may wait forever.
fn opened_file(found: &OwnedFd, is_writable: bool) -> anyhow::Result<File> {
    let kind = FileType::from_raw_mode(fstat(found)?.st_mode);
    anyhow::ensure!(kind == FileType::RegularFile, "it is not a file");
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    Ok(OpenOptions::new().read(true).write(is_writable).custom_flags(libc::O_NONBLOCK).open(path)?)
}

/// What a line names. A path below the new root is resolved as the new system will resolve it.
fn located(entry: &MountEntry) -> anyhow::Result<OwnedFd> {
    let source = Path::new(&entry.device);
    let opened = match source.strip_prefix(NEW_ROOT) {
        Ok(inside) if !inside.as_os_str().is_empty() => new_root()?.locate(inside, Links::Inside)?,
        _ => open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
    };
    if exchange::is_open_of_containers(&opened) {
        return Err(entry.of_containers());
    }
    Ok(opened)
}

fn mount_block(entry: &MountEntry, device: PathBuf) -> anyhow::Result<Mounted> {
    let kind = match filesystem::content(&device)? {
        DeviceContent::FileSystem(kind) => kind,
        DeviceContent::Encrypted { uuid } => return Ok(Mounted::Closed { device, uuid }),
    };
    let target = mountpoint(entry)?;
    let (flags, data) = entry.flags_and_data();
    mount(&device, target.handle(), kind, flags, CString::new(data)?.as_c_str())
        .with_context(|| {
            format!("cannot mount `{}` ({kind}) at `{}`", device.display(), entry.mountpoint.display())
        })
        .hint("check the file system, and the options in the mount list")?;
    Ok(Mounted::At(target.path, Some(device)))
}

/// Bind-mounts a path.
fn bind(entry: &MountEntry, with_mounts: bool) -> anyhow::Result<Mounted> {
    let opened = located(entry)?;
    let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let target = mountpoint(entry)?;
    if with_mounts {
        mount_bind_recursive(source, target.handle())?;
    } else {
        mount_bind(source, target.handle())?;
    }
    let (flags, _) = entry.flags_and_data();
    if !flags.is_empty() {
        mount_remount(&target.path, MountFlags::BIND | flags, "")?;
    }
    Ok(Mounted::At(target.path, None))
}

fn mountpoint(entry: &MountEntry) -> anyhow::Result<Mountpoint> {
    Mountpoint::open(&entry.mountpoint)
        .with_context(|| format!("cannot create the mountpoint `{}`", entry.mountpoint.display()))
        .hint("check the directories and symbolic links on its path: links are resolved as in the new system")
}

/// A directory to mount at, held open so that changes of its path do not matter.
pub(super) struct Mountpoint {
    descriptor: OwnedFd,
    /// Its path, with all links resolved.
    pub(super) path: PathBuf,
}

impl Mountpoint {
    fn handle(&self) -> String {
        format!("/proc/self/fd/{}", self.descriptor.as_raw_fd())
    }

    /// Opens a mount point below the new root, and creates it if necessary. Links are resolved inside the new root:
    /// `/home -> /data/home` must not lead into the initrd.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let inside = path.strip_prefix(NEW_ROOT).with_context(|| format!("it is not below `{NEW_ROOT}`"))?;
        fs::create_dir_all(NEW_ROOT)?;
        let root = new_root()?;
        anyhow::ensure!(
            !exchange::is_open_of_containers(&root.locate("", Links::Refuse)?),
            "`{NEW_ROOT}` leads to a directory that containers can write"
        );
        Self::below(&root, inside)
    }

    fn below(root: &Directory, inside: &Path) -> anyhow::Result<Self> {
        let mut directory = root.locate("", Links::Refuse)?;
        let ancestors: Vec<&Path> = inside.ancestors().filter(|it| !it.as_os_str().is_empty()).collect();
        for ancestor in ancestors.into_iter().rev() {
            let name = ancestor.file_name().context("the mountpoint has no name")?;
            match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                // On a read-only file system the directory may exist already.
                Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
                Err(error) => return Err(error.into()),
            }
            directory = root.locate(ancestor, Links::Inside)?;
        }
        let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        Ok(Self { descriptor: directory, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounded;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_file_of_a_disk_is_opened_for_a_loop_device() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, home.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        let root = Directory::open(home.path()).unwrap();
        let opened = move |name| opened_file(&root.locate(name, Links::Inside)?, false);
        assert!(opened("file").is_ok());
        let of_fifo = bounded::within(std::time::Duration::from_secs(10), move || opened("fifo"));
        assert_eq!(of_fifo.expect("it waits for a writer").unwrap_err().to_string(), "it is not a file");
    }

    #[test]
    fn a_mountpoint_is_below_the_new_root_wherever_its_links_lead() {
        let home = tempfile::tempdir().unwrap();
        let top = home.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("etc")).unwrap();
        for (link, target) in [("run", "/etc"), ("proc", "../../../../etc"), ("self", "/proc/self/root")] {
            symlink(target, top.join(link)).unwrap();
        }
        let root = Directory::open(&top).unwrap();
        let place = |path: &str| Mountpoint::below(&root, Path::new(path)).map(|found| found.path);
        assert_eq!(place("run").unwrap(), top.join("etc"));
        assert_eq!(place("proc/below").unwrap(), top.join("etc/below"));
        assert_eq!(place("new/one").unwrap(), top.join("new/one"));
        assert!(place("self").is_err(), "the kernel's own links lead nowhere");
    }
}
