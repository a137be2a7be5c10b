//! The handover after the last job, and the reaction to a failure.

use crate::{POWER_OFF, running};
use anyhow::Result;
use iguana_lab::disk::Disk;
use iguana_lab::image::{Recipe, busybox_root, put};
use iguana_lab::initrd::Initrd;
use iguana_lab::scenario::Scenario;

#[test]
fn reboot_by_kernel_action() -> Result<()> {
    let mut boot = Scenario::new()?.job(Recipe::script("echo reboot > /iguana/kernelAction")?)?.boot()?;
    boot.expect_all(&["job job: succeeded", "memory: peak ", "handover: reboot"])?;
    assert!(boot.ends()?.contains("reboot: Restarting system"));
    Ok(())
}

#[test]
fn power_off_by_kernel_action() -> Result<()> {
    let mut boot = Scenario::new()?.job(Recipe::script(POWER_OFF)?)?.boot()?;
    boot.expect_all(&["job job: succeeded", "handover: power off"])?;
    assert!(boot.ends()?.contains("reboot: Power down"));
    Ok(())
}

#[test]
fn a_failed_job_opens_a_shell_if_requested() -> Result<()> {
    let scenario = Scenario::new()?.job(Recipe::script("echo broken >&2; exit 7")?)?;
    let mut boot = scenario.append("rd.iguana.on_failure=shell").boot()?;
    boot.expect("job job: failed: exit status 7")?;
    boot.fails_in("job")?;
    // What is typed before the prompt is discarded.
    boot.expect_all(&["a shell", "# "])?;
    boot.types("echo the answer is $((6 * 7))\n")?;
    boot.expect("the answer is 42")?;
    boot.types("ls -l /proc/$$/fd/0; cat /run/iguana/log | grep -c 'exit status 7'\n")?;
    boot.expect("1")?;
    boot.types("poweroff -f\n")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_failed_job_reboots_by_default() -> Result<()> {
    let mut boot = Scenario::new()?.job(Recipe::script("kill -9 $$; exit 1")?)?.boot()?;
    boot.expect("job job: failed: ")?;
    boot.fails_in("job")?;
    boot.expect("rebooting in 10 s (rd.iguana.on_failure=reboot)")?;
    boot.expect_all(&["rebooting in 5 s", "rebooting in 1 s"])?;
    assert!(boot.ends()?.contains("reboot: Restarting system"));
    Ok(())
}

/// A disk with a system that prints its name.
fn installed() -> Result<Disk> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    put(root.path(), "/sbin/init", 0o755, b"#!/bin/sh\necho the system of before\npoweroff -f\n")?;
    Disk::ext4(16, "system", root.path())
}

#[test]
fn the_system_on_the_disk_boots_when_the_server_is_unreachable() -> Result<()> {
    let disk = installed()?;
    let local = "rd.iguana.on_failure=local root=LABEL=system rd.iguana.control_url=http://10.0.2.2:9/none";
    let mut boot = Scenario::new()?.disk(&disk).append(local).boot()?;
    boot.fails_in("control file")?;
    boot.expect_all(&[
        "the system on the disk (local)",
        "switch root to LABEL=system",
        "the system of before",
    ])?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_disk_that_a_failed_job_has_written_to_is_not_started() -> Result<()> {
    let disk = installed()?;
    let job = "mount /dev/vda /tmp; echo half > /tmp/file; umount /tmp; exit 1";
    let scenario = Scenario::new()?.job(Recipe::script(job)?)?.disk(&disk);
    let mut boot = scenario.append("rd.iguana.on_failure=local root=LABEL=system").boot()?;
    boot.fails_in("job")?;
    boot.expect("a job wrote to the disk `/dev/vda`: the system on it may be incomplete")?;
    boot.expect("rebooting in 10 s")?;
    assert!(!boot.ends()?.contains("the system of before"));
    Ok(())
}

#[test]
fn a_mount_list_is_read_as_by_the_first_iguana_unless_the_workflow_is_strict() -> Result<()> {
    let disk = installed()?;
    let workflow = |strict: &str| {
        let list = r"/dev/vda9 none swap sw 0 0\n/dev/vda /mnt\n/dev/vda /sysroot\n";
        let command = format!(r#"[sh, -c, "printf '{list}' > /iguana/mountlist"]"#);
        format!("{strict}\njobs: {{list: {{container: {{image: REGISTRY/tool, command: {command}}}}}}}\n")
    };
    let mut boot = running(&workflow(""))?.disk(&disk).boot()?;
    boot.expect_all(&[
        "skipping a line of the mount list: `/dev/vda9 none swap sw 0 0` is for swap space",
        "skipping a line of the mount list: the mountpoint `/mnt` is not below `/sysroot`",
        "the system of before",
    ])?;
    boot.ends()?;
    let mut boot = running(&workflow("strict: true"))?.disk(&disk).boot()?;
    let block = boot.fails_in("handover")?;
    assert!(block.contains("`/dev/vda9 none swap sw 0 0` is for swap space"), "{block}");
    boot.ends()?;
    Ok(())
}

#[test]
fn the_outcome_of_a_workflow_is_reported_on_the_next_boot() -> Result<()> {
    let disk = installed()?;
    let boot = |script: &str| -> Result<String> {
        let workflow = "name: try it\nstate: LABEL=system\njobs: {job: {container: REGISTRY/job}}";
        let scenario = Scenario::new()?.image("job", Recipe::script(script)?)?.disk(&disk).workflow(workflow);
        scenario.append("rd.iguana.on_failure=poweroff").boot()?.ends()
    };
    assert!(!boot("cat /nothing; exit 3")?.contains("state: "));
    let said = boot("echo o > /proc/sysrq-trigger; sleep 60")?;
    assert!(said.contains("state: the last workflow (`try it`) failed: the job `job` failed"), "{said}");
    let said = boot(POWER_OFF)?;
    assert!(said.contains("state: the last workflow (`try it`) was interrupted"), "{said}");
    let said = boot(POWER_OFF)?;
    assert!(said.contains("state: the last workflow (`try it`) succeeded"), "{said}");
    assert_eq!(disk.read(0, "/iguana/workflow")?, "succeeded\ntry it\n\n");
    Ok(())
}

#[test]
fn a_container_that_may_not_hand_over_cannot_boot_its_own_system() -> Result<()> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    let init = "#!/bin/sh\necho the chosen system is $(cat /run/iguana/machine-id | wc -c)\npoweroff -f\n";
    put(root.path(), "/sbin/init", 0o755, init.as_bytes())?;
    let disk = Disk::ext4(16, "system", root.path())?;
    let all = "
  all:
    container: {image: REGISTRY/tool}
    steps: [run: 'rm /iguana/machine-id; ln -s /etc/passwd /iguana/machine-id; echo LABEL=system /sysroot > /iguana/t; mv /iguana/t /iguana/mountlist']";
    let boot = |workflow: String| {
        let scenario = Scenario::new()?.image("tool", Recipe::script("true")?)?.disk(&disk);
        scenario.append("rd.iguana.on_failure=poweroff").workflow(workflow).boot()
    };
    let said = boot(UNAUTHORISED_HANDOVERS.into())?.ends()?;
    assert!(
        said.contains("ignoring `/iguana/mountlist` of a container without the right to hand over"),
        "{said}"
    );
    assert!(said.contains("no job decided what comes next") && !said.contains("usurped"), "{said}");
    let mut chosen = boot(format!("{UNAUTHORISED_HANDOVERS}{all}"))?;
    // 32 digits and a line break: the machine ID that Iguana made.
    chosen.expect_all(&["ignoring `/iguana/", "switch root to LABEL=system", "the chosen system is 33"])?;
    assert!(!chosen.ends()?.contains("usurped"));
    Ok(())
}

/// An unprivileged container and a service that try to boot a system of their own.
const UNAUTHORISED_HANDOVERS: &str = r#"
jobs:
  few:
    container: {image: REGISTRY/tool, privileged: false, volumes: ['/iguana:/again', '/:/host']}
    services:
      beside:
        image: REGISTRY/tool
        privileged: false
        handover: false
        pid: host
        command: [sh, -c, 'while :; do for it in /iguana /proc/*/root/iguana; do echo "/iguana/new /sysroot bind" > $it/mountlist; done; sleep 0.1; done']
    steps:
      - run: |
          mkdir -p /iguana/new/sbin; printf '#!/bin/sh\necho usurped\n' > /iguana/new/sbin/init
          for it in /iguana /again /host/iguana; do
              echo "/iguana/new /sysroot bind" > $it/mountlist || continue
              echo reboot > $it/tmp; mv $it/tmp $it/kernelAction
              rm $it/machine-id; ln -s /etc/secret $it/machine-id
          done
          mount -o bind /iguana/new /iguana || sleep 1
"#;

#[test]
fn an_unprivileged_container_may_be_allowed_to_hand_over() -> Result<()> {
    let workflow = "
jobs:
  few: {container: {image: REGISTRY/tool, privileged: false, handover: true, command: [sh, -c, 'echo poweroff > /iguana/kernelAction']}}";
    let mut boot = Scenario::new()?.image("tool", Recipe::script("true")?)?.workflow(workflow).boot()?;
    boot.expect("handover: power off")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn a_mount_list_cannot_name_the_directories_of_containers() -> Result<()> {
    let job = "mkdir -p /iguana/new/sbin; echo /iguana/new /sysroot bind > /iguana/mountlist";
    let scenario = Scenario::new()?.job(Recipe::script(job)?)?;
    let mut boot = scenario.append("rd.iguana.on_failure=poweroff").boot()?;
    let block = boot.fails_in("handover")?;
    let line = "the line `/iguana/new /sysroot bind` of the mount list refers to `/iguana`";
    assert!(block.contains(line), "{block}");
    boot.ends()?;
    Ok(())
}

/// The kernel puts words that it does not know into the environment of PID 1. There they could change how libraries of
/// Iguana work: with this stack, no thread can be created.
#[test]
fn variables_on_the_command_line_are_for_the_new_system_only() -> Result<()> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    let init = b"#!/bin/sh\necho \"the new system has <$GIVEN $RUST_MIN_STACK $HOME>\"\npoweroff -f\n";
    put(root.path(), "/sbin/init", 0o755, init)?;
    let disk = Disk::ext4(16, "system", root.path())?;
    let scenario = running(
        r#"
jobs:
  look:
    container:
      image: REGISTRY/tool
      options: --pid host
      command:
        - sh
        - -c
        - |
          for process in /proc/[0-9]*; do
            case "$(tr '\0' ' ' < $process/cmdline)" in
              "/init boot "*) echo "the worker has <$(tr '\0' ' ' < $process/environ)>";;
            esac
          done
          echo "the container has <$GIVEN$RUST_MIN_STACK$HTTP_PROXY>"
          echo /dev/vda /sysroot ro > /iguana/mountlist"#,
    )?;
    let variables =
        "GIVEN=here RUST_MIN_STACK=1000000000000000 RUST_BACKTRACE=1 HTTP_PROXY=http://10.0.2.2:9";
    let mut boot = scenario.disk(&disk).append(variables).boot()?;
    boot.expect_all(&["the worker has <>", "the container has <>"])?;
    boot.expect("the new system has <here 1000000000000000 />")?;
    boot.ends()?;
    Ok(())
}

#[test]
fn the_new_system_does_not_see_words_that_the_trust_does_not_allow() -> Result<()> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    let init = b"#!/bin/sh\necho \"arguments <$*>\"\necho \"words <$(cat /proc/cmdline)>\"\npoweroff -f\n";
    put(root.path(), "/sbin/init", 0o755, init)?;
    let disk = Disk::ext4(16, "system", root.path())?;
    let job = Recipe::script("echo /dev/vda /sysroot ro > /iguana/mountlist")?;
    let scenario = Scenario::with(&Initrd::with_allowed_options()?).disk(&disk).job(job)?;
    let mut boot = scenario
        .append("net.ifnames=0 systemd.run=/bin/evil LD_PRELOAD=/evil.so \"x systemd.debug_shell\"")
        .append("-- given --unit=rescue.target single")
        .boot()?;
    boot.expect("the new system does not see these words of the kernel command line: `")?;
    boot.expect("arguments <given")?;
    boot.expect("words <")?;
    boot.ends()?;
    let said = boot.said();
    let words = said.split("words <").nth(1).and_then(|rest| rest.split('>').next()).unwrap_or_default();
    assert!(words.contains("net.ifnames=0") && words.contains("-- given"), "{words}");
    for hidden in ["systemd.", "LD_PRELOAD", "--unit", "single"] {
        assert!(!words.contains(hidden), "{words}");
    }
    Ok(())
}
