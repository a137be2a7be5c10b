//! The output of `docker save`: moby's image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
//!
//! It has no manifest with digests, only the image's config, whose diff-IDs identify the layers. This module makes a
//! manifest from it, so that the rest works as for every other image.

use super::files::{Packed, Part};
use super::place;
use crate::document;
use crate::retry::Failure;
use crate::source::ImageSource;
use anyhow::{Context as _, ensure};
use fetch::http::Deadline;
use hint::hinted;
use oci_reference::digest::{Digest, Hasher};
use oci_reference::platform::Machine;
use oci_reference::reference::Named;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, Read};

/// Bytes hashed at once.
const BLOCK: usize = 64 << 10;
/// The media types of layers, by their first bytes.
const PACKINGS: &[(&[u8], &str)] = &[
    (&[0x1f, 0x8b], "application/vnd.oci.image.layer.v1.tar+gzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "application/vnd.oci.image.layer.v1.tar+zstd"),
    (b"", "application/vnd.oci.image.layer.v1.tar"),
];

/// One image of an archive.
#[derive(Debug)]
pub(super) struct DockerArchive {
    path: String,
    packed: Packed,
    manifest: Vec<u8>,
    /// The file names of the blobs that the manifest describes.
    files: HashMap<Digest, String>,
    /// The digests of compressed layers, by where they begin: one that is there a thousand times, or has as many names, is read
    /// once.
    digests: HashMap<u64, Digest>,
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl DockerArchive {
    /// The image that `name` refers to: by one of its tags, by its position, or the only one.
    pub(super) fn open(packed: Packed, name: &str) -> anyhow::Result<Self> {
        let path = packed.path().display().to_string();
        let items = file(&packed, "manifest.json").and_then(Part::document).map_err(|error| {
            let what = format!("`{path}` is not an archive of `docker save`");
            hinted(format!("{what}: {error}"), "for a tar of an OCI image layout, use `oci-archive:`")
        })?;
        let items: Vec<Item> = serde_json::from_slice(&items)
            .with_context(|| format!("`manifest.json` in `{path}` is malformed"))?;
        let item = choose(items, name, &path)?;
        let (files, digests) = (HashMap::new(), HashMap::new());
        let mut image = Self { path, packed, manifest: Vec::new(), files, digests };
        image.manifest = image.describe(&item)?.to_string().into_bytes();
        Ok(image)
    }

    /// Makes the manifest that the image would have in a registry.
    fn describe(&mut self, item: &Item) -> anyhow::Result<Value> {
        let bytes = file(&self.packed, &item.config)?.document()?;
        let configuration = document::configuration(&bytes, &Machine::usual())
            .context("the image's configuration is malformed")?;
        let diff_ids = configuration.rootfs().diff_ids();
        ensure!(
            diff_ids.len() == item.layers.len(),
            "`manifest.json` lists {} layers, but the configuration lists {}",
            item.layers.len(),
            diff_ids.len()
        );
        let mut layers = Vec::new();
        for (name, diff_id) in item.layers.iter().zip(diff_ids) {
            layers.push(self.layer(name, diff_id.parse()?)?);
        }
        let digest = Digest::of(&bytes);
        self.files.insert(digest, item.config.clone());
        let kind = "application/vnd.docker.container.image.v1+json";
        let config = json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()});
        let kind = "application/vnd.oci.image.manifest.v1+json";
        Ok(json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}))
    }

    /// The descriptor of a layer. The archive does not state the digest of a compressed one, so it is computed; the
    /// diff-ID is what verifies the layer.
    fn layer(&mut self, name: &str, diff_id: Digest) -> anyhow::Result<Value> {
        let mut beginning = Vec::new();
        let part = file(&self.packed, name)?;
        let size = part.len();
        part.take(4).read_to_end(&mut beginning)?;
        let packing = PACKINGS.iter().find(|(mark, _)| beginning.starts_with(mark));
        let (mark, media_type) = packing.context("a layer without content")?;
        let digest = if mark.is_empty() { diff_id } else { self.digest(name)? };
        self.files.insert(digest, name.into());
        Ok(json!({"mediaType": media_type, "digest": digest.to_string(), "size": size}))
    }

    fn digest(&mut self, name: &str) -> anyhow::Result<Digest> {
        let part = file(&self.packed, name)?;
        let start = part.start();
        if let Some(digest) = self.digests.get(&start) {
            return Ok(*digest);
        }
        let digest = digest_of(part)?;
        self.digests.insert(start, digest);
        Ok(digest)
    }

    fn part(&self, digest: Digest) -> anyhow::Result<Part> {
        let name = self.files.get(&digest).with_context(|| format!("`{}` has no `{digest}`", self.path))?;
        file(&self.packed, name)
    }
}

impl ImageSource for DockerArchive {
    fn name(&self) -> String {
        self.path.clone()
    }

    /// There is only one, which was chosen when the archive was opened.
    fn manifest(&self, _: &str, _: Deadline) -> Result<Vec<u8>, Failure> {
        Ok(self.manifest.clone())
    }

    fn document(&self, digest: Digest, _: Deadline) -> Result<Vec<u8>, Failure> {
        let bytes = self.part(digest)?.document()?;
        digest.verify("the image's configuration", &bytes)?;
        Ok(bytes)
    }

    fn blob(&self, digest: Digest, _: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure> {
        Ok(Box::new(self.part(digest)?.skip(start)))
    }
}

fn choose(mut items: Vec<Item>, name: &str, path: &str) -> anyhow::Result<Item> {
    let count = items.len();
    let found = match (name, place(name)) {
        (_, Some(place)) => Some(place).filter(|place| *place < count),
        ("", None) => Some(0).filter(|_| count == 1),
        _ => items.iter().position(|item| item.has(name)),
    };
    let tags = || items.iter().flat_map(|item| item.repo_tags.iter().flatten()).cloned().collect::<Vec<_>>();
    match found {
        Some(found) => Ok(items.swap_remove(found)),
        None if name.is_empty() => Err(hinted(
            format!("`{path}` has {count} images"),
            format!("append the one to use, by its tag (`{}`) or position (`:@0`)", tags().join("`, `")),
        )),
        None => Err(hinted(
            format!("`{path}` has no image `{name}`"),
            format!("its {count} images have the tags `{}`", tags().join("`, `")),
        )),
    }
}

impl Item {
    /// Tags are compared as complete names: `busybox` is `docker.io/library/busybox:latest`.
    fn has(&self, name: &str) -> bool {
        let whole = |text: &str| text.parse::<Named>().ok().map(|named| named.to_string());
        let tags = self.repo_tags.iter().flatten();
        whole(name).is_some_and(|name| tags.filter_map(|tag| whole(tag)).any(|tag| tag == name))
    }
}

fn file(packed: &Packed, name: &str) -> anyhow::Result<Part> {
    packed.file(name)?.with_context(|| format!("`{}` has no `{name}`", packed.path().display()))
}

fn digest_of(mut part: Part) -> io::Result<Digest> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; BLOCK]);
    loop {
        match part.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(tags: &[&str]) -> Item {
        let repo_tags = Some(tags.iter().map(ToString::to_string).collect());
        Item { config: tags.concat(), repo_tags, layers: Vec::new() }
    }

    #[test]
    fn an_image_is_found_by_tag_by_index_or_as_the_only_one() {
        let two = || vec![item(&["busybox:latest"]), item(&["r.example/a:1", "r.example/a:2"])];
        for (name, expected) in [
            ("busybox", "busybox:latest"),
            ("docker.io/library/busybox", "busybox:latest"),
            ("r.example/a:2", "r.example/a:1r.example/a:2"),
            ("@1", "r.example/a:1r.example/a:2"),
        ] {
            assert_eq!(choose(two(), name, "/x").unwrap().config, expected, "{name}");
        }
        assert!(choose(vec![item(&[])], "", "/x").is_ok());
        for name in ["", "@2", "r.example/a"] {
            let error = choose(two(), name, "/x").map(|_| ()).unwrap_err();
            assert!(hint::of(&error).unwrap().contains("`r.example/a:1`"), "{error:#}");
        }
    }

    /// 10,000 links to a layer of a gigabyte would take hours.
    #[test]
    fn a_layer_with_many_names_is_read_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = tar::Builder::new(file.reopen().unwrap());
        let diff_id = Digest::of(b"layer").to_string();
        let configuration = json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": vec![diff_id; 3]}});
        let manifest = json!([{"Config": "config", "Layers": ["0", "1", "2"]}]);
        for (name, content) in [
            ("config", configuration.to_string().as_bytes()),
            ("manifest.json", manifest.to_string().as_bytes()),
            ("0", b"\x1f\x8bpacked"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, content).unwrap();
        }
        for (name, kind) in [("1", tar::EntryType::Link), ("2", tar::EntryType::Symlink)] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            archive.append_link(&mut header, name, "0").unwrap();
        }
        archive.finish().unwrap();
        let image = DockerArchive::open(Packed::open(file.path()).unwrap(), "").unwrap();
        assert_eq!(image.digests.into_values().collect::<Vec<_>>(), [Digest::of(b"\x1f\x8bpacked")]);
    }
}
