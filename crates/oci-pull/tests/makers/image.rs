//! Images of archives that are written byte by byte, pulled from a layout or an archive.

use fetch::http;
use fetch::tls::Roots;
use oci_layer::{Store, Unlimited};
use oci_pull::{Caller, Finder, Logins, Puller, Registries, VerifiedImage};
use oci_reference::{Digest, Machine};
use oci_trust::attachments::Attachments;
use oci_trust::policy::Policy;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;
use tar::EntryType;
use tempfile::TempDir;
use untrusted_fs::Directory;

/// `find -printf` of a tree: kind, mode, owner, time, path; content or target.
pub(super) type Tree = &'static [&'static str];

/// What all entries of a layer have in common.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) time: u64,
    pub(super) owner: u64,
}

pub(super) const ROOT_AT_0: Style = Style { time: 0, owner: 0 };
pub(super) const ROOT_AT_1: Style = Style { time: 1, owner: 0 };

/// An archive whose names are written as they are given.
pub(super) struct Layer {
    bytes: Vec<u8>,
    style: Style,
}

impl Layer {
    pub(super) fn new(style: Style) -> Self {
        Self { bytes: Vec::new(), style }
    }

    /// The entries from here on have another style.
    pub(super) fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }

    pub(super) fn add(
        mut self,
        kind: EntryType,
        name: &str,
        mode: u32,
        target: &str,
        content: &[u8],
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_mtime(self.style.time);
        header.set_uid(self.style.owner);
        header.set_gid(self.style.owner);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn directory(self, name: &str, mode: u32) -> Self {
        self.add(EntryType::Directory, name, mode, "", b"")
    }

    pub(super) fn file(self, name: &str, mode: u32, content: &str) -> Self {
        self.add(EntryType::Regular, name, mode, "", content.as_bytes())
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, 0o777, target, b"")
    }

    pub(super) fn hard_link(self, name: &str, mode: u32, target: &str) -> Self {
        self.add(EntryType::Link, name, mode, target, b"")
    }

    /// Records of an extended header for the next entry.
    pub(super) fn records(self, records: &[(&str, &str)]) -> Self {
        let record = |(key, value): &(&str, &str)| {
            let rest = key.len() + value.len() + 3;
            let length = (1..).map(|digits| rest + digits).find(|sum| sum.to_string().len() + rest == *sum);
            format!("{} {key}={value}\n", length.unwrap())
        };
        let content: String = records.iter().map(record).collect();
        self.add(EntryType::XHeader, "PaxHeaders.0/x", 0, "", content.as_bytes())
    }

    /// The whole archive, which ends with two blocks of zeros.
    pub(super) fn finish(&self) -> Vec<u8> {
        [&self.bytes[..], &[0; 1024]].concat()
    }
}

/// The media types of an image.
pub(super) struct Types {
    pub(super) manifest: &'static str,
    pub(super) config: &'static str,
    pub(super) layer: &'static str,
}

pub(super) const OCI: Types = Types {
    manifest: "application/vnd.oci.image.manifest.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1.tar+gzip",
};
pub(super) const DOCKER: Types = Types {
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// A layout or an archive in a directory.
pub(super) struct Made {
    pub(super) home: TempDir,
}

impl Made {
    pub(super) fn new() -> Self {
        // Extended attributes of overlayfs cannot be set on every file system that may have `/tmp`.
        let home = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::create_dir_all(home.path().join("image/blobs/sha256")).unwrap();
        Self { home }
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        let path = self.home.path().join("image/blobs").join(digest.replace(':', "/"));
        fs::write(path, bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// A manifest of these layers, with the config and its `rootfs`.
    pub(super) fn manifest(&self, types: &Types, config: Value, layers: &[Layer]) -> Value {
        let config = with_root(config, layers).to_string();
        let config = self.blob(types.config, config.as_bytes());
        let layers: Vec<_> =
            layers.iter().map(|layer| self.blob(types.layer, &gzip(&layer.finish()))).collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": types.manifest, "config": config, "layers": layers});
        self.blob(types.manifest, manifest.to_string().as_bytes())
    }

    /// Finishes the layout, whose index has these entries, and pulls its image.
    pub(super) fn pull_layout(&self, entries: &[Value]) -> VerifiedImage {
        let image = self.home.path().join("image");
        fs::write(image.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": entries});
        fs::write(image.join("index.json"), index.to_string()).unwrap();
        self.pull("oci")
    }

    pub(super) fn pull(&self, transport: &str) -> VerifiedImage {
        let finder = Finder {
            http: http::Client::new(&Roots::default()),
            registries: Registries::default(),
            logins: Logins::default(),
            policy: Policy::absent(),
            attachments: Attachments::default(),
            machine: Machine::usual(),
            bundle: None,
            believes_bundle: false,
            caller: Caller::default(),
        };
        let store = Store::open(&self.home.path().join("store")).unwrap();
        let puller = Puller { finder, store, progress_every: Duration::from_secs(5) };
        let name = format!("{transport}:{}", self.home.path().join("image").display());
        puller.pull(&name.parse().unwrap(), None, &Unlimited, &mut |_| ()).unwrap()
    }

    /// The image's tree.
    pub(super) fn assert_tree(&self, image: VerifiedImage, expected: Tree) {
        let root = self.home.path().join("root");
        fs::create_dir(&root).unwrap();
        oci_pull::settle(image, &Directory::open(&root).unwrap()).unwrap();
        let mut found = Vec::new();
        list(&root, Path::new(""), &mut found);
        assert_eq!(found, expected, "{found:#?}");
    }
}

/// A config with `rootfs`, for this machine.
pub(super) fn with_root(mut config: Value, layers: &[Layer]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(&layer.finish()).to_string()).collect();
    config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
    config["architecture"] = json!(Machine::usual().architecture());
    config["os"] = json!("linux");
    config
}

fn list(root: &Path, below: &Path, found: &mut Vec<String>) {
    let mut names: Vec<_> =
        fs::read_dir(root.join(below)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = below.join(name);
        let stat = fs::symlink_metadata(root.join(&path)).unwrap();
        let kind = stat.file_type();
        let (mark, rest) = if kind.is_dir() {
            ("d", String::new())
        } else if kind.is_symlink() {
            ("l", format!(" -> {}", fs::read_link(root.join(&path)).unwrap().display()))
        } else {
            let links = if stat.nlink() > 1 { format!(" x{}", stat.nlink()) } else { String::new() };
            ("f", format!(" = {}{links}", fs::read_to_string(root.join(&path)).unwrap()))
        };
        let (mode, time) = (stat.mode() & 0o7777, stat.mtime());
        found.push(format!("{mark} {mode:o} {}:{} {time} {}{rest}", stat.uid(), stat.gid(), path.display()));
        if kind.is_dir() {
            list(root, &path, found);
        }
    }
}
