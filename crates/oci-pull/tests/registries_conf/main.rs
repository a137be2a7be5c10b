//! registries.conf as other tools read it. The rows are those of the tests of containers/image
//! (`pkg/sysregistriesv2/system_registries_v2_test.go` and `shortnames_test.go`), which podman, skopeo and buildah use.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod files;

use files::*;
use oci_pull::{Endpoint, Registries};

const DIGEST: &str = "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A file with drop-in files.
fn read(file: &str, drop_ins: &[&str]) -> Registries {
    let mut registries = Registries::parse(file).unwrap();
    drop_ins.iter().for_each(|later| registries.overlay(Registries::parse(later).unwrap()));
    registries
}

/// The locations of an image; those without encryption begin with `http:`.
fn sources(registries: &Registries, name: &str) -> anyhow::Result<Vec<String>> {
    let shown = |one: &Endpoint| format!("{}{}", if one.insecure() { "http:" } else { "" }, one.name());
    Ok(registries.sources(&name.parse()?)?.iter().map(shown).collect())
}

/// The images that a name may mean.
fn meanings(registries: &Registries, name: &str) -> anyhow::Result<Vec<String>> {
    let meant = registries.candidates(&name.parse()?)?;
    Ok(meant.iter().map(|image| image.name()).collect())
}

/// One table.
fn table(prefix: &str, location: &str) -> String {
    format!("[[registry]]\nprefix = '{prefix}'\nlocation = '{location}'\n")
}

/// `TestRefMatchingSubdomainPrefix` and `TestRefMatchingPrefix`: an image, a prefix, whether it matches.
const MATCHED: &[(&str, &str, bool)] = &[
    ("docker.io/foo", "*.com", false),
    ("example.com/foo", "*.co", false),
    ("example.com/foo", "*.example.com", false),
    ("example.com/foo", "*.com", true),
    ("example.com/foo:bar", "*.com", true),
    ("example.com/foo/bar:baz", "*.com", true),
    ("yet.another.example.com/foo", "**.example.com", false),
    ("yet.another.example.com/foo", "***.another.example.com", false),
    ("yet.another.example.com/foo", "**********.another.example.com", false),
    ("yet.another.example.com/foo/bar", "**********.another.example.com", false),
    ("yet.another.example.com/foo/bar", "*.another.example.com", true),
    ("another.example.com/namespace.com/foo/bar/bbq:baz", "*.example.com", true),
    ("example.net/namespace-ends-in.com/foo/bar/bbq:baz", "*.com", false),
    ("another.example.com/namespace.com/foo/bar/bbq:baz", "*.namespace.com", false),
    ("sub.example.com/foo/bar", "*.com", true),
    ("sub.example.com/foo/bar", "*.example.com", true),
    ("another.sub.example.com/foo/bar/bbq:baz", "*.example.com", true),
    ("another.sub.example.com/foo/bar/bbq:baz", "*.sub.example.com", true),
    ("yet.another.example.com/foo/bar@", "*.example.com", true),
    ("yet.another.sub.example.com/foo/bar@", "*.sub.example.com", true),
    ("example.com/foo", "example.com", true),
    ("example.com/foo/bar", "example.com", true),
    ("example.com/foo/bar:baz", "example.com", true),
    ("example.com/foo/bar@", "example.com", true),
    ("example.com/library", "docker.io/library", false),
    ("docker.io/libraryy/x", "docker.io/library", false),
    ("docker.io/library/busybox", "docker.io/library", true),
    ("docker.io/library/busybox", "docker.io/library/busybox", true),
    ("example.com/library/busybox", "docker.io/library/busybox", false),
    ("docker.io/library/busybox2", "docker.io/library/busybox", false),
    ("example.com/foo", "example.com/foo:bar", false),
    ("example.com/foo:bar2", "example.com/foo:bar", false),
    ("example.com/foo", "*", false),
];

#[test]
fn a_prefix_matches_as_in_other_tools() {
    for (name, prefix, matches) in MATCHED {
        let registries = read(&table(prefix, "moved.example/to"), &[]);
        let found = sources(&registries, &name.replace('@', DIGEST)).unwrap();
        assert_eq!(found[0].starts_with("moved.example/to"), *matches, "{name} {prefix}");
        let is_wildcard = prefix.trim_start_matches("*.").contains('*');
        assert_eq!(!registries.warnings().is_empty(), is_wildcard, "{prefix}");
    }
}

/// `TestRewriteReferenceSuccess`, without the tags, which stay as they are: an image, prefix, location, the new name.
const REWRITTEN: &[(&str, &str, &str, &str)] = &[
    ("example.com/image", "example.com", "example.com", "example.com/image"),
    ("example.com/image:latest", "example.com", "example.com", "example.com/image"),
    ("example.com:5000/image", "example.com:5000", "example.com:5000", "example.com:5000/image"),
    ("example.com:5000/image:latest", "example.com:5000", "example.com:5000", "example.com:5000/image"),
    ("example.com/foo@", "example.com", "example.com", "example.com/foo"),
    ("example.com/foo/image:latest", "example.com/foo", "example.com", "example.com/image"),
    ("example.com/foo/image:latest", "example.com/foo", "example.com/path", "example.com/path/image"),
    ("docker.io/library/image:latest", "docker.io", "docker.io", "docker.io/library/image"),
    ("docker.io/library/image", "docker.io/library", "example.com", "example.com/image"),
    ("docker.io/library/image", "docker.io", "example.com", "example.com/library/image"),
    ("docker.io/library/prefix/image", "docker.io/library/prefix", "example.com", "example.com/image"),
    ("docker.io/namespace/image", "*.io", "example.com", "example.com/namespace/image"),
    ("docker.io/library/prefix/image", "*.io", "example.com", "example.com/library/prefix/image"),
    (
        "sub.example.io/library/prefix/image",
        "*.example.io",
        "example.com",
        "example.com/library/prefix/image",
    ),
    (
        "another.sub.example.io:5000/library/prefix/image:latest",
        "*.sub.example.io",
        "example.com",
        "example.com:5000/library/prefix/image",
    ),
    ("foo.bar.io/ns1/ns2/ns3/ns4", "*.bar.io", "omg.bbq.com/roflmao", "omg.bbq.com/roflmao/ns1/ns2/ns3/ns4"),
    ("abc.internal.registry.com/foo:bar", "*.internal.registry.com", "", "abc.internal.registry.com/foo"),
    ("blah.foo.bar.com/omg:bbq", "*.com", "", "blah.foo.bar.com/omg"),
    ("alien.vs.predator.foobar.io:5000/omg", "*.foobar.io", "", "alien.vs.predator.foobar.io:5000/omg"),
    ("alien.vs.predator.foobar.io:5000/foo@", "*.foobar.io", "", "alien.vs.predator.foobar.io:5000/foo"),
    ("alien.vs.predator.foobar.io:5000/omg:bbq", "*.foobar.io", "", "alien.vs.predator.foobar.io:5000/omg"),
];

/// `TestRewriteReferenceFailedDuringParseNamed`, the rows whose prefix does not match: an image, prefix, location.
const NOT_REWRITTEN: &[(&str, &str, &str)] = &[
    ("example.com/foo/image:latest", "example.com//foo", "example.com/path"),
    ("example.com/image:latest", "image", "anotherimage"),
    ("example.com/foo/image", "example.com/f", "example.com/foo"),
    ("example.com/foo:latest", "example.com/f", "example.com/foo"),
    ("example.com/foo@", "example.com/f", "example.com/foo"),
    ("docker.io/library/image", "example.com", "example.com"),
    ("docker.io/library/image", "*.com", "example.com"),
    ("foo.docker.io/library/image", "*.example.com", "example.com/image"),
    ("foo.docker.io/library/image", "*.docker.com", "example.com/image"),
];

#[test]
fn a_name_is_rewritten_as_in_other_tools() {
    for (name, prefix, location, expected) in REWRITTEN {
        let found = sources(&read(&table(prefix, location), &[]), &name.replace('@', DIGEST)).unwrap();
        assert_eq!(found, [*expected], "{name} {prefix} {location}");
    }
    for (name, prefix, location) in NOT_REWRITTEN {
        let name = name.replace('@', DIGEST);
        let found = sources(&read(&table(prefix, location), &[]), &name);
        assert_eq!(found.unwrap(), sources(&Registries::default(), &name).unwrap(), "{name} {prefix}");
    }
    let no_repository = sources(&read(&table("example.com/foo", "example.com"), &[]), "example.com/foo:1");
    let refused = format!("{:#}", no_repository.unwrap_err());
    assert!(refused.contains("maps `example.com/foo` to it") && refused.contains("repository"), "{refused}");
    // There a prefix without a port matches every port: "unintended and undocumented".
    let other_port = sources(&read(&table("example.com", "elsewhere.com"), &[]), "example.com:5000/image:1");
    assert_eq!(other_port.unwrap(), ["example.com:5000/image"]);
}

/// `TestFindRegistry`, with drop-in files: an image, and the beginning of its location.
const FOUND: &[(&str, &str)] = &[
    ("simple-prefix.com/foo/bar:latest", "registry.com:5000/"),
    ("simple-prefix.com/x", "registry.com:5000/"),
    ("not.so.simple-prefix.com/x", "subdomain-prefix.com/"),
    ("not.quite.simple-prefix.com/x", "subdomain-prefix-2.com/"),
    ("not.quite.simple-prefix.com:5000/with/path/and/beyond:tag", "subdomain-prefix-2.com:5000/"),
    (
        "really.not.quite.simple-prefix.com:5000/with/path/and/beyond:tag",
        "subdomain-prefix-1-overridden-by-dropin-location.com:5000/",
    ),
    ("foo.docker.io:5000/omg/wtf/bbq:foo", "subdomain-prefix-2.com:5000/"),
    ("foo.bar.example.com:6000/omg/wtf/bbq@", "subdomain-prefix-3-overridden-by-dropin-location.com:6000/"),
    ("foo.bar.docker.io:5000/omg/wtf/bbq:foo", "subdomain-prefix-4.com:5000/"),
    ("foo.bar.example.com:5000/omg/wtf/bbq:foo", "subdomain-prefix-5.com/"),
    ("simple-prefix.comx/x", "simple-prefix.comx/"),
    ("complex-prefix.com:4000/with/path/and/beyond:tag", "another-registry.com:5000/"),
    ("no-prefix.com/foo:tag", "no-prefix.com/"),
    ("empty-prefix.com/foo:tag", "empty-prefix.com/"),
];

#[test]
fn a_table_is_found_as_in_other_tools() {
    let registries = read(FIND, DROP_INS);
    for (name, expected) in FOUND {
        let found = sources(&registries, &name.replace('@', DIGEST)).unwrap();
        assert!(found.len() == 1 && found[0].starts_with(expected), "{name}: {found:?}");
    }
    // `TestRegistriesConfDirectory`: a later file replaces a table.
    assert_eq!(sources(&read(BASE, &[]), "base.com/test").unwrap(), ["http:base.com/test"]);
    assert!(sources(&read(BASE, DROP_INS), "base.com/test:latest").is_err());
}

/// `TestPullSourcesFromReference`: a repository, the numbers of the mirrors for a digest and for a tag.
const MIRRORED: &[(&str, &[usize], &[usize])] = &[
    ("registry-a.com/foo", &[1, 2], &[1, 2]),
    ("registry-b.com/foo", &[1, 2], &[]),
    ("registry-a.com/baz", &[1, 2], &[1, 2]),
    ("registry-b.com/baz", &[1, 2], &[]),
    ("registry-c.com/baz", &[1, 2], &[1]),
    ("registry-d.com/baz", &[1, 2], &[]),
    ("registry-e.com/baz", &[], &[1, 2]),
    ("registry-f.com/baz", &[1], &[1, 2]),
    ("registry-g.com/baz", &[1, 3, 4], &[2, 3, 4]),
];

#[test]
fn mirrors_are_tried_as_in_other_tools() {
    let registries = read(PULL_SOURCES, &[]);
    for (repository, by_digest, by_tag) in MIRRORED {
        let registry = repository.split('/').next().unwrap();
        for (version, mirrors) in [(DIGEST, by_digest), (":aaa", by_tag)] {
            let is_insecure = |number: usize| registry == "registry-a.com" && number == 2;
            let mirror = |number: &usize| {
                format!("{}mirror-{number}.{registry}/image", if is_insecure(*number) { "http:" } else { "" })
            };
            let mut expected: Vec<_> = mirrors.iter().map(mirror).collect();
            expected.push(format!("{registry}/bar/image"));
            let name = format!("{repository}/image{version}");
            assert_eq!(sources(&registries, &name).unwrap(), expected, "{name}");
        }
    }
    // `TestMirrors`.
    let two = ["mirror-1.registry.com/image", "http:mirror-2.registry.com/image", "registry.com/image"];
    assert_eq!(sources(&read(MIRRORS, &[]), "registry.com/image:tag").unwrap(), two);
    assert!(sources(&read(MIRRORS, &[]), "blocked.registry.com/image:tag").is_err());
}

/// The tests that only read a file.
#[test]
fn a_file_is_valid_or_not_as_in_other_tools() {
    for file in [EMPTY, FOUR, ONE, NO_SEARCH, EMPTY_SEARCH, EMPTY_HELPERS, HELPERS, SEARCH, ALIASES] {
        assert_eq!(Registries::parse(file).unwrap().warnings(), [""; 0], "{file}");
    }
    assert!(sources(&read(FOUR, &[]), "blocked.registry.com/x").is_err());
    assert_eq!(
        sources(&read(FOUR, &[]), "untrusted.registry.com/x").unwrap(),
        ["http:untrusted.registry.com/x"]
    );
    for (name, file, expected) in INVALID {
        let refused = format!("{:#}", Registries::parse(file).map(|_| ()).expect_err(name));
        assert!(refused.contains(expected), "{name}: {refused}");
    }
    let refused = Registries::parse(VERSION_1).unwrap_err();
    assert!(refused.to_string().contains("version 1"));
    // `TestParseLocation`.
    for location in ["example.com", "example.com/", "example.com//////", "example.com:5000/with/path"] {
        let moved = sources(&read(&table("x.com", location), &[]), "x.com/image").unwrap();
        assert_eq!(moved, [format!("{}/image", location.trim_end_matches('/'))]);
    }
    assert!(Registries::parse(&table("x.com", "https://example.com")).is_err());
    assert!(Registries::parse(&table("x.com", "john.doe@example.com")).is_ok());
}

#[test]
fn short_names_mean_the_same_as_in_other_tools() {
    // `TestFindUnqualifiedSearchRegistries`, `TestRegistriesConfDirectory`.
    let three = ["registry-a.com/x", "registry-c.com/x", "registry-d.com/x"];
    assert_eq!(meanings(&read(SEARCH, &[]), "x").unwrap(), three);
    assert_eq!(meanings(&read(SEARCH, &[NO_SEARCH]), "x").unwrap(), three);
    assert!(meanings(&read(SEARCH, &[EMPTY_SEARCH]), "x").is_err());
    assert_eq!(meanings(&read(BASE, DROP_INS), "x").unwrap(), ["example-overwrite.com/x"]);
    // `TestResolveShortNameAlias`, `TestAliasesWithDropInConfigs`.
    for (name, alone, with_drop_ins) in [
        ("docker", "docker.io/library/foo", "docker.io/library/config1"),
        ("quay/foo", "quay.io/library/foo", "quay.io/library/foo"),
        ("example", "example.com/library/foo", "example-overwrite.com/example"),
        ("empty", "docker.io/library/empty", "example-overwrite.com/empty"),
        ("config1", "docker.io/library/config1", "config1.com/image"),
        ("config2", "docker.io/library/config2", "config2.com/image"),
        ("barz", "docker.io/library/barz", "barz.com/config2"),
        ("added3", "docker.io/library/added3", "xxx.com/image"),
        ("i/do/no/exist", "docker.io/i/do/no/exist", "example-overwrite.com/i/do/no/exist"),
    ] {
        assert_eq!(meanings(&read(ALIASES, &[]), name).unwrap(), [alone], "{name}");
        assert_eq!(meanings(&read(ALIASES, DROP_INS), name).unwrap(), [with_drop_ins], "{name}");
    }
    // `TestGetShortNameMode`, `TestParseShortNameMode`: whether several registries are an error.
    let several = |conf: &str| meanings(&read(SEARCH, &[conf]), "x").is_err();
    let mode = |mode: &str| several(&format!("short-name-mode = '{mode}'"));
    assert!(several(ALIASES) && !several(DROP_INS[1]) && !several(DROP_INS[2]));
    assert!(mode("enforcing") && !mode("permissive") && !mode("disabled"));
    assert!(Registries::parse("short-name-mode = 'xxx'").is_err());
    let overridden = read(ALIASES, &[DROP_INS[1], SEARCH]);
    assert_eq!(meanings(&overridden, "x").unwrap().len(), 3);
}

#[test]
fn aliases_are_valid_or_not_as_in_other_tools() {
    let alias = |name: &str, value: &str| Registries::parse(&format!("[aliases]\n'{name}' = '{value}'\n"));
    let short = "@sha256:b87dd5f837112a9e1e9882963a6406387597698268c0ad371b187151a5dfe6bf";
    // `TestParseShortNameValue`.
    for value in [
        "docker.io/library/fedora",
        "localhost/fedora",
        "localhost:5000/fedora",
        "localhost:5000/namespace/fedora",
        "docker.io/fedora",
    ] {
        let meant = meanings(&alias("x", value).unwrap(), "x").unwrap();
        assert_eq!(meant, [value.replace("docker.io/fedora", "docker.io/library/fedora")]);
    }
    let by_digest = format!("docker.io/library/fedora{short}");
    for value in [
        "docker.io/library/fedora:latest",
        &by_digest,
        "fedora",
        "fedora:latest",
        "library/fedora",
        "library/fedora:latest",
        "$$4455%%",
        "docker://foo",
        "docker-archive://foo",
    ] {
        assert!(alias("x", value).is_err(), "{value}");
    }
    // `TestValidateShortName`.
    for name in ["library/fedora", "fedora", "1234567489"] {
        assert!(alias(name, "example.com/x").is_ok(), "{name}");
    }
    for name in [
        "docker.io/library/fedora:latest",
        &by_digest,
        "fedora:latest",
        "library/fedora:latest",
        "$$4455%%",
        "docker://foo",
        "docker-archive://foo",
        "",
    ] {
        assert!(alias(name, "example.com/x").is_err(), "{name}");
    }
}

/// `TestCredentialHelpers`. No helper means that only auth.json is asked, as `["containers-auth.json"]` does.
#[test]
fn credential_helpers_are_the_same_as_in_other_tools() {
    assert_eq!(read(HELPERS, &[]).credential_helpers(), ["helper-1", "helper-2"]);
    assert_eq!(read(EMPTY, &[]).credential_helpers(), [""; 0]);
    assert_eq!(read(HELPERS, &[EMPTY_HELPERS]).credential_helpers(), [""; 0]);
    assert_eq!(read(HELPERS, DROP_INS).credential_helpers(), ["dropin-1", "dropin-2"]);
}
