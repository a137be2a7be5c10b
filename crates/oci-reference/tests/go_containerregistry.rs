//! Names as go-containerregistry takes them, which crane, ko, kaniko and apko use. The names are those of the tests of its
//! package `pkg/name` (`repository_test.go`, `tag_test.go`, `digest_test.go`, `registry_test.go`, `ref_test.go`, with weak
//! validation), typed anew. It calls Docker Hub `index.docker.io`, which is written `docker.io` here.

use oci_reference::Named;

/// `@D` in the names below.
const DIGEST: &str = "@sha256:deadb33fdeadb33fdeadb33fdeadb33fdeadb33fdeadb33fdeadb33fdeadb33f";

/// A name, and its full form there: registry, repository, and the digest or else the tag; `None` if it is refused there.
const NAMES: &[(&str, Option<&str>)] = &[
    // repository_test.go
    ("gcr.io/g-convoy/hello-world", Some("gcr.io/g-convoy/hello-world:latest")),
    ("gcr.io/google.com/project-id/hello-world", Some("gcr.io/google.com/project-id/hello-world:latest")),
    ("us.gcr.io/project-id/sub-repo", Some("us.gcr.io/project-id/sub-repo:latest")),
    ("example.text/foo/bar", Some("example.text/foo/bar:latest")),
    ("mirror.gcr.io/ubuntu", Some("mirror.gcr.io/ubuntu:latest")),
    ("index.docker.io/library/ubuntu", Some("docker.io/library/ubuntu:latest")),
    ("example.com/a", Some("example.com/a:latest")),
    ("example.com/a/b", Some("example.com/a/b:latest")),
    ("namespace/pathcomponent/image", Some("docker.io/namespace/pathcomponent/image:latest")),
    ("library/ubuntu", Some("docker.io/library/ubuntu:latest")),
    ("ubuntu", Some("docker.io/library/ubuntu:latest")),
    ("a", Some("docker.io/library/a:latest")),
    ("0", Some("docker.io/library/0:latest")),
    ("white space", None),
    ("b@char/image", None),
    ("", None),
    // tag_test.go
    ("gcr.io/g-convoy/hello-world:latest", Some("gcr.io/g-convoy/hello-world:latest")),
    ("gcr.io/google.com/g-convoy/hello-world:latest", Some("gcr.io/google.com/g-convoy/hello-world:latest")),
    ("gcr.io/project-id/with-nums:v2", Some("gcr.io/project-id/with-nums:v2")),
    ("us.gcr.io/project-id/image:with.period.in.tag", Some("us.gcr.io/project-id/image:with.period.in.tag")),
    (
        "gcr.io/project-id/image:w1th-alpha_num3ric.PLUScaps",
        Some("gcr.io/project-id/image:w1th-alpha_num3ric.PLUScaps"),
    ),
    ("domain.with.port:9001/image:latest", Some("domain.with.port:9001/image:latest")),
    ("gcr.io/project-id/implicit-latest", Some("gcr.io/project-id/implicit-latest:latest")),
    ("www.example.test:12345/repo/path", Some("www.example.test:12345/repo/path:latest")),
    ("gcr.io/project-id/bad_chars:c@n'tuse", None),
    ("gcr.io/project-id/wrong-length:white space", None),
    (
        "gcr.io/project-id/too-many-chars:thisisthetagthatneverendsitgoesonandonmyfriendsomepeoplestartedtaggingitnot\
         knowingwhatitwasandtheyllcontinuetaggingitforeverjustbecausethisisthetagthatneverends",
        None,
    ),
    ("library/ubuntu:", None),
    // digest_test.go
    ("gcr.io/g-convoy/hello-world@D", Some("gcr.io/g-convoy/hello-world@D")),
    ("gcr.io/google.com/project-id/hello-world@D", Some("gcr.io/google.com/project-id/hello-world@D")),
    ("us.gcr.io/project-id/sub-repo@D", Some("us.gcr.io/project-id/sub-repo@D")),
    ("example.text/foo/bar@D", Some("example.text/foo/bar@D")),
    ("example.text/foo/bar:latest@D", Some("example.text/foo/bar@D")),
    ("example.text:8443/foo/bar:latest@D", Some("example.text:8443/foo/bar@D")),
    ("example.text/foo/bar:v1.0.0-alpine@D", Some("example.text/foo/bar@D")),
    ("namespace/pathcomponent/image@D", Some("docker.io/namespace/pathcomponent/image@D")),
    ("library/ubuntu@D", Some("docker.io/library/ubuntu@D")),
    ("nginx:latest@D", Some("docker.io/library/nginx@D")),
    ("library/nginx:latest@D", Some("docker.io/library/nginx@D")),
    ("gcr.io/project-id/unknown-alg@unknown:abc123", None),
    ("gcr.io/project-id/wrong-length@sha256:d34db33fd34db33f", None),
    ("gcr.io/project-id/missing-digest@", None),
    ("repo@sha256:::::::::::::::::::::::::::::::::::::::::::::::::::::::::::::::::", None),
    ("repo@sha256:shshshshshshshshshshshshshshshshshshshshshshshshshshshshshshshsh", None),
    ("repo@sha256:sha256:@D@D", None),
    ("library/nginx:@D", None),
    // registry_test.go, each with a repository
    ("gcr.io/a/b", Some("gcr.io/a/b:latest")),
    ("gcr.io:9001/a/b", Some("gcr.io:9001/a/b:latest")),
    ("index.docker.io/a/b", Some("docker.io/a/b:latest")),
    ("docker.io/a/b", Some("docker.io/a/b:latest")),
    ("us.gcr.io/a/b", Some("us.gcr.io/a/b:latest")),
    ("example.text/a/b", Some("example.text/a/b:latest")),
    ("localhost/a/b", Some("localhost/a/b:latest")),
    ("localhost:9090/a/b", Some("localhost:9090/a/b:latest")),
    ("white space/a/b", None),
    ("gcr?com/a/b", None),
    // ref_test.go, with Docker Hub as the registry of names without one
    ("crossplane/provider-gcp", Some("docker.io/crossplane/provider-gcp:latest")),
    ("crossplane/provider-gcp:v0.14.0", Some("docker.io/crossplane/provider-gcp:v0.14.0")),
    ("gcr.io/crossplane/provider-gcp:latest", Some("gcr.io/crossplane/provider-gcp:latest")),
    ("localhost/testimage:mytag", Some("localhost/testimage:mytag")),
    ("example.text/foo/bar:v1.0.0@D", Some("example.text/foo/bar@D")),
    ("valid/string", Some("docker.io/valid/string:latest")),
    ("valid/prefix/valid/string", Some("docker.io/valid/prefix/valid/string:latest")),
];

/// Registry, repository, and the digest or else the tag.
fn in_full(named: &Named) -> String {
    let separator = if named.digest().is_some() { '@' } else { ':' };
    format!("{}{separator}{}", named.name(), named.identifier())
}

#[test]
fn names_are_those_of_go_containerregistry() {
    let mut differ = Vec::new();
    for (name, expected) in NAMES {
        let name = name.replace("@D", DIGEST);
        let found = name.parse::<Named>().ok().map(|named| in_full(&named));
        if found != expected.map(|expected| expected.replace("@D", DIGEST)) {
            differ.push((name, found));
        }
    }
    assert!(differ.is_empty(), "{} of {} agree: {differ:?}", NAMES.len() - differ.len(), NAMES.len());
}
