//! Policies that other tools read or refuse: `signature/policy_config_test.go` and `policy_config_sigstore_test.go` of
//! containers/image, and its scopes in `policy_eval_test.go`.

use super::*;
use serde_json::Value;

/// A valid object, the objects that are made of it by other values (`null` in an edit removes the key), and the keys that
/// must not occur twice.
struct Case {
    /// The policy around the object.
    whole: fn(&str) -> String,
    valid: Value,
    broken: Vec<Value>,
    once: &'static [&'static str],
}

/// Stands for an explicit null in an edit.
const NULL: &str = "(null)";

fn edited(valid: &Value, edit: &Value) -> Value {
    let mut object = valid.clone();
    for (key, value) in edit.as_object().unwrap() {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(key)),
            Value::String(text) if text == NULL => object[key] = Value::Null,
            value => object[key] = value.clone(),
        }
    }
    object
}

/// The number of rows.
fn check(case: &Case) -> usize {
    let text = case.valid.to_string();
    let whole = parse(&(case.whole)(&text));
    assert!(whole.is_ok(), "{text}: {whole:?}");
    for value in ["&", "1"] {
        assert!(parse(&(case.whole)(value)).is_err(), "{value}");
    }
    for edit in &case.broken {
        let broken = edited(&case.valid, edit).to_string();
        assert!(parse(&(case.whole)(&broken)).is_err(), "{broken}");
    }
    for key in case.once {
        let twice = format!("{},\"{key}\":{}}}", text.strip_suffix('}').unwrap(), case.valid[*key]);
        assert!(parse(&(case.whole)(&twice)).is_err(), "{twice}");
    }
    3 + case.broken.len() + case.once.len()
}

fn requirement(text: &str) -> String {
    format!(r#"{{"default": [{text}]}}"#)
}

fn identity(text: &str) -> String {
    requirement(&format!(r#"{{"type": "sigstoreSigned", "keyPath": "/a", "signedIdentity": {text}}}"#))
}

fn fulcio(text: &str) -> String {
    requirement(&format!(r#"{{"type": "sigstoreSigned", "rekorPublicKeyPath": "/a", "fulcio": {text}}}"#))
}

fn pki(text: &str) -> String {
    requirement(&format!(r#"{{"type": "sigstoreSigned", "pki": {text}}}"#))
}

fn docker(text: &str) -> String {
    format!(r#"{{"default": [{{"type": "reject"}}], "transports": {{"docker": {text}}}}}"#)
}

fn edits(list: Value) -> Vec<Value> {
    list.as_array().unwrap().clone()
}

/// The edits of `type` in each table.
fn of_type(more: Value) -> Vec<Value> {
    let mut all = edits(json!([{"type": null}, {"type": 1}, {"type": "this is invalid"}, {"unexpected": 1}]));
    all.extend(edits(more));
    all
}

fn gpg(more: Value) -> Value {
    edited(
        &json!({"type": "signedBy", "keyType": "GPGKeys", "signedIdentity": {"type": "matchRepoDigestOrExact"}}),
        &more,
    )
}

fn sigstore(more: Value) -> Value {
    edited(&json!({"type": "sigstoreSigned", "signedIdentity": {"type": "matchRepoDigestOrExact"}}), &more)
}

#[test]
fn policies_are_valid_or_not_as_in_other_tools() {
    let (by_gpg, whole) = (gpg(json!({"keyData": "YWJj"})), str::to_owned as fn(&str) -> String);
    let mut count = check(&Case {
        whole,
        valid: json!({"default": [by_gpg], "transports": {
            "docker": {"docker.io/library/busybox": [by_gpg], "registry.access.redhat.com": [by_gpg]},
            "atomic": {"registry.access.redhat.com/rhel7": [by_gpg]},
            "unknown": {"registry.access.redhat.com/rhel7": [by_gpg]}}}),
        broken: edits(
            json!([{"default": null}, {"unexpected": 1}, {"default": 1}, {"default": {}}, {"transports": 1},
            {"transports": []}, {"default": []}]),
        ),
        once: &["default", "transports"],
    });
    count += check(&Case {
        whole: docker,
        valid: json!({"docker.io/library/busybox": [by_gpg], "registry.access.redhat.com": [by_gpg], "": [by_gpg]}),
        broken: edits(
            json!([{"docker.io/library/busybox": 1}, {"docker.io/library/busybox": {}}, {"": 1}, {"": {}},
            {"docker.io/library/busybox": []}, {"": []}]),
        ),
        once: &["docker.io/library/busybox", ""],
    });
    for text in [
        requirement(&by_gpg.to_string()),
        format!(r#"{{"default": [{by_gpg}], "transports": {{}}}}"#),
        docker(&json!({"docker.io/library/busybox": [by_gpg]}).to_string()),
        docker("{}"),
    ] {
        parse(&text).unwrap();
        count += 1;
    }
    for text in [
        String::new(),
        r#"{"default": [{"type": "reject"}], "transports": {"dir": {"docker.io/library/busybox": [{"type": "reject"}]}}}"#
            .into(),
        requirement(""),
        requirement("1"),
        requirement(r#"{"type": "this is invalid"}"#),
        requirement(r#"{"type": "signedBy", "keyType": "this is invalid"}"#),
        requirement("{}"),
    ] {
        assert!(parse(&text).is_err(), "{text}");
        count += 1;
    }
    assert_eq!(count, 34);
}

#[test]
fn requirements_are_valid_or_not_as_in_other_tools() {
    let simple = |kind: &str| Case {
        whole: requirement,
        valid: json!({"type": kind}),
        broken: of_type(json!([])),
        once: &["type"],
    };
    let keys = json!(["/1", "/2"]);
    let signed_by = of_type(json!([{"keyType": null}, {"keyType": "this is invalid"}, {"keyType": ""},
        {"keyData": null}, {"keyPath": "/foo/bar", "keyPaths": keys},
        {"keyData": null, "keyPath": "/foo/bar", "keyPaths": keys}, {"keyPath": "/foo/bar"}, {"keyPaths": keys},
        {"keyData": null, "keyPath": 1}, {"keyData": null, "keyPaths": 1}, {"keyData": null, "keyPaths": [1]},
        {"keyData": 1}, {"keyData": "this is invalid base64"}, {"signedIdentity": "this is invalid"},
        {"signedIdentity": NULL}]));
    let cases = [
        simple("insecureAcceptAnything"),
        simple("reject"),
        Case {
            whole: requirement,
            valid: gpg(json!({"keyData": "YWJj"})),
            broken: signed_by,
            once: &["type", "keyType", "keyData", "signedIdentity"],
        },
        Case {
            whole: requirement,
            valid: gpg(json!({"keyPath": "/foo/bar"})),
            broken: vec![],
            once: &["type", "keyType", "keyPath", "signedIdentity"],
        },
        Case {
            whole: requirement,
            valid: gpg(json!({"keyPaths": keys})),
            broken: vec![],
            once: &["type", "keyType", "keyPaths", "signedIdentity"],
        },
        Case {
            whole: requirement,
            valid: json!({"type": "signedBaseLayer", "baseLayerIdentity":
                {"type": "exactReference", "dockerReference": "registry.access.redhat.com/rhel7/rhel:7.2.3"}}),
            broken: of_type(json!([{"baseLayerIdentity": null}, {"baseLayerIdentity": "this is invalid"},
                {"baseLayerIdentity": NULL}])),
            once: &["type", "baseLayerIdentity"],
        },
    ];
    let mut count: usize = cases.iter().map(check).sum();
    for kind in ["GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs"] {
        parse(&requirement(&gpg(json!({"keyType": kind, "keyPath": "/a"})).to_string())).unwrap();
        count += 1;
    }
    parse(&requirement(&gpg(json!({"keyPath": "/a", "signedIdentity": null})).to_string())).unwrap();
    assert_eq!(count + 1, 73);
}

#[test]
fn sigstore_requirements_are_valid_or_not_as_in_other_tools() {
    let (keys, datas) = (json!(["/foo/bar", "/foo/baz"]), json!(["YWJj", "ZGVm"]));
    let authority =
        json!({"caPath": "/a", "oidcIssuer": "https://example.com", "subjectEmail": "test@example.com"});
    let roots = json!({"caRootsPath": "/a", "caIntermediatesPath": "/b", "subjectHostname": "example.com"});
    let broken = of_type(
        json!([{"keyData": null}, {"keyPath": "/foo/bar"}, {"keyPaths": keys}, {"keyDatas": datas},
        {"fulcio": authority}, {"fulcio": authority, "rekorPublicKeyPath": "/r"}, {"pki": roots},
        {"keyData": null, "keyPath": 1}, {"keyData": null, "keyPaths": 1}, {"keyData": null, "keyPaths": {}},
        {"keyData": null, "keyPaths": []}, {"keyData": 1}, {"keyData": "this is invalid base64"},
        {"keyData": null, "keyDatas": 1}, {"keyData": null, "keyDatas": {}}, {"keyData": null, "keyDatas": []},
        {"keyData": null, "fulcio": 1}, {"keyData": null, "fulcio": {}}, {"keyData": null, "fulcio": NULL},
        {"keyData": null, "fulcio": authority}, {"keyData": null, "pki": 1}, {"keyData": null, "pki": {}},
        {"keyData": null, "pki": NULL}, {"keyData": null, "pki": roots, "rekorPublicKeyPath": "/r"},
        {"keyData": null, "fulcio": authority, "pki": roots, "rekorPublicKeyPath": "/r"},
        {"rekorPublicKeyPath": "/r", "rekorPublicKeyData": ""}, {"rekorPublicKeyPath": 1},
        {"rekorPublicKeyPath": "/r", "rekorPublicKeyPaths": keys}, {"rekorPublicKeyPaths": 1},
        {"rekorPublicKeyPaths": {}}, {"rekorPublicKeyPaths": []}, {"rekorPublicKeyData": 1},
        {"rekorPublicKeyData": "this is invalid base64"},
        {"rekorPublicKeyData": "YQ==", "rekorPublicKeyDatas": datas}, {"rekorPublicKeyDatas": 1},
        {"rekorPublicKeyDatas": {}}, {"rekorPublicKeyDatas": []}, {"signedIdentity": "this is invalid"},
        {"signedIdentity": NULL}]),
    );
    let case = |valid: Value, once: &'static [&'static str]| Case {
        whole: requirement,
        valid: sigstore(valid),
        broken: vec![],
        once,
    };
    let cases = [
        Case { broken, ..case(json!({"keyData": "YWJj"}), &["type", "keyData", "signedIdentity"]) },
        case(json!({"keyPath": "/foo/bar"}), &["type", "keyPath", "signedIdentity"]),
        case(json!({"keyPaths": keys}), &["type", "keyPaths", "signedIdentity"]),
        case(json!({"keyDatas": datas}), &["type", "keyDatas", "signedIdentity"]),
        case(
            json!({"fulcio": authority, "rekorPublicKeyPath": "/r"}),
            &["type", "fulcio", "rekorPublicKeyPath", "signedIdentity"],
        ),
        case(json!({"keyPath": "/a", "rekorPublicKeyPaths": keys}), &["keyPath", "rekorPublicKeyPaths"]),
        case(json!({"keyPath": "/a", "rekorPublicKeyData": "Zm9v"}), &["keyPath", "rekorPublicKeyData"]),
        case(json!({"keyPath": "/a", "rekorPublicKeyDatas": datas}), &["keyPath", "rekorPublicKeyDatas"]),
        case(json!({"pki": roots}), &["type", "pki", "signedIdentity"]),
        Case {
            whole: fulcio,
            valid: authority,
            broken: edits(
                json!([{"unexpected": 1}, {"caPath": null}, {"caData": ""}, {"caData": "YWJj"}, {"caPath": 1},
                {"oidcIssuer": 1}, {"oidcIssuer": null}, {"subjectEmail": 1}, {"subjectEmail": null}]),
            ),
            once: &["caPath", "oidcIssuer", "subjectEmail"],
        },
        Case {
            whole: fulcio,
            valid: json!({"caData": "YWJj", "oidcIssuer": "https://example.com", "subjectEmail": "a@example.com"}),
            broken: edits(json!([{"caData": 1}, {"caData": "this is invalid base64"}])),
            once: &["caData", "oidcIssuer", "subjectEmail"],
        },
        Case {
            whole: pki,
            valid: json!({"caRootsPath": "/a", "caIntermediatesPath": "/b", "subjectHostname": "myhost.example.com",
                "subjectEmail": "a@example.com"}),
            broken: edits(json!([{"unexpected": 1}, {"caRootsPath": null}, {"caRootsData": ""},
                {"caRootsData": "YWJj"}, {"caRootsPath": 1}, {"caIntermediatesData": ""},
                {"caIntermediatesData": "YWJj"}, {"caIntermediatesPath": 1}, {"subjectHostname": 1},
                {"subjectEmail": 1}, {"subjectHostname": null, "subjectEmail": null}])),
            once: &["caRootsPath", "caIntermediatesPath", "subjectHostname", "subjectEmail"],
        },
        Case {
            whole: pki,
            valid: json!({"caRootsData": "YWJj", "caIntermediatesData": "ZGVm", "subjectHostname": "myhost.example.com",
                "subjectEmail": "a@example.com"}),
            broken: edits(json!([{"caRootsData": 1}, {"caRootsData": "this is invalid base64"},
                {"caIntermediatesData": 1}, {"caIntermediatesData": "this is invalid base64"}])),
            once: &["caRootsData", "caIntermediatesData", "subjectHostname", "subjectEmail"],
        },
    ];
    let mut count: usize = cases.iter().map(check).sum();
    // `TestNewPRSigstoreSignedPKI`: the valid combinations.
    for roots in [json!({"caRootsPath": "/a"}), json!({"caRootsData": "YWJj"})] {
        for subject in [json!({"subjectEmail": "a"}), json!({"subjectHostname": "b"})] {
            parse(&pki(&edited(&roots, &subject).to_string())).unwrap();
            count += 1;
        }
    }
    assert_eq!(count, 151);
}

#[test]
fn identities_are_valid_or_not_as_in_other_tools() {
    let simple = |kind: &str| Case {
        whole: identity,
        valid: json!({"type": kind}),
        broken: of_type(json!([])),
        once: &["type"],
    };
    let invalid = "example.com/UPPERCASEISINVALID";
    let cases = [
        simple("matchExact"),
        simple("matchRepoDigestOrExact"),
        simple("matchRepository"),
        Case {
            whole: identity,
            valid: json!({"type": "exactReference", "dockerReference": "library/busybox:latest"}),
            broken: of_type(
                json!([{"dockerReference": null}, {"dockerReference": 1}, {"dockerReference": ""},
                {"dockerReference": "INVALIDUPPERCASE:latest"}, {"dockerReference": "library/busybox"}]),
            ),
            once: &["type", "dockerReference"],
        },
        Case {
            whole: identity,
            valid: json!({"type": "exactRepository", "dockerRepository": "library/busybox:latest"}),
            broken: of_type(
                json!([{"dockerRepository": null}, {"dockerRepository": 1}, {"dockerRepository": ""},
                {"dockerRepository": "INVALIDUPPERCASE"}]),
            ),
            once: &["type", "dockerRepository"],
        },
        Case {
            whole: identity,
            valid: json!({"type": "remapIdentity", "prefix": "example.com/docker-library",
                "signedPrefix": "docker.io/library"}),
            broken: of_type(
                json!([{"prefix": null}, {"prefix": 1}, {"prefix": "this is invalid"}, {"prefix": ""},
                {"prefix": invalid}, {"signedPrefix": null}, {"signedPrefix": 1},
                {"signedPrefix": "this is invalid"}, {"signedPrefix": ""}, {"signedPrefix": invalid}]),
            ),
            once: &["type", "prefix", "signedPrefix"],
        },
    ];
    let mut count: usize = cases.iter().map(check).sum();
    // `TestValidateIdentityRemappingPrefix`. The last two are valid there, "do not actually work, and may be rejected".
    let digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    for (prefix, is_valid) in [
        ("localhost", true),
        ("example.com", true),
        ("example.com:80", true),
        ("example.com/repo", true),
        ("example.com/ns1/ns2/ns3/repo.with.dots-dashes_underscores", true),
        ("example.com:80/ns1/ns2/ns3/repo.with.dots-dashes_underscores", true),
        ("repo_with_underscores", false),
        ("example.com/", false),
        ("example.com/repo/", false),
        ("example.com/repo:tag", false),
        (&format!("example.com/repo{digest}"), false),
        (&format!("example.com/repo:tag{digest}"), false),
        ("shortname", false),
        ("ns/shortname", false),
    ] {
        let remap = json!({"type": "remapIdentity", "prefix": prefix, "signedPrefix": "example.com"});
        assert_eq!(parse(&identity(&remap.to_string())).is_ok(), is_valid, "{prefix}");
        count += 1;
    }
    assert_eq!(count, 85);
}

/// `fixtures/policy.json`.
fn fixture() -> Value {
    let signed = |kind: &str, path: &str, identity: &str| json!({"type": "signedBy", "keyType": kind, "keyPath": path, "signedIdentity": {"type": identity}});
    let base = |key: &str, kind: &str, name: &str| json!({"type": "signedBaseLayer", "baseLayerIdentity": {"type": kind, key: name}});
    let usual = "matchRepoDigestOrExact";
    let vendor = signed("signedByGPGKeys", "/keys/RH-key-signing-key-gpg-keyring", usual);
    let docker = json!({
        "example.com/playground": [{"type": "insecureAcceptAnything"}],
        "example.com/production": [gpg(json!({"keyPath": "/keys/employee-gpg-keyring", "signedIdentity": null}))],
        "example.com/hardened": [signed("GPGKeys", "/keys/employee-gpg-keyring", "matchRepository"),
            signed("signedByGPGKeys", "/keys/public-key-signing-gpg-keyring", "matchExact"),
            base("dockerRepository", "exactRepository", "registry.access.redhat.com/rhel7/rhel")],
        "example.com/hardened-x509": [signed("X509Certificates", "/keys/employee-cert-file", "matchRepository"),
            signed("signedByX509CAs", "/keys/public-key-signing-ca-file", usual)],
        "registry.access.redhat.com": [vendor],
        "registry.redhat.io/beta": [gpg(json!({"keyPaths": ["/keys/RH-production", "/keys/RH-beta"]}))],
        "private-mirror:5000/vendor-mirror": [gpg(json!({"keyPath": "/keys/vendor-gpg-keyring", "signedIdentity": {
            "type": "remapIdentity", "prefix": "private-mirror:5000/vendor-mirror", "signedPrefix": "vendor.example.com"}}))],
        "*.access.redhat.com": [vendor], "*.redhat.com": [vendor], "*.com": [vendor],
        "bogus/key-data-example": [gpg(json!({"keyType": "signedByGPGKeys", "keyData": "bm9uc2Vuc2U="}))],
        "bogus/signed-identity-example":
            [base("dockerReference", "exactReference", "registry.access.redhat.com/rhel7/rhel:latest")],
        "example.com/sigstore/key-data-example": [{"type": "sigstoreSigned", "keyData": "bm9uc2Vuc2U="}],
        "example.com/sigstore/key-path-example": [{"type": "sigstoreSigned", "keyPath": "/keys/public-key",
            "signedIdentity": {"type": "matchRepository"}}]});
    json!({"default": [{"type": "reject"}], "transports": {"docker": docker,
        "dir": {"": [{"type": "insecureAcceptAnything"}]}}})
}

/// `fixtures/policy.json`, and `TestPolicyContextRequirementsForImageRef`.
#[test]
fn scopes_apply_as_in_other_tools() {
    let all = |scopes: &[&str], last: &str| {
        let anything = json!([{"type": "insecureAcceptAnything"}]);
        let docker: serde_json::Map<_, _> =
            scopes.iter().map(|scope| ((*scope).to_owned(), anything.clone())).collect();
        let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": docker, "dir": {last: anything}}});
        parse(&policy.to_string()).unwrap()
    };
    let deep = all(
        &[
            "",
            "unmatched",
            "deep.com",
            "*.very.deep.com",
            "*.deep.com",
            "deep.com/n1",
            "deep.com/n1/n2",
            "deep.com/n1/n2/n3",
            "deep.com/n1/n2/n3/repo",
            "deep.com/n1/n2/n3/repo:tag2",
        ],
        "/unmatched",
    );
    for (name, scope) in [
        ("deep.com/n1/n2/n3/repo:tag2", "deep.com/n1/n2/n3/repo:tag2"),
        ("deep.com/n1/n2/n3/repo:nottag2", "deep.com/n1/n2/n3/repo"),
        ("deep.com/n1/n2/n3/notrepo:tag2", "deep.com/n1/n2/n3"),
        ("deep.com/n1/n2/notn3/repo:tag2", "deep.com/n1/n2"),
        ("deep.com/n1/notn2/n3/repo:tag2", "deep.com/n1"),
        ("deep.com/notn1/n2/n3/repo:tag2", "deep.com"),
        ("very.deep.com/n1/n2/n3/repo:tag2", "*.deep.com"),
        ("not.very.deep.com/n1/n2/n3/repo:tag2", "*.very.deep.com"),
        ("this.does-not/match:anything", ""),
    ] {
        let rule = deep.rule(&subject(name)).to_string();
        assert_eq!(rule, format!("`docker`: `{scope}` (insecureAcceptAnything)"), "{name}");
    }
    let path = |transport| Subject::of_path(transport, Path::new("/what/ever"));
    assert_eq!(deep.rule(&path("dir")).to_string(), "`default` (reject)");
    assert_eq!(deep.rule(&path("oci")).to_string(), "`default` (reject)");
    let fixture = parse(&fixture().to_string()).unwrap();
    for (name, scope) in [
        ("example.com/hardened/x", "`docker`: `example.com/hardened`"),
        ("registry.access.redhat.com/rhel7", "`docker`: `registry.access.redhat.com`"),
        ("a.access.redhat.com/x", "`docker`: `*.access.redhat.com`"),
        ("access.redhat.com/x", "`docker`: `*.redhat.com`"),
        ("private-mirror:5000/vendor-mirror/x", "`docker`: `private-mirror:5000/vendor-mirror`"),
        ("example.com/other", "`docker`: `*.com`"),
        ("busybox", "`default`"),
    ] {
        let rule = fixture.rule(&subject(name)).to_string();
        assert!(rule.starts_with(&format!("{scope} (")), "{name}: {rule}");
    }
    assert_eq!(fixture.rule(&path("dir")).to_string(), "`dir`: `` (insecureAcceptAnything)");
    assert!(fixture.check_keys().is_err(), "the key is `nonsense`");
}
