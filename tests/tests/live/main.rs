//! `iguana-init run` and `iguana-workflow` on a running system. The tests must be run by root.

mod kernel_action;
mod systemd;

use anyhow::Result;
use iguana_lab::image::Recipe;
use iguana_lab::live::LiveSystem;
use iguana_lab::program;
use iguana_lab::registry::Registry;
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output};

fn system(script: &str) -> Result<LiveSystem> {
    let registry = Registry::plain()?;
    registry.push_recipe(Recipe::script(script)?, "tool")?;
    LiveSystem::new(registry)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_says(output: &Output, status: i32, words: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in\n{text}");
    }
}

const WORKFLOW: &str = "
name: Live
on: push
jobs:
  own: {container: REGISTRY/tool}
  steps:
    needs: own
    container: {image: REGISTRY/tool, volumes: ['/iguana:/again']}
    steps:
      - run: echo \"new root $NEWROOT, id $(wc -c < /again/machine-id)\"
      - run: mount -t tmpfs none /tmp && echo may mount || echo may not mount
";

#[test]
fn a_workflow_runs_on_a_running_system() -> Result<()> {
    let system = system("echo the own program")?;
    let file = system.workflow(WORKFLOW)?;
    let output = system.run(&program("iguana-init"), "iguana-init", &["run", &file])?;
    let expected = [
        "note: ",
        "`on` has no effect",
        "the own program",
        "new root /sysroot, id 33",
        "may mount",
        "job steps: succeeded",
    ];
    assert_says(&output, 0, &expected);
    assert!(!text(&output).contains("manifest sha256:"));
    Ok(())
}

#[test]
fn the_classic_command_line_works() -> Result<()> {
    let system = system("exit 3")?;
    let file = system.workflow(WORKFLOW)?;
    let run = |arguments: &[&str]| system.run(&program("iguana-init"), "iguana-workflow", arguments);
    let failed = run(&["--newroot", "/mnt", "--debug", &file])?;
    assert_says(
        &failed,
        1,
        &["manifest sha256:", "the job `own` failed", "why: exit status 3", "skipped: needs `own`"],
    );
    let quiet = run(&["--log-level", "error", &file])?;
    assert_says(&quiet, 1, &["the job `own` failed"]);
    assert!(!text(&quiet).contains("job own: started"));
    assert_says(&run(&["--fast", &file])?, 2, &["--fast", "hint: "]);
    assert_says(&run(&["/nowhere.yaml"])?, 1, &["cannot read the workflow `/nowhere.yaml`"]);
    let mistake = system.workflow("jobs: {a: {contianer: x}}")?;
    assert_says(&run(&[&mistake])?, 3, &["did you mean `container`?"]);
    assert_says(&run(&["--help"])?, 0, &["--dry-run"]);
    Ok(())
}

#[test]
fn the_caller_chooses_rights_and_new_root() -> Result<()> {
    let system = system("true")?;
    let file = system.workflow(WORKFLOW)?;
    let output = system.run(
        &program("iguana-init"),
        "iguana-workflow",
        &["--unprivileged", "--newroot", "/mnt", &file],
    )?;
    assert_says(&output, 0, &["new root /mnt", "may not mount"]);
    Ok(())
}

#[test]
fn a_dry_run_reports_everything_and_does_nothing() -> Result<()> {
    let system = system("echo this ran")?;
    let file = system.workflow(WORKFLOW)?;
    let output = system.run(&program("iguana-init"), "iguana-workflow", &["--dry-run", &file])?;
    let expected =
        ["1. job own", "pull 127.0.0.1:", "2. job steps", "needs own", "the machine's /iguana at /again"];
    assert_says(&output, 0, &expected);
    assert!(!text(&output).contains("this ran"));
    Ok(())
}

/// The kernel gives PID 1 the words of its command line that it does not know.
#[test]
fn arguments_that_are_not_utf8_are_tolerated() -> Result<()> {
    let odd = OsStr::from_bytes(b"\xff.yaml");
    for (arguments, status, told) in [
        (vec![odd], 2, "this program runs as PID 1"),
        (vec!["run".as_ref(), odd], 1, "cannot read the workflow"),
    ] {
        let output = Command::new(program("iguana-init")).args(arguments).output()?;
        assert_says(&output, status, &[told]);
    }
    Ok(())
}

#[test]
fn a_second_run_works_after_the_first() -> Result<()> {
    let system = system("echo one > /iguana/progress")?;
    let (file, init) = (system.workflow(WORKFLOW)?, program("iguana-init"));
    let twice = format!("{0} run {file} && {0} run {file}", init.display());
    let output = system.run("/bin/sh".as_ref(), "sh", &["-c", &twice])?;
    assert_says(&output, 0, &["progress: one"]);
    assert_eq!(text(&output).matches("job steps: succeeded").count(), 2);
    Ok(())
}

/// Two runs one after another, each with its own workflow, followed by a listing of the system's own files.
fn run_twice(system: &LiveSystem, first: &str, second: &str) -> Result<Output> {
    std::fs::write(system.room().join("first.yaml"), first.replace("REGISTRY/", &system.reference("")))?;
    let second = system.workflow(second)?;
    let init = program("iguana-init");
    let script = format!(
        "echo whole > /etc/important; chmod 600 /etc/important
        timeout 60 {init} run {room}/first.yaml; timeout 60 {init} run {second}; echo second ended with $?
        echo \"important is $(cat /etc/important), $(stat -c %a /etc/important)\"
        grep ' /iguana' /proc/self/mounts; ls -l /iguana",
        init = init.display(),
        room = system.room().display(),
    );
    system.run("/bin/sh".as_ref(), "sh", &["-c", &script])
}

#[test]
fn links_in_the_shared_directory_are_not_followed_in_this_run_or_the_next() -> Result<()> {
    let system = system("echo the second run")?;
    let first = "
jobs:
  few:
    container: {image: REGISTRY/tool, privileged: false}
    steps: [run: 'cd /iguana; rm -r machine-id dc_progress; ln -s /etc/important dc_progress; ln -s /etc/important machine-id; echo few has planted']
  all:
    container: REGISTRY/tool
    steps: [run: 'cd /iguana; rm -r machine-id dc_progress; ln -s /etc/important dc_progress; ln -s /etc/important machine-id; sleep 1; echo all has planted']
";
    let output = run_twice(&system, first, "jobs: {again: {container: REGISTRY/tool}}")?;
    let expected = ["few has planted", "all has planted", "the second run", "second ended with 0"];
    assert_says(&output, 0, &expected);
    assert_says(&output, 0, &["important is whole, 600", "/iguana tmpfs rw,nosuid,nodev"]);
    assert!(!text(&output).contains("progress: whole"), "{}", text(&output));
    Ok(())
}

#[test]
fn special_files_are_neither_waited_for_nor_read_without_limit() -> Result<()> {
    let system = system("true")?;
    let first = "
jobs:
  all:
    container: REGISTRY/tool
    steps:
      - run: 'cd /iguana; rm dc_progress progress; mkfifo dc_progress; mkdir progress; mkfifo mountlist; ln -s /dev/zero kernelAction; sleep 1'
      - run: 'cd /iguana; rm dc_progress; truncate -s 10G dc_progress; yes > dc_progress & sleep 1; kill %1'
      - run: 'truncate -s 10G $IGUANA_OUTPUT'
        continue-on-error: true
";
    let output = run_twice(&system, first, "jobs: {again: {container: REGISTRY/tool}}")?;
    assert_says(&output, 0, &["the output file is larger than 1048576 bytes", "job all: succeeded"]);
    assert_says(&output, 0, &["second ended with 0"]);
    Ok(())
}

#[test]
fn a_full_shared_directory_is_bounded_and_new_for_the_next_run() -> Result<()> {
    let system = system("true")?;
    let first = "
shared: {size: 2M}
jobs:
  few:
    container: {image: REGISTRY/tool, privileged: false}
    steps: [run: 'dd if=/dev/zero of=/iguana/fill bs=1M count=100 || echo few is full; i=0; while touch /iguana/$i; do i=$((i+1)); done 2>&1 | tail -1']
  all:
    container: REGISTRY/tool
    steps:
      - run: 'grep ^iguana /proc/self/mounts; echo a result > /iguana/result && echo there is room for all'
      - run: 'dd if=/dev/zero of=/iguana/fill bs=1M count=100 || echo all is full'
";
    let second = "jobs: {again: {container: REGISTRY/tool, steps: [run: 'ls /iguana; echo new > /iguana/new && echo kept for the caller']}}";
    let output = run_twice(&system, first, second)?;
    assert_says(
        &output,
        0,
        &["few is full", "No space left on device", "there is room for all", "all is full"],
    );
    assert_says(&output, 0, &["size=2048k", "kept for the caller", "second ended with 0", " new\n"]);
    assert!(!text(&output).contains(" result\n"), "{}", text(&output));
    Ok(())
}

#[test]
fn result_files_are_those_of_containers_that_may_hand_over() -> Result<()> {
    let system = system("true")?;
    let first = "
jobs:
  few:
    container: {image: REGISTRY/tool, privileged: false, volumes: ['/iguana:/again', '/:/host']}
    services: {beside: {image: REGISTRY/tool, pid: host, privileged: false, command: sleep 60}}
    steps:
      - run: |
          cd /iguana
          for there in /iguana /again /host/iguana /proc/*/root/iguana; do
              rm -f $there/mountlist; echo '/iguana/new /sysroot bind' > $there/mountlist || continue
              echo x > $there/tmp; ln -f $there/tmp $there/kernelAction; mv $there/tmp $there/mountlist
              mkdir -p $there/unprivileged; mount -t tmpfs none $there || :
          done 2> /dev/null
          echo few has tried
  all:
    container: REGISTRY/tool
    steps:
      - run: '! ls /iguana/mountlist; cat /iguana/unprivileged/mountlist; echo /dev/vda /sysroot > /iguana/t; mv /iguana/t /iguana/mountlist'
  chosen:
    container: {image: REGISTRY/tool, privileged: false, handover: true}
    steps: [run: 'cat /iguana/mountlist; echo reboot > /iguana/kernelAction']
";
    let second = "jobs: {none: {container: {image: REGISTRY/tool, handover: false}, steps: [run: 'echo reboot > /iguana/kernelAction']}}";
    let output = run_twice(&system, first, second)?;
    assert_says(&output, 0, &["few has tried", "/dev/vda /sysroot\n", "job chosen: succeeded"]);
    assert_says(&output, 0, &["ignoring `/iguana/mountlist` of a container without the right to hand over"]);
    assert_says(&output, 0, &["`/iguana/kernelAction` of a container", "second ended with 0"]);
    assert!(!text(&output).contains(" kernelAction\n"), "{}", text(&output));
    Ok(())
}

#[test]
fn other_users_cannot_interfere_with_scripts_and_outputs() -> Result<()> {
    let system = system("sleep 1; echo 'disk=/dev/vda' >> $IGUANA_OUTPUT")?;
    let first = "
jobs:
  few:
    container: {image: REGISTRY/tool, privileged: false}
    steps:
      - run: '(while :; do ln -sf /etc/important /run/iguana/output; ln -sf /etc/important /run/iguana/step-4; done) > /dev/null 2>&1 &'
      - run: '(while :; do echo disk=/dev/evil; done >> /run/iguana/output) > /dev/null 2>&1 &'
      - {id: used, uses: 'docker://REGISTRY/tool'}
      - run: 'echo \"step 3 sees ${{ steps.used.outputs.disk }}\"'
  all:
    container: REGISTRY/tool
    steps:
      - run: 'mount -o remount,bind,rw /run/iguana; (while :; do ln -sf /etc/important /run/iguana/step-2; done) > /dev/null 2>&1 &'
      - {run: 'echo step 2', continue-on-error: true}
";
    let first = first.replace("REGISTRY", system.reference("").trim_end_matches('/'));
    let output = run_twice(&system, &first, "jobs: {again: {container: REGISTRY/tool}}")?;
    assert_says(&output, 0, &["step 3 sees /dev/vda", "important is whole, 600", "second ended with 0"]);
    Ok(())
}

#[test]
fn a_volume_does_not_follow_links_of_a_container() -> Result<()> {
    let system = system("true")?;
    let first = "
jobs:
  plants: {container: {image: REGISTRY/tool, privileged: false}, steps: [run: 'ln -s /etc /iguana/data; mkdir /iguana/plain']}
  plain: {container: {image: REGISTRY/tool, privileged: false, volumes: ['/iguana/plain/new:/x']}, steps: [run: 'echo in > /x/file; cat /iguana/plain/new/file']}
  uses: {container: {image: REGISTRY/tool, privileged: false, volumes: ['/iguana/data:/data']}, steps: [run: 'echo owned > /data/important']}
";
    let output = run_twice(&system, first, "jobs: {again: {container: REGISTRY/tool}}")?;
    assert_says(
        &output,
        0,
        &["job plain: succeeded", "job uses: failed", "symbolic link", "important is whole"],
    );
    Ok(())
}

#[test]
fn a_volume_on_the_machine_does_not_follow_links_of_another_container() -> Result<()> {
    let system = system("true")?;
    let first = "
jobs:
  prepares: {container: {image: REGISTRY/tool, volumes: ['/srv:/x']}, steps: [run: 'ln -s shared /x/link; ln -s /iguana /x/way']}
  plants: {container: {image: REGISTRY/tool, privileged: false, volumes: ['/srv/shared:/x']}, steps: [run: 'ln -s /etc /x/data; ln -s /etc /iguana/data; mkdir /x/plain']}
  plain: {container: {image: REGISTRY/tool, privileged: false, volumes: ['/srv/link/plain/new:/y']}, steps: [run: 'echo in > /y/file']}
  looks: {container: {image: REGISTRY/tool, volumes: ['/srv:/x']}, steps: [run: 'echo \"it is $(cat /x/shared/plain/new/file)\"']}
  uses: {container: {image: REGISTRY/tool, privileged: false, volumes: ['/srv/shared/data:/data']}, steps: [run: 'echo owned > /data/important']}
  around: {container: {image: REGISTRY/tool, privileged: false, volumes: ['/srv/way/data:/data']}, steps: [run: 'echo owned > /data/important']}
";
    let output = run_twice(&system, first, "jobs: {again: {container: REGISTRY/tool}}")?;
    let refused = "`/srv/shared/data` is refused: there is a symbolic link on the path";
    assert_says(&output, 0, &["`/srv/way/data` is refused: there is a symbolic link on the path"]);
    assert_says(
        &output,
        0,
        &["it is in", "job looks: succeeded", "job uses: failed", refused, "important is whole"],
    );
    Ok(())
}

#[test]
fn a_service_may_be_called_as_a_step_is() -> Result<()> {
    let system = system("echo tool")?;
    let file = system.workflow(
        "
jobs:
  a:
    container: REGISTRY/tool
    services: {step-1: {image: REGISTRY/tool, command: [sh, -c, 'touch /there; exec sleep 60'], ready: {path: /there}}}
    steps:
      - {uses: 'docker://REGISTRY/tool'}
      - run: 'sleep 1; echo the service goes on'
",
    )?;
    let output = system.run(&program("iguana-init"), "iguana-init", &["run", &file])?;
    assert_says(&output, 0, &["the service goes on", "job a: succeeded"]);
    Ok(())
}

#[test]
fn a_concurrent_run_is_refused() -> Result<()> {
    let system = system("echo first; sleep 4; echo first is whole > /iguana/progress")?;
    let (file, init) = (system.workflow("jobs: {a: {container: REGISTRY/tool}}")?, program("iguana-init"));
    let script = format!(
        "{0} run {file} > /tmp/first 2>&1 & until grep -q ^first /tmp/first; do sleep 0.1; done
        {0} run {file}; echo second ended with $?; wait; cat /tmp/first",
        init.display()
    );
    let output = system.run("/bin/sh".as_ref(), "sh", &["-c", &script])?;
    assert_says(
        &output,
        0,
        &["Iguana is already running on this system", "second ended with 1", "progress: first is whole"],
    );
    Ok(())
}

#[test]
fn foreign_mounts_at_the_shared_directory_are_kept() -> Result<()> {
    let system = system("true")?;
    let (file, init) = (system.workflow("jobs: {a: {container: REGISTRY/tool}}")?, program("iguana-init"));
    let script = format!(
        "mkdir /iguana; mount -t tmpfs theirs /iguana; {0} run {file}; {0} run {file}
        grep -c ^iguana /proc/self/mounts; umount -R /iguana; grep -c theirs /proc/self/mounts",
        init.display()
    );
    let output = system.run("/bin/sh".as_ref(), "sh", &["-c", &script])?;
    assert_says(&output, 0, &["job a: succeeded"]);
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("2\n1\n"), "{}", text(&output));
    Ok(())
}

/// udev tells programs of device-mapper by semaphores that it is ready.
#[test]
fn containers_of_a_job_share_semaphores_and_others_do_not() -> Result<()> {
    let registry = Registry::plain()?;
    let count = "#!/bin/sh\necho \"$1 $(ipcs -s | awk '$5 == 3' | wc -l)\"\n";
    let make = "#!/bin/sh\nipcmk -S 3 && touch /made && exec sleep 1000\n";
    let tool = Recipe::script("true")?.program("/usr/bin/ipcmk")?.program("/usr/bin/ipcs")?;
    registry.push_recipe(tool.file("/bin/count", 0o755, count)?.file("/bin/make", 0o755, make)?, "tool")?;
    let system = LiveSystem::new(registry)?;
    let file = system.workflow(
        "
jobs:
  first:
    container: REGISTRY/tool
    services:
      maker: {image: REGISTRY/tool, command: [make], ready: {path: /made}}
    steps:
      - run: count 'the job sees'
      - uses: docker://REGISTRY/tool
        with: {args: [count, a step sees]}
      - run: ipcmk -S 3; count 'now there are'
  second:
    needs: first
    container: REGISTRY/tool
    steps: [{run: count 'another job sees'}]
  private:
    container: {image: REGISTRY/tool, options: --ipc private}
    services:
      maker: {image: REGISTRY/tool, command: [make], ready: {path: /made}}
    steps: [{run: count 'its own has'}]
",
    )?;
    let output = system.run(&program("iguana-init"), "iguana-init", &["run", &file])?;
    let expected =
        ["the job sees 1", "a step sees 1", "now there are 2", "another job sees 0", "its own has 0"];
    assert_says(&output, 0, &expected);
    Ok(())
}

/// A privileged program executes what it has unpacked in `/dev/shm`, and waits for its semaphores.
#[test]
fn containers_of_different_rights_share_semaphores_and_memory_only_if_both_say_so() -> Result<()> {
    let registry = Registry::plain()?;
    let make = "#!/bin/sh\nipcmk -S $1 && touch /dev/shm/$1 && touch /made && exec sleep 1000\n";
    let list =
        "#!/bin/sh\necho \"$1: $(ipcs -s | awk '$5 + 0 { print $5 }' | xargs) and $(ls /dev/shm | xargs)\"\n";
    let tool = Recipe::script("true")?.program("/usr/bin/ipcmk")?.program("/usr/bin/ipcs")?;
    registry.push_recipe(tool.file("/bin/list", 0o755, list)?.file("/bin/make", 0o755, make)?, "tool")?;
    let system = LiveSystem::new(registry)?;
    let file = system.workflow(
        "
jobs:
  privileged:
    container: REGISTRY/tool
    services: &services
      privileged: {image: REGISTRY/tool, command: [make, '3'], ready: {path: /made}}
      confined: {image: REGISTRY/tool, privileged: false, command: [make, '4'], ready: {path: /made}}
    steps: [{run: list 'privileged ones share'}]
  confined:
    container: {image: REGISTRY/tool, privileged: false}
    services: *services
    steps: [{run: list 'confined ones share'}]
  all:
    container: {image: REGISTRY/tool, privileged: false, options: --ipc shareable}
    services:
      <<: *services
      third: {image: REGISTRY/tool, options: --ipc shareable, command: [make, '5'], ready: {path: /made}}
    steps: [{run: list 'shareable ones share'}]
  author:
    container: {image: REGISTRY/tool, privileged: false, handover: true}
    services: *services
    steps: [{run: list 'one with the handover shares'}]
  signaller:
    container: {image: REGISTRY/tool, privileged: false, pid: host}
    services: *services
    steps: [{run: list 'one with all processes shares'}]
",
    )?;
    let output = system.run(&program("iguana-init"), "iguana-init", &["run", &file])?;
    let expected = [
        "privileged ones share: 3 and 3",
        "confined ones share: 4 and 4",
        "shareable ones share: 5 and 5",
        "one with the handover shares:  and ",
        "one with all processes shares:  and ",
    ];
    assert_says(&output, 0, &expected);
    Ok(())
}

/// The C library that starts this program has it ignore signals 32 and 33 (posix_spawn(3)).
#[test]
fn a_program_ignores_no_signal() -> Result<()> {
    let system = system("grep ^SigIgn /proc/self/status")?;
    let file = system.workflow(
        "
jobs:
  privileged: {container: {image: REGISTRY/tool}}
  confined: {container: {image: REGISTRY/tool, privileged: false}}
",
    )?;
    let init = program("iguana-init").display().to_string();
    // This shell ignores one, too.
    let script = format!("trap '' USR1; exec {init} run {file}");
    let output = system.run("/bin/sh".as_ref(), "sh", &["-c", &script])?;
    assert_says(&output, 0, &[]);
    assert_eq!(text(&output).matches("SigIgn:\t0000000000000000").count(), 2, "{}", text(&output));
    Ok(())
}

/// `HEALTHCHECK` of a Containerfile.
#[test]
fn a_service_is_ready_when_the_health_check_of_its_image_succeeds() -> Result<()> {
    let registry = Registry::plain()?;
    let check =
        json!({"Test": ["CMD-SHELL", "test -e /healthy"], "Interval": 1_000_000_000_u64, "Retries": 3});
    let server = Recipe::script("sleep 2; touch /healthy /shared/healthy; exec sleep 1000")?;
    registry.push_recipe(server.set("Healthcheck", check), "server")?;
    registry.push_recipe(Recipe::script("ls /shared")?, "tool")?;
    let system = LiveSystem::new(registry)?;
    let file = system.workflow(
        "
jobs:
  job:
    container: {image: REGISTRY/tool, volumes: [shared:/shared]}
    services: {server: {image: REGISTRY/server, volumes: [shared:/shared]}}
",
    )?;
    let output = system.run(&program("iguana-init"), "iguana-init", &["run", &file])?;
    assert_says(&output, 0, &["service server: ready after", "healthy", "job job: succeeded"]);
    Ok(())
}
