//! A signature of an image in cosign's format: a payload that states the image and its name, and the signature of
//! these bytes ("simple signing", sigstore/cosign's SIGNATURE_SPEC.md).

#[cfg(feature = "keyless")]
use super::fulcio;
use super::json::Json;
use super::key::PublicKey;
use super::rekor;
use super::rekor::By;
use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oci_reference::Digest;
use std::collections::HashMap;

/// The media type of the payload, which is a layer.
pub const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The required value of `critical.type`.
const PURPOSE: &str = "cosign container image signature";
/// The annotation that holds the signature in base64.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The annotation with the entry of the transparency log.
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
/// The annotations with the signer's certificate and the intermediate certificates, in PEM.
#[cfg(feature = "keyless")]
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
#[cfg(feature = "keyless")]
const CHAIN: &str = "dev.sigstore.cosign/chain";

/// A signature before verification; nothing in it is trusted.
#[derive(Debug, Clone)]
pub struct Signature {
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// The annotations of its layer.
    pub annotations: HashMap<String, String>,
}

/// The content of a verified signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The name under which the image was signed.
    pub name: String,
}

impl Signature {
    /// The statement and its signer, if that is one of `signers` and, where `log` has keys, the log has recorded the
    /// signature.
    ///
    /// # Errors
    /// When no signer made it, or the payload is not a valid statement.
    pub fn statement(
        &self,
        signers: &Signers,
        log: Option<&[PublicKey]>,
    ) -> anyhow::Result<(Statement, String)> {
        let text = self.annotation(SIGNATURE)?;
        let signature = BASE64_STANDARD.decode(text).context("the signature is not base64")?;
        let signer = match signers {
            Signers::Keys(keys) => {
                let signer = keys.iter().find(|key| key.has_signed(&self.payload, &signature));
                let signer = signer.context("it was not made with any key of the policy")?;
                if let Some(log) = log {
                    self.look_up(&signature, By::Key(signer), log)?;
                }
                signer.to_string()
            }
            #[cfg(feature = "keyless")]
            Signers::Subject(authority) => self.subject(&signature, authority, log.unwrap_or_default())?,
        };
        Ok((Statement::parse(&self.payload).context("its payload is malformed")?, signer))
    }

    fn annotation(&self, name: &str) -> anyhow::Result<&str> {
        self.annotations.get(name).map(String::as_str).with_context(|| format!("`{name}` is missing"))
    }

    /// The time at which the log recorded the signature.
    fn look_up(&self, signature: &[u8], by: By<'_>, log: &[PublicKey]) -> anyhow::Result<i64> {
        let entry = self.annotation(LOG_ENTRY).context("it has no entry of a transparency log")?;
        let signed = rekor::Signed { payload: &self.payload, signature, by };
        rekor::verify(entry, log, &signed).context("cannot verify its entry of the transparency log")
    }

    /// The signer according to a short-lived certificate that was valid when the log recorded the signature.
    #[cfg(feature = "keyless")]
    fn subject(
        &self,
        signature: &[u8],
        authority: &fulcio::Authority,
        log: &[PublicKey],
    ) -> anyhow::Result<String> {
        let leaf = fulcio::certificates(self.annotation(CERTIFICATE)?.as_bytes())
            .context("its certificate is malformed")?;
        let [leaf] = &leaf[..] else { bail!("it has {} certificates instead of one", leaf.len()) };
        let chain = self.annotations.get(CHAIN).map_or("", String::as_str);
        let time = self.look_up(signature, By::Certificate(leaf), log)?;
        let key = authority.key(leaf, chain.as_bytes(), time)?;
        anyhow::ensure!(
            key.has_signed(&self.payload, signature),
            "it was not made with the key of its certificate"
        );
        Ok(authority.to_string())
    }
}

/// Accepted signers.
pub enum Signers {
    /// Owners of these keys.
    Keys(Vec<PublicKey>),
    /// An identity certified by an authority.
    #[cfg(feature = "keyless")]
    Subject(fulcio::Authority),
}

impl Statement {
    /// As strict as containers/image: every key in `critical` must be known.
    fn parse(payload: &[u8]) -> anyhow::Result<Self> {
        let mut whole = Json::parse(payload)?.object()?;
        let (mut critical, optional) = (whole.need_object("critical")?, whole.need("optional")?);
        whole.end()?;
        check_optional(optional).context("`optional`")?;
        let purpose = critical.need_text("type")?;
        ensure!(purpose == PURPOSE, "it is a `{purpose}`, not a `{PURPOSE}`");
        let (mut image, mut identity) = (critical.need_object("image")?, critical.need_object("identity")?);
        critical.end()?;
        let manifest = image.need_text("docker-manifest-digest")?.parse()?;
        image.end()?;
        let name = identity.need_text("docker-reference")?;
        identity.end()?;
        Ok(Self { manifest, name })
    }
}

/// cosign writes `null` for an absent value.
fn check_optional(optional: Json) -> anyhow::Result<()> {
    if optional == Json::Null {
        return Ok(());
    }
    let mut optional = optional.object()?;
    optional.take("creator").map_or(Ok(()), |creator| creator.text().map(drop)).context("`creator`")?;
    match optional.take("timestamp").map(Json::integer) {
        Some(Err(error)) => bail!(error.context("`timestamp`")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(critical: &str, optional: &str) -> Vec<u8> {
        format!("{{\"critical\": {critical}, \"optional\": {optional}}}").into_bytes()
    }

    #[test]
    fn a_payload_states_digest_and_identity_and_nothing_unknown() {
        let digest = Digest::of(b"");
        let critical = |kind: &str, more: &str| {
            format!(
                r#"{{"type": "{kind}", "image": {{"docker-manifest-digest": "{digest}"}},
                "identity": {{"docker-reference": "r.example/x:1"}}{more}}}"#
            )
        };
        let good = critical(PURPOSE, "");
        for optional in ["null", "{}", r#"{"creator": "me", "timestamp": 7, "x": [1]}"#] {
            let statement = Statement::parse(&payload(&good, optional)).unwrap();
            assert_eq!(statement, Statement { manifest: digest, name: "r.example/x:1".into() });
        }
        for (bad, expected) in [
            (payload(&good, r#"{"timestamp": 1.5}"#), "`timestamp`"),
            (payload(&good, r#"{"creator": 1}"#), "`creator`"),
            (payload(&critical("atomic container signature", ""), "null"), "not a `cosign"),
            (payload(&critical(PURPOSE, r#", "more": 1"#), "null"), "unknown key `more`"),
            (payload(&good.replace("sha256", "md5"), "null"), "not a digest"),
            (payload(&good.replace("docker-reference", "name"), "null"), "`docker-reference` is missing"),
            (payload("[]", "null"), "a list, not an object"),
            (format!("{{\"critical\": {good}}}").into_bytes(), "`optional` is missing"),
            (b"{}".to_vec(), "`critical` is missing"),
            (payload(&good, "null")[..40].to_vec(), "EOF"),
        ] {
            let error = format!("{:#}", Statement::parse(&bad).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
