//! The documents that older releases wrote, which every later release must read, and documents of newer formats, which
//! it must refuse. Initrds are used for years, with documents of any age (docs/versions.md).
//!
//! `formats/RELEASE/` has one document of each kind, written by that release: a workflow with its lock file and their
//! signatures, the bundle of both with its image, a trust directory that accepts them, and a log with every event. They
//! are never changed. A release that raises the version of a format adds a directory of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test panics, also in the functions that tests share"
)]
#![allow(clippy::disallowed_methods, reason = "tests write to temporary directories")]

use config::Trust;
use events::{Event, Record};
use oci_reference::Digest;
use oci_trust::pins::Lock;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The exit code for an error in a document that is not a workflow.
const FAILED: i32 = 1;
/// The exit code for a workflow with errors.
const INVALID: i32 = 3;

fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

/// The directories of all releases.
fn releases() -> Vec<PathBuf> {
    let entries = fs::read_dir(formats()).unwrap().map(|entry| entry.unwrap().path());
    let releases: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    assert!(!releases.is_empty());
    releases
}

/// A copy of the newest release's documents, to be changed.
fn copy() -> tempfile::TempDir {
    let room = tempfile::tempdir().unwrap();
    let newest = releases().into_iter().max().unwrap();
    let mut copy = Command::new("cp");
    assert!(copy.arg("-r").arg(newest.join(".")).arg(room.path()).status().unwrap().success());
    room
}

fn iguana(home: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_iguana")).args(words).current_dir(home).output().unwrap()
}

fn assert_exit(output: &Output, code: i32, words: &[&str]) {
    let text = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}`: {text}");
    }
}

#[test]
fn a_workflow_of_each_release_has_no_findings() {
    for release in releases() {
        assert_exit(&iguana(&release, &["check", "workflow.yaml"]), 0, &["workflow.yaml: ok"]);
    }
}

#[test]
fn a_lock_file_of_each_release_pins_the_images_of_its_workflow() {
    for release in releases() {
        let [workflow, lock] =
            ["workflow.yaml", "workflow.yaml.lock"].map(|name| fs::read(release.join(name)).unwrap());
        let plan = workflow::check(&workflow).into_plan("workflow.yaml").unwrap();
        let lock = Lock::parse(&lock).unwrap();
        lock.check_workflow(Digest::of(&workflow), plan.serial).unwrap();
        assert_eq!(lock.len(), 1);
    }
}

#[test]
fn a_trust_directory_of_each_release_accepts_its_workflow() {
    for release in releases() {
        Trust::from_directory(&release.join("trust")).unwrap();
        let explained = iguana(&release, &["trust", "explain", "workflow.yaml", "--trust", "trust"]);
        assert_exit(&explained, 0, &["pinned by the lock file", "(sigstoreSigned)"]);
    }
}

/// With the signatures of the workflow, of its lock file and of its image.
#[test]
fn a_bundle_of_each_release_is_complete_and_accepted() {
    for release in releases() {
        let verified = iguana(&release, &["bundle", "verify", "bundle", "--trust", "trust"]);
        assert_exit(&verified, 0, &["bundle is complete"]);
    }
}

#[test]
fn a_log_of_each_release_is_read_to_its_end() {
    for release in releases() {
        let log = fs::read_to_string(release.join("log.jsonl")).unwrap();
        let records: Vec<Record> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(matches!(records[0].event, Event::Log { .. }) && records.len() > 20);
        let first = log.lines().next().unwrap();
        assert!(events::stated_format(first.as_bytes()).unwrap() <= events::FORMAT);
    }
}

#[test]
fn a_workflow_in_a_newer_format_is_refused() {
    let room = copy();
    let text = fs::read_to_string(room.path().join("workflow.yaml")).unwrap();
    fs::write(room.path().join("workflow.yaml"), text.replace("version: 1", "version: 2\nquorum: [2]"))
        .unwrap();
    let checked = iguana(room.path(), &["check", "workflow.yaml"]);
    assert_exit(&checked, INVALID, &["the workflow needs version `2` of its format", "a newer initrd"]);
}

#[test]
fn a_lock_file_in_a_newer_format_is_refused() {
    let room = copy();
    let lock = room.path().join("workflow.yaml.lock");
    let text = fs::read_to_string(&lock).unwrap();
    fs::write(&lock, text.replace("\"version\": 2", "\"version\": 3, \"artifacts\": []")).unwrap();
    let bundled = iguana(room.path(), &["bundle", "workflow.yaml", "--output", "new"]);
    assert_exit(&bundled, FAILED, &["the lock file needs version `3` of its format", "a newer initrd"]);
}

#[test]
fn a_trust_directory_in_a_newer_format_is_refused() {
    let room = copy();
    let rules = room.path().join("trust/iguana.conf");
    let text = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, text.replace("version = 1", "version = 2\nquorum = 2")).unwrap();
    let verified = iguana(room.path(), &["bundle", "verify", "bundle", "--trust", "trust"]);
    assert_exit(
        &verified,
        FAILED,
        &["the trust directory needs version `2` of its format", "a newer initrd"],
    );
}

/// The media types state the version: of the artifact, or of one of its layers.
#[test]
fn a_bundle_in_a_newer_format_is_refused() {
    for (old, new) in [
        ("application/vnd.iguana.workflow.v1\"", "application/vnd.iguana.workflow.v2\""),
        ("application/vnd.iguana.lock.v1+json", "application/vnd.iguana.lock.v2+json"),
    ] {
        let room = copy();
        change_manifest(&room.path().join("bundle"), old, new);
        let verified = iguana(room.path(), &["bundle", "verify", "bundle", "--trust", "trust"]);
        assert_exit(&verified, FAILED, &["the bundle needs version `2` of its format", "a newer initrd"]);
    }
}

/// Replaces a text in the manifest of a bundle, and in the index that describes the manifest.
fn change_manifest(layout: &Path, old: &str, new: &str) {
    let index = layout.join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    let listed: Value = serde_json::from_str(&text).unwrap();
    let mut entries = listed["manifests"].as_array().unwrap().iter();
    let entry = entries.find(|entry| entry.get("artifactType").is_some()).unwrap();
    let blob = |digest: &str| layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let digest = entry["digest"].as_str().unwrap();
    let manifest = fs::read_to_string(blob(digest)).unwrap();
    let changed = manifest.replace(old, new);
    assert_ne!(manifest, changed);
    let changed_digest = Digest::of(changed.as_bytes()).to_string();
    fs::write(blob(&changed_digest), &changed).unwrap();
    let text = text.replace(digest, &changed_digest).replace(old, new);
    let [old_size, new_size] = [manifest.len(), changed.len()].map(|size| format!("\"size\":{size}"));
    fs::write(&index, text.replace(&old_size, &new_size)).unwrap();
}
