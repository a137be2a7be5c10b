//! The mounts of a container: opened in the host's tree, attached in the container's.

use super::copy::copy_directory;
pub(super) use super::plan::Mount;
use super::plan::{KernelFiles, MountSource};
use super::privileges::KernelFileSystems;
use anyhow::Context as _;
use hint::{WithHint as _, hinted};
use rustix::fd::{AsFd, AsRawFd as _, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, open, openat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, mount_remount, move_mount, open_tree,
};
use std::collections::HashSet;
use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use untrusted_fs::{Directory, Links, Located, Regions};

/// The mode of a tmpfs that covers no directory: for everybody, as in Docker.
const WORLD_WRITABLE: &str = "1777";

/// The modes of missing directories on the path of a mount, and of a file that one is attached to; as in podman.
const NEW_DIRECTORY: u32 = 0o755;
const NEW_FILE: u32 = 0o644;

/// A mounted image provides files, but no devices and no privileges.
const OF_IMAGE: MountFlags = MountFlags::RDONLY.union(MountFlags::NODEV).union(MountFlags::NOSUID);

/// What every directory of modules has (depmod(8)).
const MODULE_INDEX: &str = "modules.dep";

/// The layers that overlayfs supports (`OVL_MAX_STACK`, fs/overlayfs/params.h).
const LAYERS_LIMIT: usize = 500;

/// The rules for links on the path of a volume, and of its target: refused in `/iguana` and `writable_by_others`, and
/// resolved inside the new system as they will be there. They hold for these directories wherever they are mounted.
///
/// # Errors
/// When one of these directories exists and cannot be opened.
pub(super) fn regions(new_root: &Path, writable_by_others: &[PathBuf]) -> anyhow::Result<Regions> {
    let present = |opened: &Result<Directory, untrusted_fs::Error>| !opened.as_ref().is_err_and(has_no_links);
    let new_root: Vec<_> =
        [Directory::open(new_root)].into_iter().filter(present).collect::<Result<_, _>>()?;
    // As the volumes themselves are found: a link of the new system leads elsewhere in it than in the initrd.
    let plain = Regions::new(&[], &new_root)?;
    let find = |path: &PathBuf| Ok(Directory::from_descriptor(plain.locate(path)?.handle, path));
    // They may also be reached by another path.
    let writable_by_others = [&[exchange::SHARED.into()], writable_by_others].concat();
    let found = writable_by_others.iter().map(find).filter(present);
    Ok(Regions::new(&found.collect::<Result<Vec<_>, _>>()?, &new_root)?)
}

/// Whether a path is not a directory in which untrusted parties could have made a link: it is missing, or a file. A
/// link in its place requires write access to another of these directories, which has its own rule.
fn has_no_links(error: &untrusted_fs::Error) -> bool {
    let none = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].map(|errno| Some(errno.raw_os_error()));
    matches!(error.cause(), untrusted_fs::Cause::Io(cause) if none.contains(&cause.raw_os_error()))
}

/// A mount that is not attached anywhere yet.
pub(super) struct MountTree {
    descriptor: OwnedFd,
    is_directory: bool,
    is_memory: bool,
    /// Containers with fewer rights may write there.
    is_writable_by_others: bool,
    /// Where it is on the host, without links.
    path: Option<PathBuf>,
}

/// Where mounts go: in the container's root (`/`), where every link of the image stays. The `machine`'s regions hold here,
/// too: a volume may be above a directory in which others write. In a mount in which others write, and in the file systems
/// of the kernel, no link is followed: whoever made it would choose what the mount covers.
///
/// # Errors
/// When the kernel cannot identify a directory.
pub(super) fn targets<'a>(
    machine: &Regions,
    attached: impl Iterator<Item = &'a MountTree>,
    kernel: &KernelFileSystems,
) -> anyhow::Result<Regions> {
    let of_others = attached.filter(|tree| tree.is_writable_by_others);
    let opened = of_others.map(|tree| tree.descriptor.try_clone());
    let opened = opened.chain(kernel.descriptors()).collect::<io::Result<Vec<_>>>()?;
    let named = opened.into_iter().map(|descriptor| Directory::from_descriptor(descriptor, "a mount"));
    Ok(machine.with_writable_by_others(&named.collect::<Vec<_>>())?)
}

impl MountTree {
    /// Opens a source; the layers of an image are mounted at `place`. `None` where the kernel lacks the file system,
    /// and a container can do without it.
    pub(super) fn take(
        source: &MountSource,
        place: &Path,
        regions: &Regions,
    ) -> anyhow::Result<Option<Self>> {
        match source {
            MountSource::Bind(path) | MountSource::Volume(path) => Self::of_path(path, regions).map(Some),
            MountSource::SharedMemory(path) => {
                let tree = Self::of_path(path, regions)?;
                Ok(Some(Self { is_writable_by_others: true, ..tree }))
            }
            MountSource::Modules(path) if !path.is_dir() => Ok(None),
            MountSource::Modules(path) => Self::of_path(path, regions).map(Some),
            MountSource::Tmpfs { size } => Self::of_memory(*size).map(Some),
            MountSource::Image { layers } => Self::of_layers(layers, place, regions).map(Some),
            MountSource::Kernel(files) => Self::of_kernel(*files),
        }
    }

    fn of_kernel(files: KernelFiles) -> anyhow::Result<Option<Self>> {
        let context = match fsopen(files.kind(), FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(Errno::NODEV) => return Ok(None),
            opened => opened?,
        };
        fsconfig_create(&context)
            .with_context(|| format!("cannot create a file system `{}`", files.kind()))?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let descriptor = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
        Ok(Some(Self {
            descriptor,
            is_directory: true,
            is_memory: false,
            is_writable_by_others: false,
            path: None,
        }))
    }

    /// Covers a directory by the cgroups of this process's namespace. mount(2) refuses that where those of another namespace
    /// are mounted: they are the same file system.
    ///
    /// # Errors
    /// When the kernel lacks them, or there is no such directory.
    pub(super) fn mount_cgroups(at: &str) -> anyhow::Result<()> {
        let tree =
            Self::of_kernel(KernelFiles::Cgroups)?.context("the kernel has no cgroups of version 2")?;
        Ok(move_mount(&tree.descriptor, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }

    fn of_path(path: &Path, regions: &Regions) -> anyhow::Result<Self> {
        let source = match exchange::volume(path)? {
            Some(handle) => Located { handle, is_writable_by_others: true },
            None => regions
                .locate_or_make(path, NEW_DIRECTORY)
                .with_context(|| format!("cannot open or create the volume `{}`", path.display()))
                .hint(
                    "symbolic links are not followed where less privileged containers can write: name the \
                     link's target",
                )?,
        };
        Self::of_located(&source).with_context(|| format!("cannot open `{}`", path.display()))
    }

    fn of_located(source: &Located) -> anyhow::Result<Self> {
        let Located { handle, is_writable_by_others } = source;
        let is_directory = FileType::from_raw_mode(fstat(handle)?.st_mode) == FileType::Directory;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        let descriptor = open_tree(handle, "", flags)?;
        let path = fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd())).ok();
        let is_writable_by_others = *is_writable_by_others;
        Ok(Self { descriptor, is_directory, is_memory: false, is_writable_by_others, path })
    }

    fn of_memory(size: Option<u64>) -> anyhow::Result<Self> {
        let memory = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&memory, "mode", WORLD_WRITABLE)?;
        if let Some(size) = size {
            fsconfig_set_string(&memory, "size", size.to_string())?;
        }
        fsconfig_create(&memory).context("cannot create a tmpfs")?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let descriptor = fsmount(&memory, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
        Ok(Self { descriptor, is_directory: true, is_memory: true, is_writable_by_others: false, path: None })
    }

    /// overlayfs refuses a single layer without a writable one, so an empty one is put below it.
    fn of_layers(layers: &[PathBuf], place: &Path, regions: &Regions) -> anyhow::Result<Self> {
        fs::create_dir_all(place)?;
        if let [layer] = layers {
            let below = place.with_extension("below");
            fs::create_dir_all(&below)?;
            mount_overlay(place, &[below, layer.clone()], None, MountFlags::RDONLY)
        } else if layers.is_empty() {
            Ok(())
        } else {
            mount_overlay(place, layers, None, MountFlags::RDONLY)
        }
        .context("cannot assemble the image's layers")?;
        // It lies in the store, but nobody can write to it.
        Ok(Self { is_writable_by_others: false, ..Self::of_path(place, regions)? })
    }

    /// Attaches it where `targets` says. `restrictions` are in force for all of it.
    pub(super) fn attach(
        &self,
        targets: &Regions,
        mount: &Mount,
        restrictions: MountFlags,
        kernel: &KernelFileSystems,
    ) -> anyhow::Result<()> {
        let covered = targets.locate(&mount.target).ok().map(|found| found.handle);
        if matches!(mount.source, MountSource::Kernel(_)) && covered.is_none() {
            // To make it would be to make it in the host's `/dev` or `/sys`.
            return Ok(());
        }
        let is_of_modules = matches!(mount.source, MountSource::Modules(_));
        if is_of_modules && targets.locate(mount.target.join(MODULE_INDEX)).is_ok() {
            return Ok(());
        }
        let made = match make_target(targets, &mount.target, self.is_directory) {
            // An image with a file in its place has no programs that load modules.
            Err(_) if is_of_modules => return Ok(()),
            made => made?,
        };
        if kernel.are_covered_at(&made, &mount.target)? {
            return Err(hinted(
                "a symbolic link of the image leads from it to `/dev`, `/proc` or `/sys`",
                "make it a directory or a file in the image, or choose another path",
            ));
        }
        if let Some(covered) = covered.filter(|_| self.is_memory) {
            take_after(&self.descriptor, &fstat(covered)?)?;
        }
        if matches!(mount.source, MountSource::Volume(_)) {
            copy_directory(&made, &self.descriptor).context("cannot copy what the image has there")?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.descriptor, "", &made, "", flags)?;
        let of_source = match mount.source {
            MountSource::Image { .. } => OF_IMAGE,
            MountSource::SharedMemory(_) if !restrictions.is_empty() => MountFlags::NOEXEC,
            _ => MountFlags::empty(),
        };
        let read_only = if mount.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        let flags = restrictions | of_source | read_only;
        if flags.is_empty() { Ok(()) } else { Ok(restrict(&self.descriptor, flags, Reach::WholeTree)?) }
    }
}

impl MountTree {
    /// Covers these directories of the host where they are below it. Call it when it is attached.
    pub(super) fn hide(&self, directories: &[&Path]) -> anyhow::Result<()> {
        let whole = Directory::from_descriptor(self.descriptor.try_clone()?, "a volume");
        let below = directories.iter().filter_map(|it| it.strip_prefix(self.path.as_ref()?).ok());
        for below in below.filter(|below| !below.as_os_str().is_empty()) {
            let place = match whole.locate(below, Links::Refuse) {
                Err(error) if error.is_not_found() => continue,
                found => found?,
            };
            // tmpfs treats a size of 0 as "no limit".
            let cover = Self::of_memory(Some(1))?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(&cover.descriptor, "", &place, "", flags)?;
            restrict(&cover.descriptor, MountFlags::RDONLY, Reach::ThisMount)?;
        }
        Ok(())
    }
}

/// Gives a tmpfs the owner and the mode of the directory that it covers.
fn take_after(memory: impl AsFd, covered: &Stat) -> io::Result<()> {
    let memory = openat(memory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    fchown(&memory, Some(Uid::from_raw(covered.st_uid)), Some(Gid::from_raw(covered.st_gid)))?;
    Ok(fchmod(&memory, Mode::from_raw_mode(covered.st_mode & 0o7777))?)
}

/// Makes what a mount can be attached to, if it is missing, and takes hold of it.
fn make_target(targets: &Regions, target: &Path, is_directory: bool) -> anyhow::Result<OwnedFd> {
    if is_directory {
        return Ok(targets.locate_or_make(target, NEW_DIRECTORY)?.handle);
    }
    match targets.locate(target) {
        Err(error) if error.is_not_found() => {}
        found => return Ok(found?.handle),
    }
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(anyhow::anyhow!("cannot mount a file on a directory"));
    };
    let parent = Directory::from_descriptor(targets.locate_or_make(parent, NEW_DIRECTORY)?.handle, parent);
    // `/etc/resolv.conf` of many images is a link to a service that does not run there.
    match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        refused => refused.context("cannot replace a dangling symbolic link")?,
    }
    parent.create(name, NEW_FILE)?;
    Ok(parent.locate(name, Links::Refuse)?)
}

/// The mounts that a change applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    ThisMount,
    /// The mount and those below it.
    WholeTree,
}

/// Makes the mount at `path` read-only. Other mounts of the same files stay writable.
pub(super) fn make_read_only(path: &Path, reach: Reach) -> io::Result<()> {
    restrict(open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?, MountFlags::RDONLY, reach)
}

/// Disables device nodes below the mount at `path`.
pub(super) fn take_devices_away(path: &Path) -> io::Result<()> {
    restrict(open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?, MountFlags::NODEV, Reach::WholeTree)
}

fn restrict(mount: impl AsFd, flags: MountFlags, reach: Reach) -> io::Result<()> {
    match sys::restrict_mounts(&mount, flags, reach == Reach::WholeTree) {
        // A kernel before 5.12; there only the one mount is changed.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            let path = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
            Ok(mount_remount(path, MountFlags::BIND | flags, "")?)
        }
        result => result,
    }
}

/// Mounts layers with overlayfs at `target`; with `writable`, its directories `upper` and `work` take the changes.
///
/// mount(2) accepts at most a page of options. Names relative to the store are short enough for all layers that
/// overlayfs supports, with any kernel.
pub(super) fn mount_overlay(
    target: &Path,
    layers: &[PathBuf],
    writable: Option<&Path>,
    flags: MountFlags,
) -> anyhow::Result<()> {
    if layers.len() > LAYERS_LIMIT {
        return Err(hinted(
            format!("the image has {} layers, and overlayfs supports at most {LAYERS_LIMIT}", layers.len()),
            "build the image with fewer layers, for example with `buildah build --layers=false`",
        ));
    }
    let store = layers.last().and_then(|layer| layer.parent()).unwrap_or(Path::new("/"));
    let mut options = lower_directories(layers, store);
    if let Some(writable) = writable {
        for (key, name) in [(",upperdir=", "upper"), (",workdir=", "work")] {
            options.push(key);
            options.push(writable.join(name));
        }
    }
    let options = CString::new(options.into_encoded_bytes())?;
    rustix::process::chdir(store)?;
    let mounted = mount("overlay", target, "overlay", flags, options.as_c_str());
    rustix::process::chdir("/")?;
    Ok(mounted?)
}

/// The option `lowerdir`, the topmost layer first. overlayfs refuses a repeated layer (usually an empty one); only its
/// topmost position is visible anyway.
fn lower_directories(layers: &[PathBuf], store: &Path) -> OsString {
    let mut seen = HashSet::new();
    let mut option = OsString::from("lowerdir=");
    for layer in layers.iter().rev().filter(|layer| seen.insert(*layer)) {
        option.push(if option == "lowerdir=" { "" } else { ":" });
        option.push(layer.strip_prefix(store).unwrap_or(layer));
    }
    option
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// `/home` of many systems is a link; whoever has a volume there writes to what it leads to in the new system.
    #[test]
    fn a_volume_behind_a_link_of_the_new_system_counts_as_writable_by_others() {
        let home = tempfile::tempdir().unwrap();
        let new_root = &home.path().canonicalize().unwrap().join("sysroot");
        fs::create_dir_all(new_root.join("data")).unwrap();
        symlink("/data", new_root.join("home")).unwrap();
        symlink("/etc", new_root.join("data/settings")).unwrap();
        let writable = [new_root.join("home"), home.path().join("missing")];
        let regions = regions(new_root, &writable).unwrap();
        assert!(regions.locate_or_make(new_root.join("home"), 0o755).unwrap().is_writable_by_others);
        let error = regions.locate_or_make(new_root.join("home/settings"), 0o755).unwrap_err();
        assert!(matches!(error.cause(), untrusted_fs::Cause::Link), "{error}");
    }

    #[test]
    fn layers_are_given_topmost_first_once_and_by_short_names() {
        let layers = ["/s/0", "/s/1", "/s/0", "/t/2"].map(PathBuf::from);
        assert_eq!(lower_directories(&layers, Path::new("/s")), "lowerdir=/t/2:0:1");
        let many: Vec<PathBuf> = (0..LAYERS_LIMIT).map(|number| format!("/s/{number}").into()).collect();
        // mount(2): options are "no more than PAGE_SIZE bytes".
        assert!(lower_directories(&many, Path::new("/s")).len() < 4096 - 256);
    }
}
