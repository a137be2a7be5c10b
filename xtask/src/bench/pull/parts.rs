//! The cost of the parts of a pull, each with the fastest tool of its kind: a lower bound for any pull.

use crate::bench::images::{ImageKind, Pushed};
use crate::bench::stage::{Sample, Stage};
use anyhow::{Context, Result};
use iguana_lab::process::{self, LONG};
use iguana_lab::registry::Registry;
use iguana_lab::scratch_directory;
use serde_json::Value;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Network,
    DigestPacked,
    Inflate,
    DigestUnpacked,
    Write,
}

impl Part {
    /// Only the large image has documented goals.
    pub(super) fn all_for(kind: ImageKind) -> impl Iterator<Item = Part> {
        let all = [Part::Network, Part::DigestPacked, Part::Inflate, Part::DigestUnpacked, Part::Write];
        all.into_iter().filter(move |_| kind == ImageKind::Large)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Part::Network => "the bytes over loopback (`curl`)",
            Part::DigestPacked => "SHA-256 of the packed bytes (`openssl`)",
            Part::Inflate => "inflate (`igzip`, ISA-L)",
            Part::DigestUnpacked => "SHA-256 of the unpacked bytes (`openssl`)",
            Part::Write => "untar to memory (GNU `tar`)",
        }
    }

    pub(super) fn run(self, blobs: &Blobs) -> Result<Sample> {
        let directory = blobs.directory.path().display();
        let script = match self {
            Part::Network => {
                let urls: String = blobs.urls.iter().map(|url| format!(" -o /dev/null {url}")).collect();
                format!("exec curl -fsS -Z{urls}")
            }
            Part::DigestPacked => format!("exec openssl dgst -sha256 {directory}/*.gz"),
            Part::Inflate => format!("for file in {directory}/*.gz; do igzip -dc $file > /dev/null; done"),
            Part::DigestUnpacked => format!("exec openssl dgst -sha256 {directory}/*.tar"),
            Part::Write => {
                format!("mkdir tree; for file in {directory}/*.tar; do tar xf $file -C tree; done")
            }
        };
        Stage::set_up()?.measure(&script).with_context(|| self.name())
    }
}

/// The layers of an image, compressed and unpacked.
pub(super) struct Blobs {
    directory: TempDir,
    urls: Vec<String>,
}

impl Blobs {
    pub(super) fn of(pushed: &Pushed, registry: &Registry) -> Result<Blobs> {
        let (host, name) = pushed.reference.split_once('/').context("no name")?;
        let directory = scratch_directory("blobs")?;
        let layout = pushed.image.layout();
        let document = |digest: &str| -> Result<Value> {
            let file = layout.join("blobs").join(digest.replace(':', "/"));
            Ok(serde_json::from_slice(&fs::read(file)?)?)
        };
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
        let manifest = document(index["manifests"][0]["digest"].as_str().context("no manifest")?)?;
        let mut urls = Vec::new();
        for (number, layer) in manifest["layers"].as_array().context("no layers")?.iter().enumerate() {
            let digest = layer["digest"].as_str().context("no digest")?;
            urls.push(format!("http://{host}/v2/{name}/blobs/{digest}"));
            let packed = directory.path().join(format!("{number}.gz"));
            fs::copy(layout.join("blobs").join(digest.replace(':', "/")), &packed)?;
            let script = "exec gzip -dc \"$1\" > \"${1%.gz}.tar\"";
            process::run(Command::new("sh").args(["-c", script, "sh"]).arg(&packed), LONG)?;
        }
        // The registry must live as long as it is used.
        let _ = registry;
        Ok(Blobs { directory, urls })
    }
}
