//! A container's root: its image's layers, a layer of its own above them, and what is bound in.
//!
//! Sources are taken hold of first (open_tree(2)) and attached after the new root has become `/`:
//! so every link in the image is followed inside it, and no image can have its mounts made elsewhere.

use super::plan::Bind;
use anyhow::Context as _;
use rustix::fd::OwnedFd;
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind, mount_change,
    mount_move, mount_remount, move_mount, open_tree,
};
use std::collections::HashSet;
use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Makes the folders for what a container writes, in place of those of an earlier one of that name.
pub(super) fn make_scratch(scratch: &Path) -> anyhow::Result<()> {
    if scratch.exists() {
        fs::remove_dir_all(scratch)?;
    }
    for name in ["upper", "work", "root"] {
        let folder = scratch.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    }
    Ok(())
}

/// Builds the root in this process's own mount namespace and makes it `/`.
pub(super) fn enter(layers: &[PathBuf], scratch: &Path, binds: &[Bind]) -> anyhow::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot detach the container's mounts from the machine's")?;
    let root = scratch.join("root");
    mount_layers(layers, scratch, &root).context("cannot put the image's layers together")?;
    let sources: Vec<Source> = binds.iter().map(Source::take).collect::<Result<_, _>>()?;
    become_root(&root)?;
    fs::create_dir_all("/proc")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).context("cannot mount `/proc`")?;
    for (source, bind) in sources.iter().zip(binds) {
        source
            .attach(bind)
            .with_context(|| format!("cannot bind to `{}` in the container", bind.target.display()))?;
    }
    mark_as_container()
}

/// overlayfs over the layers, the topmost first. It takes no layer twice; of a repeated one (an empty one,
/// mostly) only the topmost place can be seen.
fn mount_layers(layers: &[PathBuf], scratch: &Path, root: &Path) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    let mut options = OsString::from("lowerdir=");
    for layer in layers.iter().rev().filter(|layer| seen.insert(*layer)) {
        options.push(if options == "lowerdir=" { "" } else { ":" });
        options.push(layer);
    }
    options.push(",upperdir=");
    options.push(scratch.join("upper"));
    options.push(",workdir=");
    options.push(scratch.join("work"));
    let options = CString::new(options.into_encoded_bytes())?;
    if layers.is_empty() {
        // An image may have no layer at all: its root is then what is bound into it.
        return Ok(mount_bind(scratch.join("upper"), root)?);
    }
    Ok(mount("overlay", root, "overlay", MountFlags::empty(), options.as_c_str())?)
}

/// The way of switch_root(8): pivot_root(2) refuses in an initramfs, whose root cannot be unmounted.
fn become_root(root: &Path) -> anyhow::Result<()> {
    rustix::process::chdir(root)?;
    mount_move(".", "/").context("cannot move the container's root to `/`")?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// podman's mark, which programs look for.
fn mark_as_container() -> anyhow::Result<()> {
    fs::create_dir_all("/run")?;
    // An image may have `/run/.containerenv` already, or a read-only volume at `/run`.
    let _ = fs::write("/run/.containerenv", "engine=\"iguana\"\n");
    Ok(())
}

/// A mount that is not attached anywhere yet.
struct Source {
    tree: OwnedFd,
    is_folder: bool,
}

impl Source {
    fn take(bind: &Bind) -> anyhow::Result<Self> {
        let path = &bind.source;
        if !path.exists() {
            fs::create_dir_all(path)
                .with_context(|| format!("cannot make the volume `{}`", path.display()))?;
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(CWD, path.as_path(), flags)
            .with_context(|| format!("cannot take hold of `{}`", path.display()))?;
        Ok(Self { tree, is_folder: path.is_dir() })
    }

    fn attach(&self, bind: &Bind) -> anyhow::Result<()> {
        make_target(&bind.target, self.is_folder)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        move_mount(&self.tree, "", CWD, bind.target.as_path(), flags)?;
        if bind.read_only {
            mount_remount(bind.target.as_path(), MountFlags::BIND | MountFlags::RDONLY, "")?;
        }
        Ok(())
    }
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
