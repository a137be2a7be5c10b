//! Offline verification of entries in the transparency log Rekor: checks the signed entry timestamp in the bundle
//! that cosign stores with a signature (sigstore/cosign, `cosign/bundle.RekorBundle`).

use super::json::{Json, Object};
use super::key::PublicKey;
use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oci_reference::Digest;
use serde_json::{Value, json};

/// What the log entry must contain.
pub(super) struct Signed<'a> {
    pub(super) payload: &'a [u8],
    pub(super) signature: &'a [u8],
    pub(super) by: By<'a>,
}

/// What made the signature.
#[derive(Clone, Copy)]
pub(super) enum By<'a> {
    Key(&'a PublicKey),
    /// The key of a certificate, in DER.
    #[cfg(feature = "keyless")]
    Certificate(&'a [u8]),
}

impl By<'_> {
    /// Whether it equals the PEM text in the log entry.
    fn is(self, pem: &[u8]) -> anyhow::Result<bool> {
        Ok(match self {
            Self::Key(key) => PublicKey::from_pem(pem)?.information() == key.information(),
            #[cfg(feature = "keyless")]
            Self::Certificate(der) => {
                let certificates = super::fulcio::certificates(pem)?;
                certificates.len() == 1 && certificates[0].as_ref() == der
            }
        })
    }
}

/// Returns the time (Unix seconds) at which one of `logs` recorded `signed`.
///
/// # Errors
/// When none of the logs signed the entry, or it is for another signature.
pub(super) fn verify(bundle: &str, logs: &[PublicKey], signed: &Signed<'_>) -> anyhow::Result<i64> {
    let mut bundle = Json::parse(bundle.as_bytes())?.object()?;
    let promise = base64_of(&mut bundle, "SignedEntryTimestamp")?;
    let mut entry = bundle.need_object("Payload")?;
    bundle.end()?;
    let body = entry.need_text("body")?;
    let number =
        |entry: &mut Object, key: &str| entry.need(key)?.integer().with_context(|| format!("`{key}`"));
    let (time, index) = (number(&mut entry, "integratedTime")?, number(&mut entry, "logIndex")?);
    let log = entry.need_text("logID")?;
    entry.end()?;
    let canonical = canonical(&body, time, &log, index);
    let is_promised = logs.iter().any(|key| key.has_signed(canonical.as_bytes(), &promise));
    ensure!(is_promised, "it was not signed by any key of a log in the policy");
    let record = BASE64_STANDARD.decode(&body).context("`body` is not base64")?;
    compare(&serde_json::from_slice(&record).context("`body`")?, signed)?;
    Ok(time)
}

/// The bytes that the log signs: canonical JSON (RFC 8785), which sorts keys by their UTF-16 code units.
fn canonical(body: &str, time: i64, log: &str, index: i64) -> String {
    format!(
        "{{\"body\":{},\"integratedTime\":{time},\"logID\":{},\"logIndex\":{index}}}",
        json!(body),
        json!(log)
    )
}

/// Compares an entry of the kind `hashedrekord`, version 0.0.1 (sigstore/rekor, pkg/types/hashedrekord).
fn compare(record: &Value, signed: &Signed<'_>) -> anyhow::Result<()> {
    let text = |path: &str| {
        let found = record.pointer(path).and_then(Value::as_str);
        found.with_context(|| format!("the log's record has no `{path}`"))
    };
    let bytes = |path: &str| BASE64_STANDARD.decode(text(path)?).with_context(|| format!("`{path}`"));
    ensure!(
        (text("/kind")?, text("/apiVersion")?) == ("hashedrekord", "0.0.1"),
        "the log's record is not a `hashedrekord` 0.0.1"
    );
    let is_of_it = signed.by.is(&bytes("/spec/signature/publicKey/content")?)?;
    ensure!(is_of_it, "the log's record is for another key");
    ensure!(
        bytes("/spec/signature/content")? == signed.signature,
        "the log's record is for another signature"
    );
    ensure!(text("/spec/data/hash/algorithm")? == "sha256", "the log's record has no SHA-256");
    let digest = format!("sha256:{}", text("/spec/data/hash/value")?.to_ascii_lowercase());
    ensure!(
        digest.parse::<Digest>()? == Digest::of(signed.payload),
        "the log's record is for another payload"
    );
    Ok(())
}

fn base64_of(object: &mut Object, key: &str) -> anyhow::Result<Vec<u8>> {
    BASE64_STANDARD.decode(object.need_text(key)?).with_context(|| format!("`{key}` is not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Signer;

    #[test]
    fn a_promise_belongs_to_its_log_and_its_signature() {
        let (log, signer, other) = (Signer::new(), Signer::new(), Signer::new());
        let key = |signer: &Signer| PublicKey::from_pem(signer.pem().as_bytes()).unwrap();
        let signature = signer.sign(b"payload");
        let record = |payload: &[u8], pem: &str| {
            let digest = Digest::of(payload).to_string();
            let value = digest.trim_start_matches("sha256:");
            BASE64_STANDARD.encode(
                json!({"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": {
                    "data": {"hash": {"algorithm": "sha256", "value": value}},
                    "signature": {"content": BASE64_STANDARD.encode(&signature),
                        "publicKey": {"content": BASE64_STANDARD.encode(pem)}}}})
                .to_string(),
            )
        };
        let bundle = |body: &str, by: &Signer| {
            let promise = BASE64_STANDARD.encode(by.sign(canonical(body, 7, "log", 8).as_bytes()));
            json!({"SignedEntryTimestamp": promise,
                "Payload": {"logIndex": 8, "logID": "log", "integratedTime": 7, "body": body}})
            .to_string()
        };
        let signed = Signed { payload: b"payload", signature: &signature, by: By::Key(&key(&signer)) };
        let good = record(b"payload", &signer.pem());
        verify(&bundle(&good, &log), &[key(&other), key(&log)], &signed).unwrap();
        for (text, expected) in [
            (bundle(&good, &other), "not signed by any key of a log"),
            (bundle(&record(b"other", &signer.pem()), &log), "another payload"),
            (bundle(&record(b"payload", &other.pem()), &log), "another key"),
            (
                bundle(&good, &log).replace("\"logIndex\":8", "\"logIndex\":9"),
                "not signed by any key of a log",
            ),
            (bundle(&good, &log).replace("logID", "logId"), "`logID` is missing"),
            (bundle("", &log), "`body`"),
            ("{".into(), "EOF"),
        ] {
            let error = format!("{:#}", verify(&text, &[key(&log)], &signed).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let another = Signed { signature: &signer.sign(b"payload"), ..signed };
        let error = verify(&bundle(&good, &log), &[key(&log)], &another).unwrap_err().to_string();
        assert!(error.contains("another signature"), "{error}");
    }
}
