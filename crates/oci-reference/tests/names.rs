//! Names as other tools normalize them. The names are those of the tests of distribution/reference (`normalize_test.go`,
//! `reference_test.go`), which docker, containerd and containers/image use.

use oci_reference::Named;

const LONG: &str = "thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev";
const HEX: &str = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a";

/// A name, and its full form there without the tag; `None` if it is refused there.
const NORMALIZED: &[(&str, Option<&str>)] = &[
    ("docker/docker", Some("docker.io/docker/docker")),
    ("library/debian", Some("docker.io/library/debian")),
    ("debian", Some("docker.io/library/debian")),
    ("localhost/library/debian", Some("localhost/library/debian")),
    ("localhost/debian", Some("localhost/debian")),
    ("LOCALDOMAIN/library/debian", Some("LOCALDOMAIN/library/debian")),
    ("LOCALDOMAIN/debian", Some("LOCALDOMAIN/debian")),
    ("docker.io/docker/docker", Some("docker.io/docker/docker")),
    ("docker.io/library/debian", Some("docker.io/library/debian")),
    ("docker.io/debian", Some("docker.io/library/debian")),
    ("index.docker.io/docker/docker", Some("docker.io/docker/docker")),
    ("index.docker.io/library/debian", Some("docker.io/library/debian")),
    ("index.docker.io/debian", Some("docker.io/library/debian")),
    ("127.0.0.1:5000/docker/docker", Some("127.0.0.1:5000/docker/docker")),
    ("127.0.0.1:5000/debian", Some("127.0.0.1:5000/debian")),
    ("192.168.0.1", Some("docker.io/library/192.168.0.1")),
    ("192.168.0.1:80", Some("docker.io/library/192.168.0.1")),
    ("192.168.0.1:8/debian", Some("192.168.0.1:8/debian")),
    ("192.168.0.2:25000/debian", Some("192.168.0.2:25000/debian")),
    (LONG, Some("docker.io/library/thisisthesongthatneverendsitgoesonandonandonthisisthesongthatnev")),
    ("[fc00::1]:5000/docker", Some("[fc00::1]:5000/docker")),
    ("[fc00::1]:5000/docker/docker", Some("[fc00::1]:5000/docker/docker")),
    ("[fc00:1:2:3:4:5:6:7]:5000/library/debian", Some("[fc00:1:2:3:4:5:6:7]:5000/library/debian")),
    (
        "docker.io/1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a",
        Some("docker.io/library/1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a"),
    ),
    ("Docker/docker", Some("Docker/docker")),
    ("DOCKER/docker", Some("DOCKER/docker")),
    ("https://github.com/docker/docker", None),
    ("docker/Docker", None),
    ("-docker", None),
    ("-docker/docker", None),
    ("-docker.io/docker/docker", None),
    ("docker///docker", None),
    ("docker.io/docker/Docker", None),
    ("docker.io/docker///docker", None),
    ("[fc00::1]", None),
    ("[fc00::1]:5000", None),
    ("fc00::1:5000/debian", None),
    ("[fe80::1%eth0]:5000/debian", None),
    ("[2001:db8:3:4::192.0.2.33]:5000/debian", None),
    (HEX, None),
    ("docker-rules/docker", Some("docker.io/docker-rules/docker")),
    ("docker---rules/docker", Some("docker.io/docker---rules/docker")),
    ("d/docker", Some("docker.io/d/docker")),
    ("dock__er/docker", Some("docker.io/dock__er/docker")),
    ("docker-/docker", None),
    ("____/____", None),
    ("_docker/_docker", None),
    ("dock..er/docker", None),
    ("dock_.er/docker", None),
    ("dock-.er/docker", None),
    ("docker/", None),
    ("fooo/bar", Some("docker.io/fooo/bar")),
    ("index.docker.io/fooo/bar", Some("docker.io/fooo/bar")),
    ("example.com:8000/private/moonbase", Some("example.com:8000/private/moonbase")),
    ("ubuntu-12.04-base", Some("docker.io/library/ubuntu-12.04-base")),
    ("index.docker.io/library/ubuntu-12.04-base", Some("docker.io/library/ubuntu-12.04-base")),
    ("library/foo/bar", Some("docker.io/library/foo/bar")),
    ("store/foo/bar", Some("docker.io/store/foo/bar")),
    ("Foo/bar", Some("Foo/bar")),
    ("FOO/bar", Some("FOO/bar")),
    ("test_com", Some("docker.io/library/test_com")),
    ("test.com:tag", Some("docker.io/library/test.com")),
    ("test:5000/repo:tag", Some("test:5000/repo")),
    ("", None),
    (":justtag", None),
    ("repo@sha256:ffffffffffffffffffffffffffffffffff", None),
    ("Uppercase:tag", None),
    ("test:5000/Uppercase/lowercase:tag", None),
    ("lowercase:Uppercase", Some("docker.io/library/lowercase")),
    ("aa/asdf$$^/aa", None),
    ("sub-dom1.foo.com/bar/baz/quux:some-long-tag", Some("sub-dom1.foo.com/bar/baz/quux")),
    ("b.gcr.io/test.example.com/my-app:test.example.com", Some("b.gcr.io/test.example.com/my-app")),
    ("xn--n3h.com/myimage:xn--n3h.com", Some("xn--n3h.com/myimage")),
    ("foo_bar.com:8080", Some("docker.io/library/foo_bar.com")),
    ("foo/foo_bar.com:8080", Some("docker.io/foo/foo_bar.com")),
    ("[2001:db8::1]:tag", None),
    ("[2001:db8::1]/repo", Some("[2001:db8::1]/repo")),
    ("[2001:db8::1]:5000/repo:tag", Some("[2001:db8::1]:5000/repo")),
    ("[2001:db8::]:5000/repo", Some("[2001:db8::]:5000/repo")),
    ("[::1]:5000/repo", Some("[::1]:5000/repo")),
    ("[fe80::1%eth0]:5000/repo", None),
    ("[fe80::1%@invalidzone]:5000/repo", None),
];

/// Where this program decides otherwise, with its decision. The names of hosts have no case (RFC 4343), and a policy for
/// `foo` must not be evaded by `FOO`.
const OTHERWISE: &[(&str, Option<&str>)] = &[
    ("LOCALDOMAIN/library/debian", Some("localdomain/library/debian")),
    ("LOCALDOMAIN/debian", Some("localdomain/debian")),
    ("Docker/docker", Some("docker/docker")),
    ("DOCKER/docker", Some("docker/docker")),
    ("Foo/bar", Some("foo/bar")),
    ("FOO/bar", Some("foo/bar")),
];

#[test]
fn names_are_normalized_as_by_other_tools() {
    let mut differ = Vec::new();
    for (name, expected) in NORMALIZED {
        let found = name.parse::<Named>().ok().map(|named| named.name());
        if found.as_deref() != *expected {
            differ.push((*name, found));
        }
    }
    let differ: Vec<_> = differ.iter().map(|(name, found)| (*name, found.as_deref())).collect();
    assert_eq!(differ, OTHERWISE, "{} of {} agree", NORMALIZED.len() - differ.len(), NORMALIZED.len());
}
