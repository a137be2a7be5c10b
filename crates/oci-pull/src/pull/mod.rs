//! Pulls an image: name, manifest, configuration, layers; each verified before it is used.
//!
//! A layer is known by its diff-id, the digest of its unpacked bytes, which is computed while it is unpacked: so images
//! share it however it is packed.

mod approval;
mod artifact;
mod blocks;
mod bundled;
mod copy;
mod find;
mod incoming;
mod layers;
mod manifest;
mod need;
mod stream;
mod window;

use super::registry::Credentials;
use super::retry::PullObserver;
use super::source::ImageSource;
use anyhow::Context as _;
use find::FoundImage;
use hint::hinted;
use layers::Wanted;
use manifest::ManifestKind;
use oci_layer::Capacity;
use oci_layer::layer::assemble;
use oci_layer::{Layer, Store};
use oci_reference::digest::Digest;
use oci_reference::reference::Reference;
use oci_spec::image::ImageConfiguration;
use oci_trust::policy::Approval;
use std::sync::Arc;
use std::time::Duration;
use stream::{Sources, Target};

pub use artifact::Artifact;
pub use find::Finder;
pub use need::Need;

/// What happens during a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// The image is known and its layers begin to arrive.
    Resolved {
        /// The registry and repository that has it, when it is another than the name says.
        place: Option<String>,
        /// The digest of the manifest for this architecture.
        digest: Digest,
        /// How many layers must be fetched.
        layers: usize,
        /// Their compressed bytes.
        bytes: u64,
        /// Their unpacked bytes.
        need: Need,
    },
    /// One of several places does not have the image, or cannot be reached; the next is asked.
    Elsewhere {
        /// Registry and repository.
        place: String,
        /// What it said.
        why: String,
    },
    /// A document is asked for.
    Asking {
        /// How long that may take, redirects, tokens and all of its bytes included.
        limit: Duration,
    },
    /// Something failed that may pass; it is tried again.
    Waiting {
        /// What failed.
        why: String,
        /// How long the wait is.
        wait: Duration,
        /// How often it was tried.
        tried: u32,
        /// How often it will be tried at most.
        tries: u32,
    },
    /// The policy lets the image run.
    Approved {
        /// Which rule decided, and who has signed.
        reason: String,
    },
    /// Some layers are still on their way.
    Progress {
        /// Compressed bytes that have arrived.
        done: u64,
        /// Compressed bytes of all layers.
        bytes: u64,
        /// Each of them, in the order of the image.
        layers: Vec<LayerProgress>,
    },
}

/// How far one layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// Its digest.
    pub digest: Digest,
    /// Compressed bytes that have arrived.
    pub done: u64,
    /// Its compressed bytes.
    pub bytes: u64,
}

/// An image that may run. Only [`Puller::pull`] makes one.
///
/// Its existence proves that it has an [`Approval`], that the configuration and every layer had the digests that the approved
/// manifest says, that every unpacked layer had the diff-ID that the configuration says, and that the image is for this machine.
/// It does not prove that the image is harmless, that its signer is still trusted, or that its tag means the same now.
#[derive(Debug)]
pub struct VerifiedImage {
    reference: Reference,
    approval: Approval,
    configuration: ImageConfiguration,
    layers: Vec<Arc<Layer>>,
}

impl VerifiedImage {
    /// The name it was pulled by.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Why the policy lets it run, and the digest of its manifest.
    #[must_use]
    pub fn approval(&self) -> &Approval {
        &self.approval
    }

    /// What the image says about running it (OCI image-spec, config.md).
    #[must_use]
    pub fn configuration(&self) -> &ImageConfiguration {
        &self.configuration
    }

    /// Its layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }
}

/// Where images come from and go to.
#[derive(Debug)]
pub struct Puller {
    /// Where they come from.
    pub finder: Finder,
    /// Holds the layers.
    pub store: Store,
    /// How often [`PullEvent::Progress`] comes.
    pub progress_every: Duration,
}

/// Packed bytes that are unpacked without asking, each for so many of those that the store can take.
const SURELY_FITTING: u64 = 16;

/// Sees to it that the layers fit. What they will take is asked for only where it might be too much: each answer costs
/// a way to the registry and back.
fn make_room(
    source: &dyn ImageSource,
    missing: &[&Wanted],
    packed: u64,
    capacity: &dyn Capacity,
) -> anyhow::Result<Need> {
    if packed.saturating_mul(SURELY_FITTING) <= capacity.left() {
        return Ok(Need::guess(packed));
    }
    let need = Need::ask(source, missing);
    if need.about > capacity.left() {
        capacity.stretch();
    }
    let left = capacity.left();
    if need.at_least <= left {
        return Ok(need);
    }
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    let least = if need.is_known() { "" } else { "at least " };
    Err(hinted(
        format!(
            "the image does not fit: it takes {least}{} MB unpacked ({} MB packed), and there is room for {} MB",
            megabytes(need.at_least),
            megabytes(packed),
            left / 1_000_000
        ),
        format!(
            "give the machine {} MB more memory, or use a smaller image",
            megabytes(need.at_least - left)
        ),
    ))
}

impl Puller {
    /// Pulls an image into the store.
    ///
    /// `credentials` are for the registry that `reference` names, and for no other that the image may come from.
    /// `capacity` knows how much the store can still take: an image that is larger is refused before the first of its
    /// layers is fetched, and one that turns out to be larger while it is unpacked. `watch` is told what happens.
    ///
    /// # Errors
    /// When the image cannot be had, is not for this machine, does not have its digests, or does not fit.
    pub fn pull(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        capacity: &dyn Capacity,
        watch: &mut dyn FnMut(PullEvent),
    ) -> anyhow::Result<VerifiedImage> {
        PullObserver::staying(watch, |observer| self.pull_for(reference, credentials, capacity, observer))
    }

    fn pull_for(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        capacity: &dyn Capacity,
        observer: &PullObserver<'_>,
    ) -> anyhow::Result<VerifiedImage> {
        let tell = observer.tell;
        let FoundImage { source, others, approval, manifest, .. } =
            self.finder.look_up(reference, credentials, ManifestKind::Image, observer)?;
        let configuration = manifest::configuration(&*source, &manifest, &self.finder.machine, observer)?;
        let wanted = Wanted::all(&manifest, &configuration)?;
        // Held from here on, lest one is freed before the others have come.
        let known: Vec<_> = wanted.iter().filter_map(|layer| self.store.find(&layer.diff_id)).collect();
        let missing = layers::missing(&wanted, &self.store);
        let bytes = missing.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.bytes));
        let need = make_room(&*source, &missing, bytes, capacity)?;
        let elsewhere = reference.named().map(|named| (named.name(), source.name()));
        let place = elsewhere.filter(|(named, place)| named != place).map(|(_, place)| place);
        tell(PullEvent::Approved { reason: approval.reason().to_owned() });
        let digest = approval.manifest();
        tell(PullEvent::Resolved { place, digest, layers: missing.len(), bytes, need });
        let sources = Sources([source].into_iter().chain(others).map(Arc::from).collect());
        let into = Target { store: &self.store, capacity, at_once: 1 };
        let fetched = layers::fetch_all(&sources, into, &missing, self.progress_every, tell)?;
        let unpacked = |layer: &Wanted| Some((layer.diff_id, self.store.find(&layer.diff_id)?));
        let unpacked = wanted.iter().map(unpacked).collect::<Option<Vec<_>>>();
        let unpacked = unpacked.context("a layer is missing although no fetch failed")?;
        drop((known, fetched));
        let layers = assemble(&self.store, unpacked).context("cannot put the image's layers together")?;
        Ok(VerifiedImage { reference: reference.clone(), approval, configuration, layers })
    }
}
