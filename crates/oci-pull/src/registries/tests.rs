use super::*;

const CONF: &str = r#"
[[registry]]
location = "10.0.2.2:5000"
insecure = true

[[registry]]
prefix = "r.example/team"
location = "mirror.example/copy"

[[registry]]
prefix = "r.example/team/secret"
blocked = true

[[registry]]
prefix = "*.wild.example"
insecure = true

[[registry]]
prefix = "*.deep.wild.example"
location = "flat.example/deep"

[[registry]]
prefix = "many.example"
location = "main.example/many"
[[registry.mirror]]
location = "one.example"
[[registry.mirror]]
location = "two.example/x/"
insecure = true
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "three.example"
pull-from-mirror = "tag-only"
[[registry.mirror]]
location = "r.example/team/secret"

[[registry]]
location = "sure.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "copy.example"
"#;

const DIGEST: &str = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn bases(conf: &str, name: &str) -> anyhow::Result<Vec<String>> {
    let sources = Registries::parse(conf)?.sources(&name.parse()?)?;
    Ok(sources.iter().map(|source| source.base().replace("/v2/", "|")).collect())
}

#[test]
fn locations_are_tried_in_order() {
    for (name, expected) in [
        ("10.0.2.2:5000/x", &["http://10.0.2.2:5000|x"][..]),
        ("10.0.2.2:50001/x", &["https://10.0.2.2:50001|x"]),
        ("busybox", &["https://registry-1.docker.io|library/busybox"]),
        // The longest prefix counts, and a prefix ends at the end of a component.
        ("r.example/team/x", &["https://mirror.example|copy/x"]),
        ("r.example/teams/x", &["https://r.example|teams/x"]),
        // `*.` matches one or more labels.
        ("a.wild.example/x", &["http://a.wild.example|x"]),
        ("a.b.wild.example:5000/x", &["http://a.b.wild.example:5000|x"]),
        ("wild.example/x", &["https://wild.example|x"]),
        ("awild.example/x", &["https://awild.example|x"]),
        ("other.example/a.wild.example/x", &["https://other.example|a.wild.example/x"]),
        ("a.deep.wild.example/x", &["https://flat.example|deep/x"]),
        // A blocked mirror is skipped.
        (
            "many.example/x",
            &["https://one.example|x", "https://three.example|x", "https://main.example|many/x"],
        ),
        (
            &format!("many.example/x{DIGEST}"),
            &["https://one.example|x", "http://two.example|x/x", "https://main.example|many/x"],
        ),
        ("sure.example/x:1", &["https://sure.example|x"]),
        (&format!("sure.example/x{DIGEST}"), &["https://copy.example|x", "https://sure.example|x"]),
    ] {
        assert_eq!(bases(CONF, name).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_blocked_image_is_refused() {
    for name in ["r.example/team/secret", "r.example/team/secret/x:1"] {
        assert!(bases(CONF, name).unwrap_err().to_string().contains("blocks `r.example/team/secret`"));
    }
    let elsewhere = "[[registry]]\nprefix = \"a.example\"\nlocation = \"b.example\"\nblocked = true\n";
    assert!(bases(elsewhere, "a.example/x").unwrap_err().to_string().contains("blocks `a.example`"));
    let only_place = "[[registry]]\nprefix = \"a.example\"\nlocation = \"b.example/sub\"\n\
                      [[registry]]\nprefix = \"b.example\"\nblocked = true\n";
    assert!(bases(only_place, "a.example/x").unwrap_err().to_string().contains("blocks"));
}

#[test]
fn docker_hub_is_blocked_moved_and_mirrored_by_any_of_its_names() {
    for spelling in ["docker.io", "index.docker.io", "registry-1.docker.io", "Docker.IO"] {
        let table = |more: &str| format!("[[registry]]\nprefix = \"{spelling}\"\n{more}");
        for name in [
            "busybox",
            "index.docker.io/busybox",
            "registry-1.docker.io/library/busybox",
            "docker.io:443/busybox",
        ] {
            let error = bases(&table("blocked = true"), name).unwrap_err();
            assert!(error.to_string().contains("blocks `docker.io`"), "{spelling}, {name}: {error}");
            let moved = bases(&table("location = \"copy.example/hub\""), name).unwrap();
            assert_eq!(moved, ["https://copy.example|hub/library/busybox"], "{spelling}, {name}");
        }
    }
    let back = "[[registry]]\nprefix = \"r.example\"\nlocation = \"index.docker.io/team\"\n";
    assert_eq!(bases(back, "r.example/x").unwrap(), ["https://registry-1.docker.io|team/x"]);
}

#[test]
fn invalid_configurations_are_refused() {
    for (conf, expected) in [
        ("[[registry]]\ninsecure = true\n", "neither `prefix` nor `location`"),
        ("registry = 3", "version 2"),
        ("[registries.search]\nregistries = ['docker.io']\n", "version 1"),
        ("[[registry]]\nlocation = 'https://a.example'\n", "is a URL"),
        ("[[registry]]\nprefix = '*.a.example/b'\n", "`*.`"),
        ("[[registry]]\nlocation = 'a.example'\npull-from-mirror = 'all'\n", "table of a mirror"),
        ("[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\n", "has no `location`"),
        (
            "[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\nlocation = 'b'\npull-from-mirror = 'x'\n",
            "`tag-only`",
        ),
        (
            "[[registry]]\nlocation = 'a.example'\nmirror-by-digest-only = true\n\
             [[registry.mirror]]\nlocation = 'b'\npull-from-mirror = 'all'\n",
            "only one is allowed",
        ),
        (
            "[[registry]]\nprefix = 'a.example/x'\nlocation = 'b.example'\n\
             [[registry]]\nlocation = 'b.example'\ninsecure = true\n",
            "is listed twice",
        ),
        ("unqualified-search-registries = ['a.example/b']", "not a host"),
        ("short-name-mode = 'strict'", "`strict`"),
        ("[aliases]\n'a:1' = 'r.example/a'\n", "the alias `a:1`"),
        ("[aliases]\n'r.example/a' = 'r.example/b'\n", "the alias `r.example/a`"),
        ("[aliases]\na = 'r.example/a:1'\n", "stands for `r.example/a:1`"),
        ("[aliases]\na = 'b'\n", "stands for `b`"),
    ] {
        let error = Registries::parse(conf).map(|_| ()).expect_err(conf);
        assert!(format!("{error:#}").contains(expected), "{conf}: {error:#}");
    }
    let version_1 = Registries::parse("[registries.block]\nregistries = []\n").unwrap_err();
    assert!(hint::of(&version_1).unwrap().contains("[[registry]]"));
}

#[test]
fn unknown_keys_have_no_effect_and_are_reported() {
    let conf = "colour = 1\n[[registry]]\nlocation = 'a.example'\ninsecur = true\n\
                [[registry.mirror]]\nlocation = 'b.example'\nblocked = true\n";
    let registries = Registries::parse(conf).unwrap();
    let told = registries.warnings().join("\n");
    assert_eq!(registries.warnings().len(), 3);
    for part in
        ["`colour` in registries.conf", "`insecur` in `[[registry]]`", "`blocked` in `[[registry.mirror]]`"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn later_files_replace_tables_by_prefix_and_settings_by_name() {
    let mut registries = Registries::parse(
        "unqualified-search-registries = ['a.example']\nshort-name-mode = 'enforcing'\n\
         [aliases]\none = 'a.example/one'\ntwo = 'a.example/two'\n\
         [[registry]]\nlocation = 'a.example'\ninsecure = true\n[[registry.mirror]]\nlocation = 'b.example'\n\
         [[registry]]\nlocation = 'c.example'\ninsecure = true\n",
    )
    .unwrap();
    let later = "unqualified-search-registries = ['x.example', 'y.example']\n[aliases]\none = ''\n\
                 [[registry]]\nlocation = 'a.example'\n";
    registries.overlay(Registries::parse(later).unwrap());
    let bases = |name: &str| {
        let sources = registries.sources(&name.parse().unwrap()).unwrap();
        sources.iter().map(Endpoint::base).collect::<Vec<_>>()
    };
    assert_eq!(bases("a.example/x"), ["https://a.example/v2/x"]);
    assert_eq!(bases("c.example/x"), ["http://c.example/v2/x"]);
    let meant = |name: &str| registries.candidates(&name.parse().unwrap());
    assert_eq!(meant("two:3").unwrap()[0].to_string(), "a.example/two:3");
    assert!(meant("one").unwrap_err().to_string().contains("`x.example`, `y.example`"));
}

#[test]
fn short_names_mean_what_the_file_says() {
    let meant = |conf: &str, name: &str| -> anyhow::Result<Vec<String>> {
        let candidates = Registries::parse(conf)?.candidates(&name.parse()?)?;
        Ok(candidates.iter().map(ToString::to_string).collect())
    };
    let two = "unqualified-search-registries = ['a.example', 'docker.io']\n";
    let enforcing = "short-name-mode = 'enforcing'\n";
    let alias = "[aliases]\ntool = 'r.example/team/tool'\n'user/tool' = 'docker.io/tool'\n";
    for (conf, name, expected) in [
        (String::new(), "tool", &["docker.io/library/tool:latest"][..]),
        (two.into(), "tool:1", &["a.example/tool:1", "docker.io/library/tool:1"]),
        (two.into(), "user/tool", &["a.example/user/tool:latest", "docker.io/user/tool:latest"]),
        (two.into(), "docker.io/tool", &["docker.io/library/tool:latest"]),
        (two.into(), "localhost/tool", &["localhost/tool:latest"]),
        (
            format!("{enforcing}unqualified-search-registries = ['a.example']\n"),
            "tool",
            &["a.example/tool:latest"],
        ),
        (format!("{two}{enforcing}{alias}"), "tool:1", &["r.example/team/tool:1"]),
        (format!("{two}{enforcing}{alias}"), "user/tool", &["docker.io/library/tool:latest"]),
    ] {
        assert_eq!(meant(&conf, name).unwrap(), expected, "{conf}{name}");
    }
    assert_eq!(meant(two, &format!("tool{DIGEST}")).unwrap()[0], format!("a.example/tool{DIGEST}"));
    assert!(meant(&format!("{two}{enforcing}"), "tool").is_err());
    assert!(
        meant("unqualified-search-registries = []", "tool")
            .unwrap_err()
            .to_string()
            .contains("has none to search")
    );
}
