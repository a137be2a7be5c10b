//! OCI images made with common tools.

mod buildah;
mod spec;
mod umoci;

use crate::process::{self, QUICK};
use crate::{packages, scratch_directory};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Path of the program of Debian's busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// The search path of every image here.
const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// The tool that makes an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The layout is written by hand, as in image-spec.
    Spec,
    /// `umoci`, which works on layouts.
    Umoci,
    /// `buildah`, which works on its own store and pushes from it.
    Buildah,
}

/// Compression of layers by [`Maker::Spec`]; umoci and buildah choose gzip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// `application/vnd.oci.image.layer.v1.tar+gzip`
    Gzip,
    /// `application/vnd.oci.image.layer.v1.tar+zstd`
    Zstd,
    /// `application/vnd.oci.image.layer.v1.tar+NAME`, packed by a shell script from the archive `$1` to the file `$2`.
    By {
        /// The suffix of the media type.
        name: &'static str,
        /// The script.
        script: &'static str,
    },
}

/// A layer to make.
#[derive(Debug)]
enum Layer {
    Directory(PathBuf),
    Tar(PathBuf),
}

impl Layer {
    fn directory(&self) -> Result<&Path> {
        match self {
            Layer::Directory(directory) => Ok(directory),
            Layer::Tar(file) => bail!("layer `{}` is not a directory", file.display()),
        }
    }
}

/// The content of an image before it is made.
#[derive(Debug)]
pub struct Recipe {
    home: TempDir,
    layers: Vec<Layer>,
    config: Value,
    packing: Packing,
    architecture: &'static str,
}

impl Recipe {
    /// An image without a layer.
    pub fn empty() -> Result<Recipe> {
        let config = json!({"Env": [PATH]});
        Ok(Recipe {
            home: scratch_directory("image")?,
            layers: Vec::new(),
            config,
            packing: Packing::Gzip,
            architecture: "amd64",
        })
    }

    /// One layer with Debian's static busybox and the directories of a minimal system.
    pub fn busybox() -> Result<Recipe> {
        let mut recipe = Recipe::empty()?;
        busybox_root(&recipe.new_directory()?)?;
        Ok(recipe)
    }

    /// Busybox, with a shell script as its command.
    pub fn script(script: &str) -> Result<Recipe> {
        Ok(Recipe::busybox()?.file("/job.sh", 0o755, script)?.set("Cmd", json!(["/bin/sh", "/job.sh"])))
    }

    /// Adds a layer with one file.
    pub fn file(mut self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Result<Recipe> {
        put(&self.new_directory()?, path, mode, content.as_ref())?;
        Ok(self)
    }

    /// Adds a layer with one symbolic link.
    pub fn link(mut self, path: &str, target: &str) -> Result<Recipe> {
        let link = self.new_directory()?.join(path.trim_start_matches('/'));
        link.parent().map_or(Ok(()), fs::create_dir_all)?;
        symlink(target, link)?;
        Ok(self)
    }

    /// Adds a layer with a file of this host at `path`.
    pub fn copy(mut self, file: &Path, path: &str) -> Result<Recipe> {
        let target = self.new_directory()?.join(path.trim_start_matches('/'));
        target.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::copy(file, target).with_context(|| format!("`{}`", file.display()))?;
        Ok(self)
    }

    /// Adds a layer with a program of this host and the shared objects that it loads.
    pub fn program(mut self, path: &str) -> Result<Recipe> {
        let directory = self.new_directory()?;
        for file in with_shared_objects(path)? {
            let content = fs::read(&file).with_context(|| format!("`{file}`"))?;
            put(&directory, &file, fs::metadata(&file)?.permissions().mode(), &content)?;
        }
        Ok(self)
    }

    /// Adds a layer with one character device that everybody may use.
    pub fn device(mut self, path: &str, major: u32, minor: u32) -> Result<Recipe> {
        let node = self.new_directory()?.join(path.trim_start_matches('/'));
        let (major, minor) = (major.to_string(), minor.to_string());
        let made =
            Command::new("mknod").args(["-m", "666"]).arg(&node).args(["c", &major, &minor]).status()?;
        ensure!(made.success(), "`mknod {}` failed", node.display());
        Ok(self)
    }

    /// Adds a layer from a tar file.
    pub fn tar(mut self, file: &Path) -> Recipe {
        self.layers.push(Layer::Tar(file.to_owned()));
        self
    }

    /// Sets a key of the image's configuration, with its name in image-spec: `Cmd`, `Entrypoint`, `User`, ….
    pub fn set(mut self, key: &str, value: Value) -> Recipe {
        self.config[key] = value;
        self
    }

    /// States another architecture than amd64 in the image, for [`Maker::Spec`]. The programs stay the same.
    pub fn architecture(mut self, architecture: &'static str) -> Recipe {
        self.architecture = architecture;
        self
    }

    /// Chooses another compression than gzip.
    pub fn packing(mut self, packing: Packing) -> Recipe {
        self.packing = packing;
        self
    }

    /// Makes the image.
    pub fn make(self, maker: Maker) -> Result<Image> {
        let layout = self.home.path().join("layout");
        match maker {
            Maker::Spec => spec::write(&self, &layout),
            Maker::Umoci => umoci::make(&self, &layout),
            Maker::Buildah => buildah::make(&self, &layout),
        }
        .with_context(|| format!("an image made by {maker:?}"))?;
        Ok(Image { layout, _home: self.home })
    }

    /// An empty directory for the next layer.
    fn new_directory(&mut self) -> Result<PathBuf> {
        let directory = self.home.path().join(format!("layer-{}", self.layers.len()));
        fs::create_dir(&directory)?;
        self.layers.push(Layer::Directory(directory.clone()));
        Ok(directory)
    }

    /// The layers, all of which must be directories.
    fn directories(&self) -> Result<Vec<&Path>> {
        self.layers.iter().map(Layer::directory).collect()
    }

    /// The strings of a list in the configuration.
    fn words(&self, key: &str) -> Vec<&str> {
        self.config[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

/// A finished image: an OCI layout whose tag is `latest`. Its directory is removed when the value is dropped.
#[derive(Debug)]
pub struct Image {
    layout: PathBuf,
    _home: TempDir,
}

impl Image {
    /// Its OCI layout.
    pub fn layout(&self) -> &Path {
        &self.layout
    }

    /// An index with this image for amd64 and `other` for arm64, tagged `latest`.
    pub fn beside_arm64(self, other: &Image) -> Result<Image> {
        spec::offer_both(&self.layout, &other.layout)?;
        Ok(self)
    }
}

/// Fills `root` with busybox and the directories of a minimal system.
pub fn busybox_root(root: &Path) -> Result<()> {
    packages::ensure(&["busybox-static"])?;
    for directory in ["bin", "dev", "etc", "iguana", "proc", "root", "run", "sbin", "sys", "tmp", "var"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    for applet in process::run(Command::new(BUSYBOX).arg("--list"), QUICK)?.lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    put(
        root,
        "/etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/tmp:/bin/sh\n",
    )?;
    put(root, "/etc/group", 0o644, b"root:x:0:\nguest:x:1000:\n")
}

/// Writes one file below `root`.
pub fn put(root: &Path, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let file = root.join(path.trim_start_matches('/'));
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&file, content).with_context(|| format!("`{}`", file.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// `program`, the dynamic linker and the shared objects, as ldd(1) finds them.
fn with_shared_objects(program: &str) -> Result<Vec<String>> {
    let listed = process::run(Command::new("ldd").arg(program), QUICK)?;
    let objects = listed.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned);
    Ok(std::iter::once(program.to_owned()).chain(objects).collect())
}
