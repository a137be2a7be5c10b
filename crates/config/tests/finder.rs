//! Where images are looked up: in a bundle or in a registry with the same names, or nowhere if the policy rejects them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test panics, also in the functions that tests share"
)]

use config::Trust;
use fetch::http;
use oci_pull::Finder;
use oci_pull::bundle::{Bundle, Writer};
use oci_reference::Machine;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::{fs, thread};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Starts a registry without content; returns its address.
fn empty_registry() -> String {
    let observer = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = observer.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in observer.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ =
                stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    address
}

#[test]
fn an_unsigned_bundle_does_not_decide_what_a_tag_means() {
    let (home, registry) = (tempfile::tempdir().unwrap(), empty_registry());
    let name = format!("{registry}/tool:1");
    let mut writer = Writer::new(&home.path().join("bundle")).unwrap();
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
        "digest": writer.put(b"{}").unwrap().to_string()});
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).to_string();
    let digest = writer.put(manifest.as_bytes()).unwrap();
    writer.name(&name, MANIFEST, digest, manifest.len() as u64);
    writer.finish(b"jobs: {}", &[]).unwrap();
    let bundle = Bundle::open(&home.path().join("bundle")).unwrap().bundle;
    bundle.verify().unwrap();

    let trust = home.path().join("trust");
    fs::create_dir(&trust).unwrap();
    let insecure = format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n");
    fs::write(trust.join("registries.conf"), insecure).unwrap();
    let trust = Trust::from_directory(&trust).unwrap();
    let finder = trust.finder(http::Client::new(&trust.roots), Machine::this());
    let judge = |name: &str, believes_bundle| {
        let finder = Finder { bundle: Some(bundle.clone()), believes_bundle, ..finder.clone() };
        let mut told = Vec::new();
        let judged = finder.judge(&name.parse().unwrap(), &mut |event| told.push(format!("{event:?}")));
        // How long it may ask says nothing about the decision.
        told.retain(|event| !event.starts_with("Asking"));
        (judged.map(|approval| approval.manifest()).ok(), told.join("\n"))
    };
    assert_eq!(judge(&name, true), (Some(digest), String::new()));
    let (judged, told) = judge(&name, false);
    assert!(judged.is_none() && told.contains("no signature covers"), "{told}");
    let pinned = format!("{name}@{digest}");
    assert_eq!(judge(&pinned, false), (Some(digest), String::new()));
    // The bundle has nothing of another repository, whatever the digest.
    assert!(judge(&format!("{registry}/other@{digest}"), true).0.is_none());
}

/// The registry does not exist: a failure to look up its name would hide the reason.
#[test]
fn an_image_that_the_policy_always_rejects_is_rejected_before_its_registry_is_asked() {
    for (rule, reason) in [
        (r#"[{"type": "reject"}]"#, "the rule is `reject`"),
        (r#"[{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "k"}]"#, "which Iguana does not support"),
    ] {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("policy.json"), format!("{{\"default\": {rule}}}")).unwrap();
        let trust = Trust::from_directory(home.path()).unwrap();
        let finder = trust.finder(http::Client::new(&trust.roots), Machine::this());
        let mut events = Vec::new();
        let judged =
            finder.judge(&"r.invalid/x".parse().unwrap(), &mut |event| events.push(format!("{event:?}")));
        let error = judged.unwrap_err();
        let message = format!("{error:#}");
        assert!(message.starts_with("the policy rejects it by its rule"), "{message}");
        assert!(message.contains(reason) && events.is_empty(), "{message}: {events:?}");
    }
}
