//! Sources of a workflow other than the web server of most scenarios.

use crate::POWER_OFF;
use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::registry::Registry;
use iguana_lab::scenario::Scenario;
use std::fs;

/// The address of QEMU's TFTP server in the user network.
const SERVER: &str = "10.0.2.2";
const MAC: &str = "52:54:00:12:34:56";

/// The workflows are beside the boot loader, one for each machine by its own name.
#[test]
fn a_boot_server_has_the_workflow_of_each_machine() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let network = format!("user,id=net1,tftp={}", directory.path().display());
    let registry = Registry::plain()?;
    let job = registry.push_recipe(Recipe::script(POWER_OFF)?, "job")?;
    // More than one TFTP block.
    let workflow = format!("# {}\njobs: {{job: {{container: {job}}}}}\n", "=".repeat(3000));
    fs::write(directory.path().join(MAC), workflow)?;
    let boot = |name: &str| {
        let interface = ["-netdev", &network, "-device", &format!("virtio-net-pci,netdev=net1,mac={MAC}")];
        let scenario = Scenario::new()?.no_network().extra(interface);
        scenario.append(format!("rd.iguana.control_url=tftp://{SERVER}/{name}")).boot()
    };
    boot("${mac}")?.expect_all(&["job job: succeeded", "handover: power off"])?;
    let block = boot("other")?.fails_in("control file")?;
    assert!(block.contains("the server replied `") && block.contains("the server was reached"), "{block}");
    Ok(())
}
