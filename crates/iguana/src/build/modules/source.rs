//! A directory of kernel modules as a distribution installs it: `/lib/modules/VERSION`. `--modules` may name a
//! directory of another user, so reads stay inside the directory, take regular files only, and are bounded.

use super::modinfo::name_of;
use anyhow::{Context, Result, bail, ensure};
use hint::{WithHint, hinted};
use liblzma::stream::{CONCATENATED, Stream};
use rustix::fs::{FileType, Stat, fstat};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use untrusted_fs::{Directory, Links, read_bounded};

/// File extensions of compressed modules.
const COMPRESSIONS: [&str; 3] = [".xz", ".zst", ".gz"];

/// Bytes of one module, compressed or not. Debian's largest have a few MB; with debug information, several hundred.
const MODULE_LIMIT: u64 = 512 << 20;
/// Bytes of `modules.builtin`, which has some ten kB.
const BUILTIN_LIMIT: u64 = 4 << 20;
/// Files and directories in the whole tree (Debian's largest kernel has some 5,000), and the nesting depth.
const NAMES_LIMIT: usize = 100_000;
const DEPTH_LIMIT: usize = 32;
/// Memory in bytes for decompressing xz; its largest preset takes 65 MiB (xz(1)).
const XZ_MEMORY: u64 = 128 << 20;

/// The modules of one kernel.
#[derive(Debug)]
pub(crate) struct ModuleTree {
    directory: Directory,
    place: PathBuf,
    files: BTreeMap<String, ModuleFile>,
    builtin: String,
}

/// A module in its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleFile {
    /// Path below the directory as it is stored: `kernel/fs/ext4/ext4.ko.xz`.
    pub(crate) stored: String,
    /// The path without the extension of the compression: `kernel/fs/ext4/ext4.ko`.
    pub(crate) path: String,
    /// Size of the stored file in bytes.
    pub(crate) size: u64,
    /// Modification time of the stored file in Unix seconds.
    pub(crate) mtime: i64,
    /// What the owner of a directory cannot imitate: device and inode, and the time of the last change.
    pub(crate) identity: Identity,
}

/// Device, inode, and the time of the last change of a file (seconds, nanoseconds): inode(7), "ctime".
pub(crate) type Identity = (u64, u64, i64, i64);

impl ModuleTree {
    /// Finds the modules below `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let shown = directory.display();
        let mut walk = Walk::default();
        let mut read = || {
            let (opened, place) = (Directory::open(directory)?, directory.canonicalize()?);
            walk.directory(&opened, "", 0)?;
            anyhow::Ok((opened, place))
        };
        let (opened, place) = read()
            .with_context(|| format!("cannot read the kernel modules in `{shown}`"))
            .hint("give the directory with `--modules`, or install the kernel's package")?;
        let files = walk.files;
        if files.is_empty() {
            return Err(hinted(
                format!("no kernel modules found in `{shown}`"),
                "`--modules` names a directory such as `/lib/modules/6.1.0-9-amd64`",
            ));
        }
        let builtin = opened
            .read_to_string("modules.builtin", Links::Inside, BUILTIN_LIMIT)
            .with_context(|| format!("cannot read `{shown}/modules.builtin`"))
            .hint("the modules directory is incomplete: reinstall the kernel's package")?;
        Ok(Self { directory: opened, place, files, builtin })
    }

    /// The directory's path without symbolic links, for the cache key. It may name another directory than the opened one:
    /// below `/proc/PID/root`, or if a link has changed in between.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// All modules, by name.
    pub(crate) fn files(&self) -> &BTreeMap<String, ModuleFile> {
        &self.files
    }

    /// Modification time of the newest module in Unix seconds.
    pub(crate) fn newest(&self) -> i64 {
        self.files.values().map(|file| file.mtime).max().unwrap_or_default()
    }

    /// The text of `modules.builtin`.
    pub(crate) fn builtin_text(&self) -> &str {
        &self.builtin
    }

    /// Names of the modules that are built into the kernel.
    pub(crate) fn builtin(&self) -> BTreeSet<String> {
        self.builtin.lines().filter_map(module_name).collect()
    }

    /// The uncompressed bytes of a module.
    pub(crate) fn read(&self, file: &ModuleFile) -> Result<Vec<u8>> {
        self.read_uncompressed(file).with_context(|| {
            format!("cannot read the kernel module `{}`", self.directory.path().join(&file.stored).display())
        })
    }

    fn read_uncompressed(&self, file: &ModuleFile) -> Result<Vec<u8>> {
        let path = Path::new(&file.stored);
        let opened = self.directory.file(path, Links::Refuse)?;
        ensure!(identity(&fstat(&opened)?) == file.identity, "it changed while the modules were read");
        let stored = read_bounded(opened, MODULE_LIMIT)?;
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("xz") => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                bounded(liblzma::read::XzDecoder::new_stream(&stored[..], stream))
            }
            Some("zst") => bounded(zstd::Decoder::new(&stored[..])?),
            Some("gz") => bounded(flate2::read::MultiGzDecoder::new(&stored[..])),
            Some("ko") => Ok(stored),
            _ => bail!("its compression is unknown"),
        }
    }
}

fn bounded(unpacked: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    unpacked.take(MODULE_LIMIT + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= MODULE_LIMIT, "it is larger than {MODULE_LIMIT} bytes");
    Ok(bytes)
}

/// Collects the modules below a directory. It does not follow links: `build` and `source` lead out of the directory.
#[derive(Debug, Default)]
struct Walk {
    files: BTreeMap<String, ModuleFile>,
    seen: usize,
}

impl Walk {
    fn directory(&mut self, top: &Directory, below: &str, depth: usize) -> Result<()> {
        ensure!(depth <= DEPTH_LIMIT, "`{below}` is more than {DEPTH_LIMIT} directories deep");
        for name in top.directory(below, Links::Refuse)?.names(NAMES_LIMIT)? {
            self.seen += 1;
            ensure!(self.seen <= NAMES_LIMIT, "it has more than {NAMES_LIMIT} files and directories");
            let Ok(name) = name.into_string() else { continue };
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            let Some(found) = top.stat(&path, Links::Refuse)? else { continue };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => self.directory(top, &path, depth + 1)?,
                FileType::RegularFile => self.file(path, &found),
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, path: String, found: &Stat) {
        let Some(name) = module_name(&path) else { return };
        let file = ModuleFile::new(path, found);
        if self.files.get(&name).is_none_or(|other| file.comes_before(other)) {
            self.files.insert(name, file);
        }
    }
}

impl ModuleFile {
    fn new(stored: String, found: &Stat) -> Self {
        let path =
            COMPRESSIONS.iter().find_map(|ending| stored.strip_suffix(ending)).unwrap_or(&stored).to_string();
        let size = found.st_size.try_into().unwrap_or_default();
        Self { stored, path, size, mtime: found.st_mtime, identity: identity(found) }
    }

    /// Whether this module wins over another of the same name: one below `updates` does, as for depmod(8).
    fn comes_before(&self, other: &Self) -> bool {
        let rank = |file: &Self| (!file.stored.starts_with("updates/"), file.stored.clone());
        rank(self) < rank(other)
    }
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino, stat.st_ctime, stat.st_ctime_nsec as i64)
}

/// The name of the module at `path`, if it is one.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, compression) = file.split_once(".ko")?;
    (compression.is_empty() || COMPRESSIONS.contains(&compression)).then(|| name_of(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        directory
    }

    #[test]
    fn each_compression_is_decompressed() {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
        xz.write_all(b"module").unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"module").unwrap();
        let (xz, gz, zst) =
            (xz.finish().unwrap(), gz.finish().unwrap(), zstd::encode_all(&b"module"[..], 3).unwrap());
        let directory = directory(&[
            ("modules.builtin", b"kernel/fs/ext-4.ko\n"),
            ("kernel/a-a.ko.xz", &xz),
            ("kernel/b.ko.gz", &gz),
            ("kernel/c.ko.zst", &zst),
            ("kernel/d.ko", b"module"),
        ]);
        let source = ModuleTree::open(directory.path()).unwrap();
        assert_eq!(source.files().keys().collect::<Vec<_>>(), ["a_a", "b", "c", "d"]);
        for file in source.files().values() {
            assert_eq!(source.read(file).unwrap(), b"module", "{file:?}");
            assert!(file.path.ends_with(".ko"));
        }
        assert!(source.builtin().contains("ext_4"));
    }

    #[test]
    fn an_update_comes_before_what_it_replaces() {
        let directory = directory(&[
            ("modules.builtin", b""),
            ("kernel/drivers/igb.ko", b"old"),
            ("updates/igb.ko", b"new"),
        ]);
        let source = ModuleTree::open(directory.path()).unwrap();
        assert_eq!(source.files()["igb"].path, "updates/igb.ko");
    }

    #[test]
    fn a_directory_without_modules_is_reported() {
        let directory = directory(&[("modules.builtin", b"")]);
        let error = ModuleTree::open(directory.path()).unwrap_err();
        assert!(error.to_string().starts_with("no kernel modules found in"), "{error}");
        let error = ModuleTree::open(&directory.path().join("absent")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the kernel modules in"), "{error}");
    }

    #[test]
    fn a_damaged_module_is_named() {
        let directory = directory(&[("modules.builtin", b""), ("kernel/a.ko.xz", b"not xz")]);
        let source = ModuleTree::open(directory.path()).unwrap();
        let error = source.read(&source.files()["a"]).unwrap_err();
        assert!(error.to_string().contains("kernel/a.ko.xz"), "{error}");
    }

    #[test]
    fn planted_files_among_modules_are_neither_followed_nor_waited_for() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let planted = |name: &str, plant: &dyn Fn(&Path)| {
            let directory = directory(&[("modules.builtin", b""), ("kernel/a.ko", b"module")]);
            let path = directory.path().join(name);
            let source = ModuleTree::open(directory.path()).unwrap();
            fs::remove_file(&path).unwrap();
            plant(&path);
            let read = source.read(&source.files()["a"]);
            let opened = ModuleTree::open(directory.path()).map(|source| source.files().len());
            [read.map(drop), opened.map(drop)].map(|it| it.err().map(|error| format!("{error:#}")))
        };
        let link = |path: &Path| symlink(outside.path(), path).unwrap();
        let fifo = |path: &Path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        for (plant, expected) in [(&link as &dyn Fn(&Path), "link"), (&fifo, "it is a FIFO")] {
            // The link is planted after the directory was listed and before the file is read.
            assert!(planted("kernel/a.ko", plant)[0].as_ref().unwrap().contains(expected));
            assert!(planted("modules.builtin", plant)[1].as_ref().unwrap().contains("modules.builtin"));
        }
    }

    #[test]
    fn directories_of_modules_have_a_depth() {
        for (depth, is_taken) in [(DEPTH_LIMIT, true), (DEPTH_LIMIT + 1, false)] {
            let path = format!("{}a.ko", "d/".repeat(depth));
            let directory = directory(&[("modules.builtin", b""), (&path, b"module")]);
            let opened = ModuleTree::open(directory.path());
            let told = opened.map_or_else(|error| format!("{error:#}"), |_| String::new());
            assert_eq!(told.contains("more than 32 directories deep"), !is_taken, "{told}");
        }
    }
}
