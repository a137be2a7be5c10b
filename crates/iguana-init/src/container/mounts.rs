//! What is mounted into a container: taken hold of in the machine's tree, attached in the container's.

pub(super) use super::plan::Mount;
use super::plan::{KernelFiles, Source};
use crate::sys;
use anyhow::Context as _;
use iguana_core::hint::hinted;
use rustix::fd::OwnedFd;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, mount_remount, move_mount, open_tree,
};
use std::collections::HashSet;
use std::ffi::{CString, OsString};
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// The mode of memory that covers no folder: everybody's, as Docker's.
const EVERYBODYS: &str = "1777";

/// An image that is mounted gives files, and no rights.
const OF_IMAGE: MountFlags = MountFlags::RDONLY.union(MountFlags::NODEV).union(MountFlags::NOSUID);

/// As many does overlayfs take (`OVL_MAX_STACK`, fs/overlayfs/params.h).
const LAYERS_LIMIT: usize = 500;

/// A mount that is not attached anywhere yet.
pub(super) struct Tree {
    descriptor: OwnedFd,
    is_folder: bool,
    is_memory: bool,
}

impl Tree {
    /// Takes hold of a source; an image's layers are put together at `place`. Nothing where the kernel does not
    /// have what the source asks for, and a container can do without.
    pub(super) fn take(source: &Source, place: &Path) -> anyhow::Result<Option<Self>> {
        match source {
            Source::Bind(path) => Self::of_path(path).map(Some),
            Source::Tmpfs { size } => Self::of_memory(*size).map(Some),
            Source::Image { layers } => Self::of_layers(layers, place).map(Some),
            Source::Kernel(files) => Self::of_kernel(*files),
        }
    }

    fn of_kernel(files: KernelFiles) -> anyhow::Result<Option<Self>> {
        let context = match fsopen(files.kind(), FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(Errno::NODEV) => return Ok(None),
            opened => opened?,
        };
        fsconfig_create(&context).with_context(|| format!("cannot make a file system `{}`", files.kind()))?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let descriptor = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
        Ok(Some(Self { descriptor, is_folder: true, is_memory: false }))
    }

    fn of_path(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            fs::create_dir_all(path)
                .with_context(|| format!("cannot make the volume `{}`", path.display()))?;
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let descriptor = open_tree(CWD, path, flags)
            .with_context(|| format!("cannot take hold of `{}`", path.display()))?;
        Ok(Self { descriptor, is_folder: path.is_dir(), is_memory: false })
    }

    fn of_memory(size: Option<u64>) -> anyhow::Result<Self> {
        let memory = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&memory, "mode", EVERYBODYS)?;
        if let Some(size) = size {
            fsconfig_set_string(&memory, "size", size.to_string())?;
        }
        fsconfig_create(&memory).context("cannot make a tmpfs")?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let descriptor = fsmount(&memory, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
        Ok(Self { descriptor, is_folder: true, is_memory: true })
    }

    /// overlayfs takes no single layer without one to write to: an empty one lies below it.
    fn of_layers(layers: &[PathBuf], place: &Path) -> anyhow::Result<Self> {
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
        .context("cannot put the image's layers together")?;
        Self::of_path(place)
    }

    pub(super) fn attach(&self, mount: &Mount) -> anyhow::Result<()> {
        let target = mount.target.as_path();
        if matches!(mount.source, Source::Kernel(_)) && !target.is_dir() {
            // To make it would be to make it in the machine's `/dev` or `/sys`.
            return Ok(());
        }
        let covered = fs::metadata(target).ok();
        make_target(target, self.is_folder)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        move_mount(&self.descriptor, "", CWD, target, flags)?;
        if let Some(covered) = covered.filter(|_| self.is_memory) {
            take_after(target, &covered)?;
        }
        if matches!(mount.source, Source::Image { .. }) {
            return Ok(restrict(target, OF_IMAGE, Reach::WholeTree)?);
        }
        if mount.read_only {
            make_read_only(target, Reach::WholeTree)?;
        }
        Ok(())
    }
}

/// Gives a folder the owner and the mode of another.
fn take_after(folder: &Path, other: &Metadata) -> io::Result<()> {
    chown(folder, Some(other.uid()), Some(other.gid()))?;
    fs::set_permissions(folder, Permissions::from_mode(other.permissions().mode()))
}

/// Makes what a mount can be attached to.
fn make_target(target: &Path, is_folder: bool) -> anyhow::Result<()> {
    if is_folder {
        return Ok(fs::create_dir_all(target)?);
    }
    let leads_nowhere = target.is_symlink() && !target.exists();
    if leads_nowhere {
        // `/etc/resolv.conf` of many images points to a service that does not run there.
        fs::remove_file(target)?;
    }
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    if !fs::metadata(target).is_ok_and(|found| found.is_file() || found.file_type().is_socket()) {
        fs::write(target, "")?;
    }
    Ok(())
}

/// How far a change of a mount goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    ThisMount,
    /// And those below it.
    WholeTree,
}

/// Makes the mount at `path` read-only. What else sees the same files may write.
pub(super) fn make_read_only(path: &Path, reach: Reach) -> io::Result<()> {
    restrict(path, MountFlags::RDONLY, reach)
}

fn restrict(path: &Path, flags: MountFlags, reach: Reach) -> io::Result<()> {
    match sys::restrict_mounts(path, flags, reach == Reach::WholeTree) {
        // A kernel before 5.12; and then only the one mount.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Ok(mount_remount(path, MountFlags::BIND | flags, "")?)
        }
        result => result,
    }
}

/// Mounts layers on each other at `target`; and above them, if there is one, what is written: the folders `upper` and
/// `work` in `writable`.
///
/// mount(2) takes no more than a page of options. Names that are relative to the store are short enough for as many
/// layers as overlayfs takes, with any kernel.
pub(super) fn mount_overlay(
    target: &Path,
    layers: &[PathBuf],
    writable: Option<&Path>,
    flags: MountFlags,
) -> anyhow::Result<()> {
    if layers.len() > LAYERS_LIMIT {
        return Err(hinted(
            format!("the image has {} layers, and overlayfs takes at most {LAYERS_LIMIT}", layers.len()),
            "build the image with fewer layers, for example with `buildah build --layers=false`",
        ));
    }
    let store = layers.last().and_then(|layer| layer.parent()).unwrap_or(Path::new("/"));
    let mut options = lower_folders(layers, store);
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

/// overlayfs' option for layers to read from, the topmost first. It takes no layer twice; of a repeated one
/// (an empty one, mostly) only the topmost place can be seen.
fn lower_folders(layers: &[PathBuf], store: &Path) -> OsString {
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

    #[test]
    fn layers_are_given_topmost_first_once_and_by_short_names() {
        let layers = ["/s/0", "/s/1", "/s/0", "/t/2"].map(PathBuf::from);
        assert_eq!(lower_folders(&layers, Path::new("/s")), "lowerdir=/t/2:0:1");
        let many: Vec<PathBuf> = (0..LAYERS_LIMIT).map(|number| format!("/s/{number}").into()).collect();
        // mount(2): options are "no more than PAGE_SIZE bytes".
        assert!(lower_folders(&many, Path::new("/s")).len() < 4096 - 256);
    }
}
