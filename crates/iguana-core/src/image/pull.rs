//! Pulls an image: name, manifest, configuration, layers; each verified before it is used.
//!
//! A layer goes from the socket through its digest on one thread, and through the decompressor and
//! the unpacker on another, in bounded buffers; the compressed layer is never kept.
//!
//! Layers are known by the digest of the bytes that travel. The configuration's diff-ids, digests of the
//! unpacked bytes, are not computed: they come from the same manifest, so whoever could forge a layer could
//! forge them, too, and they would be the most expensive step (a third of a pull's processor time without
//! SHA instructions). Nothing may therefore ever be looked up by them.

use super::digest::{Digest, Hasher};
use super::layer::unpack;
use super::reference::Reference;
use super::registries::Registries;
use super::registry::{Credentials, Repository};
use super::store::{Layer, Store};
use crate::hint::{WithHint as _, hinted};
use crate::http;
use anyhow::{Context as _, bail};
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os};
use serde::Deserialize;
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

/// What happens during a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// The image is known and its layers begin to arrive.
    Resolved {
        /// The digest of the manifest for this architecture.
        digest: Digest,
        /// How many layers must be fetched.
        layers: usize,
        /// Their compressed bytes.
        bytes: u64,
    },
    /// Some layers are still on their way.
    Progress {
        /// Compressed bytes that have arrived.
        done: u64,
        /// Compressed bytes of all layers.
        bytes: u64,
    },
}

/// An image whose every byte had the digest that its manifest says. Only [`pull`] makes one.
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

/// Pulls an image into the store.
///
/// `credentials` are for a registry that demands them. `room` is how many bytes the store can still take; an image whose compressed layers alone are
/// larger is refused before the first of them is fetched. `watch` is told what happens.
///
/// # Errors
/// When the image cannot be had, is not for this machine, does not have its digests, or does not fit.
pub fn pull(
    http: &http::Client,
    registries: &Registries,
    store: &Store,
    reference: &Reference,
    credentials: Option<&Credentials>,
    room: u64,
    watch: &mut dyn FnMut(PullEvent),
) -> anyhow::Result<VerifiedImage> {
    let repository = Repository::new(http, registries.endpoint(reference)?, credentials);
    let (digest, manifest) = resolve(&repository, reference)?;
    let configuration = configuration(&repository, &manifest)?;
    let wanted = manifest.layers().iter().map(Wanted::new).collect::<anyhow::Result<Vec<_>>>()?;
    let missing: Vec<&Wanted> = wanted.iter().filter(|layer| store.find(&layer.digest).is_none()).collect();
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
    watch(PullEvent::Resolved { digest, layers: missing.len(), bytes });
    let layers = fetch_all(&repository, store, &wanted, bytes, watch)?;
    Ok(VerifiedImage { reference: reference.clone(), configuration, layers })
}

/// The manifest for this machine, from whatever stands behind the name.
fn resolve(repository: &Repository<'_>, reference: &Reference) -> anyhow::Result<(Digest, ImageManifest)> {
    let bytes = repository.manifest(&reference.identifier())?;
    if let Some(digest) = reference.digest() {
        digest.verify("the manifest", &bytes)?;
    }
    if !is_index(&bytes)? {
        return Ok((Digest::of(&bytes), parse_manifest(&bytes)?));
    }
    let index = ImageIndex::from_reader(&bytes[..]).context("the image's index is not understood")?;
    let digest = descriptor_digest(for_this_machine(&index)?)?;
    let bytes = repository.manifest(&digest.to_string())?;
    digest.verify("the manifest", &bytes)?;
    Ok((digest, parse_manifest(&bytes)?))
}

/// Whether a document lists manifests instead of being one; schema 1 is neither.
fn is_index(document: &[u8]) -> anyhow::Result<bool> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: u32,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = serde_json::from_slice(document).context("the manifest is not understood")?;
    if shape.schema_version != 2 {
        return Err(hinted(
            format!("the manifest has schema version {}, which cannot be verified", shape.schema_version),
            "push the image again with a tool of this decade, for instance `skopeo copy --format oci`",
        ));
    }
    Ok(shape.manifests.is_some())
}

fn parse_manifest(bytes: &[u8]) -> anyhow::Result<ImageManifest> {
    ImageManifest::from_reader(bytes).context("the manifest is not understood")
}

/// The entry of an index for this processor.
fn for_this_machine(index: &ImageIndex) -> anyhow::Result<&Descriptor> {
    let architecture = machine_architecture();
    let platforms =
        || index.manifests().iter().filter_map(|entry| entry.platform().as_ref().map(|p| (entry, p)));
    platforms()
        .find(|(_, platform)| *platform.architecture() == architecture && *platform.os() == Os::Linux)
        .map(|(entry, _)| entry)
        .ok_or_else(|| {
            let known: Vec<String> =
                platforms().map(|(_, p)| format!("{}/{}", p.os(), p.architecture())).collect();
            hinted(
                format!("the image is not there for `linux/{architecture}`"),
                format!("it is there for `{}`; build it for this machine too", known.join("`, `")),
            )
        })
}

fn machine_architecture() -> Arch {
    match std::env::consts::ARCH {
        "x86_64" => Arch::Amd64,
        "aarch64" => Arch::ARM64,
        other => Arch::Other(other.into()),
    }
}

fn configuration(
    repository: &Repository<'_>,
    manifest: &ImageManifest,
) -> anyhow::Result<ImageConfiguration> {
    let bytes = repository.document(descriptor_digest(manifest.config())?)?;
    let configuration =
        ImageConfiguration::from_reader(&bytes[..]).context("the image's configuration is not understood")?;
    let machine = machine_architecture();
    if *configuration.architecture() != machine {
        return Err(hinted(
            format!("the image is for `{}`, this machine is `{machine}`", configuration.architecture()),
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
    repository: &Repository<'_>,
    store: &Store,
    wanted: &[Wanted],
    bytes: u64,
    watch: &mut dyn FnMut(PullEvent),
) -> anyhow::Result<Vec<Arc<Layer>>> {
    let transfer = Transfer::default();
    let fetched: Vec<Mutex<Option<Arc<Layer>>>> = wanted.iter().map(|_| Mutex::default()).collect();
    let workers = thread::available_parallelism().map_or(1, usize::from).min(wanted.len());
    // The largest first, so that the last ones to end are small and no processor idles.
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(wanted[*index].bytes));
    let queue = Mutex::new(order.into_iter());
    thread::scope(|scope| -> anyhow::Result<()> {
        let (report, reports) = sync_channel(workers.max(1));
        for _ in 0..workers {
            let (report, queue, fetched, transfer) = (report.clone(), &queue, &fetched, &transfer);
            scope.spawn(move || {
                let outcome = fetch_in_turn(repository, store, wanted, queue, fetched, transfer);
                if outcome.is_err() {
                    transfer.stopped.store(true, Ordering::Relaxed);
                }
                // The other end is gone only when the pull has failed already.
                let _ = report.send(outcome);
            });
        }
        drop(report);
        wait_for_workers(&reports, &transfer, bytes, watch)
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

/// Returns the first failure at once, so that its cause is not hidden behind those that follow from it.
fn wait_for_workers(
    reports: &Receiver<anyhow::Result<()>>,
    transfer: &Transfer,
    bytes: u64,
    watch: &mut dyn FnMut(PullEvent),
) -> anyhow::Result<()> {
    use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
    loop {
        match reports.recv_timeout(PROGRESS_EVERY) {
            Ok(outcome) => outcome?,
            Err(Timeout) => watch(PullEvent::Progress { done: transfer.done.load(Ordering::Relaxed), bytes }),
            Err(Disconnected) => return Ok(()),
        }
    }
}

fn fetch_in_turn(
    repository: &Repository<'_>,
    store: &Store,
    wanted: &[Wanted],
    queue: &Mutex<vec::IntoIter<usize>>,
    fetched: &[Mutex<Option<Arc<Layer>>>],
    transfer: &Transfer,
) -> anyhow::Result<()> {
    loop {
        let next = queue.lock().expect("no thread panics with the queue").next();
        let Some(index) = next else { return Ok(()) };
        let layer = &wanted[index];
        let unpacked = match store.find(&layer.digest) {
            Some(known) => known,
            None => fetch(repository, store, layer, transfer)
                .with_context(|| format!("layer {} of {} cannot be taken in", index + 1, wanted.len()))?,
        };
        *fetched[index].lock().expect("no thread panics with a slot") = Some(unpacked);
    }
}

/// Fetches, verifies and unpacks one layer.
fn fetch(
    repository: &Repository<'_>,
    store: &Store,
    layer: &Wanted,
    transfer: &Transfer,
) -> anyhow::Result<Arc<Layer>> {
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
        (Err(Interrupted::Unpacker), unpacked) => {
            Err(unpacked.err().unwrap_or_else(|| anyhow::anyhow!("the layer goes on behind its end")))
        }
        (Err(Interrupted::Network(error)), _) => Err(error),
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
    let mut hasher = Hasher::new();
    let mut received = 0;
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
        received += block.len() as u64;
        if received > layer.bytes {
            let error = anyhow::anyhow!("the layer is longer than the {} bytes of its manifest", layer.bytes);
            return Err(Interrupted::Network(error));
        }
        if transfer.stopped.load(Ordering::Relaxed) {
            return Err(Interrupted::Network(anyhow::anyhow!("stopped because another layer failed")));
        }
        hasher.update(&block);
        transfer.done.fetch_add(block.len() as u64, Ordering::Relaxed);
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
    fn manifests_and_indexes_are_told_apart() {
        assert!(is_index(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap());
        assert!(!is_index(br#"{"schemaVersion":2,"config":{},"layers":[]}"#).unwrap());
        assert!(is_index(br#"{"schemaVersion":1}"#).unwrap_err().to_string().contains("schema version 1"));
        assert!(is_index(b"<html>").is_err());
    }

    #[test]
    fn an_index_without_this_machine_says_what_it_has() {
        let index =
            br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1,
            "platform":{"architecture":"s390x","os":"linux"}}]}"#;
        let error = for_this_machine(&ImageIndex::from_reader(&index[..]).unwrap()).unwrap_err();
        assert!(crate::hint::of(&error).unwrap().contains("linux/s390x"), "{error:#}");
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
    }
}
