mod fixtures;
mod identities;
mod signatures;
mod validity;

use super::*;
use crate::testing::Signer;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use std::collections::HashMap;

fn parse(text: &str) -> anyhow::Result<Policy> {
    Policy::parse(text.as_bytes(), Path::new("/nonexistent"))
}

fn subject(name: &str) -> Subject {
    Subject::of_registry(&name.parse().unwrap())
}

fn signed(signer: &Signer, manifest: Digest, name: &str) -> Signature {
    let payload = json!({"critical": {"type": "cosign container image signature",
        "image": {"docker-manifest-digest": manifest.to_string()},
        "identity": {"docker-reference": name}}, "optional": null});
    let payload = payload.to_string().into_bytes();
    let signature = BASE64_STANDARD.encode(signer.sign(&payload));
    Signature {
        payload,
        annotations: HashMap::from([("dev.cosignproject.cosign/signature".into(), signature)]),
    }
}

fn demanding(signer: &Signer) -> Policy {
    let key = BASE64_STANDARD.encode(signer.pem());
    parse(&json!({"default": [{"type": "sigstoreSigned", "keyData": key}]}).to_string()).unwrap()
}

#[test]
fn one_good_signature_among_others_is_enough() {
    let (signer, other) = (Signer::new(), Signer::new());
    let (policy, image) = (demanding(&signer), subject("r.example/x:1"));
    let manifest = Digest::of(b"manifest");
    let good = signed(&signer, manifest, "r.example/x:1");
    let malformed = Signature { payload: b"{".to_vec(), annotations: good.annotations.clone() };
    let bare = Signature { annotations: HashMap::new(), ..good.clone() };
    let by_other = signed(&other, manifest, "r.example/x:1");
    let of_other = signed(&signer, Digest::of(b"other"), "r.example/x:1");
    let as_other = signed(&signer, manifest, "r.example/x:2");
    let judge = |signatures: &[Signature]| policy.rule(&image).judge(&image, manifest, signatures);
    let all = [malformed.clone(), bare.clone(), by_other.clone(), of_other.clone(), as_other.clone(), good];
    let approval = judge(&all).unwrap();
    assert_eq!(approval.manifest(), manifest);
    assert!(approval.reason().contains("`default` (sigstoreSigned), signed by ECDSA P-256 sha256:"));
    for (signatures, expected) in [
        (&[][..], "it is not signed"),
        (&[malformed], "it was not made with any key of the policy"),
        (&[bare], "is missing"),
        (&[by_other], "it was not made with any key of the policy"),
        (std::slice::from_ref(&of_other), "it is for another image"),
        (std::slice::from_ref(&as_other), "signed as `r.example/x:2`, not as `r.example/x:1`"),
        (&[of_other.clone(), as_other.clone()], "none of its 2 signatures"),
    ] {
        let error = format!("{:#}", judge(signatures).unwrap_err());
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn all_requirements_of_a_rule_have_to_be_met() {
    let (one, two) = (Signer::new(), Signer::new());
    let demand =
        |signer: &Signer| json!({"type": "sigstoreSigned", "keyData": BASE64_STANDARD.encode(signer.pem())});
    let policy = parse(&json!({"default": [demand(&one), demand(&two)]}).to_string()).unwrap();
    let (image, manifest) = (subject("r.example/x:1"), Digest::of(b""));
    let by = |signer: &Signer| signed(signer, manifest, "r.example/x:1");
    let judge = |signatures: &[Signature]| policy.rule(&image).judge(&image, manifest, signatures);
    assert!(judge(&[by(&one), by(&two)]).is_ok());
    assert!(judge(&[by(&one)]).is_err() && judge(&[by(&two)]).is_err());
}

#[test]
fn another_spelling_of_a_registry_is_under_the_same_rule() {
    for scope in ["docker.io", "index.docker.io", "Docker.IO/library"] {
        let docker = json!({scope: [{"type": "reject"}], "R.Example:5000": [{"type": "reject"}],
            "[2001:DB8::0:1]:5000": [{"type": "reject"}]});
        let policy =
            json!({"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": docker}});
        let policy = parse(&policy.to_string()).unwrap();
        for name in [
            "busybox",
            "index.docker.io/busybox",
            "registry-1.docker.io/library/busybox",
            "INDEX.docker.io/library/busybox",
            "docker.io:443/busybox",
            "r.example:5000/x",
            "R.EXAMPLE:5000/x",
            "[2001:db8:0:0:0:0:0:1]:5000/x",
        ] {
            let rule = policy.rule(&subject(name)).to_string();
            assert!(rule.ends_with("(reject)"), "{scope}, {name}: {rule}");
        }
    }
    let twice = r#"{"default": [{"type": "reject"}], "transports": {"docker":
        {"docker.io": [{"type": "reject"}], "index.docker.io": [{"type": "insecureAcceptAnything"}]}}}"#;
    assert!(format!("{:#}", parse(twice).unwrap_err()).contains("another spelling"));
}

#[test]
fn the_most_specific_rule_decides() {
    let digest = Digest::of(b"");
    let scopes = [
        format!("r.example:5000/a/x@{digest}"),
        "r.example:5000/a/x:1".into(),
        "r.example:5000/a/x".into(),
        "r.example:5000/a".into(),
        "r.example:5000".into(),
        "*.example".into(),
        "docker.io/library".into(),
        String::new(),
    ];
    let anything = json!([{"type": "insecureAcceptAnything"}]);
    let docker: serde_json::Map<_, _> =
        scopes.iter().map(|scope| (scope.clone(), anything.clone())).collect();
    let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": docker,
        "oci": {"/images": anything}, "docker-archive": {"": anything}}});
    let policy = parse(&policy.to_string()).unwrap();
    for (name, expected) in [
        (format!("r.example:5000/a/x@{digest}"), scopes[0].as_str()),
        (format!("r.example:5000/a/x:1@{digest}"), &scopes[0]),
        ("r.example:5000/a/x:1".into(), "r.example:5000/a/x:1"),
        ("r.example:5000/a/x:2".into(), "r.example:5000/a/x"),
        ("r.example:5000/a/y".into(), "r.example:5000/a"),
        ("r.example:5000/ab/y".into(), "r.example:5000"),
        ("r.example/a/x:1".into(), "*.example"),
        ("a.b.example/y".into(), "*.example"),
        ("busybox".into(), "docker.io/library"),
        ("docker.io/user/x".into(), ""),
        ("example/x".into(), ""),
    ] {
        let rule = policy.rule(&subject(&name)).to_string();
        assert_eq!(rule, format!("`docker`: `{expected}` (insecureAcceptAnything)"), "{name}");
    }
    for (transport, path, expected) in [
        ("oci", "/images/a", "`oci`: `/images` (insecureAcceptAnything)"),
        ("oci", "/imagesa", "`default` (reject)"),
        ("dir", "/images/a", "`default` (reject)"),
        ("docker-archive", "/a.tar", "`docker-archive`: `` (insecureAcceptAnything)"),
    ] {
        assert_eq!(policy.rule(&Subject::of_path(transport, Path::new(path))).to_string(), expected);
    }
}

#[test]
fn unsupported_requirements_reject() {
    let gpg = r#"{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/a"}"#;
    let keyless = r#"{"type": "sigstoreSigned", "rekorPublicKeyPath": "/a",
        "fulcio": {"caPath": "/a", "oidcIssuer": "b", "subjectEmail": "c"}}"#;
    let base = r#"{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}"#;
    let pki = r#"{"type": "sigstoreSigned", "pki": {"caRootsPath": "/a", "subjectEmail": "b"}}"#;
    let no_key = r#"{"type": "sigstoreSigned", "keyPath": "/nonexistent/key"}"#;
    let image = subject("r.example/x");
    for (requirement, expected) in [
        (gpg, "OpenPGP signatures (`signedBy`), which Iguana does not support"),
        (keyless, "cannot read the key `/a`"),
        (base, "base layers"),
        (pki, "`pki`"),
        (r#"{"type": "reject"}"#, "the rule is `reject`"),
        (no_key, "cannot read the key `/nonexistent/key`"),
    ] {
        let policy = parse(&format!("{{\"default\": [{requirement}]}}")).unwrap();
        let error = format!("{:#}", policy.rule(&image).judge(&image, Digest::of(b""), &[]).unwrap_err());
        assert!(error.contains(expected) && error.contains("its rule `default`"), "{expected}: {error}");
    }
}

#[test]
fn a_policy_with_unknown_content_is_invalid() {
    let key = r#""keyPath": "/a""#;
    let signed = |more: &str| format!(r#"{{"default": [{{"type": "sigstoreSigned"{more}}}]}}"#);
    for text in [
        String::new(),
        "[]".into(),
        "{}".into(),
        r#"{"default": []}"#.into(),
        r#"{"default": null}"#.into(),
        r#"{"default": [{"type": "accept"}]}"#.into(),
        r#"{"default": [{"type": "reject", "x": 1}]}"#.into(),
        r#"{"default": [{"type": "reject", "type": "reject"}]}"#.into(),
        r#"{"default": [{"type": "reject"}], "default": [{"type": "reject"}]}"#.into(),
        r#"{"default": [{"type": "reject"}], "Transports": {}}"#.into(),
        r#"{"default": [{"type": "reject"}], "transports": {"docker": {"a": []}}}"#.into(),
        r#"{"default": [{"type": "reject"}], "transports": {"docker": [], "docker": {}}}"#.into(),
        r#"{"default": [{"type": "reject"}], "transports": {"dir": {"a": [{"type": "reject"}]}}}"#.into(),
        r#"{"default": [{"type": "reject"}], "transports": {"oci": {"/a/": [{"type": "reject"}]}}}"#.into(),
        r#"{"default": [{"type": "reject"}], "transports": {"oci": {"/": [{"type": "reject"}]}}}"#.into(),
        r#"{"default": [{"type": "reject"}], "transports": {"docker-archive": {"/a": [{"type": "reject"}]}}}"#.into(),
        signed(""),
        signed(r#", "keyPath": """#),
        signed(r#", "keyPaths": []"#),
        signed(r#", "keyPaths": "/a""#),
        signed(r#", "keyData": "not base64!""#),
        signed(&format!(r#", {key}, "keyData": "YQ==""#)),
        signed(&format!(r#", {key}, "keypath": "/a""#)),
        signed(&format!(r#", {key}, "fulcio": {{"caPath": "/a", "oidcIssuer": "b", "subjectEmail": "c"}}"#)),
        signed(r#", "fulcio": {"caPath": "/a", "oidcIssuer": "b", "subjectEmail": "c"}"#),
        signed(&format!(r#", {key}, "signedIdentity": {{"type": "matchAll"}}"#)),
        signed(&format!(r#", {key}, "rekorPublicKeyPath": "/a", "rekorPublicKeyData": "YQ==""#)),
        r#"{"default": [{"type": "signedBy", "keyType": "GPG", "keyPath": "/a"}]}"#.into(),
        r#"{"default": [{"type": "reject"}]} x"#.into(),
    ] {
        assert!(parse(&text).is_err(), "{text}");
    }
    assert!(parse(&signed(&format!(", {key}"))).is_ok());
    assert!(
        parse(r#"{"default": [{"type": "reject"}], "transports": {"other": {"any": [{"type": "reject"}]}}}"#)
            .is_ok()
    );
}

#[test]
fn an_unreadable_policy_is_not_an_absent_policy() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Policy::from_directory(directory.path()).unwrap().allows_unsigned());
    std::fs::create_dir(directory.path().join(FILE)).unwrap();
    let error = Policy::from_directory(directory.path()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the policy `"), "{error}");
}
