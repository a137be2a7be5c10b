//! Attacks by the owner of a registry, a mirror, a web server or the network: each is refused with its own message,
//! and nothing of it runs. On a running system, with the files of a trust in `/etc/containers`.

use anyhow::Result;
use iguana_lab::fake_server::{DatedAuthority, FakeServer};
use iguana_lab::fault_proxy::{Action, FaultProxy};
use iguana_lab::image::{Image, Maker, Recipe};
use iguana_lab::process::{self, QUICK};
use iguana_lab::puller::{Puller, fails, here, insecure, mirror, says, succeeds, text};
use iguana_lab::registry::Registry;
use iguana_lab::signing::{self, Attachment, Key, MANIFEST, Repository, SIGNATURE};
use iguana_lab::{program, scratch_directory};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A registry, the key that signed its images, and a system that demands these signatures.
struct Lab {
    registry: Registry,
    puller: Puller,
    room: TempDir,
    key: Key,
    other: Key,
    image: Image,
}

impl Lab {
    fn new() -> Result<Lab> {
        let registry = Registry::plain()?;
        let room = scratch_directory("trust")?;
        let (key, other) = (Key::usual(room.path(), "key")?, Key::usual(room.path(), "other")?);
        let puller = Puller::with(&insecure(&here(&registry)))?;
        puller.file("keys/images.pub", key.pem()?)?;
        puller.file("registries.d/all.yaml", "default-docker:\n  use-sigstore-attachments: true\n")?;
        let demand = json!({"type": "sigstoreSigned", "keyPath": "/etc/containers/keys/images.pub"});
        puller.file("policy.json", json!({"default": [demand]}).to_string())?;
        let image = Recipe::script("echo it runs")?.make(Maker::Spec)?;
        Ok(Lab { registry, puller, room, key, other, image })
    }

    fn name(&self, image: &str) -> String {
        format!("{}/{image}:latest", here(&self.registry))
    }

    fn repository(&self, image: &str) -> Repository {
        Repository::new(&here(&self.registry), image)
    }

    /// Pushes the image under a name; returns the digest of its manifest.
    fn push(&self, name: &str) -> Result<String> {
        self.registry.push(&self.image, name)?;
        signing::digest(&self.repository(name).manifest("latest")?)
    }

    fn signed(&self, name: &str, key: &Key) -> Result<()> {
        let digest = self.push(name)?;
        let signature = Attachment::new(key, &digest, &self.name(name))?;
        self.repository(name).attach(&digest, &[signature])
    }

    fn is_refused(&self, name: &str, words: &[&str]) -> Result<()> {
        refused(&self.puller.run(&self.name(name), "")?, words);
        Ok(())
    }
}

fn refused(output: &Output, words: &[&str]) {
    fails(output, words);
    assert!(!text(output).contains("it runs"), "{}", text(output));
}

#[test]
fn images_run_that_are_signed() -> Result<()> {
    let lab = Lab::new()?;
    lab.signed("good", &lab.key)?;
    succeeds(&lab.puller.run(&lab.name("good"), "")?, &[]);
    lab.push("unsigned")?;
    lab.is_refused("unsigned", &["the policy rejects it", "it is not signed", "hint: sign each manifest"])?;
    lab.signed("by-other", &lab.other)?;
    lab.is_refused("by-other", &["it was not made with any key of the policy"])
}

/// Debian's registry has no referrers API (OCI distribution-spec 1.1). A fault proxy provides it, with the list that
/// registries without the API store under a tag.
#[test]
fn a_registry_is_asked_for_the_referrers_of_an_image() -> Result<()> {
    let lab = Lab::new()?;
    let digest = lab.push("x")?;
    let list = lab.repository("x");
    let tag = digest.replace(':', "-");
    let asked = format!("/v2/x/referrers/{digest}");
    let (path, hidden) = (asked.clone(), format!("/manifests/{tag}"));
    let fault_proxy = FaultProxy::before(&lab.registry.address(), move |request| {
        let kind = vec![("content-type", "application/vnd.oci.image.index.v1+json".to_owned())];
        match &request.target {
            target if *target == path => match list.manifest(&tag) {
                Ok(index) => Action::Answer("200 OK", kind, index),
                Err(_) => Action::Answer("404 Not Found", Vec::new(), Vec::new()),
            },
            target if target.ends_with(&hidden) => Action::Answer("404 Not Found", Vec::new(), Vec::new()),
            _ => Action::Pass,
        }
    })?;
    let name = format!("{}/x:latest", fault_proxy.address());
    lab.puller.file("registries.conf", insecure(&fault_proxy.address()))?;
    fails(&lab.puller.run(&name, "")?, &["it is not signed"]);
    lab.repository("x").refer(&digest, &[Attachment::new(&lab.key, &digest, &name)?])?;
    succeeds(&lab.puller.run(&name, "")?, &[]);
    assert!(fault_proxy.requests().iter().any(|request| request.target == asked));
    Ok(())
}

#[test]
fn a_signature_is_for_one_image_under_one_name() -> Result<()> {
    let lab = Lab::new()?;
    let digest = lab.push("x")?;
    let other = signing::digest(b"another image")?;
    let attach = |digest_in_it: &str, name: &str| {
        let signature = Attachment::new(&lab.key, digest_in_it, &lab.name(name))?;
        lab.repository("x").attach(&digest, &[signature])
    };
    attach(&other, "x")?;
    lab.is_refused("x", &["it is for another image"])?;
    attach(&digest, "y")?;
    lab.is_refused("x", &["it is signed as", "not as"])?;
    attach(&digest, "x")?;
    succeeds(&lab.puller.run(&lab.name("x"), "")?, &[]);
    // The tag is moved to another image; the signature of the first one stays.
    let moved = Recipe::script("echo it runs otherwise")?.make(Maker::Spec)?;
    lab.registry.push(&moved, "x")?;
    lab.is_refused("x", &["it is not signed"])
}

#[test]
fn truncated_and_malformed_signatures_are_ignored() -> Result<()> {
    let lab = Lab::new()?;
    let digest = lab.push("x")?;
    let good = Attachment::new(&lab.key, &digest, &lab.name("x"))?;
    let short = good.annotations[SIGNATURE].as_str().unwrap_or_default()[..40].to_owned();
    for (attachment, words) in [
        (good.clone().annotated(SIGNATURE, Some(short)), "it was not made with any key of the policy"),
        (good.clone().annotated(SIGNATURE, Some("%".into())), "the signature is not base64"),
        (good.clone().annotated(SIGNATURE, None), "is missing"),
        (Attachment::of(&lab.key, "{}")?, "its payload is malformed"),
        (
            Attachment { payload: good.payload[..50].to_vec(), ..good },
            "it was not made with any key of the policy",
        ),
    ] {
        lab.repository("x").attach(&digest, &[attachment])?;
        lab.is_refused("x", &[words])?;
    }
    Ok(())
}

#[test]
fn a_signature_of_the_index_does_not_cover_a_manifest() -> Result<()> {
    let lab = Lab::new()?;
    let digest = lab.push("x")?;
    let repository = lab.repository("x");
    let size = repository.manifest("latest")?.len();
    let kind = "application/vnd.oci.image.index.v1+json";
    let entry = json!({"mediaType": MANIFEST, "digest": digest, "size": size,
        "platform": {"os": "linux", "architecture": "amd64"}});
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).to_string();
    repository.put_manifest("latest", kind, index.as_bytes())?;
    let of_index = signing::digest(index.as_bytes())?;
    repository.attach(&of_index, &[Attachment::new(&lab.key, &of_index, &lab.name("x"))?])?;
    lab.is_refused("x", &["it is not signed", "sign each manifest, not only the index"])
}

#[test]
fn a_mirror_cannot_serve_other_content() -> Result<()> {
    let lab = Lab::new()?;
    lab.signed("tool", &lab.key)?;
    let evil = Registry::plain()?;
    evil.push_recipe(Recipe::script("echo it runs, and is evil")?, "tool")?;
    lab.puller
        .file("registries.conf", format!("{}{}", insecure(&here(&lab.registry)), mirror(&here(&evil))))?;
    let output = lab.puller.run(&lab.name("tool"), "")?;
    succeeds(&output, &[&format!("cannot use `{}/tool`", here(&evil)), "it is not signed"]);
    assert!(!text(&output).contains("evil"), "{}", text(&output));
    Ok(())
}

#[test]
fn a_policy_that_is_not_understood_rejects_everything() -> Result<()> {
    let lab = Lab::new()?;
    lab.signed("x", &lab.key)?;
    for (policy, words) in [
        (r#"{"default": [{"type": "insecureAcceptAnything"}], "defualt": 1}"#, "unknown key `defualt`"),
        (r#"{"default": [{"type": "insecureAcceptAnything", "x": 1}]}"#, "unknown key `x`"),
        ("", "cannot use the policy"),
        (
            r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/a"}]}"#,
            "which Iguana does not support",
        ),
    ] {
        lab.puller.file("policy.json", policy)?;
        lab.is_refused("x", &[words])?;
    }
    Ok(())
}

/// The lowest serial number that the trust of [`lab_of_workflows`] accepts.
const MIN_SERIAL: u64 = 7;

/// The workflow of [`a_workflow`], and a trust that demands its signature.
fn lab_of_workflows(more: &str) -> Result<Lab> {
    let lab = Lab::new()?;
    lab.puller.file("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
    let rules = format!(
        "[workflow]\nkeys = [\"keys/images.pub\"]\n{more}[[workflow.accept]]\nname = \"install\"\nmin-serial = {MIN_SERIAL}\n"
    );
    lab.puller.file("iguana.conf", rules)?;
    lab.push("x")?;
    Ok(lab)
}

fn a_workflow(lab: &Lab, more: &str) -> String {
    let serial = if more.contains("serial:") { "" } else { "serial: 9" };
    let name = if more.contains("name:") { "" } else { "name: install" };
    format!("{name}\n{serial}\n{more}\njobs: {{only: {{container: '{}'}}}}\n", lab.name("x"))
}

#[test]
fn workflows_run_that_are_signed() -> Result<()> {
    let lab = lab_of_workflows("")?;
    let workflow = a_workflow(&lab, "");
    refused(
        &lab.puller.run_workflow(&workflow, "")?,
        &["does not allow", "it has no signature", "stage: trust"],
    );
    let raw = lab.key.sign(workflow.as_bytes())?;
    lab.puller.beside_workflow(".sig", signing::base64(&raw)?)?;
    succeeds(&lab.puller.run_workflow(&workflow, "")?, &["workflow: signed by ECDSA P-256 sha256:"]);
    lab.puller.beside_workflow(".sig", &raw)?;
    succeeds(&lab.puller.run_workflow(&workflow, "")?, &[]);
    // An unsigned document is not even parsed.
    refused(
        &lab.puller.run_workflow("jobs: [", "")?,
        &["it is not signed by any key of the trust directory"],
    );
    for (signature, words) in [
        (lab.other.sign(workflow.as_bytes())?, "it is not signed by any key of the trust directory"),
        (raw[..20].to_vec(), "it is not signed by any key of the trust directory"),
        (vec![b'A'; 10_000], "the signature is larger than"),
    ] {
        lab.puller.beside_workflow(".sig", signature)?;
        refused(&lab.puller.run_workflow(&workflow, "")?, &[words]);
    }
    Ok(())
}

#[test]
fn an_old_workflow_is_a_replay() -> Result<()> {
    let lab = lab_of_workflows("")?;
    for (serial, told) in [
        ("# no serial:", "no `serial`"),
        ("serial: 6", "serial 6"),
        ("serial: 7", ""),
        ("serial: 9007199254740992", ""),
    ] {
        let output = lab.run_signed(&a_workflow(&lab, serial))?;
        match told {
            "" => succeeds(&output, &[]),
            told => refused(&output, &[told, "the trust directory requires at least 7"]),
        }
    }
    for serial in ["9007199254740993", "18446744073709551616", "-1", "0x10", "1_0", "7.0", "'7'"] {
        let output = lab.run_signed(&a_workflow(&lab, &format!("serial: {serial}")))?;
        assert!(
            !output.status.success() && !text(&output).contains("it runs"),
            "{serial}: {}",
            text(&output)
        );
    }
    Ok(())
}

#[test]
fn another_workflow_by_the_same_key_does_not_run() -> Result<()> {
    let lab = lab_of_workflows("")?;
    succeeds(&lab.run_signed(&a_workflow(&lab, "name: install"))?, &[]);
    for name in ["decommission", "Install", "'install '", "\"install\\n\"", "ınstall"] {
        let output = lab.run_signed(&a_workflow(&lab, &format!("name: {name}")))?;
        refused(
            &output,
            &["it is the workflow `", "but this machine accepts only `install`", "stage: trust"],
        );
    }
    let output = lab.run_signed(&a_workflow(&lab, "# no name:"))?;
    refused(&output, &["it is a workflow without a `name`"]);
    Ok(())
}

#[test]
fn a_workflow_does_not_run_after_its_expiry() -> Result<()> {
    let lab = lab_of_workflows("")?;
    for (end, told) in [
        ("2090-01-01", ""),
        ("2026-01-01", "expired at 2026-01-01T23:59:59Z, and the clock shows 20"),
        ("2026-01-01T12:00:00+02:00", "expired at 2026-01-01T10:00:00Z"),
    ] {
        let output = lab.run_signed(&a_workflow(&lab, &format!("valid-until: {end}")))?;
        match told {
            "" => succeeds(&output, &[]),
            told => refused(&output, &[told, "hint: serve a workflow with a later `valid-until`"]),
        }
    }
    let output = lab.run_signed(&a_workflow(&lab, "valid-until: tomorrow"))?;
    says(&output, 3, &["`tomorrow` is not an RFC 3339 date"]);
    Ok(())
}

/// The lock file of an old workflow pins an old image; its signature never expires.
#[test]
fn an_old_lock_file_beside_the_newest_workflow_is_refused() -> Result<()> {
    let lab = lab_of_workflows("require-digest = true\n")?;
    let (old, new) = (a_workflow(&lab, "serial: 8"), a_workflow(&lab, "serial: 9"));
    let lock = lab.lock(&old)?;
    lab.registry.push(&Recipe::script("echo the new one: it runs")?.make(Maker::Spec)?, "x")?;
    let newest = lab.lock(&new)?;
    for (lock, is_good) in [(&lock, false), (&newest, true)] {
        lab.puller.beside_workflow(".lock", lock)?;
        lab.puller.beside_workflow(".lock.sig", lab.key.sign(lock)?)?;
        let output = lab.run_signed(&new)?;
        match is_good {
            true => succeeds(&output, &["the new one", "the lock file pins"]),
            false => refused(
                &output,
                &[
                    "cannot use `",
                    "why: it is for another workflow",
                    "with serial 8; this one is",
                    "hint: create it again for this workflow",
                ],
            ),
        }
    }
    let unbound = format!(r#"{{"version": 1, "images": {}}}"#, "{}");
    lab.puller.beside_workflow(".lock", &unbound)?;
    lab.puller.beside_workflow(".lock.sig", lab.key.sign(unbound.as_bytes())?)?;
    refused(
        &lab.run_signed(&new)?,
        &["cannot read the lock file", "version `1` of the format does not state"],
    );
    Ok(())
}

#[test]
fn nothing_runs_from_documents_of_a_newer_release() -> Result<()> {
    let lab = lab_of_workflows("require-digest = true\n")?;
    let told = |document: &str, version: u64| {
        format!("the {document} needs version `{version}` of its format, but Iguana ")
    };
    let hint = "hint: use a newer release of Iguana (on a machine, a newer initrd)";
    let newer = a_workflow(&lab, "version: 2\nstages: [a, b]");
    says(&lab.run_signed(&newer)?, 3, &[&told("workflow", 2), hint]);
    let workflow = a_workflow(&lab, "version: 1");
    let lock = String::from_utf8(lab.lock(&workflow)?)?.replace("\"version\": 2", "\"version\": 3");
    lab.puller.beside_workflow(".lock", &lock)?;
    lab.puller.beside_workflow(".lock.sig", lab.key.sign(lock.as_bytes())?)?;
    refused(&lab.run_signed(&workflow)?, &["cannot read the lock file", &told("lock file", 3), hint]);
    lab.puller.file("iguana.conf", "version = 2\nquorum = 2\n")?;
    refused(&lab.run_signed(&workflow)?, &[&told("trust directory", 2), hint]);
    Ok(())
}

#[test]
fn a_trust_accepts_no_workflow_by_omission() -> Result<()> {
    let lab = lab_of_workflows("")?;
    lab.puller.file("iguana.conf", "[workflow]\nkeys = [\"keys/images.pub\"]\n")?;
    refused(&lab.run_signed(&a_workflow(&lab, ""))?, &["accepts every workflow", "hint: "]);
    Ok(())
}

/// Changes a trust directory that has no policy yet.
type Damage = fn(&Path) -> Result<()>;

fn any_policy(trust: &Path) -> Result<()> {
    Ok(fs::write(trust.join("policy.json"), iguana_lab::bundle::ANYTHING)?)
}

fn dangling(trust: &Path, name: &str) -> Result<()> {
    any_policy(trust)?;
    let _ = fs::remove_file(trust.join(name));
    Ok(symlink("nowhere", trust.join(name))?)
}

/// Each command that takes a trust directory fails with one that has this damage, and says the words.
fn every_command_refuses(damages: &[(&str, Damage)]) -> Result<()> {
    let lab = lab_of_workflows("")?;
    let room = lab.room.path();
    let (workflow, trust, whole) = (room.join("workflow.yaml"), room.join("bare"), room.join("whole"));
    fs::write(&workflow, a_workflow(&lab, ""))?;
    let kernel = iguana_lab::kernel::Kernel::debian(iguana_lab::kernel::Flavour::Cloud)?;
    let run = |program_name: &str, words: &[&str]| -> Result<Output> {
        Ok(Command::new(program(program_name)).args(words).current_dir(room).output()?)
    };
    let image = lab.name("x");
    let commands: Vec<(&str, Vec<&str>)> = vec![
        ("iguana", vec!["check", "workflow.yaml", "--trust", "bare"]),
        ("iguana", vec!["pull", &image, "root", "--trust", "bare"]),
        ("iguana", vec!["lock", "workflow.yaml", "--trust", "bare"]),
        ("iguana", vec!["bundle", "workflow.yaml", "--output", "b.tar", "--trust", "bare"]),
        ("iguana", vec!["bundle", "verify", "good.tar", "--trust", "bare"]),
        ("iguana", vec!["trust", "explain", &image, "--trust", "bare"]),
        ("iguana", vec!["trust", "explain", "workflow.yaml", "--trust", "bare"]),
        ("iguana-init", vec!["run", "--trust", "bare", "workflow.yaml"]),
    ];
    let build = || -> Result<Output> {
        let mut command = iguana_lab::initrd::command(&kernel, &room.join("initrd"));
        Ok(command.args(["--trust", "bare"]).current_dir(room).output()?)
    };
    let bundle = || run("iguana", &["bundle", "workflow.yaml", "--output", "good.tar", "--trust", "whole"]);
    says(&bundle()?, 1, &["cannot read the trust directory"]);
    fs::create_dir_all(&whole)?;
    fs::write(whole.join("registries.conf"), insecure(&here(&lab.registry)))?;
    any_policy(&whole)?;
    says(&bundle()?, 0, &[]);
    for (words, damage) in damages {
        fs::create_dir_all(&trust)?;
        fs::write(trust.join("registries.conf"), insecure(&here(&lab.registry)))?;
        damage(&trust)?;
        let outputs = commands.iter().map(|(name, command)| Ok((command.clone(), run(name, command)?)));
        for done in outputs.chain([build().map(|output| (vec!["build"], output))]) {
            let (command, output) = done?;
            assert!(!output.status.success(), "{command:?}: {}", text(&output));
            assert!(text(&output).contains(words), "{command:?}: `{words}` is not in {}", text(&output));
        }
        fs::remove_dir_all(&trust)?;
    }
    assert!(!room.join("initrd").exists() && !room.join("b.tar").exists());
    assert_eq!(fs::read_dir(room.join("root")).into_iter().flatten().count(), 0);
    Ok(())
}

/// As with skopeo: naming a trust directory means that something is demanded.
#[test]
fn a_named_trust_without_a_policy_is_an_error_everywhere() -> Result<()> {
    every_command_refuses(&[
        ("has no `policy.json`", |_| Ok(())),
        ("dangling symbolic link", |trust| dangling(trust, "policy.json")),
        ("dangling symbolic link", |trust| dangling(trust, "iguana.conf")),
        ("dangling symbolic link", |trust| dangling(trust, "registries.d")),
        ("dangling symbolic link", |trust| dangling(trust, "ca")),
        ("dangling symbolic link", |trust| dangling(trust, "auth.json")),
    ])
}

fn no_key(trust: &Path, demand: &serde_json::Value) -> Result<()> {
    fs::create_dir_all(trust.join("keys"))?;
    fs::write(trust.join("keys/damaged.pub"), "damaged")?;
    Ok(fs::write(trust.join("policy.json"), json!({"default": [demand]}).to_string())?)
}

/// Otherwise a boot would be the first to find it.
#[test]
fn a_named_trust_with_a_damaged_key_is_an_error_everywhere() -> Result<()> {
    every_command_refuses(&[
        ("it contains no `BEGIN PUBLIC KEY`", |trust| {
            no_key(trust, &json!({"type": "sigstoreSigned", "keyPath": "keys/damaged.pub"}))
        }),
        ("it contains no `BEGIN PUBLIC KEY`", |trust| {
            no_key(trust, &json!({"type": "insecureAcceptAnything"}))?;
            let rules = "[[workflow.accept]]\nname = 'a'\nkeys = ['keys/damaged.pub']\n";
            Ok(fs::write(trust.join("iguana.conf"), rules)?)
        }),
    ])
}

#[test]
fn images_are_named_by_digest_or_pinned_by_a_signed_lock() -> Result<()> {
    let lab = lab_of_workflows("require-digest = true\n")?;
    let workflow = a_workflow(&lab, "");
    lab.puller.beside_workflow(".sig", lab.key.sign(workflow.as_bytes())?)?;
    refused(
        &lab.puller.run_workflow(&workflow, "")?,
        &["the trust directory requires digests", "iguana lock WORKFLOW"],
    );
    let lock = lab.lock(&workflow)?;
    lab.puller.beside_workflow(".lock", &lock)?;
    refused(&lab.puller.run_workflow(&workflow, "")?, &[".lock` to choose images", "it has no signature"]);
    lab.puller.beside_workflow(".lock.sig", lab.key.sign(&lock)?)?;
    succeeds(&lab.puller.run_workflow(&workflow, "")?, &["the lock file pins"]);
    // The tag now refers to another image, but the pinned one runs.
    lab.registry.push(&Recipe::script("echo something else")?.make(Maker::Spec)?, "x")?;
    succeeds(&lab.puller.run_workflow(&workflow, "")?, &["it runs"]);
    Ok(())
}

impl Lab {
    /// Runs a workflow with its signature beside it.
    fn run_signed(&self, workflow: &str) -> Result<Output> {
        self.puller.beside_workflow(".sig", self.key.sign(workflow.as_bytes())?)?;
        self.puller.run_workflow(workflow, "")
    }

    /// The result of `iguana lock` for a workflow.
    fn lock(&self, workflow: &str) -> Result<Vec<u8>> {
        let trust = self.room.path().join("trust");
        fs::create_dir_all(&trust)?;
        fs::write(trust.join("registries.conf"), insecure(&here(&self.registry)))?;
        fs::write(trust.join("policy.json"), iguana_lab::bundle::ANYTHING)?;
        let file = self.room.path().join("workflow.yaml");
        fs::write(&file, workflow)?;
        let mut iguana = Command::new(program("iguana"));
        process::run(iguana.arg("lock").arg(&file).arg("--trust").arg(trust), QUICK)?;
        Ok(fs::read(self.room.path().join("workflow.yaml.lock"))?)
    }
}

#[test]
fn a_trust_that_is_not_understood_rejects_everything() -> Result<()> {
    let lab = lab_of_workflows("require-digests = true\n")?;
    refused(
        &lab.puller.run_workflow(&a_workflow(&lab, ""), "")?,
        &["cannot use `/etc/containers/iguana.conf`"],
    );
    says(&lab.puller.run_workflow("jobs: [", "")?, 1, &["unknown field `require-digests`"]);
    Ok(())
}

#[test]
fn certificates_are_verified_in_every_way() -> Result<()> {
    let room = scratch_directory("trust")?;
    let dater = DatedAuthority::new(room.path())?;
    let own = "IP:127.0.0.1";
    let good = dater.certify("good", own, 2020, 2090)?;
    let old: &[&str] = &["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"];
    for (certified, options, words) in [
        (good.clone(), &["-tls1_2"][..], &["is the name", "answered"][..1]),
        (
            dater.certify("expired", own, 2000, 2001)?,
            &[],
            &["its certificate expired at 2001-01-01", "clock shows 20"],
        ),
        (
            dater.certify("early", own, 2090, 2091)?,
            &[],
            &["its certificate is not valid before 2090-01-01", "clock shows 20"],
        ),
        (dater.certify("elsewhere", "DNS:other.example", 2020, 2090)?, &[], &["is not for"]),
        (dater.self_signed("self", "/CN=self")?, &[], &["invalid peer certificate"]),
        (good, old, &["ProtocolVersion"]),
    ] {
        let server = FakeServer::start(&certified, room.path(), options)?;
        let puller = Puller::new()?;
        puller.file("ca/lab.pem", fs::read(dater.authority())?)?;
        let output = puller.run(&format!("{}/x", server.address), "")?;
        match words {
            ["is the name"] => assert!(!text(&output).contains("certificate"), "{}", text(&output)),
            words => refused(&output, words),
        }
    }
    Ok(())
}

#[test]
fn https_never_redirects_to_plain_http() -> Result<()> {
    let room = scratch_directory("trust")?;
    let dater = DatedAuthority::new(room.path())?;
    let manifests = room.path().join("v2/x/manifests");
    fs::create_dir_all(&manifests)?;
    let answer = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    fs::write(manifests.join("latest"), answer)?;
    let server = FakeServer::start(&dater.certify("good", "IP:127.0.0.1", 2020, 2090)?, room.path(), &[])?;
    let puller = Puller::new()?;
    puller.file("ca/lab.pem", fs::read(dater.authority())?)?;
    let output = puller.run(&format!("{}/x", server.address), "")?;
    refused(&output, &["redirects to the unencrypted `http://127.0.0.1:1/x`"]);
    Ok(())
}
