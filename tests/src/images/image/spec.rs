//! Writes an image layout by hand, as image-spec describes it. It can have content that no tool makes.

use super::{Layer, Packing, Recipe};
use crate::process::{self, LONG, QUICK};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes the layout of `recipe`.
pub(super) fn write(recipe: &Recipe, layout: &Path) -> Result<()> {
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for layer in &recipe.layers {
        let tar = tar_of(layer)?;
        diff_ids.push(format!("sha256:{}", sha256(&tar)?));
        layers.push(packed(&tar, recipe.packing, layout)?);
    }
    let config = json!({
        "architecture": recipe.architecture, "os": "linux", "config": recipe.config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = blob(layout, CONFIG, &config)?;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let manifest = blob(layout, MANIFEST, &manifest)?;
    name_latest(layout, manifest)
}

/// Turns `layout` into an index of its own image for amd64 and the one of `other` for arm64.
pub(super) fn offer_both(layout: &Path, other: &Path) -> Result<()> {
    process::run(Command::new("cp").arg("-aT").arg(other.join("blobs")).arg(layout.join("blobs")), QUICK)?;
    let mut manifests = Vec::new();
    for (from, architecture) in [(other, "arm64"), (layout, "amd64")] {
        let index: Value = serde_json::from_slice(&fs::read(from.join("index.json"))?)?;
        let mut manifest = index["manifests"][0].clone();
        manifest["platform"] = json!({"os": "linux", "architecture": architecture});
        manifest["annotations"] = json!({});
        manifests.push(manifest);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let index = blob(layout, INDEX, &index)?;
    name_latest(layout, index)
}

fn name_latest(layout: &Path, mut descriptor: Value) -> Result<()> {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(())
}

/// Writes `content` as a blob; returns its descriptor.
fn blob(layout: &Path, media_type: &str, content: &Value) -> Result<Value> {
    let file = layout.join("new");
    fs::write(&file, content.to_string())?;
    take_in(&file, media_type, layout)
}

fn packed(tar: &Path, packing: Packing, layout: &Path) -> Result<Value> {
    let (name, script) = match packing {
        Packing::Gzip => ("gzip", "exec gzip -6 -n -c \"$1\" > \"$2\""),
        Packing::Zstd => ("zstd", "exec zstd -q -T0 -c \"$1\" > \"$2\""),
        Packing::By { name, script } => (name, script),
    };
    let file = layout.join("new");
    process::run(Command::new("sh").args(["-c", script, "sh"]).arg(tar).arg(&file), LONG)?;
    take_in(&file, &format!("application/vnd.oci.image.layer.v1.tar+{name}"), layout)
}

/// Moves `file` to the blobs; returns its descriptor.
fn take_in(file: &Path, media_type: &str, layout: &Path) -> Result<Value> {
    let (digest, size) = (sha256(file)?, file.metadata()?.len());
    fs::rename(file, layout.join("blobs/sha256").join(&digest))?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}))
}

fn tar_of(layer: &Layer) -> Result<PathBuf> {
    let directory = match layer {
        Layer::Tar(file) => return Ok(file.clone()),
        Layer::Directory(directory) => directory,
    };
    let file = directory.with_extension("tar");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]);
    process::run(tar.arg("-C").arg(directory).arg("-cf").arg(&file).arg("."), LONG)?;
    Ok(file)
}

fn sha256(file: &Path) -> Result<String> {
    let said = process::run(Command::new("sha256sum").arg(file), LONG)?;
    said.split(' ').next().map(str::to_owned).context("`sha256sum` said nothing")
}
