//! Signs images as skopeo and cosign do, and in ways that they never would. The keys are made by openssl, and the
//! signatures are pushed to a registry with plain requests.

use crate::process::{self, QUICK};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The media type of a signature's payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The value of `critical.type` in a payload.
pub const PURPOSE: &str = "cosign container image signature";
/// The annotation with the signature.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The annotation with the entry of the transparency log.
pub const BUNDLE: &str = "dev.sigstore.cosign/bundle";
/// The annotations with the signer's certificate and the intermediate certificates.
pub const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// See [`CERTIFICATE`].
pub const CHAIN: &str = "dev.sigstore.cosign/chain";
/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A key made by openssl in a directory: `NAME.pem` and `NAME.pub`.
#[derive(Debug, Clone)]
pub struct Key {
    /// The file with the private key.
    pub private: PathBuf,
    /// The file with the public key.
    pub public: PathBuf,
    signs_unhashed: bool,
}

impl Key {
    /// Makes a key with these arguments of `openssl genpkey`.
    pub fn make(directory: &Path, name: &str, words: &[&str]) -> Result<Key> {
        let (private, public) =
            (directory.join(format!("{name}.pem")), directory.join(format!("{name}.pub")));
        process::run(openssl(&["genpkey"]).args(words).arg("-out").arg(&private), QUICK)?;
        process::run(openssl(&["pkey", "-pubout", "-in"]).arg(&private).arg("-out").arg(&public), QUICK)?;
        Ok(Key { private, public, signs_unhashed: words.contains(&"ed25519") })
    }

    /// A key that exists already.
    pub fn cached(directory: &Path, name: &str) -> Key {
        let file = |ending: &str| directory.join(format!("{name}.{ending}"));
        Key { private: file("pem"), public: file("pub"), signs_unhashed: false }
    }

    /// A key on P-256, the most common curve.
    pub fn usual(directory: &Path, name: &str) -> Result<Key> {
        Key::make(directory, name, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let room = tempfile::tempdir()?;
        let (from, to) = (room.path().join("message"), room.path().join("signature"));
        fs::write(&from, message)?;
        let mut command = match self.signs_unhashed {
            true => openssl(&["pkeyutl", "-sign", "-rawin", "-inkey"]),
            false => openssl(&["dgst", "-sha256", "-sign"]),
        };
        command.arg(&self.private);
        command.arg("-out").arg(&to);
        command.args(if self.signs_unhashed { &["-in"][..] } else { &[] }).arg(&from);
        process::run(&mut command, QUICK)?;
        Ok(fs::read(to)?)
    }

    /// The public key in PEM.
    pub fn pem(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.public)?)
    }
}

fn openssl(words: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(words);
    command
}

/// Encodes bytes in base64.
pub fn base64(bytes: &[u8]) -> Result<String> {
    let room = tempfile::NamedTempFile::new()?;
    fs::write(room.path(), bytes)?;
    Ok(process::run(Command::new("base64").arg("-w0").arg(room.path()), QUICK)?.trim().to_owned())
}

/// The digest of bytes, `sha256:…`.
pub fn digest(bytes: &[u8]) -> Result<String> {
    let room = tempfile::NamedTempFile::new()?;
    fs::write(room.path(), bytes)?;
    let told = process::run(Command::new("sha256sum").arg(room.path()), QUICK)?;
    Ok(format!("sha256:{}", told.split(' ').next().unwrap_or_default()))
}

/// A signature that belongs to an image.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Its media type.
    pub media_type: String,
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// The annotations of its layer.
    pub annotations: Value,
}

impl Attachment {
    /// The signature that cosign makes for this manifest and name.
    pub fn new(key: &Key, manifest: &str, name: &str) -> Result<Attachment> {
        Attachment::of(key, &payload(manifest, name).to_string())
    }

    /// A signature of any payload.
    pub fn of(key: &Key, payload: &str) -> Result<Attachment> {
        let signature = base64(&key.sign(payload.as_bytes())?)?;
        Ok(Attachment {
            media_type: PAYLOAD_TYPE.into(),
            payload: payload.into(),
            annotations: json!({SIGNATURE: signature}),
        })
    }

    /// Sets or removes an annotation.
    pub fn annotated(mut self, key: &str, value: Option<String>) -> Attachment {
        match (self.annotations.as_object_mut(), value) {
            (Some(annotations), Some(value)) => drop(annotations.insert(key.into(), value.into())),
            (Some(annotations), None) => drop(annotations.remove(key)),
            (None, _) => {}
        }
        self
    }

    /// Adds a log entry for this signature by `key`.
    pub fn promised(self, log: &Key, key: &Key) -> Result<Attachment> {
        self.promised_at(log, &key.pem()?, 1_700_000_000)
    }

    /// Adds a log entry with any signer, in PEM, and any time in Unix seconds.
    pub fn promised_at(self, log: &Key, signer: &str, time: u64) -> Result<Attachment> {
        let hash = digest(&self.payload)?;
        let record = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hash.trim_start_matches("sha256:")}},
            "signature": {"content": self.annotations[SIGNATURE],
                "publicKey": {"content": base64(signer.as_bytes())?}}}});
        // In the order of RFC 8785, which the log signs.
        let body = base64(record.to_string().as_bytes())?;
        let entry = format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"c0ffee","logIndex":7}}"#);
        let promise = base64(&log.sign(entry.as_bytes())?)?;
        let bundle = format!(r#"{{"SignedEntryTimestamp":"{promise}","Payload":{entry}}}"#);
        Ok(self.annotated(BUNDLE, Some(bundle)))
    }
}

/// The payload that cosign signs.
pub fn payload(manifest: &str, name: &str) -> Value {
    json!({"critical": {"identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": manifest}, "type": PURPOSE}, "optional": null})
}

/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A repository in a registry without TLS, with write access.
#[derive(Debug, Clone)]
pub struct Repository {
    base: String,
}

impl Repository {
    /// The repository `name` of the registry at `address`.
    pub fn new(address: &str, name: &str) -> Repository {
        Repository { base: format!("http://{address}/v2/{name}") }
    }

    /// Attaches signatures to the image with this manifest, as cosign does: under a tag.
    pub fn attach(&self, manifest: &str, attachments: &[Attachment]) -> Result<()> {
        let tag = format!("{}.sig", manifest.replace(':', "-"));
        self.put_manifest(&tag, MANIFEST, &self.signatures(attachments, json!({}))?)
    }

    /// Attaches signatures as referrers of the manifest.
    pub fn refer(&self, manifest: &str, attachments: &[Attachment]) -> Result<()> {
        let kind = "application/vnd.dev.cosign.artifact.sig.v1+json";
        let subject = json!({"mediaType": MANIFEST, "digest": manifest, "size": 1});
        let text = self.signatures(attachments, json!({"artifactType": kind, "subject": subject}))?;
        let digest = digest(&text)?;
        self.put_manifest(&digest, MANIFEST, &text)?;
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {"mediaType": MANIFEST, "digest": digest, "size": text.len(), "artifactType": kind}]});
        let kind = "application/vnd.oci.image.index.v1+json";
        self.put_manifest(&manifest.replace(':', "-"), kind, index.to_string().as_bytes())
    }

    fn signatures(&self, attachments: &[Attachment], more: Value) -> Result<Vec<u8>> {
        let config = self.put_blob(b"{}")?;
        let mut layers = Vec::new();
        for attachment in attachments {
            let digest = self.put_blob(&attachment.payload)?;
            layers.push(json!({"mediaType": attachment.media_type, "digest": digest,
                "size": attachment.payload.len(), "annotations": attachment.annotations}));
        }
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2}});
        if let (Some(manifest), Some(more)) = (manifest.as_object_mut(), more.as_object()) {
            manifest.extend(more.clone());
        }
        Ok(manifest.to_string().into_bytes())
    }

    /// Pushes a blob; returns its digest (distribution-spec, "Pushing blobs").
    pub fn put_blob(&self, bytes: &[u8]) -> Result<String> {
        let digest = digest(bytes)?;
        let started = ureq::post(format!("{}/blobs/uploads/", self.base)).send_empty()?;
        let location = started.headers().get("location").context("no `Location`")?.to_str()?;
        let separator = if location.contains('?') { '&' } else { '?' };
        ureq::put(format!("{location}{separator}digest={digest}")).send(bytes)?;
        Ok(digest)
    }

    /// Pushes a manifest under a tag or its digest.
    pub fn put_manifest(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let request = ureq::put(format!("{}/manifests/{name}", self.base)).header("content-type", media_type);
        request.send(bytes).with_context(|| format!("the manifest `{name}`"))?;
        Ok(())
    }

    /// The manifest with this tag or digest.
    pub fn manifest(&self, name: &str) -> Result<Vec<u8>> {
        let request = ureq::get(format!("{}/manifests/{name}", self.base))
            .header("accept", format!("{MANIFEST}, {INDEX}"));
        Ok(request.call()?.body_mut().read_to_vec()?)
    }
}
