//! The workflow language, key by key, on a machine. docs/workflow.md names these tests beside the keys.

use crate::{POWER_OFF, boot, running};
use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::registry::Registry;
use iguana_lab::scenario::Scenario;
use serde_json::json;

#[test]
fn steps_share_their_container_and_pass_outputs() -> Result<()> {
    let mut boot = boot(
        r#"
name: Steps
description: what they share and what they pass
env: {WHO: workflow, BASE: /tmp}
defaults: {run: {working-directory: /tmp}}
jobs:
  first:
    name: "The job of the ${{ env.WHO }}"
    container: REGISTRY/tool
    env: {WHO: job}
    outputs: {disk: "${{ steps.find.outputs.disk }}", text: "${{ steps.find.outputs.text }}"}
    steps:
      - id: find
        name: Find the disk of the ${{ env.WHO }}
        env: {WHO: step}
        run: |
          echo "1: in $(pwd) for $WHO, base $BASE"
          echo disk=/dev/vda >> $IGUANA_OUTPUT
          printf 'text<<E\none\ntwo\nE\n' >> $GITHUB_OUTPUT
          echo mine > /root-file
      - run: exit 3
        continue-on-error: true
      - run: echo "3 $(cat /root-file) and ${{ steps.find.outputs.disk }}"
        working-directory: /bin
        if: steps.find.outcome == 'success' && endsWith(steps.find.outputs.disk, 'vda')
      - run: echo never
        if: ${{ false }}
      - run: "echo \"4: $0 $1\""
        shell: sh -e {0} extra
  second:
    needs: first
    container: REGISTRY/tool
    defaults: {run: {shell: "sh -x {0}"}}
    steps:
      - run: echo "5 ${{ needs.first.outputs.disk }} ${{ contains(needs.first.outputs.text, 'two') }}"
      - run: "false"
      - run: echo never reached
      - if: failure()
        run: echo "6 after the failure"
  end: {container: REGISTRY/end}
"#,
    )?;
    boot.expect_all(&[
        "job first: The job of the job",
        "step 1 of 5 (`Find the disk of the step`): started",
        "1: in /tmp for step, base /tmp",
        "step 2 of 5 (`exit 3`) failed: exit status 3; continuing",
        "3 mine and /dev/vda",
        "step 4 of 5 (`echo never`): skipped",
        "4: /run/iguana/step-5 extra",
        "job first: succeeded",
        "+ echo '5 /dev/vda true'",
        "6 after the failure",
        "job second: failed: step 2 of 4 (`false`) failed: exit status 1",
        "job end: succeeded",
        "handover: power off",
    ])?;
    let said = boot.ends()?;
    assert!(!said.contains("\nnever"), "{said}");
    Ok(())
}

#[test]
fn services_are_awaited() -> Result<()> {
    let mut boot = boot(
        r#"
jobs:
  work:
    container: {image: REGISTRY/tool, command: [sh, -c, "echo the job starts; nc 127.0.0.1 8080 < /dev/null && echo it answers"]}
    services:
      path: {image: REGISTRY/tool, command: "sh -c 'sleep 2; ln -s /bin/sh /run/there; exec sleep 99'", ready: {path: /run/there}}
      port: {image: REGISTRY/tool, command: "sh -c 'sleep 2; exec nc -ll -p 8080 -e true'", ready: {port: 8080, timeout: 30s}}
      command:
        image: REGISTRY/tool
        entrypoint: [sh, -c]
        command: ["sleep 1; touch /tmp/up; exec sleep 99"]
        ready: {command: test -e /tmp/up}
  end: {container: REGISTRY/end}
"#,
    )?;
    boot.expect_all(&[
        "service path: started",
        "service path: ready after",
        "service port: started",
        "service port: ready after",
        "service command: started",
        "service command: ready after",
        "job work: started",
        "the job starts",
        "it answers",
        "service command: stopped",
        "service port: stopped",
        "service path: stopped",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn the_workflow_can_change_a_service() -> Result<()> {
    let mut boot = boot(
        r#"
jobs:
  work:
    container: {image: REGISTRY/tool, command: sleep 1}
    services:
      changed:
        image: REGISTRY/tool
        env: {E: service}
        user: guest
        workdir: /etc
        options: -e F=option
        entrypoint: [sh, -c]
        command: ['echo "$E $F $(id -un) in $(pwd)" > /iguana/progress; exec sleep 99']
        ready: {command: [test, -w, /iguana/progress]}
      few:
        image: REGISTRY/tool
        privileged: false
        read-only: true
        command: [sh, -c, 'mount -t tmpfs none /mnt || touch /x || echo few rights > /iguana/progress; touch /tmp/told; exec sleep 99']
        ready: {path: /tmp/told}
      host:
        image: REGISTRY/tool
        pid: host
        command: [sh, -c, 'ps | grep -q "[/]init boot" && echo sees the machine > /iguana/progress; touch /tmp/told; exec sleep 99']
        ready: {path: /tmp/told}
  end: {container: REGISTRY/end}
"#,
    )?;
    boot.expect_all(&[
        "progress: service option guest in /etc",
        "progress: few rights",
        "progress: sees the machine",
        "job work: succeeded",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_service_that_is_never_ready_fails_its_job() -> Result<()> {
    let mut boot = boot(
        r#"
jobs:
  slow:
    container: REGISTRY/tool
    services:
      lazy: {image: REGISTRY/tool, command: "sh -c 'echo I am lazy; exec sleep 99'", ready: {path: /never, timeout: 4s}}
  dead:
    container: REGISTRY/tool
    services:
      dead: {image: REGISTRY/tool, command: "sh -c 'echo I die; exit 7'", ready: {port: 81}}
  end: {container: REGISTRY/end}
"#,
    )?;
    boot.expect_all(&[
        "service lazy: waiting for path `/never` (3 s of 4 s)",
        "service lazy: | I am lazy",
        "job slow: failed: the service `lazy` was not ready within 4 s: no path `/never`",
        "service dead: | I die",
        "job dead: failed: the service `dead` ended before it was ready: exit status 7",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn jobs_are_ended_at_their_timeout_and_retried_after_failure() -> Result<()> {
    let mut boot = boot(
        r#"
jobs:
  slow: {container: {image: REGISTRY/tool, command: sleep 99}, timeout: 2s}
  minutes: {container: {image: REGISTRY/tool, command: sleep 99}, timeout-minutes: 0.03}
  again:
    container: {image: REGISTRY/tool, volumes: ['tries:/tries'], command: "sh -c 'echo x >> /tries/x; test $(wc -l < /tries/x) = 3'"}
    retries: {times: 5, delay: 1s}
  steps:
    container: REGISTRY/tool
    timeout: 1m
    steps:
      - {run: sleep 99, timeout: 1s, continue-on-error: true}
      - {run: sleep 99, timeout-minutes: 0.02, continue-on-error: true}
      - run: "[ -e /tmp/once ] || { touch /tmp/once; exit 9; }; echo second try"
        retries: 1
  end: {container: REGISTRY/end}
"#,
    )?;
    boot.expect_all(&[
        "job slow: failed: stopped after its time limit of 2.0 s",
        "job minutes: failed: stopped after its time limit of 1.8 s",
        "job again: failed: exit status 1",
        "job again: waiting to retry (1 of 5), 1 s",
        "job again: waiting to retry (2 of 5), 1 s",
        "job again: succeeded",
        "step 1 of 3 (`sleep 99`) failed",
        "step 2 of 3 (`sleep 99`) failed",
        "failed: exit status 9",
        "second try",
        "job steps: succeeded",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn conditions_decide_which_jobs_run() -> Result<()> {
    let workflow = r#"
env: {KIND: server}
jobs:
  good: {container: {image: REGISTRY/tool, command: "sh -c 'echo answer=42 > $IGUANA_OUTPUT'"}}
  bad: {container: {image: REGISTRY/tool, command: "false"}}
  allowed: {container: {image: REGISTRY/tool, command: "false"}, continue-on-error: true}
  a: {needs: good, if: needs.good.outputs.answer == 42 && machine.arch == 'x86_64', container: &true {image: REGISTRY/tool, command: "true"}}
  b: {needs: [bad], container: *true}
  c: {needs: [b], container: *true}
  d: {needs: [bad], if: failure() && needs.bad.result == 'failure', container: *true}
  e: {needs: [c], if: "${{ always() && needs.c.result == 'skipped' }}", container: *true}
  f: {if: env.KIND != 'server' || cmdline.site != 'berlin' || !cmdline.fast, container: *true}
  g: {if: "machine.memory > 400 && startsWith(machine.mac, '52:54:00')", container: *true}
  h: {needs: allowed, container: {image: "REGISTRY/${{ cmdline.tool }}", command: "true"}}
  end: {container: REGISTRY/end}
"#;
    let mut boot = running(workflow)?.append("site=berlin fast tool=tool").boot()?;
    boot.expect_all(&[
        "job good: succeeded",
        "job bad: failed",
        "job allowed: continuing",
        "job a: succeeded",
        "job b: skipped: needs `bad`",
        "job c: skipped: needs `b`",
        "job d: succeeded",
        "job e: succeeded",
        "job f: skipped: `env.KIND != 'server' || cmdline.site != 'berlin' || !cmdline.fast` is false",
        "job g: succeeded",
        "job h: succeeded",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn the_workflow_can_change_a_container() -> Result<()> {
    let image = Recipe::busybox()?
        .set("Entrypoint", json!(["echo", "entrypoint"]))
        .set("Cmd", json!(["command"]))
        .set("Env", json!(["PATH=/bin", "FROM=image"]));
    let workflow = r#"
env: {A: workflow, B: workflow}
jobs:
  asis: {container: REGISTRY/own}
  command: {container: {image: REGISTRY/own, command: ["of the", "${{ env.A }}"]}}
  entrypoint: {container: {image: REGISTRY/own, entrypoint: "echo 'no command':"}}
  both:
    container: {image: REGISTRY/own, entrypoint: [sh, -c], command: ['echo "$(id -un):$(id -gn) in $(pwd)"'], user: guest:root, workdir: /etc}
  env:
    env: {B: job}
    container: {image: REGISTRY/own, env: {C: "${{ env.B }}+"}, entrypoint: [sh, -c], command: ['echo "$FROM $A $B $C $iguana $NEWROOT"']}
  tty: {container: {image: REGISTRY/own, entrypoint: [sh, -c], command: ["tty; echo $TERM."]}}
  notty: {container: {image: REGISTRY/own, tty: false, entrypoint: [sh, -c], command: ["tty; echo $TERM."]}}
  options:
    container:
      image: REGISTRY/own
      options: --user 1000 -e D=option --workdir=/tmp --entrypoint sh --tmpfs /scratch:size=1M
      command: [-c, 'echo "$(id -u) $D $(pwd) $(df -k /scratch | tail -1 | tr -s " " | cut -d" " -f2)"']
  end: {container: REGISTRY/end}
"#;
    let mut boot = running(workflow)?.image("own", image)?.boot()?;
    boot.expect_all(&[
        "entrypoint command",
        "entrypoint of the workflow",
        "no command:",
        "guest:root in /etc",
        "image workflow job job+ true /sysroot",
        "/dev/pts/0",
        "vt220.",
        "not a tty",
        "job notty: succeeded",
        "1000 option /tmp 1024",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn volumes_of_every_kind() -> Result<()> {
    let data = Recipe::busybox()?.file("/data/one", 0o644, "first layer")?.file(
        "/data/two",
        0o644,
        "second layer",
    )?;
    let workflow = r#"
jobs:
  write:
    container:
      image: REGISTRY/tool
      volumes: [common:/common, /iguana:/host, {type: bind, source: /iguana, target: /bound, read-only: true}]
      command: "sh -c 'echo shared > /common/x; touch /host/from-job; ls /bound/from-job; touch /bound/y || echo bound is read-only'"
  read:
    container:
      image: REGISTRY/tool
      volumes:
        - {source: common, target: /common, read-only: true}
        - {type: volume, target: /anonymous}
        - {type: tmpfs, target: /scratch, size: 1M}
        - {type: image, source: REGISTRY/data, target: /mnt/image}
      command:
        - sh
        - -c
        - |
          echo "$(cat /common/x), $(ls /anonymous | wc -l) files"
          touch /common/y || echo common is read-only
          head -c 3000000 /dev/zero > /scratch/big || echo scratch is small
          echo "$(cat /mnt/image/data/one) and $(cat /mnt/image/data/two)"
          touch /mnt/image/y || echo the image is read-only
  end: {container: REGISTRY/end}
"#;
    let mut boot = running(workflow)?.image("data", data)?.boot()?;
    boot.expect_all(&[
        "/bound/from-job",
        "bound is read-only",
        "shared, 0 files",
        "common is read-only",
        "scratch is small",
        "first layer and second layer",
        "the image is read-only",
        "job read: succeeded",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn rights_can_be_taken_away_and_given() -> Result<()> {
    let mut boot = boot(
        r#"
jobs:
  all:
    container: {image: REGISTRY/tool, command: "sh -c 'mount -t tmpfs none /tmp && echo may mount; ls /dev/mem && echo has devices'"}
  few:
    container:
      image: REGISTRY/tool
      privileged: false
      command: "sh -c 'mount -t tmpfs none /tmp || echo may not mount; ls /dev/mem || echo no devices; echo > /dev/null && echo has null; chown guest /tmp && echo may chown; touch /sys/x || echo sys is read-only'"
  fixed:
    container: {image: REGISTRY/tool, read-only: true, command: "sh -c 'touch /x || echo root is read-only; touch /tmp/x && echo tmp is not'"}
  own:
    container: {image: REGISTRY/tool, command: [sh, -c, "ps | grep -q '[/]init boot' || echo sees itself"]}
  host:
    container: {image: REGISTRY/tool, pid: host, command: [sh, -c, "ps | grep -q '[/]init boot' && echo sees the machine; sleep 1000 & true"]}
  after:
    container: {image: REGISTRY/tool, pid: host, command: "sh -c 'ps | grep \"[s]leep 1000\" || echo nothing is left'"}
  end: {container: REGISTRY/end}
"#,
    )?;
    boot.expect_all(&[
        "may mount",
        "has devices",
        "may not mount",
        "no devices",
        "has null",
        "may chown",
        "sys is read-only",
        "root is read-only",
        "tmp is not",
        "sees itself",
        "sees the machine",
        "nothing is left",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_step_may_be_a_container() -> Result<()> {
    let other = Recipe::script("echo \"other: $1\"; echo word=hello > $IGUANA_OUTPUT")?
        .set("Entrypoint", json!(["/bin/sh", "/job.sh"]))
        .set("Cmd", json!(["nothing"]));
    let workflow = r#"
jobs:
  work:
    container: {image: REGISTRY/tool, volumes: ['common:/common']}
    steps:
      - run: echo from the job > /common/x
      - id: other
        uses: docker://REGISTRY/other
        with: {args: ["the argument is ${{ machine.arch }}"]}
      - uses: docker://REGISTRY/other
        with: {entrypoint: "sh -c", args: ["cat /common/x; ls /x || echo another root"]}
      - run: echo "the other said ${{ steps.other.outputs.word }}"
  end: {container: REGISTRY/end}
"#;
    let mut boot = running(workflow)?.image("other", other)?.boot()?;
    boot.expect_all(&[
        "other: the argument is x86_64",
        "from the job",
        "another root",
        "the other said hello",
        "job work: succeeded",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn the_workflow_chooses_the_failure_policy() -> Result<()> {
    let workflow = "
on-failure: poweroff
jobs:
  bad: {container: {image: REGISTRY/tool, command: 'sh -c \"echo reboot > /iguana/kernelAction; exit 4\"'}}
  later: {container: {image: REGISTRY/tool, command: echo later jobs still run}}";
    let mut boot = Scenario::new()?.image("tool", Recipe::busybox()?)?.workflow(workflow).boot()?;
    boot.expect_all(&["job bad: failed: exit status 4", "later jobs still run"])?;
    let block = boot.fails_in("job")?;
    assert!(block.contains("the job `bad` failed"), "{block}");
    boot.expect("power off (`on-failure: poweroff` of the workflow)")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn the_workflows_of_the_first_iguana_run_as_they_stand() -> Result<()> {
    let registry = Registry::replacing_others()?;
    let agama = "
name: Agama
jobs:
  agama:
    container:
      image: registry.opensuse.org/yast/head/containers/containers_tumbleweed/opensuse/agama-service
      volumes:
        - dbus_run:/run/agama
        - /var/run/dbus/system_bus_socket:/var/run/dbus/system_bus_socket
    services:
      backend:
        image: registry.opensuse.org/yast/head/containers/containers_tumbleweed/opensuse/agama-web
        volumes:
          - dbus_run:/run/agama
";
    let directory = "opensuse/yast/head/containers/containers_tumbleweed/opensuse";
    let service = "echo 'the backend speaks' > /run/agama/note; while :; do sleep 0.1; done";
    let job = format!(
        "until [ -s /run/agama/note ]; do sleep 0.1; done; cat /run/agama/note
         [ -d /var/run/dbus/system_bus_socket ] && {POWER_OFF}"
    );
    let mut boot = Scenario::new()?
        .registry(registry)
        .image(&format!("{directory}/agama-service"), Recipe::script(&job)?)?
        .image(&format!("{directory}/agama-web"), Recipe::script(service)?)?
        .workflow(agama)
        .boot()?;
    boot.expect_all(&[
        "service backend: started",
        "the backend speaks",
        "job agama: succeeded",
        "power off",
    ])?;
    boot.ends()?;
    drop(boot);

    let two = r#"
jobs:
  one:
    container: {image: "registry.example/busybox:latest", env: {TEST: test_env}}
  two:
    container: {image: "registry.example/busybox:latest"}
    needs:
      - one
    steps:
      - run: /bin/sh -c true
env:
  GLOBAL: test_global_env
"#;
    let busybox = Recipe::script("echo \"$TEST and $GLOBAL\"")?;
    let mut boot = Scenario::new()?
        .registry(Registry::replacing_others()?)
        .image("example/busybox", busybox)?
        .workflow(two)
        .append("rd.iguana.on_failure=poweroff")
        .boot()?;
    boot.expect_all(&["test_env and test_global_env", "job one: succeeded", "job two: succeeded"])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn shells_are_those_of_github() -> Result<()> {
    let bash = Recipe::busybox()?.program("/bin/bash")?;
    let workflow = r#"
jobs:
  shells:
    container: REGISTRY/bash
    steps:
      - run: 'echo "1 ${BASH_VERSION:+bash} $-"; false | true; echo "1 goes on"'
      - run: 'echo "2 ${BASH_VERSION:+bash}"; false | true; echo "2 never"'
        shell: bash
        continue-on-error: true
      - run: 'echo "3 ${BASH_VERSION:-no bash}"'
        shell: sh
      - run: 'BEGIN {print "4 awk"}'
        shell: awk -f {0}
  without: {container: REGISTRY/tool, steps: [{run: 'echo "5 ${BASH_VERSION:-no bash} $-"; false; echo never'}], continue_on_error: true}
  end: {container: REGISTRY/end}
"#;
    let mut boot = running(workflow)?.image("bash", bash)?.boot()?;
    boot.expect_all(&["1 bash ehB", "1 goes on", "2 bash", "3 no bash", "4 awk", "job shells: succeeded"])?;
    boot.expect_all(&["5 no bash e", "job without: failed", "job without: continuing", "power off"])?;
    let said = boot.ends()?;
    assert!(!said.contains("never\r") && !said.contains("\n2 never"), "{said}");
    Ok(())
}

#[test]
fn one_workflow_uses_the_whole_language() -> Result<()> {
    let data = Recipe::busybox()?.file("/data/size", 0o644, "42")?;
    let workflow = r#"
name: Everything at once
env: {SITE: berlin}
on_failure: poweroff
jobs:
  prepare:
    container:
      image: REGISTRY/tool
      volumes: [tries:/tries, {type: image, source: REGISTRY/data, target: /mnt/data, read_only: true}]
    services:
      web: {image: REGISTRY/tool, command: "sh -c 'sleep 1; exec nc -ll -p 8081 -e cat /etc/hostname'", ready: {port: 8081, timeout: 30s}}
    outputs: {size: "${{ steps.read.outputs.size }}"}
    timeout_minutes: 1
    retries: {times: 2, delay: 1s}
    steps:
      - id: read
        working_directory: /mnt
        run: echo "size=$(cat data/data/size)" >> $GITHUB_OUTPUT
      - if: steps.read.outputs.size >= 40 && env.SITE == 'BERLIN'
        run: echo x >> /tries/x; [ $(wc -l < /tries/x) -gt 1 ]
      - run: sleep 99
        timeout: 1s
        continue_on_error: true
      - run: nc 127.0.0.1 8081 < /dev/null > /dev/null && echo the service answers
  install:
    needs: [prepare]
    if: "needs.prepare.outputs.size == 42"
    container: {image: REGISTRY/tool, command: [echo, "installing ${{ needs.prepare.outputs.size }}"]}
  never: {needs: install, if: failure(), container: REGISTRY/tool}
  end: {if: always(), needs: [never], container: REGISTRY/end}
"#;
    let mut boot = running(workflow)?.image("data", data)?.boot()?;
    boot.expect_all(&[
        "workflow: Everything at once",
        "service web: ready after",
        "job prepare: failed: step 2 of 4",
        "waiting to retry (1 of 2), 1 s",
        "service web: ready after",
        "step 3 of 4 (`sleep 99`) failed: stopped after its time limit of 1.0 s",
        "the service answers",
        "job prepare: succeeded",
        "installing 42",
        "job never: skipped",
        "job end: succeeded",
        "handover: power off",
    ])?;
    boot.ends()?;
    Ok(())
}
