//! OCI layouts (OCI image-spec, image-layout.md), in a directory or a tar.

use super::files::{Files, Part};
use super::place;
use crate::ambiguity;
use crate::document;
use crate::retry::Failure;
use crate::source::ImageSource;
use anyhow::{Context as _, ensure};
use fetch::http::Deadline;
use hint::hinted;
use oci_reference::digest::Digest;
use oci_reference::platform::is_image;
use oci_spec::image::{Descriptor, ImageIndex};
use serde::Deserialize;
use std::io::Read;

/// The annotation that names an image of a layout (OCI image-spec, annotations.md).
const NAME: &str = "org.opencontainers.image.ref.name";

/// An OCI layout.
#[derive(Debug)]
pub(crate) struct Layout {
    files: Files,
    index: ImageIndex,
}

impl Layout {
    /// Opens the layout in these files.
    pub(crate) fn open(files: Files) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Mark {
            image_layout_version: String,
        }
        let mark: Mark = serde_json::from_slice(&file_at_top(&files, "oci-layout")?)
            .with_context(|| format!("`oci-layout` in `{}` is malformed", files.path().display()))?;
        ensure!(
            mark.image_layout_version.starts_with("1."),
            "`{}` is an OCI image layout of version `{}`; only `1.0.0` is supported",
            files.path().display(),
            mark.image_layout_version
        );
        let index = ambiguity::index(&file_at_top(&files, "index.json")?)
            .with_context(|| format!("`index.json` in `{}` is malformed", files.path().display()))?;
        Ok(Self { files, index })
    }

    /// The entries of its index.
    pub(crate) fn entries(&self) -> &[Descriptor] {
        self.index.manifests()
    }

    /// The entries of the image that a name refers to: several are its platforms.
    fn image(&self, name: &str) -> anyhow::Result<Vec<&Descriptor>> {
        let entries = self.index.manifests();
        let found = match (name, place(name)) {
            (_, Some(place)) => entries.get(place).into_iter().collect(),
            ("", None) => only_image(entries),
            _ => images(entries.iter().filter(|entry| name_of(entry) == Some(name)).collect()),
        };
        if found.is_empty() { Err(self.no_image(name)) } else { Ok(found) }
    }

    fn no_image(&self, name: &str) -> anyhow::Error {
        let path = self.files.path().display();
        let entries = self.index.manifests();
        let names: Vec<&str> = entries.iter().filter_map(name_of).collect();
        match (name, names.is_empty()) {
            (_, true) => {
                hinted(format!("`{path}` has {} unnamed images", entries.len()), "append `:@0` for the first")
            }
            ("", false) => hinted(
                format!("`{path}` has {} images", entries.len()),
                format!("append the one to use: `:{}`", names.join("`, `:")),
            ),
            _ => {
                hinted(format!("`{path}` has no image `{name}`"), format!("it has `{}`", names.join("`, `")))
            }
        }
    }

    /// The document of an entry.
    fn listed(&self, entry: &Descriptor) -> anyhow::Result<Vec<u8>> {
        let digest = entry.digest().as_ref().parse()?;
        let bytes = self.listed_or_not(digest)?;
        document::check_size(entry, "`index.json`", &bytes)?;
        ambiguity::refuse(&bytes, "`index.json`", Some(entry.media_type().as_ref()))?;
        Ok(bytes)
    }

    /// A document by its digest, which an index within `index.json` may list.
    fn listed_or_not(&self, digest: Digest) -> anyhow::Result<Vec<u8>> {
        let bytes = self.file(digest)?.document()?;
        digest.verify("the manifest", &bytes)?;
        Ok(bytes)
    }

    fn file(&self, digest: Digest) -> anyhow::Result<Part> {
        self.files.open(&file_name(digest))?.ok_or_else(|| self.lacks(digest))
    }

    fn lacks(&self, digest: Digest) -> anyhow::Error {
        let (path, name) = (self.files.path().display(), file_name(digest));
        hinted(format!("`{path}` has no `{name}`"), "the copy is incomplete: copy the image again")
    }
}

/// The name of a blob's file.
fn file_name(digest: Digest) -> String {
    format!("blobs/{}", digest.to_string().replace(':', "/"))
}

/// Of these entries those of images, without attestations, signatures and other artifacts; all if there is no image.
fn images(entries: Vec<&Descriptor>) -> Vec<&Descriptor> {
    let found: Vec<_> = entries.iter().copied().filter(|entry| is_image(entry)).collect();
    if found.is_empty() { entries } else { found }
}

/// The image of a layout that has only one, which may be in it for several platforms.
fn only_image(entries: &[Descriptor]) -> Vec<&Descriptor> {
    let found = images(entries.iter().collect());
    let are_platforms = || {
        let has_platform = |entry: &&Descriptor| entry.platform().is_some();
        found.iter().all(has_platform) && found.iter().all(|entry| name_of(entry) == name_of(found[0]))
    };
    if found.len() == 1 || (!found.is_empty() && are_platforms()) { found } else { Vec::new() }
}

fn is_of(entry: &Descriptor, digest: Digest) -> bool {
    entry.digest().as_ref().parse::<Digest>().is_ok_and(|known| known == digest)
}

/// The name of an entry of an index.
pub(crate) fn name_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations().as_ref()?.get(NAME).map(String::as_str)
}

fn file_at_top(files: &Files, name: &str) -> anyhow::Result<Vec<u8>> {
    let path = files.path().display();
    let found = files.open(name)?.ok_or_else(|| {
        hinted(
            format!("`{path}` is not an OCI image layout: it has no `{name}`"),
            "create one with `skopeo copy`; for an archive of `docker save`, use `docker-archive:`",
        )
    })?;
    found.document().with_context(|| format!("cannot read `{name}` in `{path}`"))
}

impl ImageSource for Layout {
    fn name(&self) -> String {
        self.files.path().display().to_string()
    }

    /// The document, or an index of the platforms if `index.json` itself lists them.
    fn manifest(&self, identifier: &str, _: Deadline) -> Result<Vec<u8>, Failure> {
        if let Ok(digest) = identifier.parse::<Digest>() {
            return Ok(match self.index.manifests().iter().find(|entry| is_of(entry, digest)) {
                Some(entry) => self.listed(entry)?,
                None => {
                    let bytes = self.listed_or_not(digest)?;
                    ambiguity::refuse(&bytes, "", None)?;
                    bytes
                }
            });
        }
        let entries = self.image(identifier)?;
        if let [entry] = entries[..] {
            return Ok(self.listed(entry)?);
        }
        let mut index = self.index.clone();
        index.set_manifests(entries.into_iter().cloned().collect());
        Ok(serde_json::to_vec(&index).context("`index.json` cannot be read in parts")?)
    }

    fn document(&self, digest: Digest, _: Deadline) -> Result<Vec<u8>, Failure> {
        let bytes = self.file(digest)?.document()?;
        digest.verify("the document", &bytes)?;
        Ok(bytes)
    }

    fn blob(&self, digest: Digest, size: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure> {
        let found = self.files.open(&file_name(digest))?;
        let file = found.ok_or_else(|| Failure::absent(self.lacks(digest)))?;
        let path = self.files.path().display();
        if file.len() < size {
            return Err(Failure::permanent(hinted(
                format!("`{path}` has {} of the {size} bytes of `{digest}`", file.len()),
                "the copy is incomplete: copy the image again",
            )));
        }
        if file.len() > size {
            return Err(Failure::permanent(hinted(
                format!(
                    "the manifest states {size} bytes for `{digest}`, which has {} in `{path}`",
                    file.len()
                ),
                "push or copy the image again with the tool that created it",
            )));
        }
        Ok(Box::new(file.skip(start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn soon() -> Deadline {
        Deadline::within(fetch::http::DOCUMENT_TIME_LIMIT)
    }

    fn layout(names: &[Option<&str>]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        let entry = |(number, name): (usize, &Option<&str>)| {
            let content = format!("manifest {number}");
            let digest = Digest::of(content.as_bytes());
            fs::write(
                directory.path().join(format!("blobs/{}", digest.to_string().replace(':', "/"))),
                content,
            )
            .unwrap();
            let named = name.map(|name| format!(r#","annotations":{{"{NAME}":"{name}"}}"#));
            let kind = "application/vnd.oci.image.manifest.v1+json";
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":10{}}}"#, named.unwrap_or_default())
        };
        let entries: Vec<String> = names.iter().enumerate().map(entry).collect();
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        fs::write(directory.path().join("index.json"), index).unwrap();
        fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        directory
    }

    fn opened(directory: &TempDir) -> Layout {
        Layout::open(Files::directory(directory.path()).unwrap()).unwrap()
    }

    #[test]
    fn an_image_is_found_by_name_by_index_or_as_the_only_one() {
        let (one, two) = (layout(&[None]), layout(&[Some("r.example/a:1"), Some("latest")]));
        for (directory, name, expected) in [
            (&one, "", "manifest 0"),
            (&one, "@0", "manifest 0"),
            (&two, "latest", "manifest 1"),
            (&two, "r.example/a:1", "manifest 0"),
            (&two, "@1", "manifest 1"),
            (&two, &Digest::of(b"manifest 1").to_string(), "manifest 1"),
        ] {
            assert_eq!(opened(directory).manifest(name, soon()).unwrap(), expected.as_bytes(), "{name}");
        }
    }

    #[test]
    fn a_missing_image_is_reported_with_the_existing_ones() {
        let directory = layout(&[Some("a"), Some("b")]);
        for (name, expected) in [("", "`:a`, `:b`"), ("c", "it has `a`, `b`"), ("@2", "it has `a`, `b`")] {
            let error = opened(&directory).manifest(name, soon()).unwrap_err().error;
            assert!(hint::of(&error).unwrap().contains(expected), "{error:#}");
        }
        fs::remove_file(directory.path().join("oci-layout")).unwrap();
        let error = Layout::open(Files::directory(directory.path()).unwrap()).unwrap_err();
        assert!(error.to_string().contains("is not an OCI image layout: it has no `oci-layout`"), "{error}");
    }

    #[test]
    fn a_truncated_or_changed_blob_is_detected() {
        let directory = layout(&[None]);
        let digest = Digest::of(b"manifest 0");
        let layout = opened(&directory);
        let mut rest = String::new();
        layout.blob(digest, 10, 9).unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "0");
        let cut = layout.blob(digest, 11, 0).err().unwrap();
        assert!(
            cut.error.to_string().contains("has 10 of the 11 bytes of") && !cut.is_transient(),
            "{}",
            cut.error
        );
        let file = directory.path().join(format!("blobs/{}", digest.to_string().replace(':', "/")));
        fs::write(file, "manifest 9").unwrap();
        let changed = layout.manifest("", soon()).unwrap_err().error;
        assert!(changed.to_string().starts_with("the manifest has digest"), "{changed}");
    }

    /// A layout whose `index.json` has these entries, each of a manifest of its own.
    fn layout_of(entries: &[serde_json::Value]) -> TempDir {
        let directory = layout(&vec![None; entries.len()]);
        let path = directory.path().join("index.json");
        let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (number, further) in entries.iter().enumerate() {
            let further = further.as_object().unwrap().clone();
            index["manifests"][number].as_object_mut().unwrap().extend(further);
        }
        fs::write(path, index.to_string()).unwrap();
        directory
    }

    /// The numbers of the manifests that a name stands for.
    fn found(directory: &TempDir, name: &str) -> Result<Vec<usize>, String> {
        let opened = opened(directory);
        let all = opened.image(name).map_err(|error| format!("{error:#}"))?;
        let numbered = |entry: &&Descriptor| {
            (0..9).find(|number| is_of(entry, Digest::of(format!("manifest {number}").as_bytes())))
        };
        Ok(all.iter().filter_map(numbered).collect())
    }

    /// image-layout.md: "It MUST be an image index JSON object", "An encountered `mediaType` that is unknown MUST NOT generate
    /// an error"; so `index.json` itself may list platforms, and other things beside the image.
    #[test]
    fn the_one_image_of_a_layout_is_found_beside_other_things() {
        use serde_json::json;
        let of = |architecture: &str| json!({"platform": {"os": "linux", "architecture": architecture}});
        let named = |name: &str, architecture: &str| {
            let mut entry = of(architecture);
            entry["annotations"] = json!({NAME: name});
            entry
        };
        let attestation = || {
            json!({"platform": {"os": "unknown", "architecture": "unknown"},
                "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})
        };
        let artifact = || json!({"artifactType": "application/spdx+json"});
        let unknown = || json!({"mediaType": "application/x-note"});
        let signature = || json!({"annotations": {"kind": "dev.cosignproject.cosign/sigs"}});
        for (entries, name, expected) in [
            (vec![json!({}), attestation()], "", Ok(vec![0])),
            (vec![artifact(), unknown(), of("amd64"), signature()], "", Ok(vec![2])),
            (vec![of("amd64"), of("arm64"), attestation()], "", Ok(vec![0, 1])),
            (vec![named("a", "amd64"), named("a", "arm64")], "", Ok(vec![0, 1])),
            (vec![named("a", "amd64"), named("b", "amd64"), named("a", "arm64")], "a", Ok(vec![0, 2])),
            (vec![artifact()], "", Ok(vec![0])),
            (vec![named("a", "amd64"), named("b", "arm64")], "", Err("has 2 images")),
            (vec![json!({}), json!({})], "", Err("has 2 unnamed images")),
            (vec![named("a", "amd64"), of("amd64")], "b", Err("has no image `b`")),
        ] {
            match (found(&layout_of(&entries), name), expected) {
                (Err(told), Err(expected)) => assert!(told.contains(expected), "{told}"),
                (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{entries:?}"),
            }
        }
        let directory = layout_of(&[of("amd64"), attestation(), of("arm64")]);
        let index = ambiguity::index(&opened(&directory).manifest("", soon()).unwrap()).unwrap();
        assert_eq!(index.manifests().len(), 2);
    }

    /// descriptor.md, `size`: "If the length of the retrieved content does not match the specified length, the content SHOULD
    /// NOT be trusted."
    #[test]
    fn a_size_in_the_index_that_contradicts_the_manifest_is_an_error() {
        let directory = layout_of(&[serde_json::json!({"size": 11})]);
        for name in ["", "@0", &Digest::of(b"manifest 0").to_string()] {
            let error = opened(&directory).manifest(name, soon()).unwrap_err().error;
            assert!(error.to_string().starts_with("`index.json` states 11 bytes for `sha256:"), "{error}");
        }
    }
}
