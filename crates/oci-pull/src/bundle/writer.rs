//! Writes a bundle as a directory. Other users may be able to move that directory meanwhile, so everything goes by
//! descriptor.

use super::NAME;
use crate::artifact::{BESIDE, BLOB, IMAGES, TYPE, WORKFLOW};
use crate::retry::Failure;
use anyhow::{Context as _, ensure};
use oci_reference::digest::{Digest, Hasher};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::Path;
use untrusted_fs::{Directory, Links};

/// The config of an artifact without one (OCI image-spec, manifest.md, "Guidance for an Empty Descriptor").
const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Bytes per read.
const BLOCK: usize = 256 << 10;
/// Modes of files and directories that everybody may read, as in git(1) and skopeo(1).
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// A bundle that is being written: blobs and their names, then [`Writer::finish`].
#[derive(Debug)]
pub struct Writer {
    directory: Directory,
    blobs: Directory,
    entries: Vec<Value>,
}

impl Writer {
    /// Starts a bundle in a directory, which is created.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot create `{}`", directory.display()))?;
        Self::within(Directory::open(directory)?)
    }

    /// Starts a bundle in an empty directory.
    ///
    /// # Errors
    /// When nothing can be created in it.
    pub fn within(directory: Directory) -> anyhow::Result<Self> {
        let blobs = directory.create_directory("blobs", DIRECTORY_MODE)?;
        let blobs = blobs.create_directory("sha256", DIRECTORY_MODE)?;
        Ok(Self { directory, blobs, entries: Vec::new() })
    }

    /// Whether it has a blob already.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        self.blobs.stat(name_of(digest), Links::Refuse).is_ok_and(|found| found.is_some())
    }

    /// Adds a small blob.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, bytes: &[u8]) -> anyhow::Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has(digest) {
            write(&self.blobs, &name_of(digest), bytes)?;
        }
        Ok(digest)
    }

    /// Adds a blob that arrives in pieces. `more` opens a stream from the given offset, until all bytes have arrived.
    /// When a stream ends early, `broken` gets the bytes received by it and by all of them, and decides whether to
    /// continue.
    ///
    /// # Errors
    /// When the blob is damaged, or on a permanent failure; `more` and `broken` handle transient ones.
    pub(crate) fn receive<'a>(
        &self,
        digest: Digest,
        size: u64,
        mut more: impl FnMut(u64) -> anyhow::Result<Box<dyn Read + 'a>>,
        mut broken: impl FnMut(io::Error, u64, u64) -> anyhow::Result<()>,
    ) -> Result<(), Failure> {
        let place = name_of(digest);
        let incoming = format!("{place}.incoming");
        let found = self.write(&incoming, size, &mut more, &mut broken).map_err(Failure::permanent)?;
        digest.expect("the blob", found).map_err(Failure::damaged)?;
        Ok(self.blobs.move_to(&incoming, &self.blobs, &place).map_err(anyhow::Error::from)?)
    }

    fn write<'a>(
        &self,
        incoming: &str,
        size: u64,
        more: &mut dyn FnMut(u64) -> anyhow::Result<Box<dyn Read + 'a>>,
        broken: &mut dyn FnMut(io::Error, u64, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<Digest> {
        let cannot = || format!("cannot write `{incoming}`");
        self.blobs.remove(incoming)?;
        let mut file = self.blobs.create(incoming, FILE_MODE)?;
        let (mut hasher, mut received) = (Hasher::new(), 0_u64);
        let mut block = vec![0; BLOCK];
        while received < size {
            let (mut piece, before) = (more(received)?, received);
            let ended = loop {
                match piece.read(&mut block) {
                    Ok(0) => break io::ErrorKind::UnexpectedEof.into(),
                    Ok(count) => {
                        received += count as u64;
                        ensure!(
                            received <= size,
                            "it is longer than the {size} bytes stated in the manifest"
                        );
                        hasher.update(&block[..count]);
                        file.write_all(&block[..count]).with_context(cannot)?;
                    }
                    Err(error) => break error,
                }
            };
            if received < size {
                broken(ended, received - before, received)?;
            }
        }
        Ok(hasher.finish())
    }

    /// Names a document that the bundle already has.
    pub fn name(&mut self, name: &str, media_type: &str, digest: Digest, size: u64) {
        self.entry(name, descriptor(media_type, digest, size));
    }

    fn entry(&mut self, name: &str, mut descriptor: Value) {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.entries.retain(|entry| entry["annotations"] != descriptor["annotations"]);
        self.entries.push(descriptor);
    }

    /// Completes the bundle with the workflow and the files that belong to it, by their suffixes. The same content
    /// gives the same bytes.
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
        write(&self.directory, "index.json", index(&self.entries).as_bytes())?;
        write(&self.directory, "oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())
    }

    /// The layers for all blobs so far, in a deterministic order.
    fn blobs(&self) -> anyhow::Result<Vec<Value>> {
        let mut blobs = Vec::new();
        for name in self.blobs.names(usize::MAX)? {
            let digest: Digest = format!("sha256:{}", name.to_string_lossy()).parse()?;
            let found = self.blobs.stat(&name, Links::Refuse)?;
            let found = found.with_context(|| format!("`{digest}` no longer exists"))?;
            blobs.push((digest, u64::try_from(found.st_size)?));
        }
        blobs.sort_by_key(|(digest, _)| digest.to_string());
        Ok(blobs.into_iter().map(|(digest, size)| descriptor(BLOB, digest, size)).collect())
    }
}

/// The file name of a blob.
fn name_of(digest: Digest) -> String {
    let digest = digest.to_string();
    digest.split_once(':').map_or(digest.clone(), |(_, hex)| hex.to_owned())
}

fn write(directory: &Directory, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let written = directory.create(name, FILE_MODE)?.write_all(bytes);
    written.with_context(|| format!("cannot write `{}`", directory.path().join(name).display()))
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

#[cfg(test)]
mod tests {
    use super::super::Bundle;
    use super::*;

    #[test]
    fn a_bundle_is_written_where_it_was_begun_even_if_moved() {
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (place, moved) = (home.path().join("bundle"), home.path().join("moved"));
        let writer = Writer::new(&place).unwrap();
        fs::rename(&place, &moved).unwrap();
        std::os::unix::fs::symlink(outside.path(), &place).unwrap();
        fs::create_dir_all(outside.path().join("blobs/sha256")).unwrap();
        let layer = &b"layer"[..];
        let digest = Digest::of(layer);
        writer.receive(digest, 5, |_| Ok(Box::new(layer)), |error, _, _| Err(error.into())).unwrap();
        assert!(writer.has(digest) && writer.put(layer).unwrap() == digest);
        writer.finish(b"jobs: {}", &[]).unwrap();
        assert_eq!(fs::read_dir(outside.path().join("blobs/sha256")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        Bundle::open(&moved).unwrap().bundle.verify().unwrap();
    }
}
