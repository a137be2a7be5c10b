//! The log of events as a job sees it.

use crate::running;
use anyhow::Result;

#[test]
fn a_job_can_read_earlier_events_in_order() -> Result<()> {
    let mut boot = running(
        r#"
jobs:
  first:
    container: {image: REGISTRY/tool, tty: false}
    steps:
      - run: "true"
  reader:
    needs: [first]
    container:
      image: REGISTRY/tool
      tty: false
      volumes: ['/run/iguana/log.jsonl:/log.jsonl:ro']
      command:
        - sh
        - -c
        - |
          sed -n 's/.*"event":"\([a-z-]*\)","\(stage\|job\)":"\([^"]*\)".*/event \1 \3/p' /log.jsonl
          head -n 1 /log.jsonl | grep -q '"event":"log","format":1,' && echo the format is stated
          echo poweroff > /iguana/kernelAction"#,
    )?
    .boot()?;
    for stage in ["modules", "devices", "network", "clock", "control-file", "workflow", "trust"] {
        boot.expect(&format!("event stage-begin {stage}"))?;
        boot.expect(&format!("event stage-end {stage}"))?;
    }
    boot.expect_all(&["event stage-begin job", "event job-begin first", "event job-started first"])?;
    boot.expect_all(&["event step-begin first", "event step-end first", "event job-end first"])?;
    boot.expect_all(&["event job-begin reader", "event job-started reader", "the format is stated"])?;
    boot.expect("handover: power off")?;
    boot.ends()?;
    Ok(())
}
