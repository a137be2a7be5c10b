//! Logins as other tools find them. The rows are those of the tests of containers/image (`pkg/docker/config/config_test.go`
//! with its `testdata`), which podman, skopeo and buildah use.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

use oci_pull::{CredentialHelpers, Login, Logins};
use std::sync::Arc;

/// Logins by registry. There, the same in base64.
const FULL: &str = r#"{"auths": {
    "example.org": {"auth": "ZXhhbXBsZTpvcmc="},
    "index.docker.io": {"auth": "aW5kZXg6ZG9ja2VyLmlv"}, "docker.io": {"auth": "ZG9ja2VyOmlv"},
    "localhost": {"auth": "bG9jYWw6aG9zdA=="}, "localhost:5000": {"auth": "bG9jYWw6aG9zdC01MDAw"},
    "10.10.30.45": {"auth": "MTAuMTA6MzAuNDU="}, "10.10.30.45:5000": {"auth": "MTAuMTA6MzAuNDUtNTAwMA=="},
    "https://normalize.example.org/v1": {"auth": "bm9ybWFsaXplOmV4YW1wbGU="}}}"#;
/// Logins by URL.
const ABNORMAL: &str = r#"{"auths": {
    "example.org": {"auth": "ZXhhbXBsZTpvcmc="}, "https://index.docker.io/v1": {"auth": "aW5kZXg6ZG9ja2VyLmlv"},
    "https://127.0.0.1:5000": {"auth": "MTI3LjA6MC4xLTUwMDA="}, "http://localhost": {"auth": "bG9jYWw6aG9zdA=="},
    "https://localhost:5001": {"auth": "bG9jYWw6aG9zdC01MDAx"}, "localhost:5000": {"auth": "bG9jYWw6aG9zdC01MDAw"}}}"#;
const EXAMPLE: &str = r#"{"auths": {"example.org": {"auth": "ZXhhbXBsZTpvcmc="}}}"#;
const TOKEN: &str = r#"{"auths": {"example.org": {
    "auth": "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOg==", "identitytoken": "some very long identity token"}}}"#;
/// Logins by repository and by its parents.
const PATHS: &str = r#"{"auths": {
    "example.org/repo": {"auth": "ZXhhbXBsZTpvcmc="}, "example.org": {"auth": "bG9jYWw6aG9zdA=="},
    "docker.io/vendor": {"auth": "Zmlyc3Q6bGV2ZWw="}, "docker.io": {"auth": "dG9wOmxldmVs"},
    "docker.io/library/busybox": {"auth": "bGlicmFyeTpidXN5Ym94"},
    "docker.io/library": {"auth": "bGlicmFyeTpvdGhlcg=="}}}"#;
/// A `.dockercfg`.
const OLD: &str = r#"{"http://index.docker.io/v1": {"auth": "ZG9ja2VyOmlvLWxlZ2FjeQ=="},
    "https://localhost/v1": {"auth": "bG9jYWw6aG9zdC1sZWdhY3k="}}"#;
const NOTHING: &str = "{}";

/// `TestGetAuth`, without the rows of helpers: what is searched, where, and what is found.
const FOUND: &[(&str, &str, Option<&str>)] = &[
    ("index.docker.io", NOTHING, None),
    ("", EXAMPLE, None),
    ("example.org", EXAMPLE, Some("example:org")),
    ("registry.example.org", EXAMPLE, None),
    ("docker.io", FULL, Some("docker:io")),
    ("docker.io", ABNORMAL, Some("index:docker.io")),
    ("normalize.example.org", FULL, Some("normalize:example")),
    ("localhost", FULL, Some("local:host")),
    ("10.10.30.45:5000", FULL, Some("10.10:30.45-5000")),
    ("localhost:5000", ABNORMAL, Some("local:host-5000")),
    ("example.org", TOKEN, Some("some very long identity token")),
    ("localhost:5000", NOTHING, None),
    ("example.org/repo/image", PATHS, Some("example:org")),
    ("example.org/repo", PATHS, Some("example:org")),
    ("example.org/image", PATHS, Some("local:host")),
    ("docker.io/library/busybox", PATHS, Some("library:busybox")),
    ("docker.io/library/notbusybox", PATHS, Some("library:other")),
    ("docker.io/vendor/product", PATHS, Some("first:level")),
    ("docker.io/vendor", PATHS, Some("first:level")),
    ("docker.io/other-vendor/other-product", PATHS, Some("top:level")),
];

/// `TestSetGetCredentials` and `TestGetCredentialsInteroperability`: a key, what is searched, whether it is found.
const MATCHED: &[(&str, &str, bool)] = &[
    ("quay.io/foo", "quay.io/foo/a", true),
    ("quay.io", "quay.io/foo", true),
    ("quay.io/foo", "quay.io/bar", false),
    ("https://quay.io/v1/", "quay.io/foo", true),
    ("example.com", "example.com", true),
    ("example.com", "example.com/ns/repo", true),
    ("example.com:8000", "example.com:8000", true),
    ("example.com:8000", "example.com:8000/ns/repo", true),
    ("https://index.docker.io/v1/", "docker.io", true),
    ("https://index.docker.io/v1/", "docker.io/library/busybox", true),
    ("https://index.docker.io/v1/", "docker.io/notlibrary/busybox", true),
];

/// `docker-credential-helper-registry` there.
#[derive(Debug)]
struct Helper;

impl CredentialHelpers for Helper {
    fn login(&self, name: &str, server: &str) -> anyhow::Result<Option<Login>> {
        assert_eq!(name, "helper-registry");
        match server {
            "registry-a.com" => {
                Login::of_helper(br#"{"ServerURL":"registry-a.com","Username":"foo","Secret":"bar"}"#)
            }
            "registry-b.com" => Login::of_helper(
                br#"{"ServerURL":"registry-b.com","Username":"<token>","Secret":"fizzbuzz"}"#,
            ),
            "registry-no-creds.com" => Ok(None),
            _ => Login::of_helper(b"{}"),
        }
    }

    fn warn(&self, error: &anyhow::Error) {
        panic!("{error:#}");
    }
}

fn found(logins: &Logins, repository: &str) -> Option<String> {
    Some(match logins.find(repository).unwrap()? {
        Login::Password(credentials) => format!("{}:{}", credentials.username, credentials.password),
        Login::Token(token) => token,
    })
}

fn with_helpers(text: &str, order: &[&str]) -> Logins {
    let order: Vec<String> = order.iter().map(ToString::to_string).collect();
    Logins::parse(text).unwrap().with_helpers(&order, Arc::new(Helper))
}

#[test]
fn a_login_is_found_as_in_other_tools() {
    for (searched, file, expected) in FOUND {
        assert_eq!(found(&Logins::parse(file).unwrap(), searched).as_deref(), *expected, "{searched}");
    }
    for (key, searched, is_found) in MATCHED {
        let file = format!(r#"{{"auths": {{"{key}": {{"auth": "dXNlcm5hbWU6cGFzc3dvcmQ="}}}}}}"#);
        let login = found(&Logins::parse(&file).unwrap(), searched);
        assert_eq!(login.as_deref(), is_found.then_some("username:password"), "{key}: {searched}");
    }
}

/// The rows of `TestGetAuth` and `TestGetAllCredentials` with a helper.
#[test]
fn a_helper_is_asked_as_in_other_tools() {
    let only = with_helpers(NOTHING, &["helper-registry"]);
    assert_eq!(found(&only, "registry-a.com").as_deref(), Some("foo:bar"));
    assert_eq!(found(&only, "registry-b.com").as_deref(), Some("fizzbuzz"));
    let named = with_helpers(r#"{"credHelpers": {"registry-no-creds.com": "helper-registry"}}"#, &[]);
    assert_eq!(found(&named, "registry-no-creds.com"), None);
    for entries in [
        &[
            ("example.org", "example.org", "example-user:example-password"),
            ("quay.io", "quay.io", "quay-user:quay-password"),
            ("localhost:5000", "localhost:5000", "local-user:local-password"),
            ("", "registry-a.com", "foo:bar"),
        ][..],
        &[
            ("docker.io/vendor", "docker.io/vendor", "u1:p1"),
            ("index.docker.io", "docker.io", "u2:p2"),
            ("", "registry-a.com", "foo:bar"),
        ],
    ] {
        let written = entries.iter().filter(|(key, ..)| !key.is_empty()).map(|(key, _, login)| {
            let (name, password) = login.split_once(':').unwrap();
            format!(r#""{key}": {{"username": "{name}", "password": "{password}"}}"#)
        });
        let text = format!(r#"{{"auths": {{{}}}}}"#, written.collect::<Vec<_>>().join(","));
        let both = with_helpers(&text, &["containers-auth.json", "helper-registry"]);
        for (_, searched, expected) in entries {
            assert_eq!(found(&both, searched).as_deref(), Some(*expected), "{searched}");
        }
    }
}

/// `TestGetAuthFromLegacyFile`, `TestGetAuthPreferNewConfig`, and the legacy row of `TestSetGetCredentials`.
#[test]
fn an_old_file_is_read_as_in_other_tools() {
    let old = Logins::parse_old(OLD).unwrap();
    assert_eq!(found(&old, "localhost").as_deref(), Some("local:host-legacy"));
    assert_eq!(found(&old, "docker.io").as_deref(), Some("docker:io-legacy"));
    let quay = Logins::parse_old(r#"{"https://quay.io/v1/": {"auth": "dXNlcm5hbWU6cGFzc3dvcmQ="}}"#).unwrap();
    assert_eq!(found(&quay, "quay.io").as_deref(), Some("username:password"));
    let mut newer = Logins::parse(FULL).unwrap();
    newer.then(old);
    assert_eq!(found(&newer, "docker.io").as_deref(), Some("docker:io"));
}

/// `TestGetAuthFailsOnBadInput`.
#[test]
fn what_is_not_json_fails_as_in_other_tools() {
    assert!(Logins::parse("Json rocks! Unless it doesn't.").is_err());
    assert!(Logins::parse_old("I'm certainly not a json string.").is_err());
}
