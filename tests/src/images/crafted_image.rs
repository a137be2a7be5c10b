//! Crafted images that no tool makes and no registry accepts. Only a [`FaultProxy`] serves them.

use crate::fault_proxy::{Action, FaultProxy, Request};
use crate::process::{self, QUICK};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the image states about a layer, true or not.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The bytes that the server sends.
    pub sent: Vec<u8>,
    /// The suffix of its media type: `tar`, `tar+gzip`, `tar+zstd`.
    pub packing: &'static str,
    /// Its descriptor's digest.
    pub digest: String,
    /// Its descriptor's size in bytes.
    pub size: usize,
    /// Its diff-ID in the configuration.
    pub diff_id: String,
}

impl Layer {
    /// A valid layer with the content of `directory`, compressed with gzip.
    pub fn of_directory(directory: &Path) -> Result<Layer> {
        let tar = output("exec tar --sort=name --mtime=@0 -C \"$0\" -c . > \"$1\"", directory)?;
        Layer::of_tar(&tar)
    }

    /// A valid layer from a tar archive.
    pub fn of_tar(tar: &[u8]) -> Result<Layer> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), tar)?;
        let sent = output("exec gzip -n -c \"$0\" > \"$1\"", file.path())?;
        let (digest, size) = (digest(&sent)?, sent.len());
        Ok(Layer { digest, size, diff_id: self::digest(tar)?, sent, packing: "tar+gzip" })
    }
}

/// The content of the file `$1` that a script writes, which has `path` as `$0`.
fn output(script: &str, path: &Path) -> Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new()?;
    process::run(Command::new("sh").args(["-c", script]).arg(path).arg(file.path()), QUICK)?;
    Ok(fs::read(file.path())?)
}

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), bytes)?;
    let sum = process::run(Command::new("sha256sum").arg(file.path()), QUICK)?;
    Ok(format!("sha256:{}", sum.split(' ').next().unwrap_or_default()))
}

/// A server with one image of these layers, whose command is `command`. `rule` can override the answer to a request.
pub fn server(
    layers: Vec<Layer>,
    command: &[&str],
    rule: impl Fn(&Request) -> Option<Action> + Send + Sync + 'static,
) -> Result<FaultProxy> {
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let described: Vec<Value> = layers
        .iter()
        .map(|layer| {
            let kind = format!("application/vnd.oci.image.layer.v1.{}", layer.packing);
            json!({"mediaType": kind, "digest": layer.digest, "size": layer.size})
        })
        .collect();
    let kind = "application/vnd.oci.image.config.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": kind, "digest": digest(&config)?, "size": config.len()},
        "layers": described,
    });
    let mut documents = HashMap::from([(digest(&config)?, config)]);
    documents.extend(layers.into_iter().map(|layer| (layer.digest, layer.sent)));
    FaultProxy::before("", move |request| {
        let name = request.target.rsplit('/').next().unwrap_or_default();
        let known = || match documents.get(name) {
            Some(document) => ("200 OK", document.clone()),
            None if request.target.contains("/manifests/") => ("200 OK", manifest.to_string().into_bytes()),
            None => ("404 Not Found", Vec::new()),
        };
        rule(request).unwrap_or_else(|| {
            let (status, body) = known();
            Action::Answer(status, Vec::new(), body)
        })
    })
}
