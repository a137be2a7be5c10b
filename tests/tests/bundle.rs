//! `iguana bundle`: a workflow and its images in one file.

use anyhow::{Context, Result};
use iguana_lab::bundle::Workstation;
use iguana_lab::fault_proxy::{Action, FaultProxy, Request};
use iguana_lab::image::{Maker, Recipe};
use iguana_lab::process::{self, QUICK};
use iguana_lab::program;
use iguana_lab::puller::{fails, here, insecure, says};
use iguana_lab::registry::Registry;
use iguana_lab::signing::{Attachment, Key, Repository, digest};
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

const WORKFLOW: &str = "jobs: {one: {container: REGISTRY/tool}, two: {container: REGISTRY/tool}}\n";

/// A trust that accepts the workflow `install` if it is signed.
const BY_NAME: &str = "[workflow]\nkeys = [\"keys/key.pub\"]\n[[workflow.accept]]\nname = \"install\"\n";

/// A registry with the image `tool`.
fn filled() -> Result<Registry> {
    let registry = Registry::plain()?;
    registry.push(&Recipe::script("echo it runs")?.make(Maker::Spec)?, "tool")?;
    Ok(registry)
}

#[test]
fn a_bundle_is_a_layout_that_other_tools_read_and_is_reproducible() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let first = workstation.bundle(&registry, WORKFLOW, "first.tar")?;
    let second = workstation.bundle(&registry, WORKFLOW, "second.tar")?;
    assert_eq!(fs::read(&first)?, fs::read(second)?);
    says(
        &workstation.iguana(&["bundle", "verify", "first.tar", "--trust", "trust"])?,
        0,
        &["is complete: 1 images"],
    );
    let name = format!("oci-archive:{}:{}/tool:latest", first.display(), here(&registry));
    let said = process::run(Command::new("skopeo").args(["inspect", &name]), QUICK)?;
    assert!(said.contains("sha256:"), "{said}");
    Ok(())
}

/// Other tools copy a bundle as a unit, from registry to registry and to a stick.
#[test]
fn a_bundle_copied_by_other_tools_stays_valid() -> Result<()> {
    let (registry, far) = (filled()?, Registry::plain()?);
    let workstation = Workstation::using(&registry)?;
    workstation.bundle(&registry, WORKFLOW, "bundle")?;
    let near = format!("{}/all/in-one:1", here(&registry));
    says(&workstation.iguana(&["bundle", "push", "--insecure", "bundle", &near])?, 0, &["oci://"]);
    let far = format!("docker://{}/copied:1", here(&far));
    let copied = workstation.path("copied.tar");
    for (from, to) in
        [(format!("docker://{near}"), far.clone()), (far, format!("oci-archive:{}", copied.display()))]
    {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]);
        process::run(skopeo.args([from, to]), QUICK)?;
    }
    says(&workstation.iguana(&["bundle", "verify", "copied.tar"])?, 0, &["is complete: 1 images"]);
    Ok(())
}

#[test]
fn missing_or_changed_content_is_detected() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let directory = workstation.bundle(&registry, WORKFLOW, "bundle")?;
    let blobs = || -> Result<Vec<_>> {
        let blobs = fs::read_dir(directory.join("blobs/sha256"))?.map(|entry| Ok(entry?.path()));
        let mut blobs = blobs.collect::<Result<Vec<_>>>()?;
        blobs.sort_by_key(|path| fs::metadata(path).map_or(0, |data| data.len()));
        Ok(blobs)
    };
    let largest = blobs()?.pop().expect("a layer");
    let mut bytes = fs::read(&largest)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, &bytes)?;
    let verify = || workstation.iguana(&["bundle", "verify", "bundle"]);
    fails(&verify()?, &["`bundle` is incomplete", "a blob has digest", "hint: it was modified or damaged"]);
    fs::write(&largest, &bytes[..middle])?;
    fails(&verify()?, &["is incomplete", "bytes of `sha256:", "hint: the copy is incomplete"]);
    fs::remove_file(&largest)?;
    fails(&verify()?, &["is incomplete", "has no `blobs/sha256/"]);
    fails(&workstation.iguana(&["bundle", "verify", "workflow.yaml"])?, &["cannot read `workflow.yaml`"]);
    fails(
        &workstation.iguana(&["bundle", "workflow.yaml", "--trust", "trust", "--output", "bundle"])?,
        &["`bundle` already exists"],
    );
    Ok(())
}

#[test]
fn an_image_for_another_machine_only_is_not_bundled() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    workstation.file("workflow.yaml", WORKFLOW.replace("REGISTRY", &here(&registry)))?;
    let output = workstation.iguana(&[
        "bundle",
        "workflow.yaml",
        "--trust",
        "trust",
        "--output",
        "b.tar",
        "--platform",
        "linux/arm64",
    ])?;
    fails(&output, &["cannot bundle `", "the image is for `linux/amd64`, not for `linux/arm64/v8`"]);
    assert!(!workstation.path("b.tar").exists());
    Ok(())
}

/// The policy demands signatures of the images, whose signatures are bundled, and of the workflow.
#[test]
fn a_strict_trust_bundles_signed_images_with_their_signatures() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let key = Key::usual(&workstation.path(""), "key")?;
    workstation.file("trust/keys/key.pub", key.pem()?)?;
    workstation.file("trust/registries.d/all.yaml", "default-docker:\n  use-sigstore-attachments: true\n")?;
    let demand = json!({"type": "sigstoreSigned", "keyPath": "keys/key.pub"});
    workstation.file("trust/policy.json", json!({"default": [demand]}).to_string())?;
    workstation.file("trust/iguana.conf", BY_NAME)?;
    let text = format!("name: install\n{WORKFLOW}").replace("REGISTRY", &here(&registry));
    workstation.file("workflow.yaml", &text)?;
    let bundle = || workstation.iguana(&["bundle", "workflow.yaml", "--trust", "trust", "--output", "b.tar"]);
    fails(&bundle()?, &["may not run", "it has no signature"]);
    workstation.file("workflow.yaml.sig", key.sign(text.as_bytes())?)?;
    fails(&bundle()?, &["cannot bundle `", "the policy rejects it"]);
    let repository = Repository::new(&here(&registry), "tool");
    let manifest = digest(&repository.manifest("latest")?)?;
    let signature = Attachment::new(&key, &manifest, &format!("{}/tool:latest", here(&registry)))?;
    repository.attach(&manifest, &[signature])?;
    says(&bundle()?, 0, &["wrote b.tar: 1 images"]);
    says(
        &workstation.iguana(&["bundle", "verify", "b.tar", "--trust", "trust"])?,
        0,
        &["is complete: 2 images"],
    );
    says(&workstation.iguana(&["check", "workflow.yaml", "--trust", "trust"])?, 0, &[]);
    workstation.file("workflow.yaml.sig", key.sign(b"another")?)?;
    let checked = workstation.iguana(&["check", "workflow.yaml", "--trust", "trust"])?;
    says(
        &checked,
        3,
        &["the workflow `workflow.yaml` may not run", "it is not signed by any key of the trust directory"],
    );
    Ok(())
}

/// `bundle verify` gives the result of a boot that has only the bundle.
#[test]
fn a_bundle_is_verified_as_the_boot_does() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let (key, other) =
        (Key::usual(&workstation.path(""), "key")?, Key::usual(&workstation.path(""), "other")?);
    workstation.file("trust/registries.d/all.yaml", "default-docker:\n  use-sigstore-attachments: true\n")?;
    let address = here(&registry);
    let verify = |directory: &str| workstation.iguana(&["bundle", "verify", "b.tar", "--trust", directory]);
    let bundle = |workflow: &str| -> Result<()> {
        let _ = fs::remove_file(workstation.path("b.tar"));
        workstation
            .file("workflow.yaml.sig", key.sign(workflow.replace("REGISTRY", &address).as_bytes())?)?;
        workstation.bundle(&registry, workflow, "b.tar").map(drop)
    };
    let install = format!("name: install\n{WORKFLOW}");
    bundle(&install)?;
    says(&verify("trust")?, 0, &["is complete: 1 images"]);

    let strict = |name: &str, rules: &str| -> Result<()> {
        workstation.file(&format!("{name}/keys/key.pub"), key.pem()?)?;
        workstation.file(
            &format!("{name}/registries.d/all.yaml"),
            "default-docker:\n  use-sigstore-attachments: true\n",
        )?;
        let demand = json!({"type": "sigstoreSigned", "keyPath": "keys/key.pub"});
        workstation.file(&format!("{name}/policy.json"), json!({"default": [demand]}).to_string())?;
        workstation.file(&format!("{name}/iguana.conf"), rules).map(drop)
    };
    strict("strict", BY_NAME)?;
    fails(&verify("strict")?, &["`b.tar` is incomplete", "the policy rejects it", "it is not signed"]);
    let repository = Repository::new(&address, "tool");
    let manifest = digest(&repository.manifest("latest")?)?;
    let sign = |key: &Key| -> Result<()> {
        let signature = Attachment::new(key, &manifest, &format!("{address}/tool:latest"))?;
        repository.attach(&manifest, &[signature])
    };
    sign(&other)?;
    bundle(&install)?;
    fails(&verify("strict")?, &["`b.tar` is incomplete", "it was not made with any key of the policy"]);
    sign(&key)?;
    bundle(&install)?;
    says(&verify("strict")?, 0, &["is complete: 2 images", "would ignore the lock file"]);
    // It also judges the workflow as a boot would.
    bundle(&install.replace("install", "wipe"))?;
    fails(
        &verify("strict")?,
        &["may not run", "it is the workflow `wipe`, but this machine accepts only `install`"],
    );
    workstation.file("workflow.yaml.sig", other.sign(b"another")?)?;
    fs::remove_file(workstation.path("b.tar"))?;
    workstation.bundle(&registry, &install, "b.tar")?;
    fails(&verify("strict")?, &["it is not signed by any key of the trust directory"]);
    // The workflow is signed and the lock file is not. So nobody says what a tag means, unless the policy does.
    strict("tags", BY_NAME)?;
    workstation.file("tags/policy.json", iguana_lab::bundle::ANYTHING)?;
    bundle(&install)?;
    fails(&verify("tags")?, &["`b.tar` is incomplete", "no signature covers"]);
    Ok(())
}

#[test]
fn a_bundle_is_verified_for_the_control_url_of_a_machine() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let key = Key::usual(&workstation.path(""), "key")?;
    let install = format!("name: install\n{WORKFLOW}");
    let signed = install.replace("REGISTRY", &here(&registry));
    workstation.file("workflow.yaml.sig", key.sign(signed.as_bytes())?)?;
    workstation.bundle(&registry, &install, "b.tar")?;
    workstation.file("placed/keys/key.pub", key.pem()?)?;
    workstation.file("placed/policy.json", iguana_lab::bundle::ANYTHING)?;
    let rules =
        format!("{BY_NAME}from = [\"hd:LABEL=IGUANA:/install.tar\"]\n[[workflow.accept]]\nname = \"wipe\"\n");
    workstation.file("placed/iguana.conf", rules)?;
    let verify = |place: &[&str]| {
        workstation.iguana(&[&["bundle", "verify", "b.tar", "--trust", "placed"], place].concat())
    };
    // Who signed the image of the tag is checked separately.
    let is_another = ["no signature covers"];
    fails(&verify(&[])?, &is_another);
    fails(&verify(&["--from", "hd:LABEL=IGUANA:/install.tar"])?, &is_another);
    let elsewhere = "it is the workflow `install`, but this machine accepts only `wipe`";
    fails(&verify(&["--from", "https://example.com/install.tar"])?, &["may not run", elsewhere]);
    Ok(())
}

/// The workflow was put into an artifact without its images, which any artifact tool can do.
#[test]
fn a_bundle_without_the_images_of_its_workflow_is_incomplete() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let layout = workstation.path("bare");
    let put = |bytes: &[u8]| -> Result<String> {
        let name = digest(bytes)?;
        workstation.file(&format!("bare/blobs/sha256/{}", name.trim_start_matches("sha256:")), bytes)?;
        Ok(name)
    };
    let text = WORKFLOW.replace("REGISTRY", &here(&registry));
    let (workflow, config) = (put(text.as_bytes())?, put(b"{}")?);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "artifactType": "application/vnd.iguana.workflow.v1",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.iguana.workflow.v1+yaml", "digest": workflow, "size": text.len()}]})
    .to_string();
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": kind, "digest": put(manifest.as_bytes())?,
        "size": manifest.len(), "artifactType": "application/vnd.iguana.workflow.v1"}]});
    workstation.file("bare/index.json", index.to_string())?;
    workstation.file("bare/oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#)?;
    assert!(layout.exists());
    for words in [&["bundle", "verify", "bare"][..], &["bundle", "verify", "bare", "--trust", "trust"]] {
        fails(
            &workstation.iguana(words)?,
            &["`bare` is incomplete", "the bundle does not contain the image `", "hint: create the bundle"],
        );
    }
    Ok(())
}

/// An outdated lock file is reported when the bundle or the initrd is made.
#[test]
fn a_lock_file_of_another_workflow_is_not_included() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let text = WORKFLOW.replace("REGISTRY", &here(&registry));
    workstation.file("workflow.yaml", &text)?;
    says(&workstation.iguana(&["lock", "workflow.yaml", "--trust", "trust"])?, 0, &["with 1 images"]);
    registry.push(&Recipe::script("echo another")?.make(Maker::Spec)?, "tool")?;
    let moved = workstation.iguana(&["lock", "workflow.yaml", "--trust", "trust"])?;
    says(&moved, 0, &["warning: images differ", "raise `serial:` in the workflow"]);
    workstation.file("workflow.yaml", format!("serial: 2\n{text}"))?;
    let bundle = ["bundle", "workflow.yaml", "--trust", "trust", "--output", "b.tar"];
    fails(&workstation.iguana(&bundle)?, &["cannot use `workflow.yaml.lock`", "it is for another workflow"]);
    let kernel = iguana_lab::kernel::Kernel::debian(iguana_lab::kernel::Flavour::Cloud)?;
    let mut build = iguana_lab::initrd::command(&kernel, &workstation.path("initrd"));
    build.args(["--workflow", "workflow.yaml"]).current_dir(workstation.path(""));
    fails(&build.output()?, &["cannot use `workflow.yaml.lock`", "it is for another workflow"]);
    says(&workstation.iguana(&["lock", "workflow.yaml", "--trust", "trust"])?, 0, &["with 1 images"]);
    says(&workstation.iguana(&bundle)?, 0, &["wrote b.tar"]);
    Ok(())
}

#[test]
fn a_lock_file_goes_into_the_initrd_and_a_trust_that_demands_digests_wants_it() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    workstation.file("workflow.yaml", WORKFLOW.replace("REGISTRY", &here(&registry)))?;
    workstation.file("trust/iguana.conf", "[workflow]\nrequire-digest = true\n")?;
    let kernel = iguana_lab::kernel::Kernel::debian(iguana_lab::kernel::Flavour::Cloud)?;
    let build = || {
        let mut command = iguana_lab::initrd::command(&kernel, &workstation.path("initrd"));
        command.args(["--workflow", "workflow.yaml", "--trust", "trust"]).current_dir(workstation.path(""));
        command.output()
    };
    fails(
        &build()?,
        &[
            "`workflow.yaml` would not be allowed to run",
            "the trust directory requires digests",
            "hint: write it as",
        ],
    );
    says(&workstation.iguana(&["lock", "workflow.yaml", "--trust", "trust"])?, 0, &["with 1 images"]);
    says(&build()?, 0, &["wrote "]);
    let listed = "zstd -dc initrd | cpio -t 2> /dev/null | grep control.yaml.lock";
    process::run(Command::new("sh").args(["-c", listed]).current_dir(workstation.path("")), QUICK)?;
    Ok(())
}

/// Root writes to a directory in which others can write, too.
#[test]
fn planted_links_are_not_followed_when_writing() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let victim = workstation.file("victim", "untouched")?;
    for name in ["bundle.tar.incoming", "workflow.yaml.lock", "digest"] {
        symlink(&victim, workstation.path(name))?;
    }
    workstation.file("workflow.yaml", WORKFLOW.replace("REGISTRY", &here(&registry)))?;
    says(
        &workstation.iguana(&["lock", "workflow.yaml", "--trust", "trust"])?,
        0,
        &["wrote workflow.yaml.lock"],
    );
    workstation.bundle(&registry, WORKFLOW, "bundle.tar")?;
    let image = format!("{}/tool", here(&registry));
    let words = ["pull", &image, "tree", "--trust", "trust", "--digest-file", "digest"];
    says(&workstation.iguana(&words)?, 0, &["sha256:"]);
    assert_eq!(fs::read_to_string(&victim)?, "untouched");
    assert!(fs::symlink_metadata(workstation.path("workflow.yaml.lock"))?.is_file());
    Ok(())
}

/// Opening a FIFO in place of a blob would block forever.
#[test]
fn a_special_file_instead_of_a_blob_is_refused_without_waiting() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let bundle = workstation.bundle(&registry, WORKFLOW, "bundle")?;
    let blobs = bundle.join("blobs/sha256");
    let largest =
        fs::read_dir(&blobs)?.flatten().max_by_key(|entry| entry.metadata().map_or(0, |it| it.len()));
    let blob = largest.context("no blob")?.path();
    for (make, words) in
        [("mkfifo", "it is a FIFO"), ("ln -s /dev/zero", "is a symbolic link that leaves the directory")]
    {
        fs::remove_file(&blob)?;
        let mut shell = Command::new("sh");
        process::run(shell.args(["-c", &format!("{make} \"$0\"")]).arg(&blob), QUICK)?;
        let mut verify = Command::new("timeout");
        verify.arg("30").arg(program("iguana")).args(["bundle", "verify"]).arg(&bundle);
        fails(&verify.output()?, &[words, "hint: "]);
    }
    Ok(())
}

/// What skopeo says of a registry is the registry's text.
#[test]
fn what_a_registry_says_to_a_push_is_text() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    workstation.bundle(&registry, WORKFLOW, "bundle.tar")?;
    let script = r"printf 'denied: \033[31mred\n::error::forged\niguana: forged\n' >&2; exit 1";
    let skopeo = workstation.file("bin/skopeo", format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(skopeo, Permissions::from_mode(0o755))?;
    let mut push = Command::new(program("iguana"));
    push.args(["bundle", "push", "bundle.tar", "r.example/all:1"]).current_dir(workstation.path(""));
    let output = push.env("PATH", workstation.path("bin")).output()?;
    fails(&output, &["denied: \\u{1b}[31mred\n  | ::error::forged\n  | iguana: forged\n"]);
    assert!(!output.stderr.contains(&0x1b));
    Ok(())
}

/// A workflow that only its owner may read stays so, and what belongs to it, too.
#[test]
fn a_bundle_is_for_those_who_may_read_all_that_is_in_it() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let text = WORKFLOW.replace("REGISTRY", &here(&registry));
    let workflow = workstation.file("workflow.yaml", text)?;
    says(&workstation.iguana(&["lock", "workflow.yaml", "--trust", "trust"])?, 0, &[]);
    let lock = workstation.path("workflow.yaml.lock");
    for (of_workflow, of_lock, expected) in
        [(0o644, 0o644, [0o644, 0o755]), (0o600, 0o644, [0o600, 0o700]), (0o644, 0o600, [0o600, 0o700])]
    {
        fs::set_permissions(&workflow, Permissions::from_mode(of_workflow))?;
        fs::set_permissions(&lock, Permissions::from_mode(of_lock))?;
        for (name, mode) in ["bundle.tar", "bundle"].into_iter().zip(expected) {
            let name = format!("{of_workflow:o}-{of_lock:o}-{name}");
            let bundled =
                workstation.iguana(&["bundle", "workflow.yaml", "--trust", "trust", "--output", &name])?;
            says(&bundled, 0, &[]);
            let found = fs::metadata(workstation.path(&name))?.permissions().mode() & 0o777;
            assert_eq!(found, mode, "{name} has {found:o}");
        }
    }
    Ok(())
}

/// Another user's link leads to root's workflow when it is read, and to a public one when the bundle is written.
#[test]
fn the_mode_of_a_bundle_is_that_of_the_file_that_was_read() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let flow = workstation.path("flow.yaml");
    let proxy = {
        let (flow, public) = (flow.clone(), workstation.path("public.yaml"));
        FaultProxy::before(&registry.address(), move |_: &Request| {
            // The image is fetched: the workflow has been read.
            let _ = fs::remove_file(&flow).and_then(|()| symlink(&public, &flow));
            Action::Pass
        })?
    };
    workstation.file("trust/registries.conf", insecure(&proxy.address()))?;
    let text = WORKFLOW.replace("REGISTRY", &proxy.address());
    let secret = workstation.file("secret.yaml", format!("# secret\n{text}"))?;
    fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    workstation.file("public.yaml", text)?;
    symlink(&secret, &flow)?;
    let bundled =
        workstation.iguana(&["bundle", "flow.yaml", "--trust", "trust", "--output", "bundle.tar"])?;
    says(&bundled, 0, &[]);
    assert!(!proxy.requests().is_empty());
    let bundle = workstation.path("bundle.tar");
    assert!(String::from_utf8_lossy(&fs::read(&bundle)?).contains("# secret"));
    assert_eq!(fs::metadata(&bundle)?.permissions().mode() & 0o777, 0o600);
    Ok(())
}
