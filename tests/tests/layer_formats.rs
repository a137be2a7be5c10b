//! Layers as third-party tools compress them: every format is pulled, and its tree compared with podman's and with
//! umoci's of the same content in gzip.

use anyhow::{Context as _, Result};
use iguana_lab::image::{Image, Maker, Packing, Recipe};
use iguana_lab::live::LiveSystem;
use iguana_lab::podman::Podman;
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::puller::{fails, insecure, says};
use iguana_lab::registry::Registry;
use iguana_lab::skopeo::Skopeo;
use iguana_lab::{program, scratch_directory, tree};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The magic number of a skippable frame: RFC 8878, section 3.1.2.
const SKIPPABLE: &[u8] = &[0x50, 0x2a, 0x4d, 0x18];

/// Frames with skippable frames between and behind them, and an empty frame. Not before: skopeo and podman recognize zstd
/// only by its own magic number.
const FRAMES: &str = r#"
skip() { printf 'P*M\030\005\000\000\000' && printf 'table'; }
{
    head -c 100000 "$1" | zstd -q -c
    skip
    printf '' | zstd -q -c
    skip
    tail -c +100001 "$1" | zstd -q -c
    skip
} > "$2"
"#;

/// The content: files, links and a whiteout.
fn recipe() -> Result<Recipe> {
    let text: String = (0..50_000).map(|number| format!("line {number}\n")).collect();
    Recipe::busybox()?.file("/text", 0o640, text)?.link("/opt/link", "../text")?.file(
        "/bin/.wh.ls",
        0o644,
        "",
    )
}

/// Pulls `name` from the registry into `room`.
fn pull(registry: &str, name: &str, room: &Path) -> Result<Output> {
    fs::write(room.join("registries.conf"), insecure(registry))?;
    let mut iguana = Command::new("timeout");
    iguana.arg("120").arg(program("iguana")).args(["pull", &format!("{registry}/{name}"), "own"]);
    Ok(iguana.args(["--registries", "registries.conf"]).current_dir(room).output()?)
}

/// Asserts that the image `tool` in the registry has the same tree under Iguana and podman, and returns its listing.
fn same_tree_as_podman(registry: Registry) -> Result<String> {
    let (room, address) = (scratch_directory("formats")?, registry.server().here());
    let system = LiveSystem::new(registry)?;
    says(&pull(&address, "tool", room.path())?, 0, &[]);
    let own = tree::listing(&room.path().join("own"))?;
    let theirs = system.room().join("tree");
    Podman::with_images(&system, &["tool"])?.copy_tree("tool", &theirs)?;
    same(without_root(&own), without_root(&tree::listing(&theirs)?));
    Ok(own)
}

fn unpacked_by_umoci(image: &Image) -> Result<String> {
    tree::unpacked_by_umoci(image, scratch_directory("formats")?.path())
}

/// A registry with the content in layers that `script` packs as zstd.
fn packed_by(script: &'static str) -> Result<Registry> {
    let registry = Registry::plain()?;
    registry.push(&recipe()?.packing(Packing::By { name: "zstd", script }).make(Maker::Spec)?, "tool")?;
    Ok(registry)
}

/// A listing without the properties of the root directory itself, which are podman's own.
fn without_root(listing: &str) -> &str {
    listing.split_once('\n').map_or(listing, |(_, rest)| rest)
}

/// Asserts that a listing is another tool's.
fn same(own: &str, theirs: &str) {
    let other = own.lines().zip(theirs.lines()).find(|(own, theirs)| own != theirs);
    assert!(own == theirs, "{other:?}, {} lines and {}", own.lines().count(), theirs.lines().count());
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn zstd_chunked_of_skopeo_makes_podmans_tree() -> Result<()> {
    let (registry, image) = (Registry::plain()?, recipe()?.make(Maker::Spec)?);
    let mut skopeo = Skopeo::of_debian_13()?.command();
    skopeo.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]);
    skopeo.args(["--dest-compress-format", "zstd:chunked"]);
    skopeo.arg(format!("oci:{}:latest", image.layout().display()));
    process::run(skopeo.arg(format!("docker://{}/tool:latest", registry.server().here())), LONG)?;
    assert!(registry.layer_types("tool")?.iter().all(|it| it.ends_with("+zstd")));
    let manifest = registry.manifest("tool")?;
    let key = "io.github.containers.zstd-chunked.manifest-position";
    let layers = manifest["layers"].as_array().context("no layers")?;
    assert!(layers.iter().all(|layer| layer["annotations"][key].is_string()), "{manifest}");
    let largest = registry.blobs()?.into_iter().next().context("no blobs")?;
    assert!(contains(&fs::read(largest)?, SKIPPABLE), "no skippable frame");
    same(&same_tree_as_podman(registry)?, &unpacked_by_umoci(&image)?);
    Ok(())
}

/// RFC 8878, section 3.1: "Zstandard-compressed data is made up of one or more frames", of both kinds.
#[test]
fn zstd_in_several_frames_makes_podmans_tree() -> Result<()> {
    let registry = packed_by(FRAMES)?;
    let largest = registry.blobs()?.into_iter().next().context("no blobs")?;
    assert!(contains(&fs::read(largest)?, SKIPPABLE), "no skippable frame");
    let gzip = recipe()?.make(Maker::Spec)?;
    same(&same_tree_as_podman(registry)?, &unpacked_by_umoci(&gzip)?);
    Ok(())
}

/// zstd states the whole window when it does not know the length, as with its standard input.
#[test]
fn a_window_of_128_mib_makes_podmans_tree_and_a_larger_one_is_refused() -> Result<()> {
    let gzip = recipe()?.make(Maker::Spec)?;
    let registry = packed_by("exec zstd -q --long=27 -c < \"$1\" > \"$2\"")?;
    same(&same_tree_as_podman(registry)?, &unpacked_by_umoci(&gzip)?);
    let larger = packed_by("exec zstd -q --long=28 -c < \"$1\" > \"$2\"")?;
    let room = scratch_directory("formats")?;
    let refused = pull(&larger.server().here(), "tool", room.path())?;
    fails(&refused, &["needs a window of 256 MiB; the limit is 128 MiB"]);
    Ok(())
}

/// No package has a tool that makes eStargz: it is written by hand, after its specification.
#[test]
fn estargz_makes_podmans_tree() -> Result<()> {
    let room = scratch_directory("formats")?;
    let path = |name: &str| room.path().join(name);
    let script = path("estargz.py");
    fs::write(&script, include_str!("layer_formats/estargz.py"))?;
    let source = recipe()?.make(Maker::Spec)?;
    let unpacked = tree::unpacked_by_umoci(&source, room.path())?;
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--format=ustar", "-C"]).arg(path("umoci/rootfs"));
    process::run(tar.arg("-cf").arg(path("source")).arg("."), QUICK)?;
    let mut python = Command::new("python3");
    python.arg(&script).args([path("source"), path("archive"), path("archive.packed")]);
    process::run(&mut python, QUICK)?;
    let packing = Packing::By { name: "gzip", script: "exec cp \"$1.packed\" \"$2\"" };
    let image = Recipe::empty()?.tar(&path("archive")).packing(packing).make(Maker::Spec)?;
    let registry = Registry::plain()?;
    registry.push(&image, "tool")?;
    let blob = fs::read(registry.blobs()?.into_iter().next().context("no blobs")?)?;
    assert!(blob == fs::read(path("archive.packed"))?, "the registry has another layer");
    let own = same_tree_as_podman(registry)?;
    same(&own, &unpacked_by_umoci(&image)?);
    assert!(own.contains("stargz.index.json") && !unpacked.contains("stargz.index.json"));
    Ok(())
}
