//! A directory of kernel modules as a distribution installs it: `/lib/modules/VERSION`.

use super::modinfo::name_of;
use anyhow::{Context, Result, bail};
use hint::{WithHint, hinted};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How the names of compressed modules end.
const COMPRESSIONS: [&str; 3] = [".xz", ".zst", ".gz"];

/// The modules of one kernel.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    directory: PathBuf,
    files: BTreeMap<String, ModuleFile>,
    builtin: String,
}

/// A module in its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleFile {
    /// Path below the directory, as it is there: `kernel/fs/ext4/ext4.ko.xz`.
    pub(crate) stored: String,
    /// The same without compression: `kernel/fs/ext4/ext4.ko`.
    pub(crate) path: String,
    /// Bytes of the stored file.
    pub(crate) size: u64,
    /// Unix seconds of the stored file's last change.
    pub(crate) mtime: i64,
}

impl Source {
    /// Finds the modules below `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let shown = directory.display();
        let mut files = BTreeMap::new();
        walk(directory, "", &mut files)
            .with_context(|| format!("cannot read the kernel modules in `{shown}`"))
            .hint("name the directory with `--modules`, or install the kernel's package")?;
        if files.is_empty() {
            return Err(hinted(
                format!("no kernel modules are in `{shown}`"),
                "`--modules` names a directory such as `/lib/modules/6.1.0-9-amd64`",
            ));
        }
        let builtin = directory.join("modules.builtin");
        let builtin = fs::read_to_string(&builtin)
            .with_context(|| format!("cannot read `{}`", builtin.display()))
            .hint("this modules directory is not complete: it comes whole in the kernel's package")?;
        Ok(Self { directory: directory.to_owned(), files, builtin })
    }

    /// All modules, by name.
    pub(crate) fn files(&self) -> &BTreeMap<String, ModuleFile> {
        &self.files
    }

    /// Unix seconds of the last change of the newest module.
    pub(crate) fn newest(&self) -> i64 {
        self.files.values().map(|file| file.mtime).max().unwrap_or_default()
    }

    /// The text of `modules.builtin`.
    pub(crate) fn builtin_text(&self) -> &str {
        &self.builtin
    }

    /// Names of what would be modules, were it not part of the kernel itself.
    pub(crate) fn builtin(&self) -> BTreeSet<String> {
        self.builtin.lines().filter_map(module_name).collect()
    }

    /// A module's bytes, uncompressed.
    pub(crate) fn read(&self, file: &ModuleFile) -> Result<Vec<u8>> {
        let path = self.directory.join(&file.stored);
        read_uncompressed(&path)
            .with_context(|| format!("cannot read the kernel module `{}`", path.display()))
    }
}

/// Collects the modules below `directory`/`below`. Links are not followed: `build` and `source` lead out.
fn walk(directory: &Path, below: &str, files: &mut BTreeMap<String, ModuleFile>) -> Result<()> {
    for entry in fs::read_dir(directory.join(below))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if kind.is_dir() {
            walk(directory, &path, files)?;
        } else if kind.is_file()
            && let Some(name) = module_name(&path)
        {
            let file = ModuleFile::new(path, &entry.metadata()?);
            if files.get(&name).is_none_or(|other| file.comes_before(other)) {
                files.insert(name, file);
            }
        }
    }
    Ok(())
}

impl ModuleFile {
    fn new(stored: String, metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let path =
            COMPRESSIONS.iter().find_map(|ending| stored.strip_suffix(ending)).unwrap_or(&stored).to_string();
        Self { stored, path, size: metadata.len(), mtime: metadata.mtime() }
    }

    /// Of two modules of one name that below `updates` wins, as for depmod(8).
    fn comes_before(&self, other: &Self) -> bool {
        let rank = |file: &Self| (!file.stored.starts_with("updates/"), file.stored.clone());
        rank(self) < rank(other)
    }
}

/// The name of the module at `path`, if it is one.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, compression) = file.split_once(".ko")?;
    (compression.is_empty() || COMPRESSIONS.contains(&compression)).then(|| name_of(name))
}

fn read_uncompressed(path: &Path) -> Result<Vec<u8>> {
    let stored = fs::read(path)?;
    let mut bytes = Vec::new();
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => liblzma::read::XzDecoder::new_multi_decoder(&stored[..]).read_to_end(&mut bytes)?,
        Some("zst") => zstd::Decoder::new(&stored[..])?.read_to_end(&mut bytes)?,
        Some("gz") => flate2::read::MultiGzDecoder::new(&stored[..]).read_to_end(&mut bytes)?,
        Some("ko") => return Ok(stored),
        _ => bail!("its compression is not known"),
    };
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

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
    fn each_compression_is_undone() {
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
        let source = Source::open(directory.path()).unwrap();
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
        let source = Source::open(directory.path()).unwrap();
        assert_eq!(source.files()["igb"].path, "updates/igb.ko");
    }

    #[test]
    fn a_directory_without_modules_is_told() {
        let directory = directory(&[("modules.builtin", b"")]);
        let error = Source::open(directory.path()).unwrap_err();
        assert!(error.to_string().starts_with("no kernel modules are in"), "{error}");
        let error = Source::open(&directory.path().join("absent")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the kernel modules in"), "{error}");
    }

    #[test]
    fn a_damaged_module_is_named() {
        let directory = directory(&[("modules.builtin", b""), ("kernel/a.ko.xz", b"not xz")]);
        let source = Source::open(directory.path()).unwrap();
        let error = source.read(&source.files()["a"]).unwrap_err();
        assert!(error.to_string().contains("kernel/a.ko.xz"), "{error}");
    }
}
