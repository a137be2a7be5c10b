//! A boot that is stopped from outside ends all the same, within a limit, and says why.

use crate::running;
use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::scenario::Scenario;
use std::time::{Duration, Instant};

#[test]
fn an_xoff_on_the_serial_line_stops_nothing() -> Result<()> {
    let mut boot = running(
        "
jobs:
  broken:
    container: {image: REGISTRY/tool, tty: false, command: [sh, -c, echo the line is quiet; sleep 5; exit 7]}",
    )?
    .boot()?;
    boot.expect("the line is quiet")?;
    // Ctrl-S, as noise on the line may be.
    boot.types("\x13")?;
    let block = boot.fails_in("job")?;
    assert!(block.contains("exit status 7"), "{block}");
    assert!(boot.ends()?.contains("reboot: Power down"));
    Ok(())
}

#[test]
fn a_stopped_worker_is_found_and_the_failure_policy_carried_out() -> Result<()> {
    let mut boot = running(
        r#"
jobs:
  stops:
    container:
      image: REGISTRY/tool
      options: --pid host
      command:
        - sh
        - -c
        - |
          for process in /proc/[0-9]*; do
            case "$(tr '\0' ' ' < $process/cmdline)" in "/init boot "*) echo stopping it; kill -STOP ${process#/proc/};; esac
          done
          sleep 10000"#,
    )?
    .boot()?;
    boot.expect("stopping it")?;
    let start = Instant::now();
    let block = boot.fails_in("boot")?;
    assert!(block.contains("the boot program was stopped by signal 19"), "{block}");
    assert!(boot.ends()?.contains("reboot: Power down"));
    // Ten seconds, on a machine that shares a slow core.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    Ok(())
}

#[test]
fn the_machines_watchdog_is_fed_while_the_boot_goes_on_and_stopped_at_its_end() -> Result<()> {
    let job = Recipe::script(
        "echo the job works; sleep 25; echo the job has worked; echo poweroff > /iguana/kernelAction",
    )?;
    let mut boot = Scenario::hardware()?
        .job(job)?
        .append("rd.iguana.watchdog=10 rd.iguana.on_failure=poweroff")
        .extra(["-device", "i6300esb", "-action", "watchdog=poweroff"])
        .boot()?;
    boot.expect("watchdog: the machine restarts if Iguana stands still for 10 s")?;
    boot.expect_all(&["the job works", "the job has worked", "handover: power off"])?;
    assert!(boot.ends()?.contains("reboot: Power down"));
    Ok(())
}
