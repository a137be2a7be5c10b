//! systemd as the command of an image.

use crate::{assert_says, text};
use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::live::LiveSystem;
use iguana_lab::payload;
use iguana_lab::program;
use iguana_lab::registry::Registry;
use serde_json::json;

/// A Debian that boots. The unit that is left out has the lowest priority, and waits for other tests.
fn debian_with_systemd() -> Result<Recipe> {
    let recipe = Recipe::empty()?.tar(&payload::with_systemd()?);
    let recipe = recipe.link("/etc/systemd/system/e2scrub_reap.service", "/dev/null")?;
    Ok(recipe.set("Cmd", json!(["/sbin/init"])))
}

#[test]
fn steps_run_beside_systemd_once_it_is_up() -> Result<()> {
    let registry = Registry::plain()?;
    registry.push_recipe(debian_with_systemd()?, "system")?;
    let system = LiveSystem::new(registry)?;
    let file = system.workflow(
        "
jobs:
  inside:
    container: REGISTRY/system
    steps:
      - run: |
          echo \"it is $(cat /proc/1/comm), $(systemctl is-system-running)\"
          cmp /etc/machine-id /iguana/machine-id && echo 'the ID is that of the machine'
          systemctl is-enabled getty@tty1 || echo 'no login on the screen'
      - run: systemd-run --wait --pipe --quiet cat /proc/self/cgroup
  beside:
    container: {image: REGISTRY/system, volumes: [shared:/shared]}
    services:
      system: {image: REGISTRY/system, privileged: false, volumes: [shared:/shared]}
    steps: [{run: echo the job runs beside it}]
  last:
    container: REGISTRY/system
    steps: [{run: systemctl reboot; sleep 60}, {run: echo not this}]
",
    )?;
    let output = system.run(&program("iguana-init"), "iguana-init", &["run", &file])?;
    let expected = [
        "job inside: its init system is up after",
        "it is systemd, running",
        "the ID is that of the machine",
        "no login on the screen",
        "0::/system.slice/run-",
        "service system: ready after",
        "job last: the container asked for `reboot` by reboot(2)",
    ];
    assert_says(&output, 0, &expected);
    assert!(!text(&output).contains("not this"));
    Ok(())
}

#[test]
fn a_systemd_that_does_not_come_up_is_told_with_its_unit() -> Result<()> {
    let registry = Registry::plain()?;
    let unit = "[Service]\nType=oneshot\nExecStart=/bin/sleep 1000\nTimeoutStartSec=infinity\n";
    let image = debian_with_systemd()?.file("/etc/systemd/system/hang.service", 0o644, unit)?;
    let wanted = "/etc/systemd/system/multi-user.target.wants/hang.service";
    registry.push_recipe(image.link(wanted, "../hang.service")?, "system")?;
    let system = LiveSystem::new(registry)?;
    let file = system
        .workflow("jobs: {a: {container: REGISTRY/system, timeout: 40s, steps: [{run: echo not this}]}}")?;
    let output = system.run(&program("iguana-init"), "iguana-init", &["run", &file])?;
    let expected = [
        "why: its init system was not up within",
        "systemd is `starting`, and waits for `hang.service`",
        "hint: mend or mask the unit",
    ];
    assert_says(&output, 1, &expected);
    Ok(())
}
