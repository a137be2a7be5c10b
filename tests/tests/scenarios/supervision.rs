//! A boot that is stopped from outside still ends within a limit, and says why.

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
    // Ctrl-S, which noise on the line can produce.
    boot.types("\x13")?;
    let block = boot.fails_in("job")?;
    assert!(block.contains("exit status 7"), "{block}");
    assert!(boot.ends()?.contains("reboot: Power down"));
    Ok(())
}

#[test]
fn a_stopped_worker_is_detected_and_the_failure_policy_carried_out() -> Result<()> {
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
          # The program that is stopped shows what a job says.
          for process in /proc/[0-9]*; do
            case "$(tr '\0' ' ' < $process/cmdline)" in "/init boot "*) echo stopping it; sleep 1; kill -STOP ${process#/proc/};; esac
          done
          sleep 10000"#,
    )?
    .boot()?;
    boot.expect("stopping it")?;
    let start = Instant::now();
    let block = boot.fails_in("boot")?;
    assert!(block.contains("the boot program was stopped by signal 19"), "{block}");
    assert!(boot.ends()?.contains("reboot: Power down"));
    // Ten seconds on an idle machine; more on one that shares a slow core.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    Ok(())
}

#[test]
fn a_full_run_directory_and_a_noisy_service_spare_the_log_and_the_machine_id() -> Result<()> {
    let mut boot = running(
        r#"
jobs:
  noisy:
    container:
      image: REGISTRY/tool
      volumes: ["/run:/machine-run"]
      command:
        - sh
        - -c
        - |
          sleep 5
          log=$(wc -c < /machine-run/iguana/services/noisy.flood.log)
          [ $log -gt 300000 ] && [ $log -lt 340000 ] && echo the log of the service has its limit || echo NOT: $log
    services:
      flood: {image: REGISTRY/tool, command: ["yes", "and so on"]}
  full:
    container:
      image: REGISTRY/tool
      volumes: ["/run:/machine-run"]
      command:
        - sh
        - -c
        - |
          [ -e /machine-run/iguana/services/noisy.flood.log ] && echo NOT: its log stays || echo its log is gone
          dd if=/dev/zero of=/machine-run/fill bs=1M 2>&1 | grep -o 'No space left'
          echo "the machine-id has $(wc -c < /machine-run/iguana/machine-id) bytes"
  after:
    container:
      image: REGISTRY/tool
      volumes: ["/run:/machine-run"]
      command: [sh, -c, "grep -q 'job full: succeeded' /machine-run/iguana/log && echo the log goes on; rm /machine-run/fill"]
  end: {container: REGISTRY/end}
"#,
    )?
    .boot()?;
    boot.expect_all(&["the log of the service has its limit", "its log is gone", "No space left"])?;
    boot.expect_all(&["the machine-id has 33 bytes", "the log goes on", "handover: power off"])?;
    let said = boot.ends()?;
    assert!(!said.contains("NOT: "), "{said}");
    Ok(())
}

#[test]
fn the_watchdog_is_fed_during_the_boot_and_stopped_at_its_end() -> Result<()> {
    let job = Recipe::script(
        "echo the job works; sleep 25; echo the job has worked; echo poweroff > /iguana/kernelAction",
    )?;
    let mut boot = Scenario::hardware()?
        .job(job)?
        .append("rd.iguana.watchdog=10 rd.iguana.on_failure=poweroff")
        .extra(["-device", "i6300esb", "-action", "watchdog=poweroff"])
        .boot()?;
    boot.expect("watchdog: restarts the machine if Iguana hangs for 10 s")?;
    boot.expect_all(&["the job works", "the job has worked", "handover: power off"])?;
    assert!(boot.ends()?.contains("reboot: Power down"));
    Ok(())
}
