//! The root of a container: the layers of its image, a writable layer above them, and its mounts.
//!
//! The sources of mounts are opened before, and attached after, the new root has become `/`. So every link in the image
//! is resolved inside the root, and no image can redirect a mount elsewhere.

use super::mounts;
use super::mounts::{MountTree, Reach};
use super::plan::MountSource;
use super::privileges;
use super::privileges::KernelFileSystems;
use super::protocol::Order;
use anyhow::Context as _;
use hint::WithHint as _;
use oci_layer::take_after;
use rustix::fd::AsFd as _;
use rustix::fs::{Mode, OFlags, fstat, major, minor, open, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_move, unmount,
};
use rustix::process::pivot_root;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use untrusted_fs::{Directory, Links, Regions};

const OWN_MOUNTS: &str = "/proc/self/ns/mnt";
const MOUNTS: &str = "/proc/self/mountinfo";
/// Bytes of a list of mounts: more than the kernel allows in a namespace (`fs.mount-max`) have in practice.
const MOUNTS_LIMIT: u64 = 64 << 20;
/// The mode of missing directories on the path of a working directory; as in podman.
const WORKING_DIRECTORY_MODE: u32 = 0o755;

/// Creates the directories for what a container writes, and removes those of an earlier container with this name.
pub(super) fn make_scratch(scratch: &Path, host_files: &Path) -> anyhow::Result<()> {
    remove_scratch(scratch)?;
    for directory in [&scratch.join("upper"), &scratch.join("work"), &scratch.join("root"), host_files] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create `{}`", directory.display()))?;
    }
    Ok(())
}

/// Removes what a container has written, even if its directories are nested very deeply.
pub(super) fn remove_scratch(scratch: &Path) -> anyhow::Result<()> {
    let (Some(parent), Some(name)) = (scratch.parent(), scratch.file_name()) else { return Ok(()) };
    match Directory::open(parent) {
        Err(error) if error.is_not_found() => Ok(()),
        parent => Ok(parent?.remove(name)?),
    }
}

/// A root that was built.
pub(super) struct Entered {
    /// `/dev/null`, opened before a program of the container can put something else in its place.
    pub(super) null: File,
    /// A volume brings the processes of another PID namespace along: a `/proc` that is not the container's own.
    pub(super) shows_other_processes: bool,
}

/// Builds the root in this process's own mount namespace and makes it `/`.
pub(super) fn enter(order: &Order) -> anyhow::Result<Entered> {
    detach_mounts()?;
    let null_of_machine = privileges::open_null()?;
    if !order.handover {
        exchange::show_own_to_container().context("cannot mount its `/iguana`")?;
    }
    let root = order.scratch.join("root");
    mount_layers(order, &root).context("cannot assemble the image's layers")?;
    let regions = mounts::regions(&order.new_root, &order.writable_by_others)?;
    let trees = take_trees(order, &regions)?;
    become_root(&root)?;
    let root = Directory::open("/").context("cannot open the container's root")?;
    let shows_cgroups = order.cgroup_of_init.is_none();
    privileges::mount_kernel_file_systems(&root, order.privileged, shows_cgroups)?;
    let processes = Directory::open("/proc").context("cannot open the container's `/proc`")?;
    let null = if order.privileged { null_of_machine } else { privileges::open_null()? };
    if !order.privileged {
        privileges::hide()?;
    }
    let kernel = KernelFileSystems::find(&root, order.privileged, shows_cgroups)?;
    // A device node that one container can create would be usable in another one through a volume.
    let restrictions = if order.privileged { MountFlags::empty() } else { MountFlags::NODEV };
    // Before any volume may lie there: in the machine's `/run` the mark would make a container of the machine.
    mark_as_container(&root);
    show_mounts(&root);
    // In `/run` are the scripts and files of all containers.
    let own = [Path::new(exchange::OWN), order.scratch.parent().unwrap_or(&order.scratch)];
    for (number, (tree, mount)) in trees.iter().zip(&order.mounts).enumerate() {
        let Some(tree) = tree else { continue };
        mounts::targets(&regions, trees[..number].iter().flatten(), &kernel)
            .and_then(|targets| tree.attach(&targets, mount, restrictions, &kernel))
            .and_then(|()| if order.privileged { Ok(()) } else { tree.hide(&own) })
            .with_context(|| format!("cannot mount `{}` in the container", mount.target.display()))?;
        if matches!(mount.source, MountSource::Tmpfs { .. }) && mount.target == Path::new("/run") {
            mark_as_container(&root);
        }
    }
    working_directory(&root, &order.directory)?;
    if !order.privileged {
        privileges::shut_off()?;
    }
    if order.read_only {
        mounts::make_read_only(Path::new("/"), Reach::ThisMount).context("cannot make the root read-only")?;
    }
    Ok(Entered { null, shows_other_processes: shows_other_processes(&processes)? })
}

/// Whether any procfs is mounted besides the container's `own`.
fn shows_other_processes(own: &Directory) -> anyhow::Result<bool> {
    let device = fstat(own)?.st_dev;
    let own_number = format!("{}:{}", major(device), minor(device));
    let path = format!("{}/mountinfo", rustix::process::getpid().as_raw_pid());
    let mounts =
        own.read(&path, Links::Refuse, MOUNTS_LIMIT).context("cannot read the container's mounts")?;
    Ok(String::from_utf8_lossy(&mounts).lines().any(|mount| is_other_procfs(mount, &own_number)))
}

/// Whether a line of proc_pid_mountinfo(5) is about a procfs with another device number.
fn is_other_procfs(mount: &str, own_number: &str) -> bool {
    let number = mount.split(' ').nth(2);
    let kind = mount.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next());
    kind == Some("proc") && number != Some(own_number)
}

fn detach_mounts() -> anyhow::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot detach the container's mounts from the machine's")
}

/// Opens the working directory of a program, and creates it if it is missing. It stays inside the root: a link of
/// `/proc` to another process's root, working directory or files is refused (as in CVE-2024-21626).
pub(super) fn working_directory(root: &Directory, path: &str) -> anyhow::Result<Directory> {
    root.make_directories(path, WORKING_DIRECTORY_MODE, Links::Inside)
        .with_context(|| format!("cannot use the working directory `{path}`"))
        .hint("use a directory of the image: `/proc` links that leave the container are not followed")
}

/// Mounts the layers with overlayfs.
fn mount_layers(order: &Order, root: &Path) -> anyhow::Result<()> {
    let scratch = &order.scratch;
    if order.layers.is_empty() {
        // An image may have no layers: then its root has only its mounts.
        mount_bind(scratch.join("upper"), root)?;
        if !order.privileged {
            mounts::take_devices_away(root)?;
        }
        return Ok(());
    }
    // A layer may contain a device node of a disk.
    let flags = if order.privileged { MountFlags::empty() } else { MountFlags::NODEV };
    if let Some(topmost) = order.layers.last() {
        // The writable layer is above all others, so its root directory is the visible one.
        take_after(&scratch.join("upper"), topmost)
            .context("cannot copy the attributes of the image's root")?;
    }
    mounts::mount_overlay(root, &order.layers, Some(scratch), flags)
}

fn take_trees(order: &Order, regions: &Regions) -> anyhow::Result<Vec<Option<MountTree>>> {
    let numbered = order.mounts.iter().enumerate();
    let tree = |(number, mount): (usize, &mounts::Mount)| {
        MountTree::take(&mount.source, &order.scratch.join(format!("image-{number}")), regions).with_context(
            || format!("cannot clone the mount of `{}` for the container", mount.target.display()),
        )
    };
    numbered.map(tree).collect()
}

/// Changes the root with pivot_root(2), after which the host's root cannot be reached. In an initramfs, whose root
/// cannot be unmounted, it fails with `EINVAL`; there the root is changed as by switch_root(8).
///
/// The old root is that of the mount namespace. If this program was started after chroot(2), its own root is below
/// another one, which any container that may call chroot(2) could reach.
fn become_root(root: &Path) -> anyhow::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(root, flags, Mode::empty())?;
    // A process that enters a mount namespace, even its own, starts in the namespace's root.
    let namespace = open(OWN_MOUNTS, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .context("cannot change to the machine's root")?;
    detach_mounts()?;
    rustix::process::fchdir(root)?;
    match pivot_root(".", ".") {
        // The old root is now mounted above the new one.
        Ok(()) => unmount(".", UnmountFlags::DETACH).context("cannot leave the machine's root")?,
        Err(Errno::INVAL) => {
            let others = fs::read_to_string(MOUNTS).context("cannot read the machine's mounts")?;
            mount_move(".", "/").context("cannot move the container's root to `/`")?;
            leave_mounts_below(&others);
            rustix::process::chroot(".")?;
        }
        refused => refused.context("cannot detach the old root")?,
    }
    Ok(rustix::process::chdir("/")?)
}

/// Unmounts the mounts of the host, while paths are still resolved in its root. No path leads to them from the new
/// root. But the kernel lets the owner of a user namespace mount a new `/proc` and `/sys`, without masked or read-only
/// paths, as long as its mount namespace has an unrestricted one anywhere (`mount_too_revealing` in fs/namespace.c).
fn leave_mounts_below(mounts: &str) {
    // The fifth field of proc_pid_mountinfo(5), the newest mounts first.
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    for point in points.filter(|point| point != "/") {
        // Ignored: it may have been unmounted together with its parent.
        let _ = unmount(&*point, UnmountFlags::DETACH);
    }
}

/// Decodes a path: the kernel writes a space, a tab, a line break and a backslash as octal numbers
/// (proc_pid_mountinfo(5)).
fn unescaped(point: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(point.to_owned(), |point, (number, letter)| point.replace(number, letter))
}

/// Links `/etc/mtab`, where old programs read the mounts; many images have the same link.
fn show_mounts(root: &Directory) {
    // Ignored: an image without `/etc` has no old programs.
    let _ = root.directory("etc", Links::Inside).map(|etc| symlinkat("/proc/mounts", etc, "mtab"));
}

/// Creates podman's marker file, which programs look for.
fn mark_as_container(root: &Directory) {
    // An image may have it already.
    let _ = root
        .directory("run", Links::Inside)
        .and_then(|run| run.create(".containerenv", 0o644))
        .map(|mut file| file.write_all(b"engine=\"iguana\"\n"));
}
