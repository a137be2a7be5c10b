//! Writes a bundle as a directory.

use super::NAME;
use crate::artifact::{BESIDE, BLOB, IMAGES, TYPE, WORKFLOW};
use anyhow::{Context as _, ensure};
use oci_reference::digest::{Digest, Hasher};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

/// What an artifact without a configuration has in its place (OCI image-spec, manifest.md, "Guidance for an Empty
/// Descriptor").
const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Bytes read at once.
const BLOCK: usize = 256 << 10;

/// A bundle in the making: blobs and their names, then [`Writer::finish`].
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    entries: Vec<Value>,
}

impl Writer {
    /// In a directory, which is made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(directory: &Path) -> anyhow::Result<Self> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("cannot make `{}`", blobs.display()))?;
        Ok(Self { directory: directory.into(), entries: Vec::new() })
    }

    fn place(&self, digest: Digest) -> PathBuf {
        self.directory.join("blobs").join(digest.to_string().replace(':', "/"))
    }

    /// Whether it has a blob already.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        self.place(digest).exists()
    }

    /// Takes a small blob in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, bytes: &[u8]) -> anyhow::Result<Digest> {
        let digest = Digest::of(bytes);
        let place = self.place(digest);
        fs::write(&place, bytes).with_context(|| format!("cannot write `{}`", place.display()))?;
        Ok(digest)
    }

    /// Takes a blob in that comes in pieces: `more` is asked for the bytes from a place on until all have come, and
    /// `broken` whether to go on when a piece was not the last one; it is told whether that brought anything.
    pub(crate) fn receive<'a>(
        &self,
        digest: Digest,
        size: u64,
        mut more: impl FnMut(u64) -> anyhow::Result<Box<dyn Read + 'a>>,
        mut broken: impl FnMut(io::Error, bool) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let place = self.place(digest);
        let incoming = place.with_extension("incoming");
        let cannot = || format!("cannot write `{}`", place.display());
        let mut file = File::create(&incoming).with_context(cannot)?;
        let (mut hasher, mut received) = (Hasher::new(), 0_u64);
        let mut block = vec![0; BLOCK];
        while received < size {
            let (mut piece, before) = (more(received)?, received);
            let ended = loop {
                match piece.read(&mut block) {
                    Ok(0) => break io::ErrorKind::UnexpectedEof.into(),
                    Ok(count) => {
                        received += count as u64;
                        ensure!(received <= size, "it is longer than the {size} bytes of its manifest");
                        hasher.update(&block[..count]);
                        file.write_all(&block[..count]).with_context(cannot)?;
                    }
                    Err(error) => break error,
                }
            };
            if received < size {
                broken(ended, received > before)?;
            }
        }
        digest.expect("the blob", hasher.finish())?;
        fs::rename(&incoming, &place).with_context(cannot)
    }

    /// Gives a name to what a manifest, which it has, stands for.
    pub fn name(&mut self, name: &str, media_type: &str, digest: Digest, size: u64) {
        self.entry(name, descriptor(media_type, digest, size));
    }

    fn entry(&mut self, name: &str, mut descriptor: Value) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.entries.retain(|entry| entry["annotations"] != descriptor["annotations"]);
        self.entries.push(descriptor);
    }

    /// Makes it whole, with the workflow and what belongs to it, by its endings; the same content gives the same bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self, workflow: &[u8], beside: &[(&str, Vec<u8>)]) -> anyhow::Result<()> {
        self.entries.sort_by_key(|entry| entry["annotations"].to_string());
        let blobs = self.blobs()?;
        let images = index(&self.entries);
        let mut documents = vec![(WORKFLOW, workflow), (IMAGES, images.as_bytes())];
        for (ending, bytes) in beside {
            documents.extend(
                BESIDE.iter().find(|(known, _)| known == ending).map(|(_, kind)| (*kind, &bytes[..])),
            );
        }
        let mut layers = Vec::new();
        for (kind, bytes) in documents {
            layers.push(descriptor(kind, self.put(bytes)?, bytes.len() as u64));
        }
        layers.extend(blobs);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": TYPE,
            "config": descriptor(EMPTY_TYPE, self.put(EMPTY)?, EMPTY.len() as u64), "layers": layers,
        });
        let bytes = manifest.to_string().into_bytes();
        let mut artifact = descriptor(MANIFEST, self.put(&bytes)?, bytes.len() as u64);
        artifact["artifactType"] = TYPE.into();
        self.entry(NAME, artifact);
        let write = |name: &str, text: String| {
            let path = self.directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
        };
        write("index.json", index(&self.entries))?;
        write("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string())
    }

    /// What all that came so far is as layers, in an order that is always the same.
    fn blobs(&self) -> anyhow::Result<Vec<Value>> {
        let directory = self.directory.join("blobs/sha256");
        let cannot = || format!("cannot read `{}`", directory.display());
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&directory).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let digest: Digest = format!("sha256:{}", entry.file_name().to_string_lossy()).parse()?;
            blobs.push((digest, entry.metadata().with_context(cannot)?.len()));
        }
        blobs.sort_by_key(|(digest, _)| digest.to_string());
        Ok(blobs.into_iter().map(|(digest, size)| descriptor(BLOB, digest, size)).collect())
    }
}

fn index(entries: &[Value]) -> String {
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries,
    })
    .to_string()
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}
