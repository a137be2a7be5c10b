//! Flattens the layers of an image into one directory, for systems without overlayfs (OCI image-spec, layer.md; Linux
//! `Documentation/filesystems/overlayfs.rst`).
//!
//! Nothing is copied: what a lower layer has and an upper one does not hide is moved into the upper one, from the top
//! to the bottom. So a directory keeps the metadata of its topmost layer, and whiteouts hide until the last layer is
//! done.

use super::layer::root::{
    is_opaque, is_stat_of_whiteout, kind, make_opaque, make_transparent, open_directory, stat,
};
use super::store::Layer;
use anyhow::Context as _;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, fstat, futimens, renameat, unlinkat,
};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use untrusted_fs::{Directory, remove_access_lists};

/// Bytes of the largest extended attribute, and of the longest list of their names: xattr(7).
const ATTRIBUTES_LIMIT: usize = 64 << 10;

/// Moves the tree of assembled layers ([`unpack_all`](super::unpack_all)) into `root`, a directory in the same file
/// system. No other image may hold the layers.
///
/// # Errors
/// When the file system refuses, or a name exists already.
pub fn flatten(layers: &[Arc<Layer>], root: &Directory) -> anyhow::Result<()> {
    let whole = Path::new("");
    let mut layers = distinct(layers).into_iter();
    let Some(top) = layers.next() else { return Ok(()) };
    let top = top.directory(whole)?;
    for lower in layers {
        pour(lower.directory(whole)?.as_fd(), top.as_fd()).context("cannot assemble the layers")?;
    }
    uncover(top.as_fd()).context("cannot remove whiteouts")?;
    move_out(top.as_fd(), root.as_fd()).context("cannot move the tree to its destination")
}

/// The layers from the top to the bottom. A repeated layer counts only at its topmost position, where it hides its
/// other copies.
fn distinct(layers: &[Arc<Layer>]) -> Vec<&Layer> {
    let mut seen = HashSet::new();
    layers.iter().rev().filter(|layer| seen.insert(Arc::as_ptr(layer))).map(AsRef::as_ref).collect()
}

/// Moves into `upper` what `lower` has and `upper` does not hide, whiteouts included.
fn pour(lower: BorrowedFd<'_>, upper: BorrowedFd<'_>) -> anyhow::Result<()> {
    let before = fstat(upper)?;
    for name in names(lower)? {
        let is_below = || Ok::<_, Errno>(kind(lower, &name)? == Some(FileType::Directory));
        match kind(upper, &name)? {
            None => renameat(lower, &name, upper, &name)?,
            Some(FileType::Directory) => {
                let inner = open_directory(upper, &name)?;
                if !is_below()? {
                    // The file in the lower layer hides everything in the layers below it.
                    make_opaque(inner.as_fd())?;
                } else if !is_opaque(inner.as_fd())? {
                    let below = open_directory(lower, &name)?;
                    if is_opaque(below.as_fd())? {
                        make_opaque(inner.as_fd())?;
                    }
                    pour(below.as_fd(), inner.as_fd())?;
                }
            }
            Some(_) => {}
        }
    }
    Ok(futimens(upper, &times(&before))?)
}

/// Removes what only overlayfs needs.
fn uncover(directory: BorrowedFd<'_>) -> anyhow::Result<()> {
    let before = fstat(directory)?;
    if is_opaque(directory)? {
        make_transparent(directory)?;
    }
    let mut has_changed = false;
    for name in names(directory)? {
        let Some(found) = stat(directory, &name)? else { continue };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            uncover(open_directory(directory, &name)?.as_fd())?;
        } else if is_stat_of_whiteout(&found) {
            unlinkat(directory, &name, AtFlags::empty())?;
            has_changed = true;
        }
    }
    if has_changed {
        futimens(directory, &times(&before))?;
    }
    Ok(())
}

/// Moves the content and the metadata of a directory to another one.
fn move_out(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> anyhow::Result<()> {
    let what = fstat(from)?;
    for name in names(from)? {
        renameat(from, &name, to, &name).with_context(|| format!("`{}`", name.display()))?;
    }
    fchown(to, Some(Uid::from_raw(what.st_uid)), Some(Gid::from_raw(what.st_gid)))?;
    // After the change of the owner: the previous one could set new lists.
    remove_access_lists(to)?;
    fchmod(to, Mode::from_raw_mode(what.st_mode & 0o7777))?;
    let (mut list, mut value) = (vec![0; ATTRIBUTES_LIMIT], vec![0; ATTRIBUTES_LIMIT]);
    let length = flistxattr(from, &mut list)?;
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = fgetxattr(from, name, &mut value)?;
        fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(futimens(to, &times(&what))?)
}

fn names(directory: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, makedev, mknodat};
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    /// A layer: `-x` is a whiteout, `x/` a directory, `x!` an opaque one, and anything else a file that contains
    /// `mark`.
    fn layer(root: &Path, mark: &str, entries: &[&str]) -> Directory {
        let home = root.join(mark);
        fs::create_dir(&home).unwrap();
        for entry in entries {
            if let Some(name) = entry.strip_prefix('-') {
                let path = home.join(name);
                mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
            } else if let Some(name) = entry.strip_suffix('!') {
                fs::create_dir(home.join(name)).unwrap();
                make_opaque(Directory::open(home.join(name)).unwrap().as_fd()).unwrap();
            } else if let Some(name) = entry.strip_suffix('/') {
                fs::create_dir(home.join(name)).unwrap();
            } else {
                fs::write(home.join(entry), mark).unwrap();
            }
        }
        Directory::open(&home).unwrap()
    }

    fn tree(root: &Path, below: &str) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(root.join(below)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{below}{}", entry.file_name().display());
            if entry.file_type().unwrap().is_dir() {
                found.push(format!("{name}/"));
                found.extend(tree(root, &format!("{name}/")));
            } else {
                found.push(format!("{name}={}", fs::read_to_string(entry.path()).unwrap()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn layers_hide_each_other_as_overlayfs_would() {
        if rustix::process::geteuid().as_raw() != 0 {
            eprintln!("passed over: only root can mark directories as opaque");
            return;
        }
        let room = tempfile::tempdir_in("/dev/shm").unwrap();
        let a = layer(
            room.path(),
            "a",
            &["keep", "gone", "both", "d/", "d/old", "d/both", "o/", "o/old", "w/", "w/old"],
        );
        let b = layer(room.path(), "b", &["-gone", "both", "d/", "d/both", "-d/old", "o!", "o/new", "-w"]);
        let c = layer(room.path(), "c", &["-nothing", "w/", "w/new", "d/", "d/newest"]);
        fs::set_permissions(room.path().join("c/d"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        let before = fs::metadata(room.path().join("c/d")).unwrap();
        pour(b.as_fd(), c.as_fd()).unwrap();
        pour(a.as_fd(), c.as_fd()).unwrap();
        uncover(c.as_fd()).unwrap();
        let target = room.path().join("target");
        fs::create_dir(&target).unwrap();
        move_out(c.as_fd(), Directory::open(&target).unwrap().as_fd()).unwrap();
        let expected = ["both=b", "d/", "d/both=b", "d/newest=c", "keep=a", "o/", "o/new=b", "w/", "w/new=c"];
        assert_eq!(tree(&target, ""), expected);
        let after = fs::metadata(target.join("d")).unwrap();
        assert_eq!((after.mode() & 0o777, after.mtime_nsec()), (0o700, before.mtime_nsec()));
        assert!(!is_opaque(Directory::open(target.join("o")).unwrap().as_fd()).unwrap());
    }

    /// The access control list (`linux/posix_acl_xattr.h`) that gives everything to the user `nobody`.
    fn list_for_nobody() -> Vec<u8> {
        let entries = [(1_u16, u32::MAX), (2, 65534), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)];
        let entry = |(tag, id): (u16, u32)| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        [vec![2, 0, 0, 0], entries.into_iter().flat_map(entry).collect()].concat()
    }

    #[test]
    fn access_control_lists_of_the_target_do_not_stay() {
        let room = tempfile::tempdir_in("/dev/shm").unwrap();
        let from = layer(room.path(), "from", &["d/"]);
        fs::create_dir(room.path().join("target")).unwrap();
        let target = Directory::open(room.path().join("target")).unwrap();
        let lists = ["system.posix_acl_default", "system.posix_acl_access"];
        for list in lists {
            fsetxattr(target.as_fd(), list, &list_for_nobody(), XattrFlags::empty()).unwrap();
        }
        move_out(from.as_fd(), target.as_fd()).unwrap();
        for list in lists {
            assert_eq!(fgetxattr(target.as_fd(), list, &mut [0; 100][..]), Err(Errno::NODATA), "{list}");
        }
    }
}
