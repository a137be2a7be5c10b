//! Names compared as by other tools: the tables of `signature/policy_reference_match_test.go` of containers/image.

use super::*;
use crate::json::Json;

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const RHEL: &str = "registry.access.redhat.com/rhel7/rhel";
const INVALID: &str = "UPPERCASE_IS_INVALID_IN_DOCKER_REFERENCES";

/// `#` stands for [`DIGEST`], `%` for [`OTHER`], `RHEL` for [`RHEL`].
fn name(text: &str) -> String {
    text.replace('#', DIGEST).replace('%', OTHER).replace("RHEL", RHEL)
}

/// `prmExactMatchTestTable`; symmetric.
const EXACT: &[(&str, &str, bool)] = &[
    ("busybox:latest", "busybox:latest", true),
    ("RHEL:7.2.3", "RHEL:7.2.3", true),
    ("busybox#", "busybox#", true),
    ("library/busybox:latest", "busybox:latest", true),
    ("docker.io/library/busybox:latest", "busybox:latest", true),
    ("library/busybox#", "busybox#", true),
    ("busybox:latest", "busybox:notlatest", false),
    ("busybox:latest", "notbusybox:latest", false),
    ("busybox:latest", "hostname/library/busybox:notlatest", false),
    ("hostname/library/busybox:latest", "busybox:notlatest", false),
    ("busybox:latest", "RHEL:7.2.3", false),
    ("busybox#", "notbusybox#", false),
    ("busybox:latest", "busybox#", false),
    ("busybox#", "busybox%", false),
    ("busybox", "busybox:latest", false),
    ("busybox", "busybox#", false),
    ("busybox", "busybox", false),
    ("busybox:latest#", "busybox:latest#", true),
    ("busybox:latest#", "busybox:latest%", false),
    ("busybox:latest#", "busybox:notlatest#", false),
    ("busybox:latest#", "busybox#", false),
    ("busybox:latest#", "busybox:latest", false),
    (INVALID, "busybox:latest", false),
    ("", INVALID, false),
    ("INVALID", "INVALID", false),
];

/// `prmRepositoryMatchTestTable`; symmetric.
const REPOSITORY: &[(&str, &str, bool)] = &[
    ("busybox:latest", "busybox:latest", true),
    ("RHEL:7.2.3", "RHEL:7.2.3", true),
    ("busybox#", "busybox#", true),
    ("library/busybox:latest", "busybox:latest", true),
    ("docker.io/library/busybox:latest", "busybox:latest", true),
    ("library/busybox#", "busybox#", true),
    ("busybox:latest", "busybox:notlatest", true),
    ("RHEL:7.2.3tagsuffix", "RHEL:7.2.3", true),
    ("library/busybox:latest", "busybox:notlatest", true),
    ("busybox:latest", "library/busybox:notlatest", true),
    ("docker.io/library/busybox:notlatest", "busybox:latest", true),
    ("busybox:notlatest", "docker.io/library/busybox:latest", true),
    ("busybox:latest", "busybox#", true),
    ("busybox#", "busybox%", true),
    ("busybox", "busybox:notlatest", true),
    ("RHEL:7.2.3", "RHEL", true),
    ("busybox", "busybox#", true),
    ("library/busybox", "busybox", true),
    ("docker.io/library/busybox", "busybox", true),
    ("busybox:latest", "notbusybox:latest", false),
    ("hostname/library/busybox:latest", "busybox:notlatest", false),
    ("busybox:latest", "RHEL:7.2.3", false),
    ("busybox#", "notbusybox#", false),
    ("busybox:latest#", "busybox:latest#", true),
    ("busybox:latest#", "busybox:latest%", true),
    ("busybox:latest#", "busybox:notlatest#", true),
    ("busybox:latest#", "busybox#", true),
    ("busybox:latest#", "busybox:latest", true),
    (INVALID, "busybox:latest", false),
    ("", INVALID, false),
    ("INVALID", "INVALID", false),
];

/// `matchRepoDigestOrExactTestTable`: the image and the signature.
const USUAL: &[(&str, &str, bool)] = &[
    ("busybox:latest", "busybox:notlatest", false),
    ("RHEL:7.2.3tagsuffix", "RHEL:7.2.3", false),
    ("library/busybox:latest", "busybox:notlatest", false),
    ("busybox:latest", "library/busybox:notlatest", false),
    ("docker.io/library/busybox:notlatest", "busybox:latest", false),
    ("busybox:notlatest", "docker.io/library/busybox:latest", false),
    ("busybox", "busybox:latest", false),
    ("busybox:latest", "busybox", false),
    ("busybox", "busybox#", false),
    ("busybox#", "busybox", false),
    ("RHEL:7.2.3", "RHEL", false),
    ("busybox", "busybox", false),
    ("busybox:latest", "busybox#", false),
    ("busybox#", "busybox:latest", true),
    ("busybox#", "busybox%", true),
    ("busybox:latest#", "busybox:latest", false),
    ("busybox:latest#", "busybox:notlatest", false),
    ("busybox:latest", "busybox:latest#", false),
    ("busybox:latest#", "busybox:latest%", false),
    ("busybox:latest#", "busybox:notlatest%", false),
];

fn identity(identity: &serde_json::Value) -> anyhow::Result<SignedIdentity> {
    SignedIdentity::read(Json::parse(identity.to_string().as_bytes())?.object()?)
}

fn fits(kind: &serde_json::Value, image: &Named, signed: &str) -> bool {
    identity(kind).is_ok_and(|identity| identity.check(Some(&Name::wanted(image)), signed).is_ok())
}

/// Compares an image with a signature. `None` for a name by which nothing is pulled: an invalid one, one without tag and
/// digest (both get the tag `latest` before), and one with both (the tools drop the tag before).
fn compared(kind: &str, image: &str, signed: &str) -> Option<bool> {
    let named: Named = image.parse().ok()?;
    let (rest, has_digest) = (image.split('@').next()?, image.contains('@'));
    let has_tag = rest.rsplit('/').next()?.contains(':');
    (has_tag != has_digest).then(|| fits(&json!({"type": kind}), &named, signed))
}

/// The rows of a symmetric table, in both directions.
fn both_ways(table: &[(&str, &str, bool)]) -> Vec<(String, String, bool)> {
    let ways = |(a, b, fits): &(&str, &str, bool)| {
        let (a, b) = (name(a), name(b));
        [(a.clone(), b.clone(), *fits), (b, a, *fits)]
    };
    table.iter().flat_map(ways).collect()
}

#[test]
fn the_requested_name_is_compared_as_in_other_tools() {
    let usual = USUAL.iter().map(|(image, signed, fits)| (name(image), name(signed), *fits));
    let (exact, repository) = (both_ways(EXACT), both_ways(REPOSITORY));
    let usual = usual.chain(exact.iter().filter(|(.., fits)| *fits).cloned());
    let usual = usual.chain(repository.iter().filter(|(.., fits)| !fits).cloned()).collect();
    let mut counts = Vec::new();
    for (kind, rows) in
        [("matchExact", exact), ("matchRepository", repository), ("matchRepoDigestOrExact", usual)]
    {
        let mut count = 0;
        for (image, signed, fits) in rows {
            let Some(found) = compared(kind, &image, &signed) else { continue };
            assert_eq!(found, fits, "{kind}: {image}, signed as {signed}");
            count += 1;
        }
        counts.push(count);
    }
    assert_eq!(counts, [33, 42, 34]);
}

#[test]
fn a_name_in_the_policy_is_compared_as_in_other_tools() {
    let any: Named = "any.example/thing:1".parse().unwrap();
    for (reference, signed, expected) in both_ways(EXACT) {
        let kind = json!({"type": "exactReference", "dockerReference": reference});
        assert_eq!(fits(&kind, &any, &signed), expected, "{reference}, signed as {signed}");
    }
    for (repository, signed, expected) in both_ways(REPOSITORY) {
        let kind = json!({"type": "exactRepository", "dockerRepository": repository});
        assert_eq!(fits(&kind, &any, &signed), expected, "{repository}, signed as {signed}");
    }
}

/// `TestPRMRemapIdentityRefMatchesPrefix`: an image, a prefix, whether it matches.
const PREFIXES: &[(&str, &str, bool)] = &[
    ("docker.io/image", "docker.io", true),
    ("docker.io/image", "example.com", false),
    ("example.com:5000/image", "example.com:5000", true),
    ("example.com:50000/image", "example.com:5000", false),
    ("example.com:5000/image", "example.com", false),
    ("example.com/foo", "example.com", true),
    ("example.com/foo/bar", "example.com", true),
    ("example.com/foo/bar:baz", "example.com", true),
    ("example.com/foo/bar#", "example.com", true),
    ("docker.io/ns/image", "docker.io/library", false),
    ("example.com/library", "docker.io/library", false),
    ("docker.io/libraryy/image", "docker.io/library", false),
    ("docker.io/library/busybox", "docker.io/library", true),
    ("example.com/ns/image", "example.com/ns", true),
    ("example.com/ns2/image", "example.com/ns", false),
    ("example.com/n2/image", "example.com/ns", false),
    ("example.com", "example.com/library/busybox", false),
    ("example.com:5000/ns/image", "example.com/ns", false),
    ("example.com/ns/image", "example.com:5000/ns", false),
    ("docker.io/library/busybox", "docker.io/library/busybox", true),
    ("example.com/library/busybox", "docker.io/library/busybox", false),
    ("docker.io/library/busybox2", "docker.io/library/busybox", false),
    ("example.com/ns/image", "example.com/ns/image", true),
    ("example.com/ns/imag2", "example.com/ns/image", false),
    ("example.com/ns/imagee", "example.com/ns/image", false),
    ("example.com:5000/ns/image", "example.com/ns/image", false),
    ("example.com/ns/image", "example.com:5000/ns/image", false),
    ("example.com/ns/image:tag", "example.com/ns/image", true),
    ("example.com/ns/image#", "example.com/ns/image", true),
    ("example.com/ns/image:tag#", "example.com/ns/image", true),
];

/// `TestPRMRemapIdentityRemapReferencePrefix` and `TestPRMRemapIdentityMatchesDockerReference`: prefix, the prefix in
/// signatures, an image, a signature, whether it fits.
const REMAPPED: &[(&str, &str, &str, &str, bool)] = &[
    ("mirror.example", "vendor.example", "mirror.example/ns/image:tag", "vendor.example/ns/image:tag", true),
    ("mirror.example", "vendor.example", "different.com/ns/image:tag", "different.com/ns/image:tag", true),
    (
        "mirror.example/ns",
        "vendor.example/vendor-ns",
        "mirror.example/different-ns/image:tag",
        "mirror.example/different-ns/image:tag",
        true,
    ),
    ("docker.io", "other.example/ns", "busybox", "other.example/ns/library/busybox:latest", true),
    (
        "example.com/mirror",
        "example.com/vendor",
        "example.com/mirror/image:tag",
        "example.com/vendor/image:tag",
        true,
    ),
    (
        "example.com/ns/mirror",
        "example.com/ns/vendor",
        "example.com/ns/mirror:tag",
        "example.com/ns/vendor:tag",
        true,
    ),
    (
        "mirror.example",
        "vendor.example",
        "prefixmirror.example/ns/image:tag",
        "prefixmirror.example/ns/image:tag",
        true,
    ),
    ("docker.io", "other.example", "busybox", "other.example/library/busybox:latest", true),
    ("docker.io/library", "other.example/ns", "busybox", "other.example/ns/busybox:latest", true),
    (
        "docker.io/library/busybox",
        "other.example/ns/notbusybox",
        "busybox",
        "other.example/ns/notbusybox:latest",
        true,
    ),
    ("mirror.example", "vendor.example", "mirror.example/image", "vendor.example/image:latest", true),
    ("mirror.example", "vendor.example", "mirror.example/image:tag", "vendor.example/image:tag", true),
    ("mirror.example", "vendor.example", "mirror.example/image#", "vendor.example/image#", true),
    ("mirror.example", "vendor.example", "mirror.example/image:tag#", "vendor.example/image:tag#", true),
    (
        "mirror.example/ns/image",
        "vendor.example:5000",
        "mirror.example/ns/image:tag",
        "vendor.example:5000:tag",
        false,
    ),
    (
        "mirror.example/ns/image",
        "vendor.example:5000",
        "mirror.example/ns/image#",
        "vendor.example:5000#",
        false,
    ),
    ("mirror.example/ns/image", "notlocalhost", "mirror.example/ns/image:tag", "notlocalhost:tag", false),
    ("does-not-match.com", "does-not-match.rewritten", "busybox:latest", "busybox:latest", true),
    ("does-not-match.com", "does-not-match.rewritten", "busybox:latest", "notbusybox:latest", false),
    ("mirror.example", "public.com", "mirror.example/busybox:1", "public.com/busybox:1", true),
    ("mirror.example", "public.com", "mirror.example/busybox:1", "public.com/busybox:not1", false),
    ("mirror.example", "docker.io/library", "mirror.example/busybox:latest", "busybox:latest", true),
    ("mirror.example", "docker.io/library", "mirror.example/alpine:latest", "busybox:latest", false),
    ("docker.io/library", "original.com", "copied:latest", "original.com/copied:latest", true),
    ("docker.io/library", "original.com", "copied:latest", "original.com/ns/copied:latest", false),
    ("busybox", "example.com/busybox", "busybox:latest", "example.com/busybox:latest", false),
    ("docker.io/library/busybox", "busybox", "docker.io/library/busybox:latest", "busybox:latest", false),
    ("example.com", "UPPERCASE", "example.com/foo:latest", "UPPERCASE/foo:latest", false),
];

#[test]
fn prefixes_of_names_are_replaced_as_in_other_tools() {
    let remap = |prefix: &str, signed: &str| json!({"type": "remapIdentity", "prefix": prefix, "signedPrefix": signed});
    for (image, prefix, matches) in PREFIXES {
        let image: Named = name(image).parse().unwrap();
        // The image's own name is only accepted if nothing replaces its prefix.
        let own = format!("{}:{}", image.name(), image.tag().unwrap_or("latest"));
        let kept = fits(&remap(prefix, "docker.io/library/signed-prefix"), &image, &own);
        assert_eq!(kept, !matches, "{image} {prefix}");
    }
    for (prefix, signed_prefix, image, signed, expected) in REMAPPED {
        let named: Named = name(image).parse().unwrap();
        let found = fits(&remap(prefix, signed_prefix), &named, &name(signed));
        assert_eq!(found, *expected, "{prefix} {signed_prefix} {image} {signed}");
    }
}
