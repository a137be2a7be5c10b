//! Reads manifests, indexes and configs as makers write them.
//!
//! Most makers are written in Go. Its encoding/json writes an absent list or map as `null`, and reads `null` as absent;
//! fields that must be there become empty texts. Two readers of such a document see the same image, so it is read as Go
//! reads it. Where readers would see different images, [`crate::ambiguity`] refuses the document.

use crate::ambiguity;
use hint::hinted;
use oci_reference::digest::Digest;
use oci_reference::platform::Machine;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde_json::{Map, Value, json};

/// The only type of a root file system (OCI image-spec, config.md, `rootfs`).
const LAYERS: &str = "layers";

/// Parses the manifest of an image or of an artifact (OCI image-spec, manifest.md; Docker's schema 2).
///
/// # Errors
/// When it is none, or is ambiguous.
pub(super) fn manifest(bytes: &[u8]) -> anyhow::Result<ImageManifest> {
    let mut value = read("the manifest", bytes)?;
    if let Some(manifest) = value.as_object_mut() {
        add(manifest, "schemaVersion", json!(2));
        add(manifest, "layers", json!([]));
        let layers = manifest.get_mut("layers").and_then(Value::as_array_mut);
        let layers = layers.into_iter().flatten().filter_map(Value::as_object_mut);
        layers.for_each(complete_blob);
        if let Some(config) = manifest.get_mut("config").and_then(Value::as_object_mut) {
            complete_blob(config);
        }
    }
    Ok(serde_json::from_value(value)?)
}

/// Parses an index (OCI image-spec, image-index.md; Docker's manifest list). [`ambiguity::index`] also limits its entries.
///
/// # Errors
/// When it is none, or is ambiguous.
pub(super) fn index(bytes: &[u8]) -> anyhow::Result<ImageIndex> {
    let mut value = read("the list", bytes)?;
    if let Some(index) = value.as_object_mut() {
        add(index, "schemaVersion", json!(2));
        let entries = index.get_mut("manifests").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
            add(entry, "mediaType", json!(""));
            if let Some(platform) = entry.get_mut("platform").and_then(Value::as_object_mut) {
                add(platform, "architecture", json!(""));
                add(platform, "os", json!(""));
                if let Some(features) = platform.remove("os.features") {
                    // The name that oci-spec gives to the field.
                    platform.insert("os_features".into(), features);
                }
            }
        }
    }
    Ok(serde_json::from_value(value)?)
}

/// Parses the config of an image. `architecture` and `os` are required, but some tools omit them or leave them empty. They
/// then count as those of `machine`, as in podman and docker.
///
/// # Errors
/// When it is none, is ambiguous, or has a root file system that does not consist of layers (config.md, `rootfs`:
/// "Implementations MUST generate an error if they encounter a unknown value while verifying or unpacking an image").
pub(super) fn configuration(bytes: &[u8], machine: &Machine) -> anyhow::Result<ImageConfiguration> {
    let mut value = read("the configuration", bytes)?;
    if let Some(configuration) = value.as_object_mut() {
        for (key, usual) in [("architecture", machine.architecture()), ("os", "linux".to_owned())] {
            if configuration.get(key).is_none_or(|value| value.as_str() == Some("")) {
                configuration.insert(key.into(), usual.into());
            }
        }
        add(configuration, "rootfs", json!({}));
        if let Some(rootfs) = configuration.get_mut("rootfs").and_then(Value::as_object_mut) {
            add(rootfs, "type", json!(LAYERS));
            add(rootfs, "diff_ids", json!([]));
        }
    }
    let configuration: ImageConfiguration = serde_json::from_value(value)?;
    let kind = configuration.rootfs().typ();
    if kind != LAYERS {
        let hint = format!("only `{LAYERS}` is defined: build the image again with a current tool");
        return Err(hinted(format!("its root file system has the unknown type `{kind}`"), hint));
    }
    Ok(configuration)
}

/// Checks the length of what a descriptor refers to. OCI image-spec, descriptor.md, `size`: "If the length of the retrieved
/// content does not match the specified length, the content SHOULD NOT be trusted." `place` has the descriptor.
///
/// # Errors
/// When it has another length.
pub(super) fn check_size(descriptor: &Descriptor, place: &str, bytes: &[u8]) -> anyhow::Result<()> {
    if descriptor.size() == bytes.len() as u64 {
        return Ok(());
    }
    let (digest, size) = (Digest::of(bytes), descriptor.size());
    Err(hinted(
        format!("{place} states {size} bytes for `{digest}`, which has {}", bytes.len()),
        "push or copy the image again with the tool that created it",
    ))
}

/// Parses a document, without the members that are `null`.
fn read(what: &str, bytes: &[u8]) -> anyhow::Result<Value> {
    ambiguity::check_keys(what, bytes)?;
    let mut value: Value = serde_json::from_slice(bytes)?;
    if value.get("manifests").is_some_and(Value::is_null) {
        value["manifests"] = json!([]);
    }
    drop_nulls(&mut value, None);
    Ok(value)
}

/// Drops members that are `null`; `empty` replaces them in an object whose keys are chosen by the author.
fn drop_nulls(value: &mut Value, empty: Option<Value>) {
    match (value, empty) {
        (Value::Object(members), Some(empty)) => {
            members.values_mut().filter(|value| value.is_null()).for_each(|value| *value = empty.clone());
        }
        (Value::Object(members), None) => {
            members.retain(|_, value| !value.is_null());
            members.iter_mut().for_each(|(key, value)| match (key.as_str(), value) {
                ("history", Value::Array(steps)) => steps.retain(|step| !step.is_null()),
                (key, value) => drop_nulls(value, empty_member(key)),
            });
        }
        (Value::Array(items), _) => items.iter_mut().for_each(|item| drop_nulls(item, None)),
        _ => {}
    }
}

/// What Go reads for `null` as a member of this object, if its author chooses the keys.
fn empty_member(key: &str) -> Option<Value> {
    match key {
        "ExposedPorts" | "Volumes" => Some(json!({})),
        "Labels" | "annotations" => Some(json!("")),
        _ => None,
    }
}

/// The descriptor of a layer or config: it need not have a type, and its platform has no meaning (descriptor.md has it for
/// manifests).
fn complete_blob(descriptor: &mut Map<String, Value>) {
    add(descriptor, "mediaType", json!(""));
    descriptor.remove("platform");
}

fn add(object: &mut Map<String, Value>, key: &str, usual: Value) {
    object.entry(key).or_insert(usual);
}

#[cfg(test)]
mod tests;
