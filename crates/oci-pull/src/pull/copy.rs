//! Copies images into a bundle: the documents behind a name, for the wanted platforms, and the signatures.

use super::PullEvent;
use super::approval::{as_tag, optional};
use super::find::Finder;
use super::manifest::{ManifestKind, configuration, descriptor_digest, locked};
use super::stream::RENEWED_BY;
use crate::ambiguity;
use crate::bundle::Writer;
use crate::retry::{Failure, PullObserver, RetryPolicy};
use crate::source::ImageSource;
use anyhow::Context as _;
use fetch::http::{Deadline, Pace};
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
            configuration(&*found.source, &found.manifest, machine, observer)?;
            let named = found.named.as_ref().unwrap_or(reference);
            let copy = Copy { source: &*found.source, repository: named.name(), observer };
            let top = copy.manifest(&named.identifier())?;
            named.digest().map_or(Ok(()), |digest| digest.verify("the manifest", &top))?;
            bundle.put(&top)?;
            let manifest = found.approval.manifest();
            let chosen = copy.manifest(&manifest.to_string())?;
            manifest.verify("the manifest", &chosen)?;
            bundle.put(&chosen)?;
            copy.blobs(&found.manifest, bundle)?;
            for signed in [Digest::of(&top), manifest] {
                copy.signatures(signed, bundle)?;
            }
            copy.name(&named.identifier(), &top, bundle)?;
            if let (Some(tag), Some(_)) = (named.tag(), named.digest()) {
                copy.name(tag, &top, bundle)?;
            }
            all = Some(locked(&top, manifest)?);
        }
        all.context("no machine is wanted")
    }
}

/// The copying of one image.
struct Copy<'a> {
    source: &'a dyn ImageSource,
    repository: String,
    observer: &'a PullObserver<'a>,
}

impl Copy<'_> {
    fn manifest(&self, identifier: &str) -> anyhow::Result<Vec<u8>> {
        let read = |deadline| self.source.manifest(identifier, deadline);
        RetryPolicy::usual().until_done(self.observer, read)
    }

    fn blobs(&self, manifest: &ImageManifest, bundle: &Writer) -> anyhow::Result<()> {
        for descriptor in manifest.layers().iter().chain([manifest.config()]) {
            self.blob(descriptor, bundle).with_context(|| format!("`{}`", descriptor.digest()))?;
        }
        Ok(())
    }

    fn blob(&self, descriptor: &Descriptor, bundle: &Writer) -> anyhow::Result<()> {
        let (digest, size) = (descriptor_digest(descriptor)?, descriptor.size());
        if bundle.has(digest) {
            return Ok(());
        }
        let mut attempts = RetryPolicy::usual();
        loop {
            match self.take_in(digest, size, bundle) {
                Ok(()) => return Ok(()),
                Err(failure) if self.source.is_remote() => attempts.wait_out(failure, self.observer)?,
                Err(failure) => return Err(failure.error),
            }
        }
    }

    /// Copies a blob, over as many connections as needed; the failure says whether it was damaged.
    fn take_in(&self, digest: Digest, size: u64, bundle: &Writer) -> Result<(), Failure> {
        let (retry, pace) = (RefCell::new(RetryPolicy::usual()), Pace::start());
        let wait = |failure: Failure| retry.borrow_mut().wait_out(failure, self.observer);
        let more = |start| loop {
            match self.source.blob(digest, size, start) {
                Ok(piece) => return Ok(piece),
                Err(failure) => wait(failure)?,
            }
        };
        let broken = |error: std::io::Error, brought: u64, received: u64| {
            if brought >= RENEWED_BY {
                *retry.borrow_mut() = RetryPolicy::usual();
            }
            let place = self.source.place_of(digest);
            let error = anyhow::Error::from(error)
                .context(format!("the connection broke after {received} of {size} bytes of `{place}`"));
            match pace.check(received) {
                Ok(()) => wait(error.into()),
                Err(slow) => Err(error.context(slow)),
            }
        };
        bundle.receive(digest, size, more, broken)
    }

    /// Copies signatures by tag, and by the list of referrers, which the bundle stores under the fallback tag.
    fn signatures(&self, signed: Digest, bundle: &mut Writer) -> anyhow::Result<()> {
        let tag = as_tag(signed);
        let signatures = format!("{tag}.sig");
        if let Some(bytes) = self.ask(|deadline| self.source.manifest(&signatures, deadline))? {
            self.attached(&bytes, bundle)?;
            self.name(&signatures, &bytes, bundle)?;
        }
        let list = match self.ask(|deadline| self.source.referrers(signed, deadline))? {
            Some(list) => Some(list),
            None => self.ask(|deadline| self.source.manifest(&tag, deadline))?,
        };
        let Some(list) = list else { return Ok(()) };
        let index = ambiguity::index(&list).context("the list of referrers is not understood")?;
        for entry in index.manifests() {
            let digest = descriptor_digest(entry)?;
            let bytes = self.manifest(&digest.to_string())?;
            digest.verify("what refers to the image", &bytes)?;
            self.attached(&bytes, bundle)?;
        }
        bundle.put(&list)?;
        self.name(&tag, &list, bundle)
    }

    fn attached(&self, manifest: &[u8], bundle: &Writer) -> anyhow::Result<()> {
        bundle.put(manifest)?;
        let manifest = ImageManifest::from_reader(manifest).context("what is attached is not understood")?;
        self.blobs(&manifest, bundle)
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

    /// `None` when the source does not have it.
    fn ask<T>(&self, mut ask: impl FnMut(Deadline) -> Result<T, Failure>) -> anyhow::Result<Option<T>> {
        RetryPolicy::usual().until_done(self.observer, |deadline| optional(ask(deadline)))
    }
}
