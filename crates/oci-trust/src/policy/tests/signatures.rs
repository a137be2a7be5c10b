//! Signatures judged as by other tools: `TestPRrSigstoreSignedIsSignatureAccepted`, `TestPRSigstoreSignedPrepareTrustRoot`
//! and `TestPRSigstoreSignedIsRunningImageAllowed` of containers/image (`signature/policy_eval_sigstore_test.go`).
#![cfg_attr(not(feature = "keyless"), allow(dead_code, reason = "keyless signatures need them"))]

use super::fixtures::*;
use super::*;
use serde_json::Value;

const ONE: &str = "192.168.64.2:5000/cosign-signed-single-sample:latest";
const KEY_1: &str = "192.168.64.2:5000/cosign-signed/key-1:latest";
const FULCIO_1: &str = "192.168.64.2:5000/cosign-signed/fulcio-rekor-1:latest";

fn data(texts: &[&str]) -> Value {
    texts.iter().map(|text| BASE64_STANDARD.encode(text)).collect()
}

/// A requirement with keys, and keys of logs.
fn by_keys(keys: &[&str], logs: &[&str], identity: &str) -> Value {
    let mut demand =
        json!({"type": "sigstoreSigned", "keyDatas": data(keys), "signedIdentity": {"type": identity}});
    if !logs.is_empty() {
        demand["rekorPublicKeyDatas"] = data(logs);
    }
    demand
}

fn by_subject(authority: &str, email: &str, logs: &[&str]) -> Value {
    json!({"type": "sigstoreSigned", "rekorPublicKeyDatas": data(logs),
        "signedIdentity": {"type": "matchRepository"},
        "fulcio": {"caData": BASE64_STANDARD.encode(authority), "oidcIssuer": "https://github.com/login/oauth",
            "subjectEmail": email}})
}

fn judged(demand: &Value, name: &str, manifest: &str, signatures: &[Signature]) -> anyhow::Result<Approval> {
    let policy = parse(&json!({"default": [demand]}).to_string())?;
    let image = subject(name);
    policy.rule(&image).judge(&image, manifest.parse()?, signatures)
}

fn with(mut signature: Signature, annotation: &str, value: &str) -> Signature {
    signature.annotations.insert(annotation.into(), value.into());
    signature
}

fn without(mut signature: Signature, annotation: &str) -> Signature {
    signature.annotations.remove(annotation);
    signature
}

#[test]
fn a_signature_by_a_key_is_judged_as_in_other_tools() {
    let any = "matchRepository";
    let signature = "dev.cosignproject.cosign/signature";
    let invalid = BASE64_STANDARD.encode("invalid signature");
    let other = json!({"type": "sigstoreSigned", "keyData": BASE64_STANDARD.encode(COSIGN),
        "signedIdentity": {"type": "exactReference", "dockerReference": "this/does-not:match"}});
    let (modified, tag) = (Digest::of(b"modified").to_string(), "192.168.64.2:5000/skopeo-signed:tag");
    let rows: Vec<(Value, &str, &str, Vec<Signature>, bool)> = vec![
        (by_keys(&[COSIGN], &[], any), ONE, SAMPLE, vec![sample()], true),
        (by_keys(&[COSIGN, COSIGN_2], &[], any), ONE, SAMPLE, vec![sample()], true),
        (by_keys(&[COSIGN_2, COSIGN], &[], any), ONE, SAMPLE, vec![sample()], true),
        (by_keys(&[COSIGN], &[], any), ONE, SAMPLE, vec![without(sample(), signature)], false),
        (by_keys(&[COSIGN], &[], any), ONE, SAMPLE, vec![with(sample(), signature, &invalid)], false),
        (by_keys(&[COSIGN], &[], any), ONE, SAMPLE, vec![by_unknown()], false),
        (other, ONE, SAMPLE, vec![sample()], false),
        (by_keys(&[COSIGN], &[], any), ONE, &modified, vec![sample()], false),
        (by_keys(&[COSIGN], &[], "matchExact"), tag, SAMPLE, vec![tagged()], true),
        (
            by_keys(&[COSIGN], &[], "matchExact"),
            "192.168.64.2:5000/skopeo-signed:othertag",
            SAMPLE,
            vec![tagged()],
            false,
        ),
        (by_keys(&[COSIGN], &[], "matchExact"), ONE, SAMPLE, vec![sample()], false),
        // `TestPRSigstoreSignedIsRunningImageAllowed`.
        (by_keys(&[COSIGN], &[], any), ONE, SAMPLE, vec![], false),
        (by_keys(&[COSIGN], &[], any), "testing/manifest:notlatest", SAMPLE, vec![sample()], false),
        (by_keys(&[COSIGN], &[], any), ONE, SAMPLE, vec![sample(), second()], true),
        (by_keys(&[COSIGN], &[], any), ONE, SAMPLE, vec![by_unknown(), sample()], true),
        (by_keys(&[COSIGN], &[], any), ONE, &modified, vec![sample(), second()], false),
    ];
    for (number, (demand, name, manifest, signatures, is_accepted)) in rows.iter().enumerate() {
        let approval = judged(demand, name, manifest, signatures);
        assert_eq!(approval.is_ok(), *is_accepted, "row {number}: {approval:?}");
    }
}

#[test]
fn an_entry_of_a_log_is_judged_as_in_other_tools() {
    let any = "matchRepository";
    for keys in [&[COSIGN_2][..], &[COSIGN_2, COSIGN], &[COSIGN, COSIGN_2]] {
        for logs in [&[REKOR][..], &[REKOR, COSIGN], &[COSIGN, REKOR]] {
            judged(&by_keys(keys, logs, any), KEY_1, LOGGED_IMAGE, &[in_log()]).unwrap();
        }
        assert!(judged(&by_keys(keys, &[COSIGN], any), KEY_1, LOGGED_IMAGE, &[in_log()]).is_err());
    }
    let entry_of_other = with(sample(), BUNDLE, &in_log().annotations[BUNDLE]);
    for (keys, name, manifest, signature) in [
        (&[COSIGN_2][..], KEY_1, LOGGED_IMAGE, without(in_log(), BUNDLE)),
        (&[COSIGN_2], KEY_1, LOGGED_IMAGE, with(in_log(), BUNDLE, "this is not a valid SET")),
        (&[COSIGN, COSIGN_2], ONE, SAMPLE, entry_of_other),
    ] {
        assert!(judged(&by_keys(keys, &[REKOR], any), name, manifest, &[signature]).is_err());
    }
}

#[cfg(feature = "keyless")]
#[test]
fn a_keyless_signature_is_judged_as_in_other_tools() {
    let mail = "mitr@redhat.com";
    let accepted = |demand: &Value, signature: Signature| {
        judged(demand, FULCIO_1, LOGGED_IMAGE, &[signature]).map(|approval| approval.reason().to_owned())
    };
    for logs in [&[REKOR][..], &[REKOR, COSIGN], &[COSIGN, REKOR]] {
        accepted(&by_subject(ROOT, mail, logs), keyless()).unwrap();
    }
    let usual = by_subject(ROOT, mail, &[REKOR]);
    let chain = format!("{INTERMEDIATE}{ROOT}");
    accepted(&by_subject(&chain, mail, &[REKOR]), without(keyless(), CHAIN)).unwrap();
    for (demand, signature) in [
        (usual.clone(), without(keyless(), BUNDLE)),
        (usual.clone(), without(keyless(), CERTIFICATE)),
        (usual.clone(), without(keyless(), CHAIN)),
        (usual.clone(), with(keyless(), CERTIFICATE, "this is not a valid certificate")),
        (by_subject(ROOT, "this-does-not-match@example.com", &[REKOR]), keyless()),
        (usual, with(keyless(), BUNDLE, "this is not a valid SET")),
        (by_subject(ROOT, mail, &[COSIGN]), keyless()),
    ] {
        let approval = accepted(&demand, signature);
        assert!(approval.is_err(), "{demand}: {approval:?}");
    }
}

/// `TestPRSigstoreSignedPrepareTrustRoot`: keys that cannot be used.
#[test]
fn keys_are_usable_or_not_as_in_other_tools() {
    let invalid = "this is invalid";
    let usable = |demand: Value| {
        parse(&json!({"default": [demand]}).to_string()).and_then(|policy| policy.check_keys())
    };
    let any = "matchRepoDigestOrExact";
    usable(by_keys(&[COSIGN], &[], any)).unwrap();
    usable(by_keys(&[COSIGN, COSIGN_2], &[], any)).unwrap();
    usable(by_keys(&[COSIGN], &[REKOR], any)).unwrap();
    usable(by_keys(&[COSIGN], &[REKOR, COSIGN], any)).unwrap();
    for (keys, logs) in [
        (&[invalid][..], &[][..]),
        (&[invalid, COSIGN_2], &[]),
        (&[COSIGN, invalid], &[]),
        (&[COSIGN], &[invalid]),
        (&[COSIGN], &[invalid, REKOR]),
        (&[COSIGN], &[REKOR, invalid]),
    ] {
        assert!(usable(by_keys(keys, logs, any)).is_err(), "{keys:?} {logs:?}");
    }
    let missing = "fixtures/this/does/not/exist";
    for paths in [json!([missing]), json!([missing, "/x"]), json!(["/x", missing])] {
        assert!(usable(json!({"type": "sigstoreSigned", "keyPaths": paths})).is_err());
    }
}
