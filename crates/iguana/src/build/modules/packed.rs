//! The modules in the initrd: one image with all of them, and beside it those that are needed to mount the image.

use super::closure::Closure;
use super::source::ModuleTree;
use super::{squashfs, staging};
use crate::cache::Cache;
use crate::temporary;
use anyhow::{Context, Result, ensure};
use hint::hinted;
use oci_reference::Digest;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Changes whenever the same modules are packed differently, for the cache: with kmod's binary indexes and static nodes.
const FORMAT: u32 = 3;

/// Modules that the kernel needs to mount the image.
const MOUNTERS: [&str; 2] = ["loop", "squashfs"];

/// Kernel modules, ready for the initrd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// The file-system image.
    pub(crate) image: Vec<u8>,
    /// Modules that mount the image: file name and content, in the order of loading.
    pub(crate) early: Vec<(String, Vec<u8>)>,
    /// Number of modules in the image.
    pub(crate) count: usize,
    /// Bytes of all modules in the image, unpacked.
    pub(crate) unpacked: u64,
}

impl Packed {
    /// Packs the modules of `source` called `wanted` and their dependencies for the kernel `release`, or takes the
    /// same image from the cache. Calls `say` before the packing, which takes long.
    pub(crate) fn of(
        source: &ModuleTree,
        release: &str,
        wanted: &[String],
        cache: &Cache,
        say: impl FnOnce(&str),
    ) -> Result<Self> {
        let directory = cache.directory("modules", &key(source, release, wanted), |directory| {
            say(&format!("compressing the modules of kernel {release}; this takes up to a minute"));
            make(directory, source, release, wanted)
        })?;
        Self::read(directory.path())
    }

    fn read(directory: &Path) -> Result<Self> {
        let read = || {
            let mut early: Vec<_> = fs::read_dir(directory.join("early"))?.collect::<Result<_, _>>()?;
            early.sort_by_key(fs::DirEntry::file_name);
            let early = early
                .iter()
                .map(|entry| Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?)));
            let facts = fs::read_to_string(directory.join("facts"))?;
            let (count, unpacked) =
                facts.trim().split_once(' ').context("it does not contain two numbers")?;
            anyhow::Ok(Self {
                image: fs::read(directory.join("image"))?,
                early: early.collect::<Result<_>>()?,
                count: count.parse()?,
                unpacked: unpacked.parse()?,
            })
        };
        read().with_context(|| format!("cannot read the compressed modules in `{}`", directory.display()))
    }
}

/// The cache key, which changes whenever the packed modules would. It has sizes and times, which the owner of a
/// directory can set to any value, and a path that another mount namespace may have as well. So it has what identifies
/// each file, too: an image made from another user's files must never have the key of this machine's own.
fn key(source: &ModuleTree, release: &str, wanted: &[String]) -> Digest {
    let place = source.place();
    let mut text =
        format!("{FORMAT}\n{place:?}\n{release}\n{:?}\n{MOUNTERS:?}\n{wanted:?}\n", squashfs::OPTIONS);
    for file in source.files().values() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} {} {:?}", file.stored, file.size, file.mtime, file.identity);
    }
    text.push_str(source.builtin_text());
    Digest::of(text.as_bytes())
}

#[expect(clippy::disallowed_methods, reason = "only this user can write to a temporary directory")]
fn make(directory: &Path, source: &ModuleTree, release: &str, wanted: &[String]) -> Result<()> {
    let staged = temporary::directory()?;
    let root = staged.path().join("modules");
    let closure = staging::fill(&root, source, release, wanted)?;
    let early = early(&closure, source)?;
    squashfs::pack(&root, &directory.join("image"))?;
    fs::create_dir(directory.join("early"))?;
    for (number, name) in early.iter().enumerate() {
        let file = format!("{number:02}-{name}.ko");
        fs::copy(root.join(&closure.modules()[*name].path), directory.join("early").join(file))?;
    }
    let mut unpacked = 0;
    for module in closure.modules().values() {
        unpacked += root.join(&module.path).metadata()?.len();
    }
    fs::write(directory.join("facts"), format!("{} {unpacked}\n", closure.modules().len()))?;
    Ok(())
}

/// Names of the modules that mount the image, in the order of loading.
fn early<'a>(closure: &'a Closure, source: &ModuleTree) -> Result<Vec<&'a str>> {
    let builtin = source.builtin();
    let mut order = Vec::new();
    for mounter in MOUNTERS {
        ensure!(
            builtin.contains(mounter) || closure.modules().contains_key(mounter),
            hinted(
                format!("this kernel lacks `{mounter}`, both as a module and built in"),
                "the initrd keeps its modules in a squashfs image: use a kernel with squashfs and loop \
                 devices"
            )
        );
        for name in closure.load_order(mounter) {
            if !order.contains(&name) {
                order.push(name);
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_another_directory_are_never_reused_from_the_cache() {
        let home = tempfile::tempdir().unwrap();
        let source = |name: &str, module: &[u8]| {
            let directory = home.path().join(name);
            fs::create_dir_all(directory.join("kernel")).unwrap();
            fs::write(directory.join("modules.builtin"), "").unwrap();
            let file = directory.join("kernel/a.ko");
            fs::write(&file, module).unwrap();
            fs::File::open(file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
            ModuleTree::open(&directory).unwrap()
        };
        let (ours, others) = (source("ours", b"good"), source("others", b"evil"));
        let shown = |source: &ModuleTree| {
            let files = source.files().values();
            files.map(|file| (file.stored.clone(), file.size, file.mtime)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&ours), shown(&others), "the same names, sizes and times");
        let of = |source: &ModuleTree| key(source, "6.1", &["a".into()]);
        assert_ne!(of(&ours), of(&others));
        std::os::unix::fs::symlink("ours", home.path().join("link")).unwrap();
        assert_eq!(of(&ours), of(&ModuleTree::open(&home.path().join("link")).unwrap()));
    }

    #[test]
    fn other_files_at_the_same_path_are_never_reused_from_the_cache() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("modules");
        let make = |module: &[u8]| {
            fs::create_dir_all(place.join("kernel")).unwrap();
            fs::write(place.join("modules.builtin"), "").unwrap();
            fs::write(place.join("kernel/a.ko"), module).unwrap();
            let file = fs::File::open(place.join("kernel/a.ko")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        };
        make(b"good");
        let ours = ModuleTree::open(&place).unwrap();
        // As in another mount namespace, which `/proc/PID/root` leads to: the same path and other files.
        fs::rename(place.join("kernel"), home.path().join("before")).unwrap();
        make(b"evil");
        let others = ModuleTree::open(&place).unwrap();
        assert_eq!(ours.place(), others.place());
        let of = |source: &ModuleTree| key(source, "6.1", &[]);
        assert_ne!(of(&ours), of(&others));
        let error = ours.read(&ours.files()["a"]).unwrap_err();
        assert!(format!("{error:#}").contains("it changed while the modules were read"), "{error:#}");
        assert_eq!(others.read(&others.files()["a"]).unwrap(), b"evil");
    }
}
