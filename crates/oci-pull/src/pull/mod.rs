//! Pulls an image: name, manifest, config, layers; each verified before it is used.
//!
//! A layer is identified by its diff-ID, the digest of its uncompressed bytes, which is computed while it is unpacked:
//! so images share it however it is compressed.

mod approval;
mod artifact;
mod attached;
mod blocks;
mod bundled;
mod compression;
mod copy;
mod find;
mod health;
#[cfg(test)]
mod image_spec;
mod incoming;
mod layers;
mod manifest;
mod need;
mod resolve;
mod stream;
#[cfg(test)]
mod test_source;
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
use oci_layer::layer::{ASSEMBLY_TIME_LIMIT, Work, assemble};
use oci_layer::{Layer, Store};
use oci_reference::digest::Digest;
use oci_reference::reference::Reference;
use oci_spec::image::ImageConfiguration;
use oci_trust::policy::Approval;
use std::sync::Arc;
use std::time::Duration;
use stream::{Sources, Target};

pub use artifact::Artifact;
pub use bundled::BundleCheck;
pub use find::Finder;
pub use health::HealthCheck;
pub use need::Need;
pub(crate) use resolve::INDEX_DEPTH_LIMIT;

/// What happens during a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// The image is found, and its layers begin to arrive.
    Resolved {
        /// The registry and repository that has it, when it is not the one in the name.
        place: Option<String>,
        /// The digest of the manifest for this platform.
        digest: Digest,
        /// The number of layers to fetch.
        layers: usize,
        /// Their compressed bytes.
        bytes: u64,
        /// Their uncompressed bytes.
        need: Need,
    },
    /// A location does not have the image, or cannot be reached; the next one is tried.
    Elsewhere {
        /// Registry and repository.
        place: String,
        /// The reason.
        why: String,
    },
    /// A document is requested.
    Asking {
        /// The time limit, for redirects, tokens and the whole body together.
        limit: Duration,
    },
    /// A transient failure; a retry follows.
    Waiting {
        /// The failure.
        why: String,
        /// The pause before the retry.
        wait: Duration,
        /// The number of attempts so far.
        tried: u32,
        /// The maximum number of attempts.
        tries: u32,
    },
    /// The policy approves the image.
    Approved {
        /// Which rule decided, and who has signed.
        reason: String,
    },
    /// All layers are there, and are assembled.
    Assembling {
        /// The time limit.
        limit: Duration,
    },
    /// Some layers are still being fetched.
    Progress {
        /// Compressed bytes received.
        done: u64,
        /// Compressed bytes of all layers.
        bytes: u64,
        /// Each of them, in the order of the image.
        layers: Vec<LayerProgress>,
    },
}

/// The progress of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// Its digest.
    pub digest: Digest,
    /// Compressed bytes received.
    pub done: u64,
    /// Its compressed bytes.
    pub bytes: u64,
}

/// An image that may run. Only [`Puller::pull`] makes one.
///
/// Its existence proves that it has an [`Approval`], that the config and every layer matched the digests in the
/// approved manifest, that every unpacked layer matched its diff-ID in the config, and that the image is for this
/// machine. It does not prove that the image is harmless, that its signer is still trusted, or that its tag still means
/// the same.
#[derive(Debug)]
pub struct VerifiedImage {
    reference: Reference,
    approval: Approval,
    configuration: ImageConfiguration,
    health_check: Option<HealthCheck>,
    layers: Vec<Arc<Layer>>,
}

impl VerifiedImage {
    /// The name it was pulled by.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Why the policy approves it, and the digest of its manifest.
    #[must_use]
    pub fn approval(&self) -> &Approval {
        &self.approval
    }

    /// The image's config (OCI image-spec, config.md).
    #[must_use]
    pub fn configuration(&self) -> &ImageConfiguration {
        &self.configuration
    }

    /// Its health check, which the OCI image-spec does not have.
    #[must_use]
    pub fn health_check(&self) -> Option<&HealthCheck> {
        self.health_check.as_ref()
    }

    /// Its layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }
}

/// Pulls images into a store.
#[derive(Debug)]
pub struct Puller {
    /// Finds the images.
    pub finder: Finder,
    /// Holds the layers.
    pub store: Store,
    /// The interval of [`PullEvent::Progress`].
    pub progress_every: Duration,
}

/// If the store can take this many times the compressed bytes, their uncompressed size is not queried.
const CERTAIN_FIT_RATIO: u64 = 16;

/// Makes sure that the layers fit. Their uncompressed size is queried only where it might be too large: each query
/// costs a round trip to the registry.
fn make_room(
    source: &dyn ImageSource,
    missing: &[&Wanted],
    packed: u64,
    capacity: &dyn Capacity,
) -> anyhow::Result<Need> {
    if packed.saturating_mul(CERTAIN_FIT_RATIO) <= capacity.left() {
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
            "the image does not fit into memory: it needs {least}{} MB unpacked ({} MB compressed), and {} \
             MB are available",
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
    /// `credentials` are for the registry that `reference` names, and for none of its mirrors. `capacity` knows how
    /// much the store can still take: an image that is too large is refused before its first layer is fetched, or while
    /// it is unpacked. `watch` is called for each event.
    ///
    /// # Errors
    /// When the image cannot be fetched, is not for this machine, does not match its digests, or does not fit.
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
        let sources: Vec<Arc<dyn ImageSource>> = [source].into_iter().chain(others).map(Arc::from).collect();
        let askable: Vec<&dyn ImageSource> = sources.iter().map(|source| &**source).collect();
        let (source, machine) = (askable[0], &self.finder.machine);
        let (configuration, health_check) = manifest::configuration(&askable, &manifest, machine, observer)?;
        let wanted = Wanted::all(&manifest, &configuration)?;
        // Held from here on, so that none is freed before the others arrive.
        let known: Vec<_> = wanted.iter().filter_map(|layer| self.store.find(&layer.diff_id)).collect();
        let missing = layers::missing(&wanted, &self.store);
        let bytes = missing.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.bytes));
        let need = make_room(source, &missing, bytes, capacity)?;
        let elsewhere = reference.named().map(|named| (named.name(), source.name()));
        let place = elsewhere.filter(|(named, place)| named != place).map(|(_, place)| place);
        tell(PullEvent::Approved { reason: approval.reason().to_owned() });
        let digest = approval.manifest();
        tell(PullEvent::Resolved { place, digest, layers: missing.len(), bytes, need });
        let into = Target { store: &self.store, capacity, at_once: 1, work: &Work::of_image() };
        let fetched = layers::fetch_all(&Sources(sources), into, &missing, self.progress_every, tell)?;
        let unpacked = |layer: &Wanted| Some((layer.diff_id, self.store.find(&layer.diff_id)?));
        let unpacked = wanted.iter().map(unpacked).collect::<Option<Vec<_>>>();
        let unpacked = unpacked.context("a layer is missing although no fetch failed")?;
        drop((known, fetched));
        tell(PullEvent::Assembling { limit: ASSEMBLY_TIME_LIMIT });
        let layers = assemble(&self.store, unpacked).context("cannot assemble the image's layers")?;
        Ok(VerifiedImage { reference: reference.clone(), approval, configuration, health_check, layers })
    }
}
