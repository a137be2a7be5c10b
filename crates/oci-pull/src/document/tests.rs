use super::*;
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn digest() -> String {
    Digest::of(b"layer").to_string()
}

fn here() -> Machine {
    "linux/arm64".parse().unwrap()
}

fn parsed(value: &Value) -> anyhow::Result<ImageConfiguration> {
    configuration(value.to_string().as_bytes(), &here())
}

/// image-spec, config.md: `architecture` and `os` are "REQUIRED"; makers leave them empty, and podman runs such images.
#[test]
fn a_configuration_that_names_no_platform_is_for_this_machine() {
    for platform in [
        json!({}),
        json!({"architecture": "", "os": ""}),
        json!({"architecture": null, "os": null, "variant": null}),
        json!({"os": "linux"}),
        json!({"architecture": "arm64"}),
    ] {
        let mut value = platform.clone();
        value["rootfs"] = json!({"type": "layers", "diff_ids": []});
        let configuration = parsed(&value).unwrap();
        assert_eq!(configuration.architecture().to_string(), "arm64", "{platform}");
        assert_eq!(configuration.os().to_string(), "linux", "{platform}");
    }
    let other = parsed(&json!({"architecture": "s390x", "os": "linux"})).unwrap();
    assert_eq!(here().rank(other.architecture(), None), None);
    assert!(parsed(&json!({"architecture": 7})).is_err());
}

/// image-spec, config.md, `rootfs.type`: "MUST be set to `layers`. Implementations MUST generate an error if they encounter a
/// unknown value while verifying or unpacking an image."
#[test]
fn a_root_file_system_consists_of_layers() {
    for rootfs in [json!({"type": "layers"}), json!({"type": null, "diff_ids": null}), json!({}), Value::Null]
    {
        let configuration = parsed(&json!({"rootfs": rootfs})).unwrap();
        assert!(configuration.rootfs().diff_ids().is_empty());
    }
    for kind in ["layers+base", "zfs", "Layers", ""] {
        let error = parsed(&json!({"rootfs": {"type": kind, "diff_ids": []}})).unwrap_err().to_string();
        assert_eq!(error, format!("its root file system has the unknown type `{kind}`"));
    }
}

/// Go writes an absent list or map as `null`. manifest.md, image-index.md and config.md know no `null`; podman reads it.
#[test]
fn null_is_absent_wherever_it_is() {
    let whole = json!({
        "architecture": "arm64", "os": "linux", "created": null, "author": null, "os.features": null,
        "config": {
            "User": null, "Env": null, "Entrypoint": null, "Cmd": ["sh"], "WorkingDir": null, "StopSignal": null,
            "Volumes": {"/data": null}, "ExposedPorts": {"80/tcp": null}, "Labels": {"name": null}, "OnBuild": null,
            "Healthcheck": null, "Shell": null,
        },
        "history": [null, {"created": null}], "rootfs": {"type": null, "diff_ids": null},
    });
    let configuration = parsed(&whole).unwrap();
    let config = configuration.config().as_ref().unwrap();
    assert_eq!(config.volumes().as_deref(), Some(&["/data".to_owned()][..]));
    assert_eq!(config.exposed_ports().as_deref(), Some(&["80/tcp".to_owned()][..]));
    assert_eq!(config.labels().as_ref().unwrap()["name"], "");
    assert_eq!(config.cmd().as_deref(), Some(&["sh".to_owned()][..]));
    assert!(config.env().is_none() && config.user().is_none());
    assert!(parsed(&json!({"config": null, "rootfs": null})).unwrap().config().is_none());
    let config = || {
        json!({"mediaType": null, "digest": digest(), "size": 2, "annotations": null, "urls": null,
        "platform": {}, "artifactType": null, "data": null})
    };
    for layers in [json!(null), json!([])] {
        let text = json!({"schemaVersion": 2, "mediaType": null, "artifactType": null, "subject": null,
            "annotations": {"a": null}, "config": config(), "layers": layers});
        let manifest = manifest(text.to_string().as_bytes()).unwrap();
        assert!(manifest.layers().is_empty() && manifest.config().media_type().as_ref().is_empty());
    }
    let layered = json!({"config": config(), "layers": [config()]}).to_string();
    assert_eq!(manifest(layered.as_bytes()).unwrap().layers().len(), 1);
    let index = |text: Value| index(text.to_string().as_bytes());
    let listed = json!({"schemaVersion": 2, "annotations": null, "manifests": [{"mediaType": MANIFEST, "size": 1,
        "digest": digest(), "annotations": {"a": null}, "urls": null,
        "platform": {"architecture": null, "os.features": ["x"], "variant": null, "features": null}}]});
    let listed = index(listed).unwrap();
    let platform = listed.manifests()[0].platform().as_ref().unwrap();
    assert_eq!((platform.architecture().to_string(), platform.os().to_string()), ("".into(), "".into()));
    assert_eq!(platform.os_features().as_deref(), Some(&["x".to_owned()][..]));
    assert!(index(json!({"schemaVersion": 2, "manifests": null})).unwrap().manifests().is_empty());
    // It could be any document, such as an error of a registry.
    assert!(index(json!({"schemaVersion": 2})).is_err() && index(json!({"errors": []})).is_err());
}

/// Where `null` is one of several values, readers disagree about what is there.
#[test]
fn null_in_a_list_is_an_error() {
    assert!(parsed(&json!({"config": {"Cmd": ["sh", null]}})).is_err());
    let text = json!({"config": {"digest": digest(), "size": 2}, "layers": [null]}).to_string();
    assert!(manifest(text.as_bytes()).is_err());
}

/// descriptor.md, `size`: "If the length of the retrieved content does not match the specified length, the content SHOULD NOT
/// be trusted."
#[test]
fn a_size_that_contradicts_the_content_is_an_error() {
    let entry = |size: usize| -> Descriptor {
        serde_json::from_value(json!({"mediaType": MANIFEST, "digest": digest(), "size": size})).unwrap()
    };
    check_size(&entry(5), "the index", b"layer").unwrap();
    for size in [0, 4, 6] {
        let error = check_size(&entry(size), "the index", b"layer").unwrap_err().to_string();
        assert_eq!(error, format!("the index states {size} bytes for `{}`, which has 5", digest()));
    }
}
