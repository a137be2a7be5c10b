//! reboot(2) in a container means the kernel action of that name.

use crate::{assert_says, text};
use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::live::LiveSystem;
use iguana_lab::program;
use iguana_lab::registry::Registry;
use std::process::Output;

/// Only where PID 1 is that of a container: elsewhere it would be the end of the machine.
const REBOOT: &str = "#!/bin/sh\n[ \"$(cat /proc/1/comm)\" = iguana-containe ] && $1 -f\n";

/// The output of a run, and the kernel action that it leaves behind.
fn asking(workflow: &str) -> Result<Output> {
    let registry = Registry::plain()?;
    registry.push_recipe(Recipe::script("true")?.file("/bin/ask", 0o755, REBOOT)?, "tool")?;
    let system = LiveSystem::new(registry)?;
    let file = system.workflow(workflow)?;
    let init = program("iguana-init");
    let script = format!(
        "timeout 60 {} run {file}; echo ended with $?; echo \"action: $(cat /iguana/kernelAction)\"",
        init.display()
    );
    system.run("/bin/sh".as_ref(), "sh", &["-c", &script])
}

#[test]
fn a_container_that_reboots_means_the_kernel_action() -> Result<()> {
    let output = asking(
        "
jobs:
  own: {container: {image: REGISTRY/tool, command: [ask, poweroff]}}
  later: {needs: own, container: {image: REGISTRY/tool, command: [echo, a later job runs]}}
",
    )?;
    let expected = [
        "job own: the container asked for `poweroff` by reboot(2): after the last job",
        "a later job runs",
        "ended with 0",
        "action: poweroff",
    ];
    assert_says(&output, 0, &expected);
    Ok(())
}

#[test]
fn a_step_or_a_service_that_reboots_ends_its_job() -> Result<()> {
    let output = asking(
        "
jobs:
  step:
    container: REGISTRY/tool
    steps: [{run: 'echo poweroff > /iguana/kernelAction; ask reboot'}, {run: echo not this}]
",
    )?;
    assert_says(&output, 0, &["job step: succeeded", "ended with 0", "action: reboot"]);
    assert!(!text(&output).contains("not this"));
    let output = asking(
        "
jobs:
  waiting:
    container: {image: REGISTRY/tool, command: [sleep, '1000']}
    services: {backend: {image: REGISTRY/tool, command: [sh, -c, sleep 1; ask reboot], restart: always}}
",
    )?;
    let expected = ["the service `backend` asked for `reboot`", "ended with 0", "action: reboot"];
    assert_says(&output, 0, &expected);
    Ok(())
}

#[test]
fn a_container_that_may_not_hand_over_cannot_reboot() -> Result<()> {
    let output =
        asking("jobs: {own: {container: {image: REGISTRY/tool, handover: false, command: [ask, reboot]}}}")?;
    let expected = [
        "why: ended when it asked for `reboot` by reboot(2): its container may not hand over",
        "`handover: true`",
        "ended with 1",
    ];
    assert_says(&output, 0, &expected);
    assert!(!text(&output).contains("action: reboot"));
    Ok(())
}
