//! Bad input and faults of the environment: each gives one clear error block, then the failure policy.

use anyhow::{Context, Result};
use iguana_lab::authority::Authority;
use iguana_lab::image::Recipe;
use iguana_lab::initrd::Initrd;
use iguana_lab::registry::Registry;
use iguana_lab::scenario::Scenario;
use iguana_lab::web_server::WebServer;
use serde_json::json;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// Boots, expects a failure in `stage` and the power-off that follows; returns the error block.
fn failure_of(scenario: Scenario, stage: &str) -> Result<String> {
    let mut boot = scenario.append("rd.iguana.on_failure=poweroff").boot()?;
    let block = boot.fails_in(stage)?;
    let said = boot.ends()?;
    assert!(said.contains("reboot: Power down"), "no power-off:\n{said}");
    assert_eq!(said.matches("iguana: error: ").count(), 1, "not one block:\n{said}");
    Ok(block)
}

fn assert_says(block: &str, words: &[&str]) {
    for word in words {
        assert!(block.to_lowercase().contains(&word.to_lowercase()), "`{word}` is not in\n{block}");
    }
}

fn fetching(url: &str) -> Result<Scenario> {
    Ok(Scenario::new()?.append(format!("rd.iguana.control_url={url}")))
}

fn running(image: &str) -> Result<Scenario> {
    Ok(Scenario::new()?.append(format!("rd.iguana.containers={image}")))
}

#[test]
fn control_file_on_a_host_without_a_server() -> Result<()> {
    let block = failure_of(fetching("http://10.0.2.2:9/workflow.yaml")?, "control file")?;
    assert_says(&block, &["http://10.0.2.2:9/workflow.yaml", "refused"]);
    Ok(())
}

#[test]
fn control_file_on_an_unknown_host() -> Result<()> {
    let block = failure_of(fetching("http://nowhere.invalid/workflow.yaml")?, "control file")?;
    assert_says(&block, &["nowhere.invalid"]);
    Ok(())
}

#[test]
fn control_file_that_does_not_exist() -> Result<()> {
    let web_server = WebServer::plain()?;
    let block = failure_of(fetching(&web_server.url("/none-${mac}-${arch}.yaml"))?, "control file")?;
    assert_says(&block, &["/none-52:54:00:12:34:56-x86_64.yaml", "404"]);
    let block = failure_of(fetching(&web_server.url("/${ip}.yaml"))?, "control file")?;
    assert_says(&block, &["uses `${ip}`, which is unknown", "use one of `${mac}`"]);
    Ok(())
}

#[test]
#[ignore = "long"]
fn control_file_that_never_arrives() -> Result<()> {
    let web_server = WebServer::plain()?;
    let scenario = fetching(&web_server.silence("/silent.yaml"))?;
    let mut boot = scenario.append("rd.iguana.on_failure=poweroff").boot()?;
    boot.expect("waiting")?;
    boot.fails_in("control file")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn control_file_from_a_server_with_an_untrusted_certificate() -> Result<()> {
    let web_server = WebServer::tls(&Authority::named("stranger")?)?;
    let url = web_server.serve("/workflow.yaml", "jobs: {}");
    let block = failure_of(fetching(&url)?, "control file")?;
    assert_says(&block, &["certificate", "UnknownIssuer"]);
    Ok(())
}

#[test]
fn workflow_that_is_not_yaml() -> Result<()> {
    let block = failure_of(Scenario::new()?.workflow("<html>\n<p>: [log in first"), "workflow")?;
    assert_says(&block, &["line"]);
    Ok(())
}

#[test]
fn workflow_with_an_unknown_key() -> Result<()> {
    let workflow = "jobs:\n  a:\n    container:\n      imagee: x\n";
    let block = failure_of(Scenario::new()?.workflow(workflow), "workflow")?;
    assert_says(&block, &["imagee"]);
    Ok(())
}

#[test]
fn image_that_the_registry_does_not_have() -> Result<()> {
    let registry = Registry::plain()?;
    let block = failure_of(running("REGISTRY/nobody/made:it")?.registry(registry), "image")?;
    assert_says(&block, &["nobody/made:it"]);
    Ok(())
}

#[test]
fn registry_without_tls_that_is_not_marked_as_insecure() -> Result<()> {
    let scenario =
        Scenario::new()?.registry(Registry::plain_unlisted()?).job(Recipe::script("echo never")?)?;
    let block = failure_of(scenario, "image")?;
    assert_says(&block, &["does not speak TLS"]);
    Ok(())
}

#[test]
fn registry_with_an_untrusted_certificate() -> Result<()> {
    let registry = Registry::tls(&Authority::named("lab")?)?;
    let initrd = Initrd::trusting(&Authority::named("stranger")?)?;
    let scenario = Scenario::with(&initrd).registry(registry).job(Recipe::script("echo never")?)?;
    let block = failure_of(scenario, "image")?;
    assert_says(&block, &["certificate", "UnknownIssuer"]);
    Ok(())
}

#[test]
fn layer_that_was_changed_in_the_registry() -> Result<()> {
    let registry = Registry::plain()?;
    let image = Recipe::script("echo the changed layer ran")?.make(iguana_lab::image::Maker::Spec)?;
    registry.push(&image, "job")?;
    let blobs = registry.blobs()?;
    let layer = OpenOptions::new().write(true).open(blobs.first().context("no blob")?)?;
    // Changes the time in the gzip header; the unpacked content stays the same.
    layer.write_all_at(&[1], 4)?;
    let scenario = running("REGISTRY/job")?.registry(registry);
    let mut boot = scenario.append("rd.iguana.on_failure=poweroff").boot()?;
    let block = boot.fails_in("image")?;
    assert_says(&block, &["digest"]);
    assert!(!boot.ends()?.contains("the changed layer ran"));
    Ok(())
}

#[test]
fn image_that_memory_cannot_hold() -> Result<()> {
    let zeros = vec![0; 300 << 20];
    let scenario =
        Scenario::new()?.memory(256).job(Recipe::script("echo never")?.file("/big", 0o644, zeros)?)?;
    let block = failure_of(scenario, "image")?;
    assert_says(&block, &["memory"]);
    Ok(())
}

#[test]
fn program_of_another_kind() -> Result<()> {
    let recipe =
        Recipe::busybox()?.file("/odd", 0o755, "\u{1}\u{2}\u{3}")?.set("Entrypoint", json!(["/odd"]));
    let block = failure_of(Scenario::new()?.job(recipe)?, "job")?;
    assert_says(&block, &["/odd", "exec format error"]);
    Ok(())
}

#[test]
fn entrypoint_that_the_image_does_not_have() -> Result<()> {
    let recipe = Recipe::busybox()?.set("Entrypoint", json!(["/usr/bin/forgotten"]));
    let block = failure_of(Scenario::new()?.job(recipe)?, "job")?;
    assert_says(&block, &["/usr/bin/forgotten"]);
    Ok(())
}

#[test]
fn image_that_does_not_say_what_to_run() -> Result<()> {
    let block = failure_of(Scenario::new()?.job(Recipe::busybox()?)?, "job")?;
    assert_says(&block, &["entrypoint", "cmd"]);
    Ok(())
}

#[test]
fn mount_list_that_names_no_device() -> Result<()> {
    let job = Recipe::script("echo 'LABEL=nowhere /sysroot' > /iguana/mountlist")?;
    let mut boot = Scenario::new()?.job(job)?.append("rd.iguana.on_failure=poweroff").boot()?;
    boot.expect("waiting for")?;
    let block = boot.fails_in("handover")?;
    assert_says(&block, &["LABEL=nowhere"]);
    boot.ends()?;
    Ok(())
}

#[test]
fn machine_without_a_network_interface() -> Result<()> {
    let scenario = fetching("http://10.0.2.2/workflow.yaml")?.no_network();
    let mut boot = scenario.append("rd.iguana.on_failure=poweroff").boot()?;
    boot.expect("network: waiting for a network interface")?;
    let block = boot.fails_in("network")?;
    assert_says(&block, &["network interface"]);
    boot.ends()?;
    Ok(())
}
