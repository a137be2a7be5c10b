//! How a layer is compressed: what its media type says, and what its first bytes show.
//!
//! Makers and registries mislabel layers, so podman and docker go by the content. That is safe: both digests of the layer
//! are verified whatever it is called.

use crate::retry::Failure;
use hint::hinted;

/// The compression of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The types of layers without the suffix of their compression, and what separates it: OCI image-spec, layer.md, and
/// Docker's image manifest v2 schema 2.
const LAYERS: &[(&str, char)] = &[
    ("application/vnd.oci.image.layer.v1.tar", '+'),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", '+'),
    ("application/vnd.docker.image.rootfs.diff.tar", '.'),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", '.'),
];

/// Types that say nothing about the content, or are those of archives in general; podman takes them as well.
const GENERAL: &[&str] = &[
    "",
    "application/octet-stream",
    "application/gzip",
    "application/x-gzip",
    "application/x-tar",
    "application/tar",
    "application/tar+gzip",
    "application/x-gtar",
    "application/zstd",
];

/// Whether layers of this type need not be in a registry (layer.md, "Non-Distributable Layers").
pub(super) fn is_foreign(media_type: &str) -> bool {
    media_type.contains(".foreign.") || media_type.contains(".nondistributable.")
}

/// The failure to get a layer of such a type. layer.md, "Non-Distributable Layers": it "SHOULD NOT affect whether an
/// implementation downloads the layer", so only an absent one is explained: nothing is lost, it was never there.
pub(super) fn explain_foreign(failure: Failure) -> Failure {
    if !failure.is_absent {
        return failure;
    }
    let why = "its type is that of layers that are not distributed by registries";
    let error = hint::attach(failure.error.context(why), "push the image again with all of its layers");
    Failure { error, ..failure }
}

impl Compression {
    /// The compression that a media type states.
    ///
    /// # Errors
    /// When it is not a type of layers.
    pub(super) fn stated(media_type: &str) -> anyhow::Result<Self> {
        let kind = media_type.split(';').next().unwrap_or_default().trim();
        for (layer, separator) in LAYERS {
            let Some(suffix) = kind.strip_prefix(layer) else { continue };
            match suffix.strip_prefix(*separator) {
                None if suffix.is_empty() => return Ok(Self::None),
                Some("gzip") => return Ok(Self::Gzip),
                Some("zstd") => return Ok(Self::Zstd),
                _ => {}
            }
        }
        if GENERAL.contains(&kind) {
            return Ok(Self::None);
        }
        if kind.ends_with("+encrypted") {
            let hint = "push the image without encryption";
            return Err(hinted(format!("a layer is encrypted: its type is `{media_type}`"), hint));
        }
        let what = format!("a layer has the unknown media type `{media_type}`");
        Err(hinted(what, "push the image with gzip or zstd layers"))
    }

    /// The compression of content that begins with these bytes; 512 are enough. RFC 1952, section 2.3.1; RFC 8878,
    /// sections 3.1.1 and 3.1.2; for the names of archives see POSIX, "ustar Interchange Format".
    ///
    /// # Errors
    /// When it is one that is not supported.
    pub(super) fn of_content(beginning: &[u8]) -> anyhow::Result<Self> {
        let unsupported = |name: &str| {
            let hint = "push the image with gzip or zstd layers";
            Err(hinted(format!("it is compressed by {name}, which is not supported"), hint))
        };
        match beginning {
            // A name may begin with any bytes.
            _ if beginning.get(257..262) == Some(b"ustar") => Ok(Self::None),
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // The second is a skippable frame.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            _ => Ok(Self::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_docker_and_oci_are_known_by_media_type() {
        for (text, expected) in [
            ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", Compression::Zstd),
            ("application/vnd.oci.image.layer.v1.tar", Compression::None),
            ("application/vnd.oci.image.layer.v1.tar+gzip; charset=utf-8", Compression::Gzip),
            // layer.md: "Implementations SHOULD NOT upload layers tagged with this media type"; some do.
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::Gzip),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression::Zstd),
            ("application/octet-stream", Compression::None),
            ("", Compression::None),
        ] {
            assert_eq!(Compression::stated(text).unwrap(), expected, "{text}");
            assert_eq!(is_foreign(text), text.contains("foreign") || text.contains("nondist"), "{text}");
        }
        for (text, expected) in [
            ("text/plain", "unknown media type `text/plain`"),
            ("application/vnd.oci.image.layer.v1.tar+brotli", "unknown media type"),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "a layer is encrypted"),
            ("application/vnd.oci.image.layer.nydus.blob.v1", "unknown media type"),
        ] {
            let error = Compression::stated(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_compression_is_known_by_the_first_bytes() {
        let packed = zstd::bulk::compress(b"content", 1).unwrap();
        let mut archive = [0; 512];
        archive[..2].copy_from_slice(&[0x1f, 0x8b]);
        archive[257..262].copy_from_slice(b"ustar");
        for (beginning, expected) in [
            (&packed[..], Compression::Zstd),
            (&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], Compression::Zstd),
            (&[0x1f, 0x8b, 8], Compression::Gzip),
            (&archive, Compression::None),
            (b"", Compression::None),
            (b"a", Compression::None),
        ] {
            assert_eq!(Compression::of_content(beginning).unwrap(), expected, "{beginning:?}");
        }
        for (beginning, name) in [(&b"BZh91AY"[..], "bzip2"), (b"\xfd7zXZ\0", "xz")] {
            let error = Compression::of_content(beginning).unwrap_err().to_string();
            assert!(error.contains(&format!("compressed by {name}")), "{error}");
        }
    }
}
