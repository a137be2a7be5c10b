//! Compares unpacked images with the trees that the OCI image-spec's layer rules define.
//!
//! `model.py` implements those rules and decides; it shares no code with Iguana. A container that mounts all images
//! lists the trees, so they have passed through a registry, a pull, the store and overlayfs.

mod unpacker;

pub use unpacker::Unpacker;

use crate::image::{Image, Maker, Packing, Recipe};
use crate::live::LiveSystem;
use crate::process::{self, LONG, QUICK};
use crate::registry::Registry;
use crate::{program, scratch_directory};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use tempfile::TempDir;

const IMAGES: &str = include_str!("images.py");
const MODEL: &str = include_str!("model.py");
const LISTING: &str = include_str!("listing.py");

/// Number of concurrent pushes.
const PUSHES: usize = 4;

/// The properties of one entry: kind, mode, owner, ….
type Thing = Map<String, Value>;
/// The entries of a tree by their paths.
type Listing = BTreeMap<String, Thing>;

/// An image whose tree is compared.
#[derive(Debug)]
pub struct Subject {
    /// Name of its layout's directory and of its repository.
    pub name: String,
    /// The tool that made it.
    pub maker: &'static str,
    /// Its odd property.
    pub oddity: String,
    layout: PathBuf,
    _image: Option<Image>,
}

/// Images to compare.
pub struct Campaign {
    room: TempDir,
    subjects: Vec<Subject>,
}

/// Differences between a tree and the expected one, one line for each entry.
pub type Differences = Vec<String>;

impl Campaign {
    /// Makes the images, by hand and with third-party tools. `many` is the number of files in the image with many
    /// files.
    pub fn new(many: usize) -> Result<Campaign> {
        let room = scratch_directory("equality")?;
        for (name, script) in [("images.py", IMAGES), ("model.py", MODEL), ("listing.py", LISTING)] {
            fs::write(room.path().join(name), script)?;
        }
        python(room.path(), "images.py", &[room.path(), Path::new(&many.to_string())])?;
        let told: Vec<Value> = serde_json::from_slice(&fs::read(room.path().join("images.json"))?)?;
        let mut subjects = Vec::new();
        for image in &told {
            let word = |key: &str| image[key].as_str().map(str::to_owned).context("a word");
            let (name, oddity) = (word("name")?, word("oddity")?);
            let layout = room.path().join(&name);
            subjects.push(Subject { name, maker: "by hand", oddity, layout, _image: None });
        }
        subjects.extend(by_other_makers(room.path())?);
        Ok(Campaign { room, subjects })
    }

    /// The images.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// The expected tree of each image.
    pub fn expected(&self) -> Result<Vec<Listing>> {
        let out = self.room.path().join("models");
        fs::create_dir_all(&out)?;
        let layouts: Vec<&Path> = self.subjects.iter().map(|subject| subject.layout.as_path()).collect();
        python(self.room.path(), "model.py", &[&[out.as_path()], layouts.as_slice()].concat())?;
        let numbers = 0..self.subjects.len();
        numbers.map(|number| listing(&fs::read_to_string(out.join(number.to_string()))?)).collect()
    }

    /// The tree of each image as a container of Iguana sees it.
    pub fn seen(&self) -> Result<Vec<Listing>> {
        let registry = Registry::plain()?;
        let here = registry.address().replace(crate::HOST, "127.0.0.1");
        self.push_all(&here)?;
        let lister = Recipe::busybox()?.make(Maker::Spec)?;
        registry.push(&lister, "lister")?;
        let system = LiveSystem::new(registry)?;
        let out = system.room().join("listings");
        fs::create_dir(&out)?;
        fs::write(out.join("listing.py"), LISTING)?;
        let listings = out.join("trees");
        fs::create_dir(&listings)?;
        let file = system.workflow(&self.workflow(&out))?;
        let output = system.run(&program("iguana-init"), "iguana-init", &["run", &file])?;
        ensure!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        self.listings(&listings)
    }

    /// Pushes several images at a time, because skopeo mostly waits.
    fn push_all(&self, registry: &str) -> Result<()> {
        thread::scope(|scope| {
            let some = |subjects: &[Subject]| {
                subjects.iter().try_for_each(|it| push(&it.layout, registry, &it.name))
            };
            let chunks = self.subjects.chunks(self.subjects.len().div_ceil(PUSHES));
            let pushes: Vec<_> = chunks.map(|subjects| scope.spawn(move || some(subjects))).collect();
            pushes.into_iter().try_for_each(|push| push.join().map_err(|_| anyhow!("a push crashed"))?)
        })
    }

    fn listings(&self, directory: &Path) -> Result<Vec<Listing>> {
        let read = |subject: &Subject| {
            let text = fs::read_to_string(directory.join(&subject.name));
            listing(&text.with_context(|| format!("no listing of `{}`", subject.oddity))?)
        };
        self.subjects.iter().map(read).collect()
    }

    fn workflow(&self, out: &Path) -> String {
        let mut text = format!(
            "jobs:\n  list:\n    container:\n      image: REGISTRY/lister\n      \
             entrypoint: [/usr/bin/python3, /out/listing.py, /trees, /out/trees]\n      volumes:\n      \
             - {}:/out\n",
            out.display()
        );
        // The host's Python with the libraries that it loads.
        for directory in ["/usr", "/lib", "/lib64"] {
            let _ = writeln!(text, "      - {directory}:{directory}:ro");
        }
        for subject in &self.subjects {
            let name = &subject.name;
            let _ =
                writeln!(text, "      - {{type: image, source: 'REGISTRY/{name}', target: /trees/{name}}}");
        }
        text
    }

    /// The tree of each image as another tool unpacks it, or the error of the tool.
    pub fn witnessed(&self, unpacker: Unpacker) -> Result<Vec<Result<Listing>>> {
        let room = scratch_directory("unpacker")?;
        self.subjects.iter().map(|subject| Ok(unpacker.tree(room.path(), subject))).collect()
    }
}

/// Writes the small handmade layers into `directory` as archives.
pub fn write_layers(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let room = scratch_directory("layers")?;
    fs::write(room.path().join("images.py"), IMAGES)?;
    python(room.path(), "images.py", &[room.path(), Path::new("1"), directory]).map(drop)
}

/// The differences between `expected` and `seen`.
pub fn differences(expected: &Listing, seen: &Listing) -> Differences {
    let paths: BTreeSet<&String> = expected.keys().chain(seen.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        match (expected.get(path), seen.get(path)) {
            (Some(_), None) => found.push(format!("`{path}` is missing")),
            (None, Some(_)) => found.push(format!("`{path}` should not be there")),
            (Some(expected), Some(seen)) => {
                // Properties that the model leaves out are not compared, except hard links.
                let keys: BTreeSet<&String> =
                    expected.keys().chain(seen.keys().filter(|key| *key == "links")).collect();
                for key in keys {
                    if expected.get(key) != seen.get(key) {
                        let show = |thing: &Thing| thing.get(key).map_or("none".to_owned(), Value::to_string);
                        found.push(format!("`{path}`: {key} is {}, not {}", show(seen), show(expected)));
                    }
                }
            }
            (None, None) => {}
        }
    }
    found
}

fn listing(text: &str) -> Result<Listing> {
    let thing = |line: &str| -> Result<(String, Thing)> {
        let thing: Thing = serde_json::from_str(line)?;
        Ok((thing["path"].as_str().context("a path")?.to_owned(), thing))
    };
    text.lines().map(thing).collect()
}

fn python(room: &Path, script: &str, arguments: &[&Path]) -> Result<String> {
    process::run(Command::new("/usr/bin/python3").arg(room.join(script)).args(arguments), LONG)
}

fn push(layout: &Path, registry: &str, name: &str) -> Result<()> {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]);
    skopeo.arg(format!("oci:{}:latest", layout.display())).arg(format!("docker://{registry}/{name}:latest"));
    process::run(&mut skopeo, QUICK).map(drop)
}

/// Images made with common tools.
fn by_other_makers(room: &Path) -> Result<Vec<Subject>> {
    let recipe = || -> Result<Recipe> {
        let recipe =
            Recipe::empty()?.file("/etc/motd", 0o644, "hello")?.file("/usr/bin/tool", 0o4755, "tool")?;
        recipe.file("/etc/motd", 0o600, "changed")?.link("/etc/other", "motd")
    };
    let made = |name: &str, maker, oddity: &str, image: Image| Subject {
        name: name.into(),
        maker,
        oddity: oddity.into(),
        layout: image.layout().to_owned(),
        _image: Some(image),
    };
    let mut subjects = vec![
        made("buildah", "buildah", "an image of one layer", recipe()?.make(Maker::Buildah)?),
        made("umoci", "umoci", "directories without entries", recipe()?.make(Maker::Umoci)?),
        made("tar", "GNU tar", "a layer for each file", recipe()?.make(Maker::Spec)?),
        made("tar-zstd", "GNU tar", "packed by zstd", recipe()?.packing(Packing::Zstd).make(Maker::Spec)?),
    ];
    for (name, from, options) in [
        ("skopeo-docker", 0, &["--format", "v2s2"][..]),
        ("skopeo-zstd", 1, &["--dest-compress-format", "zstd", "--format", "oci"]),
    ] {
        let layout = room.join(name);
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "-q"]).args(options);
        skopeo.arg(format!("oci:{}:latest", subjects[from].layout.display()));
        if name == "skopeo-docker" {
            // A layout cannot hold a manifest of Docker's, so the image is copied to a directory and back.
            let directory = room.join("docker");
            process::run(skopeo.arg(format!("dir:{}", directory.display())), QUICK)?;
            let mut back = Command::new("skopeo");
            back.args(["--insecure-policy", "copy", "-q"]).arg(format!("dir:{}", directory.display()));
            process::run(back.arg(format!("oci:{}:latest", layout.display())), QUICK)?;
        } else {
            process::run(skopeo.arg(format!("oci:{}:latest", layout.display())), QUICK)?;
        }
        let oddity = format!("{} copied", subjects[from].name);
        subjects.push(Subject { name: name.into(), maker: "skopeo", oddity, layout, _image: None });
    }
    Ok(subjects)
}
