//! Copies images into a bundle: the documents behind a name, for the wanted platforms, and the signatures.

use super::PullEvent;
use super::attached::{Attached, SignatureManifest, as_tag, check_bounds, signature_tag};
use super::compression::{explain_foreign, is_foreign};
use super::find::Finder;
use super::manifest::{ManifestKind, configuration, descriptor_digest};
use super::resolve::locked;
use super::stream::RENEWED_BY;
use crate::bundle::Writer;
use crate::retry::{Failure, PullObserver, RetryPolicy};
use crate::source::ImageSource;
use anyhow::Context as _;
use fetch::http::Pace;
use oci_reference::digest::Digest;
use oci_reference::platform::Machine;
use oci_reference::reference::{Named, Reference};
use oci_spec::image::{Descriptor, ImageManifest};
use oci_trust::pins::Locked;
use serde::Deserialize;
use std::cell::RefCell;
use std::str::FromStr as _;

impl Finder {
    /// Copies an image that the policy approves, with its signatures. Returns the digests behind its name.
    ///
    /// # Errors
    /// When the policy rejects it, it lacks one of the platforms, or it cannot be fetched or written.
    pub fn copy(
        &self,
        reference: &Named,
        machines: &[Machine],
        bundle: &mut Writer,
        watch: &mut dyn FnMut(PullEvent),
    ) -> anyhow::Result<Locked> {
        PullObserver::staying(watch, |observer| self.copy_for(reference, machines, bundle, observer))
    }

    fn copy_for(
        &self,
        reference: &Named,
        machines: &[Machine],
        bundle: &mut Writer,
        observer: &PullObserver<'_>,
    ) -> anyhow::Result<Locked> {
        let mut all = None;
        for machine in machines {
            let finder = Self { machine: machine.clone(), ..self.clone() };
            let name = Reference::Registry(reference.clone());
            let found = finder.look_up(&name, None, ManifestKind::Image, observer)?;
            configuration(&[&*found.source], &found.manifest, machine, observer)?;
            let named = found.named.as_ref().unwrap_or(reference);
            let copy = Copy { source: &*found.source, repository: named.name(), observer };
            // A registry may answer otherwise when it is asked again: a tag moves, and a cache has lost the type.
            found.documents.iter().try_for_each(|document| bundle.put(document).map(drop))?;
            let (top, manifest) = (found.top()?, found.approval.manifest());
            copy.blobs(&found.manifest, bundle)?;
            for signed in [Digest::of(top), manifest] {
                copy.signatures(signed, bundle)?;
            }
            copy.name(&named.identifier(), top, bundle)?;
            if let (Some(tag), Some(_)) = (named.tag(), named.digest()) {
                copy.name(tag, top, bundle)?;
            }
            let read = |deadline| locked(&*found.source, top, manifest, machine, deadline);
            all = Some(RetryPolicy::usual().until_done(observer, read)?);
        }
        all.context("no platform is requested")
    }
}

/// The copying of one image.
struct Copy<'a> {
    source: &'a dyn ImageSource,
    repository: String,
    observer: &'a PullObserver<'a>,
}

impl Copy<'_> {
    fn blobs(&self, manifest: &ImageManifest, bundle: &Writer) -> anyhow::Result<()> {
        for descriptor in manifest.layers().iter().chain([manifest.config()]) {
            self.named_blob(descriptor, bundle)?;
        }
        Ok(())
    }

    fn named_blob(&self, descriptor: &Descriptor, bundle: &Writer) -> anyhow::Result<()> {
        self.blob(descriptor, bundle).with_context(|| format!("`{}`", descriptor.digest()))
    }

    fn blob(&self, descriptor: &Descriptor, bundle: &Writer) -> anyhow::Result<()> {
        let digest = descriptor_digest(descriptor)?;
        if bundle.has(digest) {
            return Ok(());
        }
        let mut attempts = RetryPolicy::usual();
        loop {
            match self.take_in(digest, descriptor, bundle) {
                Ok(()) => return Ok(()),
                Err(failure) if self.source.is_remote() => attempts.wait_out(failure, self.observer)?,
                Err(failure) => return Err(failure.error),
            }
        }
    }

    /// Copies a blob, over as many connections as needed; the failure says whether it was damaged.
    fn take_in(&self, digest: Digest, descriptor: &Descriptor, bundle: &Writer) -> Result<(), Failure> {
        let (size, is_foreign) = (descriptor.size(), is_foreign(descriptor.media_type().as_ref()));
        let (retry, pace) = (RefCell::new(RetryPolicy::usual()), Pace::start());
        let wait = |failure: Failure| retry.borrow_mut().wait_out(failure, self.observer);
        let more = |start| loop {
            match self.source.blob(digest, size, start) {
                Ok(piece) => return Ok(piece),
                Err(failure) if is_foreign => wait(explain_foreign(failure))?,
                Err(failure) => wait(failure)?,
            }
        };
        let broken = |error: std::io::Error, brought: u64, received: u64| {
            if brought >= RENEWED_BY {
                *retry.borrow_mut() = RetryPolicy::usual();
            }
            let place = self.source.place_of(digest);
            let error = anyhow::Error::from(error)
                .context(format!("the connection was lost after {received} of {size} bytes of `{place}`"));
            match pace.check(received) {
                Ok(()) => wait(error.into()),
                Err(slow) => Err(error.context(slow)),
            }
        };
        bundle.receive(digest, size, more, broken)
    }

    /// Signatures by tag, and by the list of referrers, which the bundle has by the tag that stands for it. What else refers to
    /// the image no boot asks for, and anybody who may push to the registry can make it as large as he likes.
    fn signatures(&self, signed: Digest, bundle: &mut Writer) -> anyhow::Result<()> {
        let attached = Attached::new(self.source, self.observer);
        if let Some(found) = attached.by_tag(signed)?
            && !found.payloads()?.is_empty()
        {
            self.attached(&attached, &found, bundle)?;
            self.name(&signature_tag(signed), &found.bytes, bundle)?;
        }
        let Some(referrers) = attached.by_referrers(signed)? else { return Ok(()) };
        if referrers.signatures.is_empty() {
            return Ok(());
        }
        referrers.signatures.iter().try_for_each(|found| self.attached(&attached, found, bundle))?;
        bundle.put(&referrers.list)?;
        self.name(&as_tag(signed), &referrers.list, bundle)
    }

    fn attached(
        &self,
        attached: &Attached<'_>,
        found: &SignatureManifest,
        bundle: &Writer,
    ) -> anyhow::Result<()> {
        bundle.put(&found.bytes)?;
        check_bounds(&found.manifest.layers().iter().collect::<Vec<_>>())?;
        check_bounds(&[found.manifest.config()])?;
        let mut blobs = found.manifest.layers().iter().chain([found.manifest.config()]);
        blobs.try_for_each(|blob| {
            // As for the manifests: each blob may be as slow as a layer.
            attached.check_time()?;
            self.named_blob(blob, bundle)
        })
    }

    fn name(&self, tag: &str, manifest: &[u8], bundle: &mut Writer) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            media_type: Option<String>,
        }
        let shape: Shape = serde_json::from_slice(manifest)?;
        let kind = shape.media_type.unwrap_or_else(|| "application/vnd.oci.image.index.v1+json".into());
        // A document without a tag is found by its digest, but a layout needs a name all the same.
        let name = match Digest::from_str(tag) {
            Ok(digest) => format!("{}@{digest}", self.repository),
            Err(_) => format!("{}:{tag}", self.repository),
        };
        bundle.name(&name, &kind, Digest::of(manifest), manifest.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_source::Source;
    use super::*;
    use serde_json::{Value, json};
    use std::sync::atomic::AtomicBool;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    fn part(digest: Digest, size: u64) -> Value {
        json!({"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": digest.to_string(),
            "size": size})
    }

    fn manifest(config: Digest, layers: &[Value]) -> Vec<u8> {
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part(config, 2), "layers": layers})
            .to_string()
            .into_bytes()
    }

    /// Copies what is attached to an image.
    fn copied(registry: &Source, image: Digest) -> (tempfile::TempDir, anyhow::Result<Writer>) {
        let home = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(home.path()).unwrap();
        let observer = PullObserver { tell: &|_| (), is_cancelled: &AtomicBool::new(false) };
        let copy = Copy { source: registry, repository: registry.name(), observer: &observer };
        let done = copy.signatures(image, &mut writer);
        (home, done.map(|()| writer))
    }

    #[test]
    fn only_signatures_among_the_referrers_are_copied() {
        let (mut registry, image) = (Source::default(), Digest::of(b"image"));
        let (config, payload) = (registry.put(b"{}"), registry.put(b"payload"));
        let signature = registry.put(&manifest(config, &[part(payload, 7)]));
        let large = registry.put(&manifest(config, &[part(Digest::of(b"sbom"), u64::MAX >> 1)]));
        let entry = |digest: Digest, kind: &str| {
            let size = registry.0[&digest.to_string()].len();
            json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": size, "artifactType": kind})
        };
        let (sbom, ours) =
            (entry(large, "application/spdx+json"), "application/vnd.dev.cosign.artifact.sig.v1+json");
        let list =
            |entries: Value| json!({"schemaVersion": 2, "manifests": entries}).to_string().into_bytes();
        let both = list(json!([sbom, entry(signature, ours)]));
        let alone = list(json!([sbom]));
        registry.0.insert(as_tag(image), both);
        let (_home, writer) = copied(&registry, image);
        let writer = writer.unwrap();
        assert!(writer.has(signature) && writer.has(payload) && !writer.has(large));
        registry.0.insert(as_tag(image), alone.clone());
        let (_home, writer) = copied(&registry, image);
        assert!(!writer.unwrap().has(Digest::of(&alone)));
    }

    #[test]
    fn an_absent_layer_that_is_not_distributed_is_explained() {
        let (registry, home) = (Source::default(), tempfile::tempdir().unwrap());
        let observer = PullObserver { tell: &|_| (), is_cancelled: &AtomicBool::new(false) };
        let copy = Copy { source: &registry, repository: registry.name(), observer: &observer };
        let writer = Writer::new(home.path()).unwrap();
        for (kind, is_explained) in [("nondistributable.v1.tar", true), ("v1.tar", false)] {
            let mut layer = part(Digest::of(b"layer"), 5);
            layer["mediaType"] = json!(format!("application/vnd.oci.image.layer.{kind}"));
            let told = copy.blob(&serde_json::from_value(layer).unwrap(), &writer).unwrap_err();
            assert_eq!(
                format!("{told:#}").contains("not distributed by registries"),
                is_explained,
                "{told:#}"
            );
            let expected = is_explained.then_some("push the image again with all of its layers");
            assert_eq!(hint::of(&told), expected);
        }
    }

    #[test]
    fn copying_signatures_has_a_time_limit() {
        let (mut registry, home) = (Source::default(), tempfile::tempdir().unwrap());
        let (config, payload) = (registry.put(b"{}"), registry.put(b"payload"));
        registry.0.insert(signature_tag(payload), manifest(config, &[part(payload, 7)]));
        let observer = PullObserver { tell: &|_| (), is_cancelled: &AtomicBool::new(false) };
        let copy = Copy { source: &registry, repository: registry.name(), observer: &observer };
        let attached = Attached::new(&registry, &observer);
        let found = attached.by_tag(payload).unwrap().unwrap();
        let writer = Writer::new(home.path()).unwrap();
        let told = copy.attached(&attached.over(), &found, &writer).unwrap_err();
        assert!(format!("{told:#}").contains("they did not all arrive within 300 s"), "{told:#}");
        assert!(!writer.has(payload));
    }

    #[test]
    fn the_number_and_size_of_copied_signatures_are_limited() {
        for (layers, expected) in [
            (vec![part(Digest::of(b"payload"), 65_537)], "exceeds the limit of 65536"),
            (vec![part(Digest::of(b"payload"), 7); 65], "it has 65 signatures"),
        ] {
            let (mut registry, image) = (Source::default(), Digest::of(b"image"));
            let config = registry.put(b"{}");
            registry.0.insert(format!("{}.sig", as_tag(image)), manifest(config, &layers));
            let (_home, writer) = copied(&registry, image);
            let told = format!("{:#}", writer.unwrap_err());
            assert!(told.contains(expected), "{told}");
        }
    }
}
