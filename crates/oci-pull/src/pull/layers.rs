//! The layers of an image: their expected digests, and fetching them in parallel.

use super::compression::{Compression, is_foreign};
use super::manifest::descriptor_digest;
use super::stream::{Sources, Target, fetch};
use super::{LayerProgress, PullEvent};
use crate::retry::PullObserver;
use anyhow::{Context as _, ensure};
use hint::hinted;
use oci_layer::{Layer, Store};
use oci_reference::digest::Digest;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use std::collections::HashSet;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use std::vec;

/// Layers of an image, repeated ones included: overlayfs allows no more (`OVL_MAX_STACK`, fs/overlayfs/params.h).
const LAYERS_LIMIT: usize = 500;

/// A layer of the image, as the manifest and the config describe it.
pub(super) struct Wanted {
    /// Of the compressed bytes.
    pub(super) digest: Digest,
    /// Of the uncompressed bytes: it identifies the layer, however it is compressed.
    pub(super) diff_id: Digest,
    /// What its media type states.
    pub(super) compression: Compression,
    /// Whether the registry need not have it.
    pub(super) is_foreign: bool,
    /// The number of compressed bytes.
    pub(super) bytes: u64,
}

impl Wanted {
    /// All layers of an image, the lowest first (OCI image-spec, config.md, `rootfs`).
    pub(super) fn all(
        manifest: &ImageManifest,
        configuration: &ImageConfiguration,
    ) -> anyhow::Result<Vec<Self>> {
        let diff_ids = configuration.rootfs().diff_ids();
        let layers = manifest.layers();
        if layers.len() > LAYERS_LIMIT {
            return Err(hinted(
                format!("the image has {} layers, more than the limit of {LAYERS_LIMIT}", layers.len()),
                "build the image with fewer layers, for example with `buildah build --layers=false`",
            ));
        }
        ensure!(
            layers.len() == diff_ids.len(),
            "the manifest lists {} layers, but the configuration lists {}",
            layers.len(),
            diff_ids.len()
        );
        layers.iter().zip(diff_ids).map(|(layer, diff_id)| Self::new(layer, diff_id)).collect()
    }

    fn new(descriptor: &Descriptor, diff_id: &str) -> anyhow::Result<Self> {
        Ok(Self {
            digest: descriptor_digest(descriptor)?,
            diff_id: Digest::from_str(diff_id)?,
            compression: Compression::stated(descriptor.media_type().as_ref())?,
            is_foreign: is_foreign(descriptor.media_type().as_ref()),
            bytes: descriptor.size(),
        })
    }
}

/// The layers that the store lacks, each once: an image may have the same layer twice.
pub(super) fn missing<'a>(wanted: &'a [Wanted], store: &Store) -> Vec<&'a Wanted> {
    let mut seen = HashSet::new();
    wanted.iter().filter(|layer| store.find(&layer.diff_id).is_none() && seen.insert(layer.diff_id)).collect()
}

/// Fetches layers, as many in parallel as there are processors.
pub(super) fn fetch_all(
    sources: &Sources,
    into: Target<'_>,
    missing: &[&Wanted],
    progress_every: Duration,
    tell: &dyn Fn(PullEvent),
) -> anyhow::Result<Vec<Arc<Layer>>> {
    let progress = Progress::of(missing);
    let stopped = AtomicBool::new(false);
    let fetched: Mutex<Vec<Arc<Layer>>> = Mutex::default();
    let workers = thread::available_parallelism().map_or(1, usize::from).min(missing.len());
    // The largest first, so that the last ones are small and no processor idles at the end.
    let mut order: Vec<_> = missing.iter().copied().zip(&progress.arrived).collect();
    order.sort_by_key(|(layer, _)| std::cmp::Reverse(layer.bytes));
    let queue = Mutex::new(order.into_iter());
    let into = Target { at_once: workers, ..into };
    thread::scope(|scope| -> anyhow::Result<()> {
        let (reports, arriving) = sync_channel(workers.max(1));
        for _ in 0..workers {
            let (reports, queue, fetched, stopped) = (reports.clone(), &queue, &fetched, &stopped);
            scope.spawn(move || {
                // Ignored: the receiver is gone only when the pull has failed already.
                let tell = |event| drop(reports.send(WorkerReport::Event(event)));
                let observer = PullObserver { tell: &tell, is_cancelled: stopped };
                let outcome = fetch_in_turn(sources, into, queue, fetched, &observer);
                if outcome.is_err() {
                    stopped.store(true, Ordering::Relaxed);
                }
                drop(reports.send(WorkerReport::Ended(outcome)));
            });
        }
        drop(reports);
        wait_for_workers(&arriving, &progress, progress_every, tell)
    })?;
    fetched.into_inner().map_err(|_| anyhow::anyhow!("a thread crashed while it fetched a layer"))
}

/// The progress of the layers.
struct Progress<'a> {
    layers: &'a [&'a Wanted],
    /// Received bytes of each layer.
    arrived: Vec<AtomicU64>,
}

impl<'a> Progress<'a> {
    fn of(layers: &'a [&'a Wanted]) -> Self {
        Self { layers, arrived: layers.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    fn event(&self) -> PullEvent {
        let each = self.layers.iter().zip(&self.arrived);
        let layers: Vec<_> = each
            .map(|(layer, arrived)| LayerProgress {
                digest: layer.digest,
                done: arrived.load(Ordering::Relaxed),
                bytes: layer.bytes,
            })
            .collect();
        let sum = |of: fn(&LayerProgress) -> u64| layers.iter().map(of).fold(0, u64::saturating_add);
        PullEvent::Progress { done: sum(|layer| layer.done), bytes: sum(|layer| layer.bytes), layers }
    }
}

/// A message from a worker thread.
enum WorkerReport {
    Event(PullEvent),
    Ended(anyhow::Result<()>),
}

/// Returns the first failure at once, so that later failures that follow from it do not hide the cause.
fn wait_for_workers(
    arriving: &Receiver<WorkerReport>,
    progress: &Progress<'_>,
    progress_every: Duration,
    tell: &dyn Fn(PullEvent),
) -> anyhow::Result<()> {
    use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
    loop {
        match arriving.recv_timeout(progress_every) {
            Ok(WorkerReport::Ended(outcome)) => outcome?,
            Ok(WorkerReport::Event(event)) => tell(event),
            Err(Timeout) => tell(progress.event()),
            Err(Disconnected) => return Ok(()),
        }
    }
}

fn fetch_in_turn(
    sources: &Sources,
    into: Target<'_>,
    queue: &Mutex<vec::IntoIter<(&Wanted, &AtomicU64)>>,
    fetched: &Mutex<Vec<Arc<Layer>>>,
    observer: &PullObserver<'_>,
) -> anyhow::Result<()> {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some((layer, arrived)) = next else { return Ok(()) };
        let unpacked = fetch(sources, into, layer, arrived, observer)
            .with_context(|| format!("cannot unpack the layer `{}`", layer.digest))?;
        fetched.lock().unwrap_or_else(PoisonError::into_inner).push(unpacked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_of(layers: usize) -> (ImageManifest, ImageConfiguration) {
        let digest = Digest::of(b"layer");
        let layer = format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":1}}"#
        );
        let list = |item: &str| vec![item; layers].join(",");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[{}]}}"#, list(&layer));
        let configuration = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            list(&format!("\"{digest}\""))
        );
        (
            ImageManifest::from_reader(manifest.as_bytes()).unwrap(),
            ImageConfiguration::from_reader(configuration.as_bytes()).unwrap(),
        )
    }

    #[test]
    fn the_number_of_layers_is_limited_and_each_is_fetched_once() {
        let (manifest, configuration) = image_of(LAYERS_LIMIT);
        let wanted = Wanted::all(&manifest, &configuration).unwrap();
        let room = tempfile::tempdir().unwrap();
        assert_eq!(missing(&wanted, &Store::open(room.path()).unwrap()).len(), 1);
        for layers in [LAYERS_LIMIT + 1, 4000] {
            let (manifest, configuration) = image_of(layers);
            let Err(error) = Wanted::all(&manifest, &configuration) else { panic!("{layers} are taken") };
            assert!(
                error.to_string().contains(&format!("has {layers} layers, more than the limit of 500")),
                "{error}"
            );
        }
    }
}
