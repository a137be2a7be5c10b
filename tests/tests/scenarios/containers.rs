//! The environment of a container, which images rely on.

use crate::POWER_OFF;
use anyhow::Result;
use iguana_lab::disk::Disk;
use iguana_lab::escapes;
use iguana_lab::image::{Recipe, put};
use iguana_lab::scenario::Scenario;
use serde_json::json;

/// `check NAME COMMAND...` prints whether the command succeeds.
pub(crate) const CHECK: &str =
    "check() { name=$1; shift; if \"$@\"; then echo \"ok: $name\"; else echo \"NOT: $name\"; fi; }\n";

/// Boots, waits for the end, and fails with every check that failed.
pub(crate) fn holds(scenario: Scenario, last: &str) -> Result<String> {
    let mut boot = scenario.append("rd.iguana.on_failure=poweroff").boot()?;
    boot.expect(last)?;
    let said = boot.ends()?;
    let broken: Vec<&str> = said.lines().filter(|line| line.contains("NOT: ")).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    Ok(said)
}

fn script(checks: &str) -> Result<Recipe> {
    Recipe::script(&format!("{CHECK}{checks}\n{POWER_OFF}"))
}

#[test]
fn environment_and_shared_files() -> Result<()> {
    let first = "
        check IGUANA [ \"$IGUANA\" = true ]
        check iguana [ \"$iguana\" = true ]
        check NEWROOT [ \"$NEWROOT\" = /sysroot ]
        check 'workflow env' [ \"$BOTH $ONE\" = 'from container from workflow' ]
        check 'env of the image is the weakest' [ \"$IMAGE\" = 'from workflow' ]
        check 'progress is a FIFO' [ -p /iguana/progress ]
        check 'dc_progress is a file' [ -f /iguana/dc_progress ]
        check 'machine-id' grep -qE '^[0-9a-f]{32}$' /iguana/machine-id
        check 'nameserver' grep -q '^nameserver 10.0.2.3' /etc/resolv.conf
        check 'localhost' grep -q '127.0.0.1.*localhost' /etc/hosts
        check 'hostname' [ \"$(cat /etc/hostname)\" = \"$(hostname)\" ]
        check 'devices of the host' [ -b /dev/vda ]
        check 'network of the host' grep -q eth0 /proc/net/dev
        check 'proc is there' [ -d /proc/self ]
        check 'sys is there' [ -d /sys/class/net/eth0 ]
        check 'all rights' grep -qi '^CapEff:.*1ffffffffff' /proc/self/status
        check 'mounting' mount -t tmpfs none /tmp
        check 'root is writable' touch /new-file
        echo half way > /iguana/progress
        echo nearly there >> /iguana/dc_progress
        for n in $(seq 200); do echo line $n; done > /iguana/progress
        cp /iguana/machine-id /iguana/first-id
        sleep 1";
    let second = format!(
        "{CHECK}
        check 'machine-id is stable' cmp /iguana/machine-id /iguana/first-id
        check 'mounts of others are not seen' [ $(grep -c ' /tmp tmpfs' /proc/mounts) = 0 ]
        echo second done
        {POWER_OFF}"
    );
    let disk = Disk::empty(8)?;
    let first = Recipe::script(&format!("{CHECK}{first}"))?
        .set("Env", json!(["PATH=/bin", "IMAGE=from image", "IGUANA=from image"]));
    let scenario = Scenario::new()?.image("first", first)?.image("second", Recipe::script(&second)?)?;
    let workflow = "
env: {ONE: from workflow, BOTH: from workflow, IMAGE: from workflow}
jobs:
  first: {container: {image: REGISTRY/first, env: {BOTH: from container}}}
  second: {container: {image: REGISTRY/second}}";
    let said = holds(scenario.disk(&disk).workflow(workflow), "second done")?;
    for line in ["progress: half way", "progress: nearly there", "progress: line 200"] {
        assert!(said.contains(line), "`{line}` is not on the console");
    }
    Ok(())
}

#[test]
fn configuration_of_the_image() -> Result<()> {
    let checks = "
        check arguments [ \"$1 - $2\" = 'one - two words' ]
        check directory [ \"$(pwd)\" = /tmp/work ]
        check user [ \"$(id -u):$(id -g)\" = 1000:1000 ]
        check environment [ \"$COLOUR\" = green ]
        echo configuration done";
    let script = format!("{CHECK}{checks}\n");
    let recipe = Recipe::busybox()?
        .file("/job.sh", 0o755, script)?
        .file("/tmp/work/.keep", 0o644, "")?
        .set("Entrypoint", json!(["/bin/sh", "/job.sh"]))
        .set("Cmd", json!(["one", "two words"]))
        .set("Env", json!(["PATH=/bin", "COLOUR=green"]))
        .set("WorkingDir", json!("/tmp/work"))
        .set("User", json!("guest"));
    let scenario = Scenario::new()?.image("plain", recipe)?.image("last", self::script("echo all done")?)?;
    let jobs =
        "jobs: {plain: {container: {image: REGISTRY/plain}}, last: {container: {image: REGISTRY/last}}}";
    let said = holds(scenario.workflow(jobs), "all done")?;
    assert!(said.contains("configuration done"));
    Ok(())
}

#[test]
fn machine_id_of_an_existing_system_is_taken_over() -> Result<()> {
    let root = tempfile::tempdir()?;
    put(root.path(), "/etc/machine-id", 0o444, b"0123456789abcdef0123456789abcdef\n")?;
    let disk = Disk::ext4(16, "old", root.path())?;
    let job =
        script("check same [ $(cat /iguana/machine-id) = 0123456789abcdef0123456789abcdef ]\necho done")?;
    holds(Scenario::new()?.job(job)?.disk(&disk).append("root=LABEL=old"), "done")?;
    Ok(())
}

#[test]
fn the_job_has_the_terminal() -> Result<()> {
    let job = "
        check 'standard input is a terminal' [ -t 0 ]
        check 'standard output is a terminal' [ -t 1 ]
        check 'the terminal is controlling' sh -c ': > /dev/tty'
        printf 'your name? '
        read name
        echo \"hello, $name\"";
    let mut boot = Scenario::new()?.job(script(job)?)?.boot()?;
    boot.expect("your name? ")?;
    boot.types("Ada\n")?;
    boot.expect("hello, Ada")?;
    let said = boot.ends()?;
    assert!(!said.contains("NOT: "), "{said}");
    Ok(())
}

#[test]
fn the_last_lines_of_a_job_are_shown() -> Result<()> {
    // More than a serial line sends in a second, written just before the end.
    let job = format!("{POWER_OFF}for n in $(seq 400); do echo this is line $n of 400; done");
    let said = Scenario::new()?.job(Recipe::script(&job)?)?.boot()?.ends()?;
    assert!(said.contains("this is line 400 of 400"), "{said}");
    Ok(())
}

#[test]
fn volumes() -> Result<()> {
    let writer = format!(
        "{CHECK}
        check 'a named volume is writable' sh -c 'echo shared > /named/file'
        check 'an anonymous volume is fresh' [ -z \"$(ls /own)\" ]
        check 'an anonymous volume is writable' touch /own/file
        check 'a missing host path is made as a directory' touch /host/file
        check 'a read-only volume' sh -c '! touch /fixed/file 2>/dev/null'"
    );
    let reader = script(
        "check 'the named volume is the same' [ \"$(cat /there/file)\" = shared ]
        check 'the anonymous volume is another' [ -z \"$(ls /own)\" ]
        check 'the host path is kept' [ -f /seen/file ]
        check 'a file binds as a file' [ -f /one-file ]
        echo reader done",
    )?;
    let workflow = "
jobs:
  writer:
    container:
      image: REGISTRY/writer
      volumes: ['data:/named', /own, '/run/host:/host', '/run/fixed:/fixed:ro']
  reader:
    container:
      image: REGISTRY/reader
      volumes: ['data:/there', /own, '/run/host:/seen:ro', '/etc/hosts:/one-file']";
    let scenario = Scenario::new()?.image("writer", Recipe::script(&writer)?)?.image("reader", reader)?;
    holds(scenario.workflow(workflow), "reader done")?;
    Ok(())
}

/// In an initrd, pivot_root(2) does not work for a container's root, and the machine's own mounts are below it.
#[test]
fn an_unprivileged_container_cannot_gain_rights_in_an_initrd() -> Result<()> {
    let prepare = "echo secret > /victim/secret; cat /proc/sys/kernel/core_pattern > /victim/before";
    let look = format!(
        "{CHECK}
        check 'the secret' [ \"$(cat /victim/secret)\" = secret ]
        check 'core_pattern' cmp /victim/before /proc/sys/kernel/core_pattern
        check 'hosts' sh -c '! grep -q escaped /etc/hosts'
        echo looked
        {POWER_OFF}"
    );
    let scenario = Scenario::new()?
        .image("prepare", Recipe::script(prepare)?)?
        .image("escapes", escapes::recipe()?)?
        .image("look", Recipe::script(&look)?)?;
    let workflow = "
jobs:
  prepare: {container: {image: REGISTRY/prepare, volumes: ['/victim:/victim']}}
  own: {container: {image: REGISTRY/escapes, privileged: false, env: {VICTIM: /victim}}}
  all-processes: {container: {image: REGISTRY/escapes, privileged: false, pid: host, env: {VICTIM: /victim}}}
  root: {container: {image: REGISTRY/escapes, privileged: false, pid: host, workdir: /proc/1/root}, continue-on-error: true}
  look: {container: {image: REGISTRY/look, volumes: ['/victim:/victim']}}";
    let said = holds(scenario.workflow(workflow), "looked")?;
    assert!(said.contains("cannot use the working directory `/proc/1/root`"), "{said}");
    escapes::assert_all_shut(&said, 2)
}
