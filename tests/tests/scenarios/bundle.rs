//! A workflow with its images on a stick, and in one registry.

use crate::POWER_OFF;
use anyhow::Result;
use iguana_lab::bundle::{Workstation, stick};
use iguana_lab::disk::Disk;
use iguana_lab::image::{Maker, Recipe};
use iguana_lab::initrd::Initrd;
use iguana_lab::process::{self, LONG};
use iguana_lab::program;
use iguana_lab::puller::{here, says};
use iguana_lab::registry::Registry;
use iguana_lab::scenario::Scenario;
use iguana_lab::signing::{Attachment, Repository, digest};
use serde_json::Value;
use std::process::Command;

const WORKFLOW: &str = "jobs: {one: {container: REGISTRY/tool}, end: {container: REGISTRY/end}}\n";
const STICK: &str = "rd.iguana.control_url=hd:LABEL=IGUANA:/bundle.tar ip=off";

/// A registry in which `tool` also has an arm64 image, which the bundles here leave out.
fn filled() -> Result<Registry> {
    let registry = Registry::plain()?;
    let other = Recipe::script("echo it is another")?.architecture("arm64").make(Maker::Spec)?;
    let tool = Recipe::script("echo it came along")?.make(Maker::Spec)?.beside_arm64(&other)?;
    registry.push_all(&tool, "tool")?;
    registry.push(&Recipe::script(POWER_OFF)?.make(Maker::Spec)?, "end")?;
    Ok(registry)
}

fn with_bundle(label: &str) -> Result<Disk> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let bundle = workstation.bundle(&registry, WORKFLOW, "bundle.tar")?;
    // The registry is stopped here, so nothing can be fetched from it any more.
    drop(registry);
    Disk::ext4(64, label, stick(&bundle)?.path())
}

#[test]
fn a_usb_stick_suffices_without_a_network() -> Result<()> {
    let disk = with_bundle("IGUANA")?;
    let mut boot = Scenario::new()?.no_network().disk(&disk).append(STICK).boot()?;
    boot.expect_all(&["is a bundle; its images are used", "it came along", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}

/// A machine takes the image of its platform from a bundle, and reports if it is missing.
#[test]
fn a_bundle_may_be_for_several_or_for_foreign_architectures() -> Result<()> {
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let tool = "jobs: {one: {container: REGISTRY/tool}}";
    workstation.file("workflow.yaml", tool.replace("REGISTRY", &here(&registry)))?;
    let bundled = |name: &str, platforms: &[&str]| {
        let mut words = vec!["bundle", "workflow.yaml", "--trust", "trust", "--output", name];
        words.extend(platforms.iter().flat_map(|platform| ["--platform", platform]));
        says(&workstation.iguana(&words)?, 0, &[]);
        Disk::ext4(64, "IGUANA", stick(&workstation.path(name))?.path())
    };
    let both = bundled("both/bundle.tar", &["linux/amd64", "linux/arm64"])?;
    let other = bundled("other/bundle.tar", &["linux/arm64"])?;
    drop(registry);
    let boot = |disk: &Disk| Scenario::new()?.no_network().disk(disk).append(STICK).boot();
    boot(&both)?.expect("it came along")?;
    let block = boot(&other)?.fails_in("image")?;
    assert!(
        block.contains("the image is not available for `linux/amd64") && block.contains("`linux/arm64`"),
        "{block}"
    );
    Ok(())
}

#[test]
fn an_ambiguous_or_missing_usb_label_is_an_error() -> Result<()> {
    let (one, other) = (with_bundle("IGUANA")?, with_bundle("IGUANA")?);
    let mut boot = Scenario::new()?.no_network().disk(&one).disk(&other).append(STICK).boot()?;
    let block = boot.fails_in("control file")?;
    assert!(
        block.contains("the label `IGUANA` is on more than one device: `/dev/vda`, `/dev/vdb`"),
        "{block}"
    );
    let disk = with_bundle("OTHER")?;
    let mut boot = Scenario::new()?.no_network().disk(&disk).append(STICK).boot()?;
    boot.expect("workflow: waiting for the device `LABEL=IGUANA`")?;
    let block = boot.fails_in("control file")?;
    assert!(block.contains("there is no device `LABEL=IGUANA`") && block.contains("`/dev/vda`"), "{block}");
    Ok(())
}

#[test]
fn a_registry_has_a_workflow_with_its_images_under_one_name() -> Result<()> {
    let from = filled()?;
    let workstation = Workstation::using(&from)?;
    workstation.bundle(&from, WORKFLOW, "bundle.tar")?;
    drop(from);
    let registry = Registry::plain()?;
    let target = format!("{}/all/in-one:1", here(&registry));
    let mut push = Command::new(program("iguana"));
    push.args(["bundle", "push", "--insecure", "bundle.tar", &target]).current_dir(workstation.path(""));
    process::run(&mut push, LONG)?;
    let url = format!("oci://{}/all/in-one:1", registry.address());
    let mut boot =
        Scenario::new()?.registry(registry).append(format!("rd.iguana.control_url={url}")).boot()?;
    boot.expect_all(&["is a bundle; its images are used", "it came along", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}

/// The digest of a manifest or index, and those that an index lists.
fn with_its_manifests(top: &[u8]) -> Result<Vec<String>> {
    let listed: Value = serde_json::from_slice(top)?;
    let listed = listed["manifests"].as_array().into_iter().flatten();
    let listed = listed.filter_map(|entry| entry["digest"].as_str()).map(str::to_owned);
    Ok([digest(top)?].into_iter().chain(listed).collect())
}

/// The lock file that `iguana bundle` makes is unsigned, so a trust that demands signatures does not accept it.
#[test]
fn a_strict_initrd_runs_signed_bundles_and_ignores_unsigned_locks() -> Result<()> {
    let (initrd, key) = Initrd::strict()?;
    let registry = filled()?;
    let workstation = Workstation::using(&registry)?;
    let workflow = format!("name: install\n{WORKFLOW}");
    let text = workflow.replace("REGISTRY", &here(&registry));
    workstation.file("workflow.yaml.sig", key.sign(text.as_bytes())?)?;
    for name in ["tool", "end"] {
        let repository = Repository::new(&here(&registry), name);
        let top = repository.manifest("latest")?;
        for manifest in with_its_manifests(&top)? {
            let signature = Attachment::new(&key, &manifest, &format!("{}/{name}:latest", here(&registry)))?;
            repository.attach(&manifest, &[signature])?;
        }
    }
    let bundle = workstation.bundle(&registry, &workflow, "bundle.tar")?;
    drop(registry);
    let disk = Disk::ext4(64, "IGUANA", stick(&bundle)?.path())?;
    let mut boot = Scenario::with(&initrd).no_network().disk(&disk).append(STICK).boot()?;
    boot.expect_all(&[
        "workflow: signed by ",
        "ignoring its lock file",
        "it came along",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}
