//! The examples that need no more than a busybox, as their files are. `hello` and `debian-install` are the demo's.

use anyhow::Result;
use iguana_lab::disk::Disk;
use iguana_lab::image::{Recipe, busybox_root, put};
use iguana_lab::scenario::{LIMIT, Scenario};
use iguana_lab::{process, source_tree};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The registry that the examples name; the scenario's takes its place.
const EXAMPLE_REGISTRY: &str = "registry.example.com";

fn text(path: &str) -> Result<String> {
    Ok(fs::read_to_string(source_tree().join("examples").join(path))?)
}

fn workflow(example: &str) -> Result<String> {
    Ok(text(&format!("{example}/workflow.yaml"))?.replace(EXAMPLE_REGISTRY, "REGISTRY"))
}

/// What a Containerfile of an example makes: busybox and one script, which is the command.
fn image(example: &str, script: &str) -> Result<Recipe> {
    let path = format!("/{script}");
    let recipe = Recipe::busybox()?.file(&path, 0o755, text(&format!("{example}{path}"))?)?;
    Ok(recipe.set("Cmd", [path].as_slice().into()))
}

/// The system that the saltboot container puts on a disk.
fn packed_system(target: &Path) -> Result<()> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    put(
        root.path(),
        "/sbin/init",
        0o755,
        b"#!/bin/sh\necho deployed as $(cat /etc/machine-id)\npoweroff -f\n",
    )?;
    process::run(Command::new("tar").arg("-C").arg(root.path()).arg("-czf").arg(target).arg("."), LIMIT)?;
    Ok(())
}

#[test]
fn saltboot_deploys_a_system_and_the_machine_goes_on_as_it() -> Result<()> {
    let empty = tempfile::tempdir()?;
    let disk = Disk::ext4(64, "system", empty.path())?;
    let system = empty.path().join("system.tar.gz");
    packed_system(&system)?;
    let mut boot = Scenario::new()?
        .image("saltboot", image("saltboot", "saltboot.sh")?.copy(&system, "/system.tar.gz")?)?
        .disk(&disk)
        .workflow(workflow("saltboot")?)
        .boot()?;
    boot.expect_all(&["progress: saltboot: mounting /dev/vda", "progress: saltboot: 100 of "])?;
    boot.expect_all(&["job saltboot: succeeded", "handover: switch root to /dev/vda", "deployed as "])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn agama_has_its_backend_beside_it() -> Result<()> {
    let mut boot = Scenario::new()?
        .image("agama-web", image("agama", "backend.sh")?)?
        .image("agama-service", image("agama", "installer.sh")?)?
        .workflow(workflow("agama")?)
        .boot()?;
    boot.expect_all(&["service backend: started", "progress: backend: install done"])?;
    boot.expect_all(&["job agama: succeeded", "handover: reboot"])?;
    boot.ends()?;
    Ok(())
}
