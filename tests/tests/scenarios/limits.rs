//! Resource limits of containers, and cleanup after hostile or failing ones: nothing is left behind, and the boot
//! continues.

use crate::{boot, running};
use anyhow::{Context as _, Result};
use iguana_lab::image::Recipe;
use std::fmt::Write as _;

/// Number of jobs in the long run, and the job after which it first looks at the machine.
const JOBS: u32 = 500;
const FIRST_LOOK: u32 = 20;
/// Memory in KiB that may be missing at the end: the log of the jobs, and the kernel's caches.
const MEMORY_KEPT: i64 = 4 << 10;

#[test]
fn a_container_cannot_exceed_its_limits() -> Result<()> {
    let mut boot = boot(
        r#"
jobs:
  seen:
    container: {image: REGISTRY/tool, memory: 64M, pids: 50}
    steps:
      - run: |
          cd /sys/fs/cgroup
          echo "limits: $(cat memory.max) $(cat memory.oom.group) $(cat pids.max) in $(cat /proc/self/cgroup)"
          grep -c '^cgroup2 /sys/fs/cgroup cgroup2 rw' /proc/mounts
          (echo max > memory.max) 2>&1 | grep -q 'not permitted' && echo they cannot be raised
          mkdir of-its-own && rmdir of-its-own && echo it may divide what it has
          echo "files: $(ulimit -Sn) $(ulimit -Hn), $(umask), $(cat /proc/self/oom_score_adj)"
  memory:
    container: {image: REGISTRY/tool, memory: 64M}
    steps:
      - {run: "echo before; tail /dev/zero || echo and after"}
      - {if: always(), run: "echo the container is still there"}
  root:
    container: {image: REGISTRY/tool, command: [sh, -c, "head -c 100000000 /dev/zero > /fill"], options: --memory 50m}
  bomb:
    container: {image: REGISTRY/tool, pids: 50, command: [sh, -c, "bomb() { bomb | bomb & }; bomb; sleep 1000"]}
    timeout: 5s
  after:
    container: {image: REGISTRY/tool, options: --pid host, command: [sh, -c, "echo left of the bomb: $(ps | grep -c '[b]omb()')"]}
  option:
    container: {image: REGISTRY/tool, options: --pids-limit 5, command: [sh, -c, "for n in 1 2 3 4 5; do sleep 9 & done"]}
  machine:
    container: {image: REGISTRY/tool, command: [tail, /dev/zero]}
  end: {container: REGISTRY/end}
"#,
    )?;
    boot.expect_all(&[
        "limits: 67108864 1 52 in 0::/",
        "they cannot be raised",
        "it may divide what it has",
    ])?;
    boot.expect_all(&["files: 1024 524288, 0022, 500", "job seen: succeeded", "before"])?;
    boot.expect("the container is still there")?;
    boot.expect("job memory: failed: step 1 of 2 (`echo before; tail /dev/zero || echo and …`) failed: killed by signal 9: it exceeded its memory limit of 64 MiB (peak 64 MiB)")?;
    boot.expect("job root: failed: killed by signal 9: it exceeded its memory limit of 50 MiB")?;
    // Either its first shell gives up, or its time limit ends it first.
    boot.expect_all(&["job bomb: failed: ", "left of the bomb: 0", "job option: failed: exit status 2"])?;
    boot.expect("job machine: failed: killed by signal 9: the memory limit of all containers, ")?;
    boot.expect_all(&[
        "handover: power off",
        "hint: raise the container's `memory`",
        "hint: give the machine more",
    ])?;
    let said = boot.ends()?;
    assert!(!said.contains("\nand after"), "{said}");
    Ok(())
}

#[test]
fn a_limit_that_nothing_can_enforce_is_refused() -> Result<()> {
    let workflow = "
jobs:
  memory: {container: {image: REGISTRY/tool, memory: 64M, command: [echo, never]}}
  pids: {container: {image: REGISTRY/tool, pids: 9, command: [echo, never]}}
  free: {container: {image: REGISTRY/tool, command: [echo, without a limit]}}
  full: {container: {image: REGISTRY/tool, command: [tail, /dev/zero]}}
  end: {container: REGISTRY/end}";
    let mut boot = running(workflow)?.append("cgroup_disable=memory,pids rd.iguana.debug").boot()?;
    boot.expect("memory is not accounted, the number of processes is not accounted")?;
    boot.expect("job memory: failed: cannot enforce the limit `memory`")?;
    boot.expect("job pids: failed: cannot enforce the limit `pids`")?;
    boot.expect("without a limit")?;
    // Either the kernel or Iguana's watcher is faster: "the machine's memory", or "the memory limit of all
    // containers".
    boot.expect("job full: failed: killed by signal 9: the m")?;
    boot.expect_all(&["hint: remove `memory`, or use a kernel with `CONFIG_MEMCG`"])?;
    let said = boot.ends()?;
    assert!(!said.contains("\nnever"), "{said}");
    Ok(())
}

#[test]
fn misbehaving_containers_harm_nobody() -> Result<()> {
    let mut boot = boot(
        r#"
jobs:
  nobody:
    container: {image: REGISTRY/tool, user: nobody-here, command: [echo, never]}
  stubborn:
    container: {image: REGISTRY/tool, command: [sh, -c, "trap '' TERM INT HUP; echo I stay; while :; do sleep 1; done"]}
    timeout: 2s
  full-root:
    container: {image: REGISTRY/tool, command: [sh, -c, "dd if=/dev/zero of=/fill bs=1M"]}
  full-exchange:
    container: {image: REGISTRY/tool, command: [sh, -c, "dd if=/dev/zero of=/iguana/fill bs=1M; rm /iguana/fill; exit 3"]}
  no-terminal:
    container: {image: REGISTRY/tool, command: [sh, -c, "exec <&- >&- 2>&-; sleep 1; exit 4"]}
  daemon:
    container:
      image: REGISTRY/tool
      command:
        - sh
        - -c
        - "setsid sh -c 'echo the daemon runs > /iguana/progress; exec sleep 4711' < /dev/null > /dev/null 2>&1 &
          sleep 1; exit 0"
  watcher:
    container: {image: REGISTRY/tool, pid: host}
    steps:
      - run: |
          ps | grep -E 'sleep (1|4711)|[d]d if' || echo nobody is left
  again:
    container: {image: REGISTRY/tool, command: [sh, -c, "[ -t 0 ] && echo type && read line && echo the terminal gives $line"]}
  end: {container: REGISTRY/end}
"#,
    )?;
    boot.expect_all(&["job nobody: failed: ", "`nobody-here`", "I stay"])?;
    boot.expect("job stubborn: failed: killed after its time limit of 2.0 s: it did not stop when asked to")?;
    boot.expect_all(&["No space left on device", "job full-root: failed: exit status 1"])?;
    boot.expect_all(&["No space left on device", "job full-exchange: failed: exit status 3"])?;
    boot.expect_all(&["job no-terminal: failed: exit status 4", "progress: the daemon runs"])?;
    boot.expect_all(&["job daemon: succeeded", "nobody is left", "job again: started"])?;
    // What is typed before a program has the terminal is discarded.
    boot.expect("type")?;
    boot.types("what is typed\n")?;
    boot.expect_all(&["the terminal gives what is typed", "handover: power off"])?;
    let said = boot.ends()?;
    assert!(!said.contains("\nnever"), "{said}");
    Ok(())
}

#[test]
fn a_service_that_ends_too_early_stops_its_job_unless_it_is_restarted() -> Result<()> {
    let mut boot = running(
        r#"
jobs:
  broken:
    container: {image: REGISTRY/tool, command: [sh, -c, "echo the job begins; sleep 1000; echo never"]}
    services:
      helper: {image: REGISTRY/tool, command: [sh, -c, "sleep 2; echo I give up; exit 3"]}
  steps:
    container: REGISTRY/tool
    services:
      quiet: {image: REGISTRY/tool, command: [sleep, "2"], restart: never}
    steps:
      - {run: "sleep 1000; echo never", retries: 5}
      - run: echo never
      - {if: always(), run: echo the last step cleans up}
  stubborn:
    container: {image: REGISTRY/tool, command: [sh, -c, "trap 'echo asked to stop; exit 0' TERM; sleep 1000 & wait"]}
    services:
      greedy: {image: REGISTRY/tool, memory: 40M, pids: 9, command: [sh, -c, "sleep 2; tail /dev/zero"]}
  flaky:
    container:
      image: REGISTRY/tool
      volumes: ["count:/count"]
      command: [sh, -c, "until [ $(wc -l < /count/runs) = 3 ]; do sleep 0.1; done; echo it came up at last"]
    services:
      flaky:
        image: REGISTRY/tool
        volumes: ["count:/count"]
        restart: on-failure
        ready: {path: /count/runs}
        command: [sh, -c, "echo . >> /count/runs; [ $(wc -l < /count/runs) = 3 ] && exec sleep 1000; echo not yet; exit 1"]
  allowed:
    container: {image: REGISTRY/tool, command: [sh, -c, "sleep 2; echo the job does without"]}
    services:
      once: {image: REGISTRY/tool, command: [echo, done], restart: on-failure}
  always:
    container:
      image: REGISTRY/tool
      volumes: ["turns:/turns"]
      command: [sh, -c, "until [ $(ls /turns | wc -l) = 2 ]; do sleep 0.1; done; echo two turns"]
    services:
      always:
        image: REGISTRY/tool
        volumes: ["turns:/turns"]
        restart: always
        command: [sh, -c, "mktemp /turns/XXXXXX"]
  end: {container: REGISTRY/end}
"#,
    )?
    .append("rd.iguana.debug")
    .boot()?;
    boot.expect_all(&[
        "the job begins",
        "service helper: ended: exit status 3",
        "service helper: | I give up",
    ])?;
    boot.expect("job broken: failed: the service `helper` ended while the job ran: exit status 3")?;
    boot.expect_all(&["service quiet: ended: exit status 0", "the last step cleans up"])?;
    boot.expect(
        "job steps: failed: step 1 of 3 (`sleep 1000; echo never`) failed: the service `quiet` ended",
    )?;
    boot.expect_all(&[
        "service greedy: ended: killed by signal 9: it exceeded its memory limit",
        "asked to stop",
    ])?;
    boot.expect("job stubborn: failed: the service `greedy` ended while the job ran: killed by signal 9")?;
    boot.expect("service flaky: ended: exit status 1; restarting in 1 s")?;
    boot.expect_all(&["service flaky: restarted", "restarting in 2 s", "service flaky: restarted"])?;
    boot.expect_all(&[
        "it came up at last",
        "job flaky: succeeded",
        "service flaky: | not yet",
        "service flaky: stopped",
    ])?;
    boot.expect_all(&["service once: ended", "the job does without", "job allowed: succeeded"])?;
    boot.expect_all(&["service always: ended: exit status 0; restarting in 1 s", "two turns"])?;
    boot.expect_all(&["job always: succeeded", "handover: power off"])?;
    let said = boot.ends()?;
    assert!(!said.contains("\nnever") && !said.contains("waiting to retry"), "{said}");
    Ok(())
}

/// Prints what could accumulate, from the view of the machine's own processes: `figures TURN NAME=NUMBER ...`.
const LOOK: &str = r#"
# What the last container leaves is reaped beside this job.
sleep 1
boot=$(pidof init | tr ' ' '\n' | sort -n | sed -n 2p)
echo 3 > /proc/sys/vm/drop_caches
echo "figures $1 mounts=$(wc -l < /proc/1/mountinfo) processes=$(sed -n 's/^PPid:.//p' /proc/[0-9]*/status | grep -cvx 2) \
descriptors=$(ls /proc/$boot/fd | wc -l) threads=$(ls /proc/$boot/task | wc -l) \
cgroups=$(sed -n 's/^memory\t[0-9]*\t\([0-9]*\).*/\1/p' /proc/cgroups) \
memory=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
"#;

/// The figures that [`LOOK`] printed in a job, by name.
fn figures(said: &str, job: u32) -> Result<Vec<(&str, i64)>> {
    let line = said.lines().find(|line| line.contains(&format!("figures {job} ")));
    let line = line.with_context(|| format!("no figures of the job {job}"))?;
    let pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.map(|(name, number)| Ok((name, number.parse().with_context(|| format!("`{line}`"))?))).collect()
}

#[test]
#[ignore = "long"]
fn five_hundred_jobs_leave_nothing() -> Result<()> {
    let mut workflow = "jobs:\n".to_owned();
    for number in 1..=JOBS {
        match number {
            FIRST_LOOK | JOBS => writeln!(
                workflow,
                "  job-{number}: {{container: {{image: REGISTRY/look, pid: host, command: [sh, /look.sh, '{number}']}}}}"
            )?,
            _ => writeln!(
                workflow,
                "  job-{number}: {{container: {{image: REGISTRY/look, memory: 64M, pids: 9}}, steps: [run: 'true']}}"
            )?,
        }
    }
    // An image of its own would be pulled while the last figures are taken.
    workflow += "  end: {container: {image: REGISTRY/look, command: [sh, -c, 'echo poweroff > /iguana/kernelAction']}}\n";
    let mut boot =
        running(&workflow)?.image("look", Recipe::busybox()?.file("/look.sh", 0o755, LOOK)?)?.boot()?;
    boot.expect(&format!("figures {FIRST_LOOK} "))?;
    boot.expect(&format!("figures {JOBS} "))?;
    boot.expect("handover: power off")?;
    let said = boot.ends()?;
    let (first, last) = (figures(&said, FIRST_LOOK)?, figures(&said, JOBS)?);
    assert!(first.len() == 6 && first.iter().all(|(_, number)| *number > 0), "{first:?}");
    for ((name, before), (_, after)) in first.iter().zip(&last) {
        let may_differ_by = if *name == "memory" { MEMORY_KEPT } else { 0 };
        assert!((before - after).abs() <= may_differ_by, "{name}: first {first:?}, then {last:?}");
    }
    Ok(())
}

/// The kernel asks for a module for each format of a program that it does not know, and executes Iguana's modprobe.
/// The first job stands for all but one of the requests up to the limit, which would take minutes.
#[test]
fn requests_for_modules_that_do_not_exist_are_limited() -> Result<()> {
    let mut boot = boot(
        r#"
jobs:
  before:
    container:
      image: REGISTRY/tool
      command: [sh, -c, "mkdir -p /own/module-requests && head -c 499 /dev/zero > /own/module-requests/binfmt"]
      volumes: ["/run/iguana:/own"]
  asks:
    container:
      image: REGISTRY/tool
      privileged: false
      command:
        - sh
        - -c
        - |
          printf '\001\002\003\004' > /unknown; chmod +x /unknown
          for number in 1 2 3; do /unknown 2> /dev/null; done
          echo it has asked
  counted:
    container:
      image: REGISTRY/tool
      command: [sh, -c, "echo requests: $(wc -c < /own/module-requests/binfmt)"]
      volumes: ["/run/iguana:/own"]
  end: {container: REGISTRY/end}
"#,
    )?;
    boot.expect(
        "warning: a program causes requests for kernel modules without end, the last one for `binfmt-0403`",
    )?;
    boot.expect_all(&["it has asked", "requests: 500", "handover: power off"])?;
    boot.ends()?;
    Ok(())
}
