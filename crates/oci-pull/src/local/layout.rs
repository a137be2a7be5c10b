//! OCI layouts (OCI image-spec, image-layout.md), in a directory or a tar.

use super::files::{Files, Part};
use super::place;
use crate::ambiguity;
use crate::retry::Failure;
use crate::source::ImageSource;
use anyhow::{Context as _, ensure};
use fetch::http::Deadline;
use hint::hinted;
use oci_reference::digest::Digest;
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
        let mark: Mark = serde_json::from_slice(&document(&files, "oci-layout")?)
            .with_context(|| format!("`oci-layout` in `{}` is malformed", files.path().display()))?;
        ensure!(
            mark.image_layout_version.starts_with("1."),
            "`{}` is an OCI image layout of version `{}`; only `1.0.0` is supported",
            files.path().display(),
            mark.image_layout_version
        );
        let index = ambiguity::index(&document(&files, "index.json")?)
            .with_context(|| format!("`index.json` in `{}` is malformed", files.path().display()))?;
        Ok(Self { files, index })
    }

    /// The entries of its index.
    pub(crate) fn entries(&self) -> &[Descriptor] {
        self.index.manifests()
    }

    /// The entry of the image that a name refers to.
    fn entry(&self, name: &str) -> anyhow::Result<&Descriptor> {
        let entries = self.index.manifests();
        let found = match (name, place(name)) {
            (_, Some(place)) => entries.get(place),
            ("", None) => entries.first().filter(|_| entries.len() == 1),
            _ => entries.iter().find(|entry| name_of(entry) == Some(name)),
        };
        found.ok_or_else(|| {
            let path = self.files.path().display();
            let names: Vec<&str> = entries.iter().filter_map(name_of).collect();
            match (name, names.is_empty()) {
                (_, true) => hinted(
                    format!("`{path}` has {} unnamed images", entries.len()),
                    "append `:@0` for the first",
                ),
                ("", false) => hinted(
                    format!("`{path}` has {} images", entries.len()),
                    format!("append the one to use: `:{}`", names.join("`, `:")),
                ),
                _ => hinted(
                    format!("`{path}` has no image `{name}`"),
                    format!("it has `{}`", names.join("`, `")),
                ),
            }
        })
    }

    fn file(&self, digest: Digest) -> anyhow::Result<Part> {
        let name = format!("blobs/{}", digest.to_string().replace(':', "/"));
        let path = self.files.path().display();
        self.files.open(&name)?.ok_or_else(|| {
            hinted(format!("`{path}` has no `{name}`"), "the copy is incomplete: copy the image again")
        })
    }
}

fn is_of(entry: &Descriptor, digest: Digest) -> bool {
    entry.digest().as_ref().parse::<Digest>().is_ok_and(|known| known == digest)
}

/// The name of an entry of an index.
pub(crate) fn name_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations().as_ref()?.get(NAME).map(String::as_str)
}

fn document(files: &Files, name: &str) -> anyhow::Result<Vec<u8>> {
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

    fn manifest(&self, identifier: &str, _: Deadline) -> Result<Vec<u8>, Failure> {
        let (digest, told) = match identifier.parse::<Digest>() {
            Ok(digest) => (digest, self.index.manifests().iter().find(|entry| is_of(entry, digest))),
            Err(_) => {
                let entry = self.entry(identifier)?;
                (entry.digest().as_ref().parse()?, Some(entry))
            }
        };
        let bytes = self.file(digest)?.document()?;
        digest.verify("the manifest", &bytes)?;
        let told = told.map(|entry| entry.media_type().to_string());
        ambiguity::refuse(&bytes, "`index.json`", told.as_deref())?;
        Ok(bytes)
    }

    fn document(&self, digest: Digest, _: Deadline) -> Result<Vec<u8>, Failure> {
        let bytes = self.file(digest)?.document()?;
        digest.verify("the document", &bytes)?;
        Ok(bytes)
    }

    fn blob(&self, digest: Digest, size: u64, start: u64) -> Result<Box<dyn Read + '_>, Failure> {
        let file = self.file(digest)?;
        let path = self.files.path().display();
        if file.len() != size {
            return Err(Failure::permanent(hinted(
                format!("`{path}` has {} of the {size} bytes of `{digest}`", file.len()),
                "the copy is incomplete: copy the image again",
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
}
