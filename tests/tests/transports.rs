//! Images in local files, written by third-party tools: `oci:`, `oci-archive:`, `docker-archive:`.

use anyhow::{Context as _, Result};
use iguana_lab::image::{Image, Maker, Packing, Recipe};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::puller::{Puller, fails, says, succeeds, text};
use iguana_lab::scratch_directory;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn image(maker: Maker) -> Result<Image> {
    Recipe::script("echo it runs")?.file("/data", 0o644, vec![7; 3 << 20])?.make(maker)
}

/// Writes the image with another transport.
fn copy(image: &Image, target: &str) -> Result<()> {
    let source = format!("oci:{}:latest", image.layout().display());
    process::run(
        Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &source]).arg(target),
        LONG,
    )?;
    Ok(())
}

fn shell(script: &str, directory: &Path) -> Result<String> {
    process::run(Command::new("sh").args(["-ec", script]).current_dir(directory), QUICK)
}

#[test]
fn a_layout_of_every_tool_runs_from_its_directory() -> Result<()> {
    let puller = Puller::new()?;
    let zstd = Recipe::script("echo it runs")?.packing(Packing::Zstd).make(Maker::Spec)?;
    for image in [image(Maker::Umoci)?, image(Maker::Buildah)?, zstd] {
        for name in ["", ":latest", ":@0"] {
            let output = puller.run(&format!("oci:{}{name}", image.layout().display()), "")?;
            succeeds(&output, &[" layer"]);
        }
    }
    Ok(())
}

#[test]
fn archives_are_run_without_unpacking_them() -> Result<()> {
    let (puller, room) = (Puller::new()?, scratch_directory("archives")?);
    let (image, path) = (image(Maker::Umoci)?, room.path().display());
    copy(&image, &format!("oci-archive:{path}/a.tar:r.example/tool:1"))?;
    copy(&image, &format!("docker-archive:{path}/b.tar:r.example/tool:1"))?;
    for name in ["", ":r.example/tool:1", ":@0"] {
        for archive in ["oci-archive:PATH/a.tar", "docker-archive:PATH/b.tar"] {
            let output = puller.run(&format!("{}{name}", archive.replace("PATH", &path.to_string())), "")?;
            succeeds(&output, &[" layer"]);
        }
    }
    let missing = puller.run(&format!("docker-archive:{path}/b.tar:r.example/tool"), "")?;
    fails(&missing, &["has no image `r.example/tool`", "`r.example/tool:1`"]);
    let mixed_up = puller.run(&format!("docker-archive:{path}/a.tar"), "")?;
    fails(&mixed_up, &["is not an archive of `docker save`", "`oci-archive:`"]);
    fails(
        &puller.run(&format!("oci-archive:{path}/b.tar"), "")?,
        &["has no `oci-layout`", "`docker-archive:`"],
    );
    Ok(())
}

/// Docker with containerd's store saves the layers as they were pulled.
#[test]
fn a_docker_archive_may_have_compressed_layers() -> Result<()> {
    let (puller, room) = (Puller::new()?, scratch_directory("archives")?);
    let archive = format!("docker-archive:{}/a.tar", room.path().display());
    copy(&image(Maker::Umoci)?, &format!("{archive}:r.example/tool:1"))?;
    shell(
        "mkdir x; tar -C x -xf a.tar; cd x
         for layer in $(sed 's/.*\"Layers\":\\[//; s/\\].*//; s/[\",]/ /g' manifest.json); do
             gzip -n -c $layer > new; rm $layer; mv new $layer
         done
         tar -cf ../a.tar *",
        room.path(),
    )?;
    succeeds(&puller.run(&archive, "")?, &[" layer"]);
    Ok(())
}

/// The largest blob: a layer.
fn layer(image: &Image) -> Result<PathBuf> {
    let largest = shell("ls -S blobs/sha256 | head -n 1", image.layout())?;
    Ok(image.layout().join("blobs/sha256").join(largest.trim()))
}

#[test]
fn damage_in_an_image_file_is_detected_at_once() -> Result<()> {
    let puller = Puller::new()?;
    type Damage = fn(&Path) -> Result<()>;
    let cases: &[(Damage, &[&str])] = &[
        (
            |layer| {
                let mut bytes = fs::read(layer)?;
                *bytes.get_mut(5).context("a layer of nothing")? ^= 1;
                Ok(fs::write(layer, bytes)?)
            },
            &["the layer has digest `sha256:", "push or copy the image again"],
        ),
        (
            |layer| Ok(fs::File::options().write(true).open(layer)?.set_len(1000)?),
            &["has 1000 of the ", "the copy is incomplete"],
        ),
        (|layer| Ok(fs::remove_file(layer)?), &["has no `blobs/sha256/", "the copy is incomplete"]),
    ];
    for (damage, words) in cases {
        let image = image(Maker::Spec)?;
        damage(&layer(&image)?)?;
        let output = puller.run(&format!("oci:{}", image.layout().display()), "")?;
        fails(&output, words);
        assert!(!text(&output).contains("retrying"), "{}", text(&output));
    }
    let missing = puller.run("oci:/no/such/directory", "")?;
    fails(&missing, &["cannot open `/no/such/directory`", "No such file or directory"]);
    says(&puller.run("dir:/some/where", "")?, 3, &["the transport `dir:` is not supported", "`skopeo copy`"]);
    Ok(())
}
