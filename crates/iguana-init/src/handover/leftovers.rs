//! What containers left in the kernel: swap space, loop devices and mounts outlive them. The new system would find its swap
//! partition in use, and files in the initrd's memory would never be freed.

use super::DISK_LIMIT;
use crate::bounded;
use crate::report::Report;
use rustix::mount::{UnmountFlags, unmount};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const SWAPS: &str = "/proc/swaps";
const MOUNTS: &str = "/proc/self/mountinfo";
const BLOCK_DEVICES: &str = "/sys/block";
/// Mounts here move to the new system, or are its own or Iguana's.
const KEPT: &[&str] = &["/dev", "/proc", "/sys", "/run", "/sysroot", exchange::SHARED, "/lib/modules"];
/// Swap in compressed memory, which only Iguana uses; it ends with the switch of the root.
const OWN_SWAP: &str = "/dev/zram";

/// What the kernel has in use at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KernelState {
    swaps: BTreeSet<PathBuf>,
    /// The loop devices with a file, by name.
    loops: BTreeSet<String>,
    mountpoints: BTreeSet<PathBuf>,
}

impl KernelState {
    /// The present state. What cannot be read counts as nothing.
    pub(crate) fn now() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            swaps: swaps(&text(SWAPS)),
            loops: loops(Path::new(BLOCK_DEVICES)),
            mountpoints: mountpoints(&text(MOUNTS)),
        }
    }

    /// What is in use only since `before`.
    fn since(&self, before: &Self) -> Self {
        Self {
            swaps: &self.swaps - &before.swaps,
            loops: &self.loops - &before.loops,
            mountpoints: &self.mountpoints - &before.mountpoints,
        }
    }
}

/// Ends the use of whatever was not in use before the first job, and reports it. What the new system uses itself, such as a
/// loop device that is mounted, stays until it no longer does.
pub(super) fn undo(before: &KernelState, report: &Report) {
    let left = KernelState::now().since(before);
    for mountpoint in left.mountpoints.iter().rev() {
        // Detached: a disk that does not answer must not delay the boot.
        let done = unmount(mountpoint, UnmountFlags::DETACH).map_err(Into::into);
        tell("a mount at", &mountpoint.display().to_string(), done, report);
    }
    for swap in left.swaps {
        let shown = swap.display().to_string();
        let limited = bounded::within(DISK_LIMIT, move || sys::swap_off(&swap));
        let done = limited.unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()));
        tell("swap space on", &shown, done, report);
    }
    for name in left.loops {
        let done = File::open(Path::new("/dev").join(&name)).and_then(sys::clear_loop_device);
        tell("a loop device", &name, done, report);
    }
}

fn tell(what: &str, name: &str, done: std::io::Result<()>, report: &Report) {
    match done {
        Ok(()) => report.say(format_args!("handover: ended what a job left: {what} `{name}`")),
        Err(error) => report.warn(format_args!("a job left {what} `{name}`, which stays in use: {error}")),
    }
}

/// The devices and files in `/proc/swaps`, after its title.
fn swaps(text: &str) -> BTreeSet<PathBuf> {
    let names = text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next());
    names.filter(|name| !name.starts_with(OWN_SWAP)).map(|name| PathBuf::from(unescaped(name))).collect()
}

/// The loop devices that have a file, and keep it when they are no longer in use.
fn loops(devices: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(devices).into_iter().flatten().flatten();
    let is_autoclear =
        |path: &Path| fs::read_to_string(path.join("loop/autoclear")).is_ok_and(|flag| flag.trim() == "1");
    let attached = entries
        .filter(|entry| entry.path().join("loop/backing_file").exists() && !is_autoclear(&entry.path()));
    attached.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The mount points that neither move to the new system nor belong to it (proc(5), `mountinfo`, field 5).
fn mountpoints(text: &str) -> BTreeSet<PathBuf> {
    let fields = text.lines().filter_map(|line| line.split(' ').nth(4));
    let paths = fields.map(|field| PathBuf::from(unescaped(field)));
    let is_kept = |path: &PathBuf| path == Path::new("/") || KEPT.iter().any(|kept| path.starts_with(kept));
    paths.filter(|path| !is_kept(path)).collect()
}

/// The kernel's escapes of white space and backslashes: `\040`.
fn unescaped(field: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(field.to_owned(), |text, (escape, letter)| text.replace(escape, letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(list: &[&str]) -> BTreeSet<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn the_lists_of_the_kernel_are_read() {
        let text = "Filename\t\tType\t\tSize\tUsed\tPriority\n/dev/vda2  partition\t1\t0\t-2\n\
            /dev/zram0 partition 1 0 5\n/a\\040file file 1 0 -3\n";
        assert_eq!(swaps(text), paths(&["/dev/vda2", "/a file"]));
        let text = "21 1 0:2 / / rw - rootfs none rw\n22 21 0:5 / /dev rw shared:2 - devtmpfs none rw\n\
            30 21 8:1 / /mnt rw - ext4 /dev/vda1 rw\n31 30 8:2 /sub /mnt/my\\040data rw - ext4 /dev/vda2 rw\n\
            32 21 8:3 / /sysroot/home rw - ext4 /dev/vda3 rw\n";
        assert_eq!(mountpoints(text), paths(&["/mnt", "/mnt/my data"]));
        assert_eq!((swaps(""), mountpoints("x")), (BTreeSet::new(), BTreeSet::new()));
    }

    #[test]
    fn only_loop_devices_with_a_file_are_in_use() {
        let home = tempfile::tempdir().unwrap();
        for path in ["loop0/loop", "loop1", "loop2/loop", "vda"] {
            fs::create_dir_all(home.path().join(path)).unwrap();
        }
        for (name, autoclear) in [("loop0", "0\n"), ("loop2", "1\n")] {
            fs::write(home.path().join(name).join("loop/backing_file"), "/image (deleted)\n").unwrap();
            fs::write(home.path().join(name).join("loop/autoclear"), autoclear).unwrap();
        }
        assert_eq!(loops(home.path()), BTreeSet::from(["loop0".to_owned()]));
    }

    #[test]
    fn what_was_in_use_before_is_left_alone() {
        let state = |swap: &str, name: &str| KernelState {
            swaps: paths(&["/old", swap]),
            loops: ["loop0".to_owned(), name.to_owned()].into(),
            mountpoints: paths(&["/mnt"]),
        };
        let left = state("/new", "loop1").since(&state("/old", "loop0"));
        let expected = KernelState {
            swaps: paths(&["/new"]),
            loops: ["loop1".to_owned()].into(),
            ..KernelState::default()
        };
        assert_eq!(left, expected);
    }
}
