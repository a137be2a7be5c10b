//! The trust in an initrd, and what it demands of the command line and of workflows, on a machine.

use anyhow::Result;
use iguana_lab::initrd::Initrd;
use iguana_lab::puller::here;
use iguana_lab::registry::Registry;
use iguana_lab::scenario::Scenario;
use iguana_lab::signing::{Attachment, MANIFEST, Repository, digest};
use serde_json::json;

#[test]
fn the_command_line_loosens_nothing() -> Result<()> {
    let (initrd, _) = Initrd::strict()?;
    let mut boot = Scenario::with(&initrd)
        .workflow("jobs: {evil: {container: r.example/evil}}")
        .append("rd.iguana.debug rd.iguana.containers=r.example/evil root=/dev/vda1 init=/bin/evil")
        .append("rd.iguana.on_failure=shell rd.iguana.on_failure=local")
        .boot()?;
    boot.expect_all(&[
        "kernel option `rd.iguana.debug` is ignored: the trust directory of this initrd does not allow it",
        "kernel option `rd.iguana.containers=r.example/evil` is ignored",
        "kernel option `root=/dev/vda1` is ignored: the trust directory of this initrd does not allow it",
        "kernel option `init=/bin/evil` is ignored",
        "kernel option `rd.iguana.on_failure=local` is ignored",
    ])?;
    let block = boot.fails_in("control file")?;
    assert!(block.contains("the trust directory does not allow `http://"), "{block}");
    assert!(block.contains("it has no signature"), "{block}");
    boot.expect_all(&["on failure: rebooting in"])?;
    let said = boot.said();
    assert!(
        said.contains("on failure: no shell: the trust directory of this initrd does not allow one"),
        "{said}"
    );
    assert!(!said.contains("TLS is verified"), "{said}");
    Ok(())
}

#[test]
fn a_signed_workflow_runs_in_a_strict_initrd() -> Result<()> {
    let (initrd, key) = Initrd::strict()?;
    let workflow = "name: install\non-failure: poweroff\njobs: {none: {container: 127.0.0.1:1/none}}";
    let signature = key.sign(workflow.as_bytes())?;
    let mut boot = Scenario::with(&initrd).workflow(workflow).beside_workflow(".sig", signature).boot()?;
    boot.expect("iguana: workflow: signed by ECDSA P-256 sha256:")?;
    let block = boot.fails_in("image")?;
    assert!(block.contains("the policy rejects it") || block.contains("127.0.0.1:1"), "{block}");
    Ok(())
}

#[test]
fn another_workflow_by_the_same_key_does_not_run() -> Result<()> {
    let (initrd, key) = Initrd::strict()?;
    let workflow = "name: decommission\non-failure: poweroff\njobs: {wipe: {container: 127.0.0.1:1/wipe}}";
    let signature = key.sign(workflow.as_bytes())?;
    let scenario = Scenario::with(&initrd).workflow(workflow).beside_workflow(".sig", signature);
    let mut boot = scenario.append("rd.iguana.on_failure=poweroff").boot()?;
    boot.expect("iguana: workflow: signed by ECDSA P-256 sha256:")?;
    let block = boot.fails_in("trust")?;
    assert!(
        block.contains("it is the workflow `decommission`, but this machine accepts only `install`"),
        "{block}"
    );
    boot.ends()?;
    Ok(())
}

/// A clock without a battery starts before the date of the initrd. It is then not known whether a workflow is still
/// valid.
#[test]
fn a_workflow_with_an_expiry_needs_a_clock() -> Result<()> {
    let workflow = "valid-until: 2090-01-01\njobs: {none: {container: 127.0.0.1:1/none}}";
    let scenario = || {
        Ok::<_, anyhow::Error>(Scenario::new()?.workflow(workflow).append("rd.iguana.on_failure=poweroff"))
    };
    let mut boot = scenario()?.extra(["-rtc", "base=1990-01-01T00:00:00"]).boot()?;
    let block = boot.fails_in("trust")?;
    assert!(block.contains("the clock of this machine is not set"), "{block}");
    boot.ends()?;
    let mut boot = scenario()?.boot()?;
    boot.fails_in("image")?;
    boot.ends()?;
    Ok(())
}

/// A workflow in a registry is signed in the same way as an image.
#[test]
fn a_workflow_in_a_registry_runs_if_the_policy_allows_it() -> Result<()> {
    let (initrd, key) = Initrd::strict()?;
    let registry = Registry::plain()?;
    let repository = Repository::new(&here(&registry), "flows/one");
    let workflow = b"name: one\non-failure: poweroff\njobs: {none: {container: 127.0.0.1:1/none}}";
    let layer = repository.put_blob(workflow)?;
    let config = repository.put_blob(b"{}")?;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "artifactType": "application/vnd.iguana.workflow.v1",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.iguana.workflow.v1+yaml", "digest": layer, "size": workflow.len()}]});
    let manifest = manifest.to_string();
    repository.put_manifest("1", MANIFEST, manifest.as_bytes())?;
    let name = format!("{}/flows/one:1", registry.address());
    let option = format!("rd.iguana.control_url=oci://{name}");
    let mut boot = Scenario::with(&initrd).append(&option).append("rd.iguana.on_failure=poweroff").boot()?;
    let block = boot.fails_in("control file")?;
    assert!(block.contains("cannot fetch the workflow") && block.contains("it is not signed"), "{block}");
    boot.ends()?;
    let digest = digest(manifest.as_bytes())?;
    repository.attach(&digest, &[Attachment::new(&key, &digest, &name)?])?;
    let mut boot = Scenario::with(&initrd).append(option).boot()?;
    boot.expect(&format!("workflow: from oci://{name}"))?;
    boot.fails_in("image")?;
    boot.ends()?;
    Ok(())
}
