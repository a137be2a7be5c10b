//! The documents of the tests of image-spec's JSON Schemas (`schema/*_test.go`), typed anew: what is valid there is read here,
//! and what is not is refused, except where [`OTHERWISE`] states a reason. `bench/results/` has the counts.

use super::compression::Compression;
use super::manifest::{ManifestDocument, ManifestKind, descriptor_digest};
use crate::local::{Files, Layout};
use crate::{ambiguity, document};
use oci_reference::platform::Machine;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const HEX: &str = "c86f7763873b6c0aae22d963bab59b4f5debbed6685761b5951584f6efb0633b";
const BASE58: &str = "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8";
const BASE64: &str = "LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564";

/// The kind of a document, which decides how it is read.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Manifest,
    Index,
    Config,
    Descriptor,
    LayoutHeader,
}
use Kind::{Config, Descriptor, Index, LayoutHeader, Manifest};

/// A document, and whether it is valid there.
type Row = (Kind, &'static str, String, bool);

/// What is decided otherwise here, and why.
const OTHERWISE: &[(&str, &str)] = &[
    ("manifest: no layers", "manifest.md: `layers` only SHOULD have an entry; podman runs such an image"),
    ("manifest: other digest algorithms", OTHER_DIGEST),
    ("manifest: artifact", ARTIFACT),
    ("manifest: artifact with an empty config", ARTIFACT),
    ("index: invalid media type of an entry", UNKNOWN_TYPE),
    ("index: invalid media type of another entry", UNKNOWN_TYPE),
    ("index: empty media type of an entry", "the document behind the entry states its type"),
    (
        "index: no architecture in a platform",
        "the image's config states it, as for an entry without a platform",
    ),
    ("config: a variable without a value", "podman runs such an image"),
    ("descriptor: no media type", "the document behind the entry states its type"),
    ("descriptor: media type without a subtype", UNKNOWN_TYPE),
    ("descriptor: media type that begins with a dot", UNKNOWN_TYPE),
    ("descriptor: subtype that begins with a dot", UNKNOWN_TYPE),
    ("descriptor: long type", UNKNOWN_TYPE),
    ("descriptor: long subtype", UNKNOWN_TYPE),
    ("descriptor: invalid URL", UNUSED),
    ("descriptor: invalid artifact type", UNKNOWN_TYPE),
    ("descriptor: data without padding", UNUSED),
    ("descriptor: sha256+b64", OTHER_DIGEST),
    ("descriptor: sha256+b64 again", OTHER_DIGEST),
    ("descriptor: sha256+foo-bar", OTHER_DIGEST),
    ("descriptor: sha256.foo-bar", OTHER_DIGEST),
    ("descriptor: multihash", OTHER_DIGEST),
    ("descriptor: sha256+b64u", OTHER_DIGEST),
    ("descriptor: sha256+b64u.unknownlength", OTHER_DIGEST),
];
const OTHER_DIGEST: &str =
    "only SHA-256 is computed, which descriptor.md demands; an entry with another digest is not chosen";
const ARTIFACT: &str = "an artifact cannot be run";
const UNKNOWN_TYPE: &str =
    "image-index.md: an unknown type MUST NOT generate an error; the entry is passed over";
const UNUSED: &str = "the field is not used";

fn sha256(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

/// A descriptor with these fields in addition or instead.
fn descriptor(media_type: &str, further: Value) -> Value {
    with(json!({"mediaType": media_type, "size": 1470, "digest": sha256("5")}), further)
}

/// An object with further members; those that are `null` are removed.
fn with(mut object: Value, further: Value) -> Value {
    for (key, value) in further.as_object().unwrap() {
        object[key] = value.clone();
    }
    object.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    object
}

fn manifest(further: Value) -> String {
    let whole = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, json!({})),
        "layers": [descriptor(LAYER, json!({}))]});
    with(whole, further).to_string()
}

fn manifests() -> Vec<Row> {
    let digests = |config: &str, layers: &[&str]| {
        let config = descriptor(CONFIG, json!({"digest": config}));
        let layers: Vec<_> =
            layers.iter().map(|digest| descriptor(LAYER, json!({"digest": digest}))).collect();
        manifest(json!({"config": config, "layers": layers}))
    };
    let [b64, foo_bar, dot, bad] = ["sha256+b64", "sha256+foo-bar", "sha256.foo-bar", "sha256+foo+-b"]
        .map(|name| format!("{name}:{HEX}"));
    let three = vec![descriptor(LAYER, json!({})); 3];
    let artifact = |kind: &str| json!([descriptor(kind, json!({}))]);
    let of = |name, text, is_valid| (Manifest, name, text, is_valid);
    vec![
        of(
            "manifest: invalid type of the config",
            manifest(json!({"config": descriptor("invalid", json!({}))})),
            false,
        ),
        of(
            "manifest: size of the config as text",
            manifest(json!({"config": descriptor(CONFIG, json!({"size": "1470"}))})),
            false,
        ),
        of(
            "manifest: size of a layer as text",
            manifest(json!({"layers": [descriptor(LAYER, json!({"size": "675598"}))]})),
            false,
        ),
        of(
            "manifest: all fields",
            manifest(json!({"layers": three, "annotations": {"key1": "value1", "key2": "value2"}})),
            true,
        ),
        of("manifest: required fields", manifest(json!({"layers": three})), true),
        of("manifest: no layers", manifest(json!({"layers": []})), false),
        of("manifest: other digest algorithms", digests(&b64, &[&foo_bar, &dot, BASE58]), true),
        of("manifest: a subject", manifest(json!({"subject": descriptor(MANIFEST, json!({}))})), true),
        of("manifest: a subject that is none", manifest(json!({"subject": ".nope"})), false),
        of("manifest: invalid digest algorithm", digests(&b64, &[&bad]), false),
        of(
            "manifest: artifact",
            manifest(json!({"config": descriptor("application/vnd.example.config+json", json!({})),
                "layers": artifact("application/vnd.example.data+type")})),
            true,
        ),
        of(
            "manifest: artifact with an empty config",
            manifest(json!({"artifactType": "application/vnd.example+type",
                "config": descriptor("application/vnd.oci.empty.v1+json", json!({})),
                "layers": artifact("application/vnd.example+type")})),
            true,
        ),
        // backwards_compatibility_test.go
        of(
            "manifest: of Docker, with an old type of config",
            manifest(json!({"mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": descriptor("application/octet-stream", json!({})),
                "layers": vec![descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", json!({})); 4]})),
            true,
        ),
    ]
}

fn indexes() -> Vec<Row> {
    let platform = |architecture: &str| json!({"platform": {"architecture": architecture, "os": "linux"}});
    let index = |entries: Value, further: Value| {
        with(json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), further).to_string()
    };
    let one = |media_type: &str, further: Value| {
        index(json!([with(descriptor(media_type, platform("amd64")), further)]), json!({}))
    };
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let docker = ["ppc64le", "amd64", "s390x", "arm", "arm64"].map(|it| descriptor(docker, platform(it)));
    let two = || json!([descriptor(MANIFEST, platform("ppc64le")), descriptor(MANIFEST, platform("amd64"))]);
    let artifact = json!({"artifactType": "application/vnd.example1+type"});
    let of = |name, text, is_valid| (Index, name, text, is_valid);
    vec![
        of("index: invalid media type of an entry", one("invalid", platform("ppc64le")), false),
        of("index: size as text", one(MANIFEST, json!({"size": "7682"})), false),
        of("index: no digest", one(MANIFEST, json!({"digest": null})), false),
        of(
            "index: no architecture in a platform",
            one(MANIFEST, json!({"platform": {"os": "linux"}})),
            false,
        ),
        of("index: invalid media type of another entry", one("invalid", json!({})), false),
        of("index: empty media type of an entry", one("", json!({})), false),
        of("index: all fields", index(two(), json!({"annotations": {"com.example.key1": "value1"}})), true),
        of("index: required fields", index(json!([descriptor(MANIFEST, json!({}))]), json!({})), true),
        of(
            "index: another media type of an entry",
            one("application/customized.manifest+json", json!({})),
            true,
        ),
        of(
            "index: of artifacts",
            index(
                json!([descriptor(MANIFEST, json!({})), descriptor(MANIFEST, artifact)]),
                json!({"artifactType": "application/vnd.example+type"}),
            ),
            true,
        ),
        of("index: a subject", index(two(), json!({"subject": descriptor(MANIFEST, json!({}))})), true),
        of("index: a subject that is none", index(two(), json!({"subject": "nope"})), false),
        // backwards_compatibility_test.go
        of(
            "index: of Docker",
            index(
                json!(docker),
                json!({"mediaType": "application/vnd.docker.distribution.manifest.list.v2+json"}),
            ),
            true,
        ),
    ]
}

fn configs() -> Vec<Row> {
    let config = |further: Value| {
        let rootfs = json!({"type": "layers", "diff_ids": [sha256("5")]});
        with(json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}), further).to_string()
    };
    let of = |name, text, is_valid| (Config, name, text, is_valid);
    let whole = json!({
        "created": "2015-10-31T22:22:56.015925234Z", "author": "A <a@example.com>", "architecture": "arm64", "variant": "v8",
        "config": {"User": "1:1", "ExposedPorts": {"8080/tcp": {}}, "Env": ["PATH=/bin", "FOO=docker_is_a_really"],
            "Entrypoint": ["/bin/sh"], "Cmd": ["--foreground"], "Volumes": {"/var/job-result-data": {}},
            "StopSignal": "SIGKILL", "WorkingDir": "/home/alice", "Labels": {"com.example.project.git.url": "x"}},
        "history": [{"created": "2015-10-31T22:22:54.690851953Z", "created_by": "/bin/sh -c #(nop) ADD file"},
            {"created": "2015-10-31T22:22:55.613815829Z", "created_by": "CMD", "empty_layer": true}],
    });
    let docker = |more: Value| {
        let config = json!({"Hostname": "09713501c176", "Domainname": "", "User": "", "AttachStdin": false, "Tty": false,
            "OpenStdin": false, "StdinOnce": false, "Env": ["PATH=/bin"], "Image": sha256("6"), "Volumes": null,
            "WorkingDir": "", "OnBuild": [], "Labels": {}});
        let config = with(config, more);
        json!({"container": "0971", "config": config, "container_config": config, "docker_version": "1.10.3",
            "created": "2016-08-23T20:36:26.394Z", "history": [{"created": "2016-06-23T19:55:16.9Z", "author": ""}]})
    };
    let mut fedora = docker(json!({}));
    fedora["config"]["Entrypoint"] = Value::Null;
    fedora["config"]["Cmd"] = Value::Null;
    vec![
        of("config: system as number", config(json!({"os": 123})), false),
        of("config: variant as number", config(json!({"architecture": "arm64", "variant": 123})), false),
        of("config: user as number", config(json!({"config": {"User": 1234}})), false),
        of("config: history as text", config(json!({"history": "should be an array", "os": 123})), false),
        of("config: variable as number", config(json!({"os": 123, "config": {"Env": [7353]}})), false),
        of(
            "config: list of volumes",
            config(json!({"os": 123, "config": {"Volumes": ["/var/data", "/var/logs"]}})),
            false,
        ),
        of("config: no JSON", "invalid JSON".into(), false),
        of("config: all fields", config(whole), true),
        of("config: required fields", config(json!({})), true),
        of("config: a variable without a value", config(json!({"config": {"Env": ["foo"]}})), false),
        // backwards_compatibility_test.go
        of(
            "config: of Docker",
            config(docker(json!({"Cmd": ["sh"], "Entrypoint": ["docker-entrypoint.sh"]}))),
            true,
        ),
        of("config: of Docker, without a command", config(fedora), true),
    ]
}

fn descriptors() -> Vec<Row> {
    let plain = |further: Value| descriptor(MANIFEST, further).to_string();
    let typed = |media_type: &str| descriptor(media_type, json!({})).to_string();
    let digest = |digest: String| descriptor(CONFIG, json!({"digest": digest})).to_string();
    let long = |letters: usize| "1234567890".repeat(13)[..letters].to_owned();
    let text = "aHR0cHM6Ly9naXRodWIuY29tL29wZW5jb250YWluZXJzCg";
    let of = |name, text, is_valid| (Descriptor, name, text, is_valid);
    vec![
        of("descriptor: valid", plain(json!({})), true),
        of(
            "descriptor: of no bytes",
            descriptor("application/octet-stream", json!({"size": 0})).to_string(),
            true,
        ),
        of("descriptor: no media type", plain(json!({"mediaType": null})), false),
        of("descriptor: media type without a subtype", typed("application"), false),
        of("descriptor: media type that begins with a dot", typed(".foo/bar"), false),
        of("descriptor: subtype that begins with a dot", typed("foo/.bar"), false),
        of("descriptor: longest media type", typed(&format!("{0}/{0}", long(127))), true),
        of("descriptor: long type", typed(&format!("{}/bar", long(128))), false),
        of("descriptor: long subtype", typed(&format!("foo/{}", long(128))), false),
        of("descriptor: no size", plain(json!({"size": null})), false),
        of("descriptor: size as text", plain(json!({"size": "7682"})), false),
        of("descriptor: no digest", plain(json!({"digest": null})), false),
        of("descriptor: no algorithm", digest(format!(":{HEX}")), false),
        of("descriptor: no hash", digest("sha256".into()), false),
        of("descriptor: algorithm in capitals", digest(format!("SHA256:{HEX}")), false),
        of("descriptor: hash in capitals", digest(format!("sha256:{}", HEX.to_uppercase())), false),
        of("descriptor: URL", plain(json!({"urls": ["https://example.com/foo"]})), true),
        of("descriptor: invalid URL", plain(json!({"urls": ["value"]})), false),
        of("descriptor: artifact type", plain(json!({"artifactType": MANIFEST})), true),
        of("descriptor: invalid artifact type", plain(json!({"artifactType": "foo/.bar"})), false),
        of("descriptor: data", plain(json!({"data": format!("{text}==")})), true),
        of("descriptor: sha256+b64", digest(format!("sha256+b64:{HEX}")), true),
        of("descriptor: sha256+b64 again", digest(format!("sha256+b64:{HEX}")), true),
        of("descriptor: sha256+foo-bar", digest(format!("sha256+foo-bar:{HEX}")), true),
        of("descriptor: sha256.foo-bar", digest(format!("sha256.foo-bar:{HEX}")), true),
        of("descriptor: multihash", digest(BASE58.into()), true),
        of("descriptor: invalid algorithm", digest(format!("sha256+foo+-b:{HEX}")), false),
        of("descriptor: sha256+b64u", digest(format!("sha256+b64u:{BASE64}")), true),
        of(
            "descriptor: sha256+b64u.unknownlength",
            digest(format!("sha256+b64u.unknownlength:{BASE64}=")),
            true,
        ),
        of("descriptor: data without padding", plain(json!({"data": text})), false),
        of("descriptor: negative size", plain(json!({"size": -7682})), false),
    ]
}

fn layout_headers() -> Vec<Row> {
    let of = |name, text: &str, is_valid| (LayoutHeader, name, text.to_owned(), is_valid);
    vec![
        of("layout: version as number", r#"{"imageLayoutVersion": 1.0.0}"#, false),
        of("layout: version", r#"{"imageLayoutVersion": "1.0.0"}"#, true),
    ]
}

/// Reads a document as a pull does.
fn read(kind: Kind, text: &str) -> anyhow::Result<()> {
    let bytes = text.as_bytes();
    match kind {
        Manifest => {
            let ManifestDocument::Manifest(manifest) = ManifestDocument::parse(bytes, ManifestKind::Image)?
            else {
                anyhow::bail!("it is an index");
            };
            descriptor_digest(manifest.config())?;
            manifest.layers().iter().try_for_each(|layer| {
                Compression::stated(layer.media_type().as_ref())?;
                descriptor_digest(layer).map(drop)
            })
        }
        Index => {
            ambiguity::refuse(bytes, "", None)?;
            ambiguity::index(bytes).map(drop)
        }
        Config => document::configuration(bytes, &Machine::usual()).map(drop),
        Descriptor => {
            let index = format!(r#"{{"schemaVersion": 2, "manifests": [{text}]}}"#);
            descriptor_digest(&ambiguity::index(index.as_bytes())?.manifests()[0]).map(drop)
        }
        LayoutHeader => {
            let directory = tempfile::tempdir()?;
            std::fs::write(directory.path().join("oci-layout"), text)?;
            std::fs::write(directory.path().join("index.json"), r#"{"schemaVersion": 2, "manifests": []}"#)?;
            Layout::open(Files::directory(directory.path())?).map(drop)
        }
    }
}

#[test]
fn documents_are_valid_as_for_the_schemas_of_image_spec() {
    let rows: Vec<Row> =
        [manifests(), indexes(), configs(), descriptors(), layout_headers()].into_iter().flatten().collect();
    let differ = rows.iter().filter(|(kind, _, text, is_valid)| read(*kind, text).is_ok() != *is_valid);
    let differ: Vec<_> = differ.map(|(_, name, ..)| *name).collect();
    let expected: Vec<_> = OTHERWISE.iter().map(|(name, _)| *name).collect();
    let (mut found, mut wanted) = (differ.clone(), expected);
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{} of {} agree", rows.len() - differ.len(), rows.len());
    assert_eq!((rows.len(), differ.len()), (71, 25), "the counts in bench/results/");
}
