//! The examples, unchanged, on busybox or on a Debian with the packages of their Containerfiles. `hello` and
//! `debian-install` are covered by the demo.

use anyhow::Result;
use iguana_lab::disk::{Disk, Part};
use iguana_lab::fault_proxy::{Action, FaultProxy};
use iguana_lab::image::{Recipe, busybox_root, put};
use iguana_lab::registry::Registry;
use iguana_lab::scenario::{LIMIT, Scenario};
use iguana_lab::web_server::WebServer;
use iguana_lab::{HOST, payload, process, source_tree};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The registry in the examples, which is replaced by the scenario's.
const EXAMPLE_REGISTRY: &str = "registry.example.com";

fn text(path: &str) -> Result<String> {
    Ok(fs::read_to_string(source_tree().join("examples").join(path))?)
}

fn workflow(example: &str) -> Result<String> {
    Ok(text(&format!("{example}/workflow.yaml"))?.replace(EXAMPLE_REGISTRY, "REGISTRY"))
}

/// The image of an example's Containerfile: busybox with one script as the command.
fn image(example: &str, script: &str) -> Result<Recipe> {
    let path = format!("/{script}");
    let recipe = Recipe::busybox()?.file(&path, 0o755, text(&format!("{example}{path}"))?)?;
    Ok(recipe.set("Cmd", [path].as_slice().into()))
}

/// The same with a Debian.
fn debian(example: &str, script: &str) -> Result<Recipe> {
    let path = format!("/{script}");
    let recipe = Recipe::empty()?.tar(&payload::disk_tools()?);
    let recipe = recipe.file(&path, 0o755, text(&format!("{example}{path}"))?)?;
    Ok(recipe.set("Cmd", [path].as_slice().into()))
}

/// The system that the saltboot container writes to a disk.
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
fn agama_runs_with_its_backend_as_a_service() -> Result<()> {
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

#[test]
fn an_image_is_streamed_to_a_disk_and_the_machine_goes_on_as_it() -> Result<()> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    put(root.path(), "/sbin/init", 0o755, b"#!/bin/sh\necho streamed system\npoweroff -f\n")?;
    let source = Disk::gpt(&[Part {
        mib: 16,
        row: "type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
        directory: root.path(),
    }])?;
    let packed = root.path().join("edge.raw.zst");
    process::run(Command::new("zstd").arg("-q").arg(source.image()).arg("-o").arg(&packed), LIMIT)?;
    let sum = process::run(Command::new("sha256sum").arg(&packed), LIMIT)?;
    let sum = sum.split(' ').next().unwrap_or_default();
    let web_server = WebServer::plain()?;
    let url = web_server.serve("/edge.raw.zst", fs::read(&packed)?);
    let target = Disk::empty(64)?;
    let with = |sum: &str| -> Result<Scenario> {
        let text = workflow("image-deploy")?.replace("https://images.example.com/edge.raw.zst", &url);
        let scenario = Scenario::new()?.memory(1024).disk(&target);
        let scenario = scenario.image("image-deploy", debian("image-deploy", "deploy.sh")?)?;
        Ok(scenario.workflow(text.replace(&"0".repeat(64), sum)).append("rd.iguana.on_failure=poweroff"))
    };
    let mut boot = with(sum)?.boot()?;
    boot.expect_all(&[
        "progress: writing ",
        "progress: /dev/vda is written",
        "found the root by its partition type",
    ])?;
    boot.expect("streamed system")?;
    boot.ends()?;
    let mut boot = with(&sum.replace(|_: char| true, "7"))?.boot()?;
    boot.expect("progress: deployment failed: the checksum is ")?;
    boot.expect("job deploy: failed: exit status 1")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn the_inventory_is_posted() -> Result<()> {
    // No server is behind the proxy; it accepts posted data.
    let nobody = Registry::plain_unlisted()?;
    let fault_proxy =
        FaultProxy::before(&nobody.address(), |_| Action::Answer("200 OK", Vec::new(), Vec::new()))?;
    let (_, port) =
        fault_proxy.address().rsplit_once(':').map(|(_, port)| ((), port.to_owned())).unwrap_or_default();
    let text =
        workflow("inventory")?.replace("https://inventory.example.com", &format!("http://{HOST}:{port}"));
    let mut boot = Scenario::new()?
        .memory(1024)
        .image("inventory", debian("inventory", "inventory.sh")?)?
        .workflow(text)
        .boot()?;
    boot.expect_all(&["progress: inventory of ", "handover: power off"])?;
    boot.ends()?;
    let posted = fault_proxy.requests().into_iter().find(|request| request.target == "/machines");
    assert!(posted.is_some_and(|request| request.head.starts_with("POST ")));
    Ok(())
}

#[test]
fn a_rescue_shell_is_there_on_the_console_and_by_ssh() -> Result<()> {
    let mut boot = Scenario::new()?
        .memory(1024)
        .image("rescue", debian("rescue", "rescue.sh")?)?
        .workflow(workflow("rescue")?)
        .append("rescue.key=\"ssh-ed25519 AAAA somebody\"")
        .boot()?;
    boot.expect("This is a rescue shell")?;
    boot.types("exec 3<>/dev/tcp/10.0.2.15/22; read -r hello <&3; echo \"it says ${hello%%_*}\"\n")?;
    boot.expect("it says SSH-2.0-OpenSSH")?;
    boot.types("cat /root/.ssh/authorized_keys\n")?;
    boot.expect("ssh-ed25519 AAAA somebody")?;
    boot.types("exit\n")?;
    boot.expect_all(&["job rescue: succeeded", "handover: reboot"])?;
    boot.ends()?;
    // It comes another way than the shell's own output, so either may be first.
    assert!(boot.said().contains("progress: ssh root@10.0.2.15"), "{}", boot.said());
    Ok(())
}

#[test]
fn an_installer_uses_the_udev_in_its_service() -> Result<()> {
    let disk = Disk::empty(64)?;
    let mut boot = Scenario::new()?
        .memory(1024)
        .disk(&disk)
        .image("partition", debian("udev-service", "partition.sh")?)?
        .image("udev", debian("udev-service", "udevd.sh")?)?
        .workflow(workflow("udev-service")?)
        .boot()?;
    boot.expect_all(&["service udev: ready", "progress: ID_PART_ENTRY_NAME=data", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}
