//! Judges the images of a bundle without asking any registry: the decision that a boot would make.

use super::Finder;
use super::compression::Compression;
use super::layers::Wanted;
use super::manifest;
use super::manifest::ManifestKind;
use super::resolve::{resolve, taken_along};
use crate::bundle::RepositoryView;
use crate::retry::PullObserver;
use crate::source::ImageSource;
use anyhow::{Context as _, ensure};
use fetch::http::{DOCUMENT_TIME_LIMIT, Deadline};
use hint::hinted;
use oci_reference::digest::{Digest, Hasher};
use oci_reference::platform::Machine;
use oci_reference::reference::{Named, Reference};
use oci_trust::policy::Approval;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read};

/// Bytes per read.
const BLOCK: usize = 256 << 10;
/// Bytes of all layers of a bundle when they are decompressed, each counted once. A machine has those of an image in memory;
/// a large installer has some GB. A bundle of 2 MB can claim this many, which take a minute.
const UNPACKED_LIMIT: u64 = 64 << 30;

/// What of a bundle was checked already. Thousands of names may lead to the same image, and images have layers in common.
#[derive(Debug)]
pub struct BundleCheck {
    /// The platform of each image that can be unpacked, by its manifest and the platform in its index.
    images: HashMap<(Digest, Option<String>), Machine>,
    /// The digest of the decompressed bytes of each layer, by its digest and size.
    layers: HashMap<(Digest, u64), Digest>,
    /// Bytes that may still be decompressed.
    left: u64,
}

impl Default for BundleCheck {
    fn default() -> Self {
        Self::within(UNPACKED_LIMIT)
    }
}

impl Finder {
    /// Asks the policy about an image in the bundle, and whether it could be unpacked, for each platform that the bundle has.
    /// Returns these. `check` is for all images of the bundle.
    ///
    /// # Errors
    /// When the bundle does not have it, the policy rejects it or it cannot be unpacked for one of the platforms, the layers
    /// are too large (`docs/limits.md`), or a boot would not trust the bundle for the meaning of its tag.
    pub fn judge_bundled(
        &self,
        reference: &Reference,
        check: &mut BundleCheck,
    ) -> anyhow::Result<Vec<Machine>> {
        let absent = || {
            let hint = "create the bundle again: `iguana bundle WORKFLOW --output FILE`";
            hinted(format!("the bundle does not contain the image `{reference}`"), hint)
        };
        let named = reference.named().ok_or_else(absent)?;
        let mut refused = None;
        for candidate in self.registries.candidates(named)? {
            if let Err(error) = self.registries.sources(&candidate) {
                refused = Some(error);
                continue;
            }
            let repository_views = self.bundle.iter().flat_map(|bundle| bundle.repository_views(&candidate));
            if let Some(repository_view) = repository_views.into_iter().next() {
                return self.judge_on(&candidate, &repository_view, check);
            }
        }
        Err(refused.unwrap_or_else(absent))
    }

    fn judge_on(
        &self,
        candidate: &Named,
        repository_view: &RepositoryView,
        check: &mut BundleCheck,
    ) -> anyhow::Result<Vec<Machine>> {
        let manifests = taken_along(repository_view, &candidate.identifier(), candidate.digest());
        let manifests = manifests.with_context(|| format!("`{candidate}`"))?;
        ensure!(!manifests.is_empty(), "the bundle contains none of the manifests of `{candidate}`");
        let mut judge = |(digest, platform): &(Digest, Option<Machine>)| {
            let approval = PullObserver::staying(&mut |_| (), |observer| {
                self.approve(candidate, repository_view, *digest, observer)
            })
            .with_context(|| format!("`{candidate}` may not run"))?;
            if self.takes_word_of_bundle(candidate, &approval) {
                return check
                    .image(repository_view, *digest, platform.as_ref())
                    .with_context(|| format!("`{candidate}` cannot be unpacked"));
            }
            Err(hinted(
                format!("no signature covers `{candidate}` in the bundle: a machine would ask the registry"),
                "sign the lock file (`WORKFLOW.lock.sig`) or the image, and create the bundle again",
            ))
        };
        manifests.iter().map(&mut judge).collect()
    }

    /// Whether the bundle is trusted for the meaning of a name: the name has a digest, or a signature vouches for it.
    pub(super) fn takes_word_of_bundle(&self, candidate: &Named, approval: &Approval) -> bool {
        candidate.digest().is_some() || self.believes_bundle || approval.is_by_signature()
    }
}

impl BundleCheck {
    /// A check of a bundle whose layers have at most `limit` bytes in all when they are decompressed.
    fn within(limit: u64) -> Self {
        Self { images: HashMap::new(), layers: HashMap::new(), left: limit }
    }

    /// Checks an image, unless it was checked before. Returns its platform.
    fn image(
        &mut self,
        source: &dyn ImageSource,
        digest: Digest,
        platform: Option<&Machine>,
    ) -> anyhow::Result<Machine> {
        let key = (digest, platform.map(Machine::to_string));
        if let Some(known) = self.images.get(&key) {
            return Ok(known.clone());
        }
        let machine = check_whole(self, source, digest, platform)?;
        self.images.insert(key, machine.clone());
        Ok(machine)
    }

    /// The digest of the decompressed bytes of a layer.
    fn layer(&mut self, source: &dyn ImageSource, layer: &Wanted) -> anyhow::Result<Digest> {
        let key = (layer.digest, layer.bytes);
        if let Some(known) = self.layers.get(&key) {
            return Ok(*known);
        }
        let unpacked = unpacked_digest(source, layer, &mut self.left)?;
        self.layers.insert(key, unpacked);
        Ok(unpacked)
    }
}

/// Checks what a boot checks of an image: the configuration, that it is for the platform that the index tells of, and each
/// layer, which is decompressed. Returns the platform.
fn check_whole(
    check: &mut BundleCheck,
    source: &dyn ImageSource,
    digest: Digest,
    platform: Option<&Machine>,
) -> anyhow::Result<Machine> {
    let (name, kind, deadline) =
        (digest.to_string(), ManifestKind::Image, Deadline::within(DOCUMENT_TIME_LIMIT));
    let resolved = resolve(source, &name, Some(digest), kind, &Machine::usual(), deadline);
    let manifest = resolved.map_err(|failure| failure.error)?.manifest;
    let (configuration, machine) = manifest::any_configuration(source, &manifest, deadline)?;
    let is_for = |wanted: &&Machine| {
        wanted.rank(configuration.architecture(), configuration.variant().as_deref()).is_some()
    };
    if let Some(wanted) = platform.filter(|wanted| !is_for(wanted)) {
        let message = format!("its index says that it is for `{wanted}`, and it is for `{machine}`");
        return Err(hinted(message, "push the image again"));
    }
    for layer in &Wanted::all(&manifest, &configuration)? {
        let unpacked = check.layer(source, layer).with_context(|| format!("the layer `{}`", layer.digest))?;
        layer.diff_id.expect("its uncompressed bytes", unpacked)?;
    }
    Ok(machine)
}

/// The digest of the uncompressed bytes of a layer, of which `left` may still be read.
fn unpacked_digest(source: &dyn ImageSource, layer: &Wanted, left: &mut u64) -> anyhow::Result<Digest> {
    let blob = source.blob(layer.digest, layer.bytes, 0).map_err(|failure| failure.error)?;
    let mut packed = BufReader::new(blob);
    let compression = Compression::of_content(packed.fill_buf().context("cannot read it")?)?;
    let mut unpacked: Box<dyn Read> = match compression {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(packed)?),
    };
    let (mut hasher, mut block) = (Hasher::new(), vec![0; BLOCK]);
    loop {
        match unpacked.read(&mut block).context("cannot decompress it")? {
            0 => return Ok(hasher.finish()),
            count => {
                *left = left.checked_sub(count as u64).ok_or_else(too_large)?;
                hasher.update(&block[..count]);
            }
        }
    }
}

fn too_large() -> anyhow::Error {
    hinted(
        format!(
            "the layers of the bundle have more than {} GiB when they are decompressed",
            UNPACKED_LIMIT >> 30
        ),
        "build smaller images, because a machine has them in memory, or more than one bundle",
    )
}

#[cfg(test)]
mod tests {
    use super::super::test_source::Source;
    use super::*;
    use serde_json::{Value, json};
    use std::io;

    fn checked(
        content: &[u8],
        media_type: &str,
        count: usize,
        configuration: &Value,
        platform: &str,
    ) -> anyhow::Result<Machine> {
        let mut source = Source::default();
        let mut part = |media_type: &str, bytes: &[u8]| {
            let digest = source.put(bytes).to_string();
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let layers = vec![part(media_type, content); count];
        let config = part("application/vnd.oci.image.config.v1+json", configuration.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers});
        let digest = source.put(manifest.to_string().as_bytes());
        BundleCheck::within(LAYER.len() as u64).image(&source, digest, Some(&platform.parse()?))
    }

    const LAYER: &[u8] = b"not packed";
    const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

    fn configuration(diff_id: Digest, count: usize) -> Value {
        let diff_ids = vec![diff_id.to_string(); count];
        json!({"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    }

    /// Adds an image with one layer, of 1 MiB when it is decompressed.
    fn bomb(source: &mut Source, byte: u8, architecture: &str) -> Digest {
        let bomb = zstd::encode_all(io::repeat(byte).take(1 << 20), 1).unwrap();
        assert!(bomb.len() < 1000);
        let layer = source.put(&bomb);
        let mut configuration = configuration(Digest::of(&[byte; 1 << 20]), 1);
        configuration["architecture"] = architecture.into();
        let configuration = configuration.to_string();
        let config = source.put(configuration.as_bytes());
        let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
            "digest": layer.to_string(), "size": bomb.len()});
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.to_string(), "size": configuration.len()});
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer]});
        source.put(manifest.to_string().as_bytes())
    }

    #[test]
    fn a_decompression_bomb_in_a_bundle_is_abandoned_at_the_limit() {
        let mut source = Source::default();
        let digest = bomb(&mut source, 0, "arm64");
        assert!(BundleCheck::within(1 << 20).image(&source, digest, None).is_ok());
        let error = BundleCheck::within((1 << 20) - 1).image(&source, digest, None).unwrap_err();
        assert!(format!("{error:#}").contains("more than 64 GiB when they are decompressed"), "{error:#}");
    }

    #[test]
    fn a_layer_is_decompressed_once_and_counts_for_the_whole_bundle() {
        let mut source = Source::default();
        let [first, same_layer, other] =
            [(0, "arm64"), (0, "amd64"), (1, "arm64")].map(|(byte, it)| bomb(&mut source, byte, it));
        let mut check = BundleCheck::within(1 << 20);
        for digest in [first, first, same_layer] {
            check.image(&source, digest, None).unwrap();
        }
        let error = format!("{:#}", check.image(&source, other, None).unwrap_err());
        assert!(error.contains("the layers of the bundle have more than"), "{error}");
    }

    #[test]
    fn each_diff_id_of_a_repeated_layer_is_checked() {
        let mut configuration = configuration(Digest::of(LAYER), 2);
        configuration["rootfs"]["diff_ids"][1] = Digest::of(b"other").to_string().into();
        let error = checked(LAYER, PLAIN, 2, &configuration, "linux/arm64").unwrap_err();
        assert!(format!("{error:#}").contains("its uncompressed bytes"), "{error:#}");
    }

    #[test]
    fn an_image_that_no_boot_could_unpack_is_incomplete() {
        let own = Digest::of(LAYER);
        let machine = checked(LAYER, PLAIN, 1, &configuration(own, 1), "linux/arm64").unwrap();
        assert_eq!(machine.to_string(), "linux/arm64/v8");
        for (media_type, count, configuration, platform, told) in [
            (PLAIN, 1, json!("not json"), "linux/arm64", "configuration is malformed"),
            (PLAIN, 1, configuration(Digest::of(b"other"), 1), "linux/arm64", "its uncompressed bytes"),
            ("application/x-nothing", 1, configuration(own, 1), "linux/arm64", "unknown media type"),
            (PLAIN, 600, configuration(own, 600), "linux/arm64", "more than the limit of 500"),
            (PLAIN, 2, configuration(own, 1), "linux/arm64", "the configuration lists 1"),
            (PLAIN, 1, configuration(own, 1), "linux/amd64", "says that it is for `linux/amd64"),
        ] {
            let error = checked(LAYER, media_type, count, &configuration, platform).unwrap_err();
            assert!(format!("{error:#}").contains(told), "{told}: {error:#}");
        }
        let damaged = checked(b"\x1f\x8b damaged", PLAIN, 1, &configuration(own, 1), "linux/arm64");
        assert!(format!("{:#}", damaged.unwrap_err()).contains("cannot decompress it"));
    }
}
