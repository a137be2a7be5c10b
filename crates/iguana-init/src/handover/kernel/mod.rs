//! Decides which kernel runs the new system: the running one, or one of the new system's own.

mod cmdline;
mod entries;
mod files;
mod menu;
mod unified;

use super::partitions::{self, DiskBaseline, ESP, XBOOTLDR};
use super::read_only_mount::ReadOnlyMount;
use super::system::{Root, System, new_root};
use crate::report::Report;
use anyhow::{Context as _, ensure};
use entries::LoaderEntry;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use untrusted_fs::{Directory, Links};

/// Directories with kernel modules in the new system.
const MODULES: &[&str] = &["lib/modules", "usr/lib/modules"];
/// Written by depmod(8). Without it, no module of the directory can be found.
const INDEX: &str = "modules.dep";
/// Directories that a boot loader reads: mount points of boot partitions, or plain directories.
const BOOT_DIRECTORIES: &[&str] = &["boot", "efi", "boot/efi"];
/// Where boot partitions that are not in the mount list are mounted to be read.
const READ_ONLY_MOUNTS: &str = "/run/iguana/boot";

/// The most names that are read of a directory with kernels, boot entries or modules; real ones have a few dozen.
const NAMES_LIMIT: usize = 4096;
/// Bytes of a boot loader's text file that are read; a GRUB menu of a dozen kernels has some 20 kB.
const TEXT_LIMIT: u64 = 1 << 20;
/// Bytes of a kernel, and of all its initrds together; large ones have 0.3 GB. kexec_file_load(2) takes 2 GiB.
const IMAGE_LIMIT: u64 = 1 << 30;

/// Which kernel modules the new system has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Those of the running kernel.
    Modules,
    /// Only those of these other kernels.
    OthersOnly(Vec<String>),
    /// None.
    Nothing,
}

/// Looks for modules of the running kernel (`release`) in the new system.
pub(super) fn fit(root: &Directory, release: &str) -> Fit {
    let directories = MODULES.iter().filter_map(|directory| root.directory(directory, Links::Inside).ok());
    let indexed = directories.flat_map(|directory| {
        let mut names = directory.names(NAMES_LIMIT).unwrap_or_default();
        names.retain(|name| directory.file(Path::new(name).join(INDEX), Links::Inside).is_ok());
        names
    });
    let mut releases: Vec<String> = indexed.filter_map(|name| name.into_string().ok()).collect();
    releases.sort();
    releases.dedup();
    match releases.as_slice() {
        [] => Fit::Nothing,
        known if known.iter().any(|it| it == release) => Fit::Modules,
        _ => Fit::OthersOnly(releases),
    }
}

/// A kernel of the new system, ready to be loaded.
pub(super) struct Installed {
    /// For messages.
    pub(super) name: String,
    pub(super) image: File,
    pub(super) initrd: Option<File>,
    pub(super) cmdline: String,
}

/// A place in which kernels are searched.
struct SearchLocation {
    /// The root of a boot partition, or the directory in its place.
    directory: Directory,
    /// The path of this directory in boot loader files, if it is on the root file system.
    prefix: Option<String>,
    /// For messages.
    name: String,
    /// Keeps the file system mounted.
    _mount: Option<ReadOnlyMount>,
}

impl SearchLocation {
    /// Opens a file by its path in boot loader files.
    fn open(&self, path: &str) -> anyhow::Result<File> {
        let relative = path.trim_start_matches('/');
        let inner = self.prefix.as_ref().and_then(|prefix| relative.strip_prefix(prefix.as_str()));
        let inner = inner.filter(|inner| inner.starts_with('/'));
        let file = self.directory.file(inner.unwrap_or(relative), Links::Inside);
        file.with_context(|| format!("{} has no file `{path}`", self.name))
    }

    fn text(&self, path: &str) -> Option<String> {
        String::from_utf8(untrusted_fs::read_bounded(self.open(path).ok()?, TEXT_LIMIT).ok()?).ok()
    }

    /// The names in a directory; empty if there are more than [`NAMES_LIMIT`].
    fn names(&self, directory: &str) -> Vec<String> {
        let directory = self.directory.directory(directory, Links::Inside);
        let names = directory.and_then(|directory| directory.names(NAMES_LIMIT)).unwrap_or_default();
        names.into_iter().filter_map(|name| name.into_string().ok()).collect()
    }
}

/// The kernel that the system boots by default: from its loader entries, else the newest in `/boot`, else the one that GRUB's
/// menu names. An entry that cannot be used is skipped, and the reason is reported.
pub(super) fn installed(system: &System, before: &DiskBaseline, report: &Report) -> Option<Installed> {
    let places = places(system, before);
    let own = config::cmdline::read("/proc/cmdline");
    for (place, entry) in entries::in_order(&places) {
        match entry.open(place) {
            Ok(installed) => return Some(installed),
            Err(error) => report.warn(format_args!("cannot use the boot entry `{}`: {error:#}", entry.id)),
        }
    }
    let newest = places.iter().find_map(|place| files::newest(place, &places, system, &own));
    newest.or_else(|| menu::find(&places, root_location().as_ref()))
}

/// The root file system, whose files a menu may name by their whole paths.
fn root_location() -> Option<SearchLocation> {
    let directory = new_root().ok()?;
    Some(SearchLocation { directory, prefix: None, name: "`/`".into(), _mount: None })
}

/// The boot directories of the system, then the boot partitions of its disk.
fn places(system: &System, before: &DiskBaseline) -> Vec<SearchLocation> {
    let root = new_root();
    let directories = BOOT_DIRECTORIES.iter().filter_map(|name| {
        let directory = root.as_ref().ok()?.directory(name, Links::Inside).ok()?;
        Some(SearchLocation {
            directory,
            prefix: Some((*name).into()),
            name: format!("`/{name}`"),
            _mount: None,
        })
    });
    let disk = match &system.root {
        Root::Open { device, .. } => device.as_deref(),
        Root::Closed { device, .. } => Some(device.as_path()),
    };
    let disk = disk.and_then(partitions::disk_of);
    let disks = partitions::disks(before).into_iter().filter(|it| Some(&it.node) == disk.as_ref());
    let partitions: Vec<PathBuf> = disks
        .flat_map(|disk| {
            [XBOOTLDR, ESP].map(|kind| disk.automatic(kind).into_iter().cloned().collect::<Vec<_>>())
        })
        .flatten()
        .map(|partition| partition.node)
        .collect();
    let partitions = partitions.into_iter().enumerate().filter_map(|(number, node)| {
        // A partition that is already mounted is among the directories.
        let read_only_mount =
            ReadOnlyMount::of(&node, &Path::new(READ_ONLY_MOUNTS).join(number.to_string())).ok()?;
        let directory = read_only_mount.top().ok()?;
        Some(SearchLocation {
            directory,
            prefix: None,
            name: format!("`{}`", node.display()),
            _mount: Some(read_only_mount),
        })
    });
    directories.chain(partitions).collect()
}

/// Concatenates files, since the kernel accepts several archives in one initrd
/// (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
fn joined(files: Vec<File>) -> anyhow::Result<Option<File>> {
    let mut bytes = 0_u64;
    for file in &files {
        bytes = bytes.saturating_add(file.metadata()?.len());
    }
    ensure!(bytes <= IMAGE_LIMIT, "its initrds have {bytes} bytes, more than the limit of {IMAGE_LIMIT}");
    if files.len() < 2 {
        return Ok(files.into_iter().next());
    }
    let mut whole = in_memory("initrd")?;
    for mut file in files {
        let length = file.metadata()?.len();
        io::copy(&mut file.by_ref().take(length), &mut whole)?;
        // Each archive begins at a multiple of four bytes.
        let end = whole.stream_position()?.next_multiple_of(4);
        whole.set_len(end)?;
        whole.seek(io::SeekFrom::End(0))?;
    }
    Ok(Some(whole))
}

fn kernel_image(file: File) -> anyhow::Result<File> {
    let bytes = file.metadata()?.len();
    ensure!(bytes <= IMAGE_LIMIT, "its kernel has {bytes} bytes, more than the limit of {IMAGE_LIMIT}");
    Ok(file)
}

fn in_memory(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

impl LoaderEntry {
    /// Opens all files that the entry names.
    fn open(&self, place: &SearchLocation) -> anyhow::Result<Installed> {
        let name = format!("`{}` of {}", self.id, place.name);
        if let Some(unified) = &self.unified {
            return unified::open(&place.open(unified)?, name);
        }
        let kernel = self.linux.as_deref().context("it does not name a kernel")?;
        let initrds = cmdline::without_variables(&self.initrds.join(" "), place);
        let initrds = initrds.split(' ').filter(|path| !path.is_empty());
        let initrds = initrds.map(|path| place.open(path)).collect::<anyhow::Result<_>>()?;
        Ok(Installed {
            name,
            image: kernel_image(place.open(kernel)?)?,
            initrd: joined(initrds)?,
            cmdline: cmdline::without_variables(&self.options.join(" "), place),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    /// A directory with the given files, removed on drop.
    pub(super) fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, SearchLocation) {
        let home = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let directory = Directory::open(home.path()).unwrap();
        (
            home,
            SearchLocation { directory, prefix: Some("boot".into()), name: "`/boot`".into(), _mount: None },
        )
    }

    #[test]
    fn a_system_matches_a_kernel_by_its_modules() {
        let (_home, place) =
            directory(&[("lib/modules/6.1/modules.dep", ""), ("usr/lib/modules/6.9/x.ko", "")]);
        let root = &place.directory;
        assert_eq!(fit(root, "6.1"), Fit::Modules);
        assert_eq!(fit(root, "6.9"), Fit::OthersOnly(vec!["6.1".into()]), "a directory without an index");
        assert_eq!(fit(&root.directory("usr", Links::Refuse).unwrap(), "6.1"), Fit::Nothing);
    }

    #[test]
    fn a_boot_directory_is_recognised_with_and_without_its_name() {
        let (_home, place) = directory(&[("vmlinuz", "kernel"), ("bootx", "other")]);
        for path in ["/vmlinuz", "vmlinuz", "/boot/vmlinuz"] {
            assert!(place.open(path).is_ok(), "{path}");
        }
        assert!(place.open("/bootx").is_ok());
        let error = format!("{:#}", place.open("/vmlinux").unwrap_err());
        assert!(error.contains("`/boot` has no file `/vmlinux`"), "{error}");
    }

    #[test]
    fn an_entry_of_the_rhel_family_has_several_initrds_and_variables() {
        let block = "kernelopts=root=UUID=1 ro\ntuned_initrd=/tuned\n";
        let (_home, place) =
            directory(&[("vmlinuz", "kernel"), ("i", "one."), ("tuned", "two."), ("grub2/grubenv", block)]);
        let opened = |initrds: &str| {
            let mut entry = LoaderEntry::default();
            (entry.linux, entry.initrds) = (Some("/vmlinuz".into()), vec![initrds.into()]);
            entry.options = vec!["$kernelopts $tuned_params quiet".into()];
            entry.open(&place).unwrap()
        };
        let with_tuned = opened("/i $tuned_initrd");
        assert_eq!(with_tuned.cmdline, "root=UUID=1 ro quiet");
        assert_eq!(with_tuned.initrd.unwrap().metadata().unwrap().len(), 8);
        assert_eq!(opened("/i $other_initrd").initrd.unwrap().metadata().unwrap().len(), 4);
    }

    #[test]
    fn archives_are_joined_at_multiples_of_four() {
        let file = |text: &str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.rewind().unwrap();
            file
        };
        assert!(joined(Vec::new()).unwrap().is_none());
        let mut whole = joined(vec![file("micro"), file("initrd")]).unwrap().unwrap();
        let mut text = String::new();
        whole.rewind().unwrap();
        whole.read_to_string(&mut text).unwrap();
        assert_eq!(text, "micro\0\0\0initrd\0\0");
    }

    #[test]
    fn planted_files_in_a_boot_directory_are_ignored() {
        let (home, place) =
            directory(&[("loader/entries/good.conf", "linux /vmlinuz"), ("vmlinuz", "kernel")]);
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "linux /secret").unwrap();
        let entries = home.path().join("loader/entries");
        symlink(outside.path().join("secret"), entries.join("link.conf")).unwrap();
        mknodat(CWD, entries.join("fifo.conf"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        fs::File::create(entries.join("zeros.conf")).unwrap().set_len(64 << 30).unwrap();
        mknodat(CWD, home.path().join("kernel"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let large = fs::File::create(home.path().join("large")).unwrap();
        large.set_len(IMAGE_LIMIT + 1).unwrap();
        let places = [place];
        let ids: Vec<String> = entries::in_order(&places).into_iter().map(|(_, entry)| entry.id).collect();
        assert_eq!(ids, ["good.conf"]);
        assert!(places[0].open("kernel").is_err(), "a FIFO is not waited for");
        for (kernel, initrds) in [("/large", vec![]), ("/vmlinuz", vec!["/large".into()])] {
            let mut entry = LoaderEntry::default();
            (entry.linux, entry.initrds) = (Some(kernel.into()), initrds);
            let error = entry.open(&places[0]).err().unwrap().to_string();
            assert!(error.contains("bytes, more than"), "{error}");
        }
    }
}
