//! The machine's cgroup hierarchies (cgroups(7)), and where in them the cgroups of containers are created.

use super::cgroup::{INSIDE, MemoryFiles, UNIFIED, VERSION_1, limit_cgroups_below, write};
use rustix::fs::{Access, access};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MOUNTS: &str = "/proc/self/mountinfo";
const OWN: &str = "/proc/self/cgroup";
/// Cgroups of all containers at once.
const CGROUPS_OF_ALL: u64 = 16 << 10;

/// Where in the machine's cgroups those of containers are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cgroups {
    /// The directory in the hierarchy of version 2.
    pub(super) unified: Option<PathBuf>,
    pub(super) memory: Option<Controller>,
    pub(super) pids: Option<Controller>,
}

/// Where a controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Controller {
    /// In the hierarchy of version 2.
    Unified,
    /// In this directory of a hierarchy of version 1.
    Own(PathBuf),
}

impl Cgroups {
    /// Finds the cgroups of this machine, and enables the controllers that containers need.
    pub(super) fn open() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (mounts, own) = (read(MOUNTS), read(OWN));
        let is_writable = |directory: &PathBuf| access(directory, Access::WRITE_OK).is_ok();
        let mut cgroups = Self::default();
        if let Some(place) = CgroupPath::unified(&mounts, &own).filter(|place| is_writable(&place.own)) {
            let (directory, enabled) = place.enable();
            let is_enabled = |name: &str| enabled.contains(&name).then_some(Controller::Unified);
            (cgroups.memory, cgroups.pids) = (is_enabled("memory"), is_enabled("pids"));
            cgroups.unified = Some(directory);
        }
        let of_version_1 = |name: &str| {
            CgroupPath::of_version_1(name, &mounts, &own).map(|place| place.own).filter(is_writable)
        };
        cgroups.memory = cgroups.memory.or_else(|| of_version_1("memory").map(Controller::Own));
        cgroups.pids = cgroups.pids.or_else(|| of_version_1("pids").map(Controller::Own));
        cgroups
    }

    /// The same in a new cgroup `name` in each hierarchy, where it can be created.
    pub(super) fn within(&self, name: &str) -> Self {
        let unified = self.unified.as_ref().map(|directory| match make_new(directory, name) {
            Ok(made) => {
                let wish: String = self.unified_controllers().map(|name| format!("+{name} ")).collect();
                // An error is ignored: a limit that needs a missing controller reports it.
                let _ = write(&made.join("cgroup.subtree_control"), &wish);
                // Without `nsdelegate` a container could lift what its own cgroup says.
                limit_cgroups_below(&made, CGROUPS_OF_ALL);
                made
            }
            Err(_) => directory.clone(),
        });
        let mut made: Vec<(PathBuf, PathBuf)> = Vec::new();
        let mut of_version_1 = |controller: &Option<Controller>| match controller {
            Some(Controller::Own(directory)) => {
                // Two controllers may share a hierarchy.
                let known = made.iter().find(|(above, _)| above == directory).map(|(_, made)| made.clone());
                let found = known.or_else(|| make_of_version_1(directory, name).ok());
                let found = found.unwrap_or_else(|| directory.clone());
                made.push((directory.clone(), found.clone()));
                Some(Controller::Own(found))
            }
            controller => controller.clone(),
        };
        let (memory, pids) = (of_version_1(&self.memory), of_version_1(&self.pids));
        Self { unified, memory, pids }
    }

    fn unified_controllers(&self) -> impl Iterator<Item = &'static str> {
        let controllers = [("memory", &self.memory), ("pids", &self.pids)];
        controllers
            .into_iter()
            .filter(|(_, controller)| **controller == Some(Controller::Unified))
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// The directory in the hierarchy of version 2.
    pub(super) fn unified_directory(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// The directory in which memory is counted, and the names of its files.
    pub(super) fn memory_directory(&self) -> Option<(PathBuf, &'static MemoryFiles)> {
        match self.memory.as_ref()? {
            Controller::Unified => Some((self.unified.clone()?, &UNIFIED)),
            Controller::Own(directory) => Some((directory.clone(), &VERSION_1)),
        }
    }

    /// The directory in which processes are counted.
    pub(super) fn pids_directory(&self) -> Option<PathBuf> {
        match self.pids.as_ref()? {
            Controller::Unified => self.unified.clone(),
            Controller::Own(directory) => Some(directory.clone()),
        }
    }

    /// The directories in all hierarchies.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        self.unified.iter().cloned().chain(self.of_version_1()).collect()
    }

    /// The cgroups of version 1 that the zygote joins, so that its copies start there: moving each copy would cost
    /// more.
    pub(super) fn joined_by_copies(&self) -> Vec<PathBuf> {
        self.of_version_1().into_iter().map(|directory| directory.join(INSIDE)).collect()
    }

    fn of_version_1(&self) -> Vec<PathBuf> {
        let own = |controller: &Option<Controller>| match controller {
            Some(Controller::Own(directory)) => Some(directory.clone()),
            _ => None,
        };
        let mut directories: Vec<_> = [&self.memory, &self.pids].into_iter().filter_map(own).collect();
        directories.dedup();
        directories
    }

    /// Whether a container gets its own view at `/sys/fs/cgroup`.
    pub(super) fn are_unified(&self) -> bool {
        self.unified.is_some()
    }

    /// Whether processes are counted and can be limited.
    pub(super) fn count_processes(&self) -> bool {
        self.pids.is_some()
    }

    /// Describes them in one line for the log.
    pub(super) fn describe(&self) -> String {
        let say = |name: &str, controller: &Option<Controller>| match controller {
            Some(Controller::Unified) => format!("{name} is accounted"),
            Some(Controller::Own(_)) => format!("{name} is accounted where it is limited (version 1)"),
            None => format!("{name} is not accounted"),
        };
        let what = [say("memory", &self.memory), say("the number of processes", &self.pids)].join(", ");
        match &self.unified {
            Some(directory) => format!("cgroups: created in `{}`; {what}", directory.display()),
            None => format!("cgroups: none of version 2; {what}"),
        }
    }
}

/// Where this process is in a hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct CgroupPath {
    mount: PathBuf,
    own: PathBuf,
}

impl CgroupPath {
    fn unified(mounts: &str, own: &str) -> Option<Self> {
        Self::find(mounts, own, |kind, _| kind == "cgroup2", "")
    }

    fn of_version_1(controller: &str, mounts: &str, own: &str) -> Option<Self> {
        let has = |options: &str| options.split(',').any(|option| option == controller);
        Self::find(mounts, own, |kind, options| kind == "cgroup" && has(options), controller)
    }

    /// Parses the texts of proc_pid_mountinfo(5) and of `/proc/self/cgroup`; `controller` is empty for version 2.
    fn find(mounts: &str, own: &str, is_it: impl Fn(&str, &str) -> bool, controller: &str) -> Option<Self> {
        let (root, mount) = mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut kind = kind.split(' ');
            let (kind, options) = (kind.next()?, kind.nth(1)?);
            let mut place = place.split(' ').skip(3);
            is_it(kind, options).then_some((place.next()?, place.next()?))
        })?;
        let own = own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then_some(path)
        });
        let below = own.and_then(|own| Path::new(own).strip_prefix(root).ok());
        // A cgroup outside of the mount or of the cgroup namespace has no visible path.
        let below = below.filter(|below| !below.starts_with("..")).unwrap_or(Path::new(""));
        Some(Self { mount: mount.into(), own: Path::new(mount).join(below).components().collect() })
    }

    /// Enables the available controllers. Returns the cgroup whose children have them, and the controllers. Usually
    /// that is not this process's own cgroup: except for the root, a cgroup that contains processes cannot enable
    /// controllers ("no internal processes").
    fn enable(&self) -> (PathBuf, Vec<&'static str>) {
        let offered = controllers(&self.mount.join("cgroup.controllers"));
        let wish: String = offered.iter().map(|name| format!("+{name} ")).collect();
        let directories = self.own.ancestors().take_while(|directory| directory.starts_with(&self.mount));
        for directory in directories {
            let file = directory.join("cgroup.subtree_control");
            // A parent may allow what the kernel refuses here.
            let _ = write(&file, &wish);
            if controllers(&file) == offered {
                return (directory.into(), offered);
            }
        }
        (self.own.clone(), controllers(&self.own.join("cgroup.subtree_control")))
    }
}

/// The controllers in a list of the kernel that containers need.
fn controllers(list: &Path) -> Vec<&'static str> {
    let list = fs::read_to_string(list).unwrap_or_default();
    ["memory", "pids"]
        .into_iter()
        .filter(|name| list.split_whitespace().any(|found| found == *name))
        .collect()
}

/// Creates a new cgroup. An earlier process with the same PID may have left one of this name.
fn make_new(above: &Path, name: &str) -> io::Result<PathBuf> {
    /// The number of leftover cgroups that are skipped: there are few, as their names contain a PID.
    const TRIES: u32 = 1000;
    let names = (0..TRIES).map(|number| if number == 0 { name.into() } else { format!("{name}-{number}") });
    for directory in names.map(|name| above.join(name)) {
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| directory),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn make_of_version_1(above: &Path, name: &str) -> io::Result<PathBuf> {
    let directory = make_new(above, name)?;
    // As for the cgroup of a container.
    let _ = write(&directory.join("memory.use_hierarchy"), "1");
    fs::create_dir(directory.join(INSIDE))?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED_MOUNTS: &str = "\
24 1 0:22 / /proc rw,relatime - proc proc rw
28 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
";
    const HYBRID_MOUNTS: &str = "\
28 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
29 28 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
30 28 0:28 /job /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 28 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    fn place(mount: &str, own: &str) -> Option<CgroupPath> {
        Some(CgroupPath { mount: mount.into(), own: own.into() })
    }

    #[test]
    fn a_process_finds_its_own_cgroup() {
        let top = "/sys/fs/cgroup";
        assert_eq!(CgroupPath::unified(UNIFIED_MOUNTS, "0::/\n"), place(top, top));
        assert_eq!(CgroupPath::unified(UNIFIED_MOUNTS, "0::/a/b\n"), place(top, "/sys/fs/cgroup/a/b"));
        // Outside of what its cgroup namespace shows.
        assert_eq!(CgroupPath::unified(UNIFIED_MOUNTS, "0::/../a\n"), place(top, top));
        assert_eq!(CgroupPath::of_version_1("memory", UNIFIED_MOUNTS, "0::/\n"), None);
        let own = "3:memory:/job/inner\n2:cpu,cpuacct:/\n0::/x\n";
        assert_eq!(
            CgroupPath::of_version_1("memory", HYBRID_MOUNTS, own),
            place("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/inner")
        );
        let unified = "/sys/fs/cgroup/unified";
        assert_eq!(CgroupPath::unified(HYBRID_MOUNTS, own), place(unified, &format!("{unified}/x")));
        assert_eq!(CgroupPath::of_version_1("pids", HYBRID_MOUNTS, own), None);
        assert_eq!(CgroupPath::unified("", own), None);
    }
}
