//! Pulls an image: name, manifest, configuration, layers; each verified before it is used.
//!
//! A layer goes from the socket through its digest on one thread, and through the decompressor and
//! the unpacker on another, in bounded buffers; the compressed layer is never kept.
//!
//! Layers are known by the digest of the bytes that travel. The configuration's diff-ids, digests of the
//! unpacked bytes, are not computed: they come from the same manifest, so whoever could forge a layer could
//! forge them, too, and they would be the most expensive step (a third of a pull's processor time without
//! SHA instructions). Nothing may therefore ever be looked up by them.

use super::auth::{Login, Logins};
use super::digest::{Digest, Hasher};
use super::layer::unpack;
use super::patience::{Failure, Listener, Patience};
use super::platform::Machine;
use super::reference::Reference;
use super::refusal::Asker;
use super::registries::{Endpoint, Registries};
use super::registry::{Credentials, Repository};
use super::store::{Layer, Store};
use crate::hint::{WithHint as _, hinted};
use crate::http;
use anyhow::{Context as _, bail};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;
use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use std::vec;

/// Bytes read from the network at once.
const BLOCK: usize = 256 << 10;
/// Blocks that may wait between the network and the unpacker of one layer: 1 MiB together with [`BLOCK`].
const BLOCKS_WAITING: usize = 4;
/// Unpacked bytes handed to the unpacker at once; headers are read from it in pieces of 512.
const UNPACKED_BLOCK: usize = 128 << 10;
/// How often [`PullEvent::Progress`] comes.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The types of the configurations of images: OCI image-spec, config.md, and Docker's schema 2.
const CONFIGURATIONS: &[&str] =
    &["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

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
    },
    /// One of several places does not have the image, or cannot be reached; the next is asked.
    Elsewhere {
        /// Registry and repository.
        place: String,
        /// What it said.
        why: String,
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
    /// Some layers are still on their way.
    Progress {
        /// Compressed bytes that have arrived.
        done: u64,
        /// Compressed bytes of all layers.
        bytes: u64,
    },
}

/// An image whose every byte had the digest that its manifest says. Only [`Puller::pull`] makes one.
#[derive(Debug)]
pub struct VerifiedImage {
    reference: Reference,
    configuration: ImageConfiguration,
    layers: Vec<Arc<Layer>>,
}

impl VerifiedImage {
    /// The name it was pulled by.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
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
    /// Makes the requests.
    pub http: http::Client,
    /// Which registries are elsewhere, insecure or blocked.
    pub registries: Registries,
    /// Who pulls from registries that demand to know.
    pub logins: Logins,
    /// Holds the layers.
    pub store: Store,
}

/// An image that was found: what is known before its layers come.
struct Found {
    repository: Repository,
    digest: Digest,
    manifest: ImageManifest,
}

impl Puller {
    /// Pulls an image into the store.
    ///
    /// `credentials` are for the registry that `reference` names, and for no other that the image may come from.
    /// `room` is how many bytes the store can still take; an image whose compressed layers alone are
    /// larger is refused before the first of them is fetched. `watch` is told what happens.
    ///
    /// # Errors
    /// When the image cannot be had, is not for this machine, does not have its digests, or does not fit.
    pub fn pull(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        room: u64,
        watch: &mut dyn FnMut(PullEvent),
    ) -> anyhow::Result<VerifiedImage> {
        let watch = RefCell::new(watch);
        let tell = |event| (watch.borrow_mut())(event);
        let listener = Listener { tell: &tell, has_left: &AtomicBool::new(false) };
        let Found { repository, digest, manifest } = self.find(reference, credentials, &listener)?;
        let configuration = configuration(&repository, &manifest, &listener)?;
        let wanted = manifest.layers().iter().map(Wanted::new).collect::<anyhow::Result<Vec<_>>>()?;
        let missing: Vec<&Wanted> =
            wanted.iter().filter(|layer| self.store.find(&layer.digest).is_none()).collect();
        let bytes = missing.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.bytes));
        if bytes > room {
            return Err(hinted(
                format!(
                    "the image does not fit: {} MB compressed, {} MB of room",
                    bytes / 1_000_000,
                    room / 1_000_000
                ),
                "give the machine more memory, or use a smaller image",
            ));
        }
        let place = Some(repository.name()).filter(|place| *place != reference.name());
        tell(PullEvent::Resolved { place, digest, layers: missing.len(), bytes });
        let layers = fetch_all(&repository, &self.store, &wanted, bytes, &tell)?;
        Ok(VerifiedImage { reference: reference.clone(), configuration, layers })
    }

    /// The image in the first place that has it. The last place is asked with patience: it is nobody else's turn.
    fn find(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        listener: &Listener<'_>,
    ) -> anyhow::Result<Found> {
        let places = self.places(reference)?;
        // A name that may be of several registries does not say whose credentials they are.
        let is_certain = places.iter().all(|(candidate, _)| candidate == &places[0].0);
        let credentials = credentials.filter(|_| is_certain);
        let mut places = places.into_iter().peekable();
        while let Some((candidate, endpoint)) = places.next() {
            let place = endpoint.name();
            let is_last = places.peek().is_none();
            let patience = if is_last { Patience::usual() } else { Patience::none() };
            let found = self.repository(&candidate, endpoint, credentials).and_then(|repository| {
                let (digest, manifest) =
                    patience.until_done(listener, || resolve(&repository, &candidate))?;
                Ok(Found { repository, digest, manifest })
            });
            match found {
                Err(error) if !is_last => {
                    (listener.tell)(PullEvent::Elsewhere { place, why: format!("{error:#}") });
                }
                last => return last,
            }
        }
        bail!("there is no place to pull from")
    }

    /// What the name may mean, and where that may be.
    fn places(&self, reference: &Reference) -> anyhow::Result<Vec<(Reference, Endpoint)>> {
        let mut places = Vec::new();
        let mut refused = None;
        for candidate in self.registries.candidates(reference)? {
            match self.registries.sources(&candidate) {
                Ok(sources) => places.extend(sources.into_iter().map(|source| (candidate.clone(), source))),
                Err(error) => refused = Some(error),
            }
        }
        refused.filter(|_| places.is_empty()).map_or(Ok(places), Err)
    }

    fn repository(
        &self,
        candidate: &Reference,
        endpoint: Endpoint,
        credentials: Option<&Credentials>,
    ) -> anyhow::Result<Repository> {
        let own = credentials.filter(|_| endpoint.registry == candidate.registry());
        let (login, asker) = match own {
            Some(own) => (Some(Login::Password(own.clone())), Asker::Workflow),
            None => match self.logins.find(&endpoint.name())? {
                Some(login) => (Some(login), Asker::AuthFile),
                None => (None, Asker::Nobody),
            },
        };
        Ok(Repository::new(&self.http, endpoint, login, asker))
    }
}

/// The manifest for this machine, from whatever stands behind the name.
fn resolve(repository: &Repository, reference: &Reference) -> Result<(Digest, ImageManifest), Failure> {
    let bytes = repository.manifest(&reference.identifier())?;
    if let Some(digest) = reference.digest() {
        digest.verify("the manifest", &bytes)?;
    }
    if let Document::Manifest(manifest) = Document::parse(&bytes)? {
        return Ok((Digest::of(&bytes), *manifest));
    }
    let index = ImageIndex::from_reader(&bytes[..]).context("the image's index is not understood")?;
    let digest = descriptor_digest(Machine::this().choose(&index)?)?;
    let bytes = repository.manifest(&digest.to_string())?;
    digest.verify("the manifest", &bytes)?;
    match Document::parse(&bytes)? {
        Document::Manifest(manifest) => Ok((digest, *manifest)),
        Document::Index => Err(Failure::for_good(hinted(
            "the image's index lists another index",
            "push the image with one index, which lists the manifests",
        ))),
    }
}

/// What may stand behind a name.
#[derive(Debug)]
enum Document {
    /// A list of manifests.
    Index,
    /// The manifest of an image.
    Manifest(Box<ImageManifest>),
}

impl Document {
    /// OCI image-spec, manifest.md and image-index.md; Docker's schema 2. Everything else is refused by its name.
    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: u32,
            manifests: Option<serde::de::IgnoredAny>,
            artifact_type: Option<String>,
            config: Option<Config>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            media_type: String,
        }
        let shape: Shape = serde_json::from_slice(bytes).context("the manifest is not understood")?;
        if shape.schema_version != 2 {
            return Err(hinted(
                format!("the manifest has schema version {}, which cannot be verified", shape.schema_version),
                "push the image again with a tool of this decade, for instance `skopeo copy --format oci`",
            ));
        }
        if shape.manifests.is_some() {
            return Ok(Self::Index);
        }
        if let Some(config) = shape.config.filter(|config| !CONFIGURATIONS.contains(&&*config.media_type)) {
            let kind = shape.artifact_type.filter(|kind| !kind.is_empty()).unwrap_or(config.media_type);
            return Err(hinted(
                format!("it is an artifact of the type `{kind}`, not the image of a container"),
                "name an image; artifacts (charts, signatures, lists of parts) have nothing to run",
            ));
        }
        let manifest = ImageManifest::from_reader(bytes).context("the manifest is not understood")?;
        Ok(Self::Manifest(Box::new(manifest)))
    }
}

fn configuration(
    repository: &Repository,
    manifest: &ImageManifest,
    listener: &Listener<'_>,
) -> anyhow::Result<ImageConfiguration> {
    let digest = descriptor_digest(manifest.config())?;
    let bytes = Patience::usual().until_done(listener, || repository.document(digest))?;
    let configuration =
        ImageConfiguration::from_reader(&bytes[..]).context("the image's configuration is not understood")?;
    let machine = Machine::this();
    let (architecture, variant) = (configuration.architecture(), configuration.variant().as_deref());
    if machine.rank(architecture, variant).is_none() {
        let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
        return Err(hinted(
            format!("the image is for `{architecture}{variant}`, this machine is `{machine}`"),
            "build the image for this machine's architecture",
        ));
    }
    Ok(configuration)
}

/// A layer of the image: where it is and what it must turn out to be.
struct Wanted {
    digest: Digest,
    compression: Compression,
    bytes: u64,
}

impl Wanted {
    fn new(descriptor: &Descriptor) -> anyhow::Result<Self> {
        Ok(Self {
            digest: descriptor_digest(descriptor)?,
            compression: Compression::of(descriptor.media_type())?,
            bytes: descriptor.size(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By media type: OCI image-spec, layer.md, and Docker's image manifest v2 schema 2.
    fn of(media_type: &MediaType) -> anyhow::Result<Self> {
        Ok(match media_type.to_string().as_str() {
            "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
                Self::None
            }
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Self::Gzip,
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Self::Zstd,
            foreign if foreign.contains("foreign") || foreign.contains("nondistributable") => {
                return Err(hinted(
                    format!("a layer is not in the registry: its type is `{foreign}`"),
                    "such layers are of Windows, and must be fetched from their maker; use an image of Linux",
                ));
            }
            other => {
                return Err(hinted(
                    format!("a layer has the unknown media type `{other}`"),
                    "push the image with gzip or zstd layers",
                ));
            }
        })
    }

    fn reader<'a>(self, compressed: impl BufRead + 'a) -> anyhow::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(compressed),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(compressed)),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(compressed)?),
        })
    }
}

fn descriptor_digest(descriptor: &Descriptor) -> anyhow::Result<Digest> {
    Digest::from_str(descriptor.digest().as_ref())
}

/// Fetches the layers that the store lacks, as many at once as there are processors.
fn fetch_all(
    repository: &Repository,
    store: &Store,
    wanted: &[Wanted],
    bytes: u64,
    tell: &dyn Fn(PullEvent),
) -> anyhow::Result<Vec<Arc<Layer>>> {
    let transfer = Transfer::default();
    let fetched: Vec<Mutex<Option<Arc<Layer>>>> = wanted.iter().map(|_| Mutex::default()).collect();
    let workers = thread::available_parallelism().map_or(1, usize::from).min(wanted.len());
    // The largest first, so that the last ones to end are small and no processor idles.
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(wanted[*index].bytes));
    let queue = Mutex::new(order.into_iter());
    thread::scope(|scope| -> anyhow::Result<()> {
        let (reports, arriving) = sync_channel(workers.max(1));
        for _ in 0..workers {
            let (reports, queue, fetched, transfer) = (reports.clone(), &queue, &fetched, &transfer);
            scope.spawn(move || {
                // The other end is gone only when the pull has failed already.
                let tell = |event| drop(reports.send(WorkerReport::Event(event)));
                let listener = Listener { tell: &tell, has_left: &transfer.stopped };
                let outcome = fetch_in_turn(repository, store, wanted, queue, fetched, transfer, &listener);
                if outcome.is_err() {
                    transfer.stopped.store(true, Ordering::Relaxed);
                }
                drop(reports.send(WorkerReport::Ended(outcome)));
            });
        }
        drop(reports);
        wait_for_workers(&arriving, &transfer, bytes, tell)
    })?;
    let layers: Option<Vec<_>> = fetched.into_iter().map(|slot| slot.into_inner().ok().flatten()).collect();
    layers.context("a layer is missing although no fetch failed")
}

/// What the threads of one pull share.
#[derive(Default)]
struct Transfer {
    done: AtomicU64,
    stopped: AtomicBool,
}

/// What a thread says to the one that waits for all.
enum WorkerReport {
    Event(PullEvent),
    Ended(anyhow::Result<()>),
}

/// Returns the first failure at once, so that its cause is not hidden behind those that follow from it.
fn wait_for_workers(
    arriving: &Receiver<WorkerReport>,
    transfer: &Transfer,
    bytes: u64,
    tell: &dyn Fn(PullEvent),
) -> anyhow::Result<()> {
    use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
    loop {
        match arriving.recv_timeout(PROGRESS_EVERY) {
            Ok(WorkerReport::Ended(outcome)) => outcome?,
            Ok(WorkerReport::Event(event)) => tell(event),
            Err(Timeout) => tell(PullEvent::Progress { done: transfer.done.load(Ordering::Relaxed), bytes }),
            Err(Disconnected) => return Ok(()),
        }
    }
}

fn fetch_in_turn(
    repository: &Repository,
    store: &Store,
    wanted: &[Wanted],
    queue: &Mutex<vec::IntoIter<usize>>,
    fetched: &[Mutex<Option<Arc<Layer>>>],
    transfer: &Transfer,
    listener: &Listener<'_>,
) -> anyhow::Result<()> {
    loop {
        let next = queue.lock().expect("no thread panics with the queue").next();
        let Some(index) = next else { return Ok(()) };
        let layer = &wanted[index];
        let unpacked = match store.find(&layer.digest) {
            Some(known) => known,
            None => Patience::usual()
                .until_done(listener, || fetch(repository, store, layer, transfer))
                .with_context(|| format!("layer {} of {} cannot be taken in", index + 1, wanted.len()))?,
        };
        *fetched[index].lock().expect("no thread panics with a slot") = Some(unpacked);
    }
}

/// Fetches, verifies and unpacks one layer.
fn fetch(
    repository: &Repository,
    store: &Store,
    layer: &Wanted,
    transfer: &Transfer,
) -> Result<Arc<Layer>, Failure> {
    let mut response = repository.blob(layer.digest)?;
    let incoming = store.incoming()?;
    let (blocks, arriving) = sync_channel(BLOCKS_WAITING);
    let (received, unpacked) = thread::scope(|scope| {
        let unpacker = scope.spawn(|| unpack_stream(Blocks::new(arriving), layer.compression, &incoming));
        let received = receive(&mut response.body_mut().as_reader(), layer, blocks, transfer);
        let unpacked = unpacker.join().unwrap_or_else(|_| bail!("the unpacker crashed"));
        (received, unpacked)
    });
    match (received, unpacked) {
        (Ok(digest), unpacked) => {
            // A wrong digest explains a failed unpacking, not the other way round.
            layer.digest.expect("the layer", digest)?;
            unpacked?;
            Ok(store.admit(layer.digest, incoming))
        }
        (Err(Interrupted::Unpacker), unpacked) => Err(Failure::for_good(
            unpacked.err().unwrap_or_else(|| anyhow::anyhow!("the layer goes on behind its end")),
        )),
        (Err(Interrupted::Network(error)), _) => Err(error.into()),
    }
}

/// Why not all of a layer was received.
enum Interrupted {
    /// The unpacker has given up; it says why.
    Unpacker,
    Network(anyhow::Error),
}

/// Moves a layer from the network to the unpacker and says what its digest is.
fn receive(
    body: &mut dyn Read,
    layer: &Wanted,
    blocks: SyncSender<Vec<u8>>,
    transfer: &Transfer,
) -> Result<Digest, Interrupted> {
    let mut received = 0;
    let outcome = receive_counted(body, layer, blocks, transfer, &mut received);
    if outcome.is_err() {
        // It counts again when it comes again.
        transfer.done.fetch_sub(received, Ordering::Relaxed);
    }
    outcome
}

fn receive_counted(
    body: &mut dyn Read,
    layer: &Wanted,
    blocks: SyncSender<Vec<u8>>,
    transfer: &Transfer,
    received: &mut u64,
) -> Result<Digest, Interrupted> {
    let mut hasher = Hasher::new();
    loop {
        let mut block = Vec::with_capacity(BLOCK);
        body.take(BLOCK as u64)
            .read_to_end(&mut block)
            .with_context(|| format!("the connection broke after {received} of {} bytes", layer.bytes))
            .hint("check the network between this machine and the registry")
            .map_err(Interrupted::Network)?;
        if block.is_empty() {
            return Ok(hasher.finish());
        }
        *received += block.len() as u64;
        transfer.done.fetch_add(block.len() as u64, Ordering::Relaxed);
        if *received > layer.bytes {
            let error = anyhow::anyhow!("the layer is longer than the {} bytes of its manifest", layer.bytes);
            return Err(Interrupted::Network(error));
        }
        if transfer.stopped.load(Ordering::Relaxed) {
            return Err(Interrupted::Network(anyhow::anyhow!("stopped because another layer failed")));
        }
        hasher.update(&block);
        blocks.send(block).map_err(|_| Interrupted::Unpacker)?;
    }
}

fn unpack_stream(compressed: Blocks, compression: Compression, incoming: &Layer) -> anyhow::Result<()> {
    let unpacked = BufReader::with_capacity(UNPACKED_BLOCK, compression.reader(compressed)?);
    unpack(unpacked, incoming.folder()).map_err(explain_full)
}

fn explain_full(error: anyhow::Error) -> anyhow::Error {
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let by_io = cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::StorageFull);
        by_io || cause.downcast_ref() == Some(&rustix::io::Errno::NOSPC)
    };
    if !error.chain().any(is_full) {
        return error;
    }
    let full = Err::<(), _>(error).context("the memory for images is full");
    full.hint("give the machine more memory, or use a smaller image").unwrap_err()
}

/// The receiving end of a channel of blocks, as a reader.
struct Blocks {
    arriving: Receiver<Vec<u8>>,
    block: Vec<u8>,
    used: usize,
}

impl Blocks {
    fn new(arriving: Receiver<Vec<u8>>) -> Self {
        Self { arriving, block: Vec::new(), used: 0 }
    }
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.block.len() {
            self.block = self.arriving.recv().unwrap_or_default();
            self.used = 0;
        }
        Ok(&self.block[self.used..])
    }

    fn consume(&mut self, amount: usize) {
        self.used += amount;
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_read_as_one_stream() {
        let (blocks, arriving) = sync_channel(4);
        for block in ["hel", "lo ", "world"] {
            blocks.send(block.as_bytes().to_vec()).unwrap();
        }
        drop(blocks);
        let mut text = String::new();
        Blocks::new(arriving).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello world");
    }

    #[test]
    fn what_is_not_an_image_is_refused_by_its_name() {
        assert!(matches!(Document::parse(br#"{"schemaVersion":2,"manifests":[]}"#), Ok(Document::Index)));
        let manifest = |config: &str, more: &str| {
            let digest = Digest::of(b"");
            let text = format!(
                r#"{{"schemaVersion":2,{more}"layers":[],
                "config":{{"mediaType":"{config}","digest":"{digest}","size":2}}}}"#
            );
            Document::parse(text.as_bytes())
        };
        for config in CONFIGURATIONS {
            assert!(matches!(manifest(config, r#""artifactType":"","#), Ok(Document::Manifest(_))));
        }
        let empty = "application/vnd.oci.empty.v1+json";
        for (outcome, expected) in [
            (Document::parse(br#"{"schemaVersion":1}"#), "schema version 1"),
            (Document::parse(b"<html>"), "not understood"),
            (
                manifest("application/vnd.cncf.helm.config.v1+json", ""),
                "`application/vnd.cncf.helm.config.v1+json`",
            ),
            (manifest(empty, r#""artifactType":"application/spdx+json","#), "`application/spdx+json`"),
        ] {
            let error = outcome.map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn layers_of_docker_and_oci_are_known_by_media_type() {
        for (text, expected) in [
            ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
            ("application/vnd.oci.image.layer.v1.tar", Compression::None),
        ] {
            assert_eq!(Compression::of(&MediaType::from(text)).unwrap(), expected);
        }
        assert!(Compression::of(&MediaType::from("text/plain")).is_err());
        for foreign in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ] {
            let error = Compression::of(&MediaType::from(foreign)).unwrap_err();
            assert!(error.to_string().contains("not in the registry"), "{error}");
        }
    }
}
