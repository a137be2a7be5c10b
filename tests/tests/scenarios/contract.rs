//! The interface between Iguana and containers, used as real installation containers do. The environment of a
//! container is tested in `containers`, the order of jobs in `jobs`, keys of the workflow in `language`.

use crate::POWER_OFF;
use anyhow::Result;
use iguana_lab::disk::Disk;
use iguana_lab::image::{Recipe, busybox_root, put};
use iguana_lab::scenario::Scenario;

/// An init that prints the mounts and ends the machine.
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc 2>/dev/null
cat /deployed
awk '$2 ~ /^\\/(data|mapped|)$/ {print \"mounted: \" $1 \" at \" $2 \" \" $4}' /proc/mounts
poweroff -f
";

/// A disk with a small system on it.
fn system() -> Result<Disk> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    put(root.path(), "/sbin/init", 0o755, INIT.as_bytes())?;
    Disk::ext4(32, "system", root.path())
}

fn assert_all_held(said: &str) {
    let broken: Vec<&str> = said.lines().filter(|line| line.contains("NOT: ")).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

/// As in saltboot: several hundred lines of progress, a mount of its own, and `umount -a` at the end. Then it asks
/// the service whether its mounts are still there.
const DEPLOY: &str = "
[ -z \"$iguana\" ] && exit 1
ln -s /iguana/progress /progress
for number in $(seq 500); do echo step $number of 500 > /progress; done
device=/dev/vda
mkdir -p $NEWROOT
mount $device $NEWROOT
echo deployed by a container > $NEWROOT/deployed
echo \"$device $NEWROOT\" > /iguana/mountlist
umount -a; sync
[ -e /iguana/machine-id ] && echo 'NOT: unmounted'
echo . | nc 127.0.0.1 4505
echo the job goes on
";

/// Makes mounts before the job begins, and reports on request whether they still exist.
const BESIDE: &str = "
mount -t tmpfs kept /mnt
echo mine > /mnt/file
cp /proc/mounts /mounts
touch /ready
exec nc -ll -p 4505 -e /answer.sh
";
const ANSWER: &str = "#!/bin/sh
cmp -s /proc/mounts /mounts && [ -e /iguana/machine-id ] && echo the service keeps $(cat /mnt/file)
";

const LATER: &str = "
[ -e /iguana/machine-id ] || echo NOT: the shared directory
[ -b /dev/vda ] || echo NOT: devices
[ -d /sys/class/net/eth0 ] || echo NOT: kernel file systems
grep /dev/vda /proc/mounts && echo NOT: nothing left mounted
echo the later job works
";

#[test]
fn a_container_that_unmounts_everything_harms_only_itself() -> Result<()> {
    let beside = Recipe::script(BESIDE)?.file("/answer.sh", 0o755, ANSWER)?.file("/mnt/.keep", 0o644, "")?;
    let workflow = "
jobs:
  deploy:
    services: {beside: {image: REGISTRY/beside, ready: {path: /ready}}}
    container: REGISTRY/deploy
  later: {needs: deploy, container: REGISTRY/later}";
    let disk = system()?;
    let mut boot = Scenario::new()?
        .image("beside", beside)?
        .image("deploy", Recipe::script(DEPLOY)?)?
        .image("later", Recipe::script(LATER)?)?
        .disk(&disk)
        .workflow(workflow)
        .boot()?;
    boot.expect_all(&["the service keeps mine", "the job goes on", "job deploy: succeeded"])?;
    boot.expect_all(&["the later job works", "handover: switch root to /dev/vda"])?;
    boot.expect_all(&["deployed by a container", "mounted: /dev/vda at /"])?;
    let said = boot.ends()?;
    assert_all_held(&said);
    let steps: Vec<&str> =
        said.lines().filter_map(|line| Some(line.split_once("progress: step ")?.1)).collect();
    let expected: Vec<String> = (1..=500).map(|number| format!("{number} of 500")).collect();
    assert_eq!(steps, expected);
    Ok(())
}

/// As in Agama: a service whose socket is in a volume that the job has, too; and a socket of the machine.
#[test]
fn sockets_can_be_shared_by_volumes_and_bound() -> Result<()> {
    let listens = |path: &str, answer: &str| {
        format!("exec socat UNIX-LISTEN:{path},fork SYSTEM:'read word; echo \"{answer} $word\"'")
    };
    let asks = "
        [ -S /run/y.sock ] || echo NOT: a socket
        echo one | socat - UNIX-CONNECT:/run/agama/bus
        echo two | socat - UNIX-CONNECT:/run/y.sock";
    let recipe = |script: &str| Recipe::script(script)?.program("/usr/bin/socat");
    let workflow = "
jobs:
  agama:
    services:
      web: {image: REGISTRY/web, volumes: ['dbus_run:/run/agama'], ready: {path: /run/agama/bus}}
      machine: {image: REGISTRY/machine, volumes: ['/run:/host-run'], ready: {path: /host-run/x.sock}}
    container: {image: REGISTRY/asks, volumes: ['dbus_run:/run/agama', '/run/x.sock:/run/y.sock']}
  end: {needs: agama, container: REGISTRY/end}";
    let mut boot = Scenario::new()?
        .image("web", recipe(&listens("/run/agama/bus", "the bus says"))?)?
        .image("machine", recipe(&listens("/host-run/x.sock", "the machine says"))?)?
        .image("asks", recipe(asks)?)?
        .image("end", Recipe::script(POWER_OFF)?)?
        .workflow(workflow)
        .append("rd.iguana.on_failure=poweroff")
        .boot()?;
    boot.expect_all(&["the bus says one", "the machine says two", "job agama: succeeded", "power off"])?;
    assert_all_held(&boot.ends()?);
    Ok(())
}

#[test]
fn the_details_of_the_contract() -> Result<()> {
    let own = Recipe::busybox()?
        .file("/etc/hosts", 0o644, "192.0.2.1 of-the-image\n")?
        .link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")?;
    let workflow = r#"
env: {iguana: workflow, IGUANA: workflow, NEWROOT: /workflow}
jobs:
  env:
    services:
      beside:
        image: REGISTRY/own
        env: {IGUANA: service}
        command: [sh, -c, 'echo "beside: $IGUANA $iguana $NEWROOT" > /iguana/dc_progress; touch /told; exec sleep 9999']
        ready: {path: /told}
    container:
      image: REGISTRY/own
      env: {NEWROOT: /container}
      command: [sh, -c, 'echo "job: $IGUANA $iguana $NEWROOT"; sleep 1']
  files:
    container:
      image: REGISTRY/own
      command: [sh, -c, 'grep nameserver /etc/resolv.conf; grep of-the-image /etc/hosts || echo hosts of the machine']
  covered:
    container:
      image: REGISTRY/own
      volumes: ['/run/missing/directory:/made:rw', '/iguana/machine-id:/etc/hosts:ro']
      command:
        - sh
        - -c
        - |
          touch /made/file && echo made a directory
          cmp /etc/hosts /iguana/machine-id && echo hosts of the volume
          echo > /etc/hosts || echo it is read-only
          mknod /dev/from-a-job b 7 200
          mkdir /iguana/directory; mount -t tmpfs of-a-job /iguana/directory
  seen:
    container:
      image: REGISTRY/own
      volumes: ['/run/missing:/made']
      command: [sh, -c, '[ -b /dev/from-a-job ] && [ -e /made/directory/file ] && echo devices and directories stay; grep of-a-job /proc/mounts || echo mounts do not']
  failing:
    services:
      beside:
        image: REGISTRY/own
        command: [sh, -c, 'trap "echo told to stop > /iguana/progress; exit 0" TERM; touch /ready; while sleep 0.1; do :; done']
        ready: {path: /ready}
    container: {image: REGISTRY/own, command: "false"}
    continue-on-error: true
  end: {container: {image: REGISTRY/own, command: [sh, -c, "echo halt > /iguana/kernelAction"]}}
"#;
    let mut boot = Scenario::new()?.image("own", own)?.workflow(workflow).boot()?;
    boot.expect("job: workflow workflow /container")?;
    boot.expect_all(&["nameserver 10.0.2.3", "hosts of the machine", "job files: succeeded"])?;
    boot.expect_all(&[
        "made a directory",
        "hosts of the volume",
        "it is read-only",
        "job covered: succeeded",
    ])?;
    boot.expect_all(&["devices and directories stay", "mounts do not"])?;
    boot.expect_all(&["job failing: started", "told to stop", "service beside: stopped"])?;
    boot.expect_all(&["handover: halt", "System halted"])?;
    let said = boot.said();
    assert!(said.contains("progress: beside: service workflow /workflow"), "{said}");
    Ok(())
}

/// Makes partitions and a mapped device, and names them for the handover in all possible ways.
const PREPARE: &str = "
set -e
printf 'label: gpt\\nsize=16MiB, name=first\\nname=data\\n' | /sbin/sfdisk --quiet /dev/vdb
until [ -b /dev/vdb2 ]; do sleep 0.1; done
/sbin/mke2fs -q -t ext4 /dev/vdb1
/sbin/mke2fs -q -t ext4 /dev/vdb2
echo 0 $(cat /sys/class/block/vdb1/size) linear /dev/vdb1 0 | /sbin/dmsetup create mapped --noudevsync
/sbin/dmsetup mknodes
uuid=$(/sbin/tune2fs -l /dev/vda | sed -n 's/^Filesystem UUID: *//p')
mount /dev/vda /mnt
echo deployed > /mnt/deployed
umount /mnt
printf '%s\\n' \"UUID=$uuid /sysroot\" 'PARTLABEL=data /sysroot/data noatime,nodev' \\
    '/dev/mapper/mapped /sysroot/mapped ro' > /iguana/mountlist
";

#[test]
fn the_mount_list_names_devices_in_many_ways() -> Result<()> {
    let programs = ["/sbin/sfdisk", "/sbin/mke2fs", "/sbin/tune2fs", "/sbin/dmsetup"];
    let recipe = Recipe::script(PREPARE)?.file("/mnt/.keep", 0o644, "")?;
    let recipe = programs.iter().try_fold(recipe, |recipe, program| recipe.program(program))?;
    let disks = [system()?, Disk::empty(40)?];
    let mut boot = Scenario::new()?
        .job(recipe)?
        .disk(&disks[0])
        .disk(&disks[1])
        .append("rd.iguana.on_failure=poweroff")
        .boot()?;
    boot.expect_all(&["handover: switch root to UUID=", "mounted: /dev/vda at / "])?;
    boot.expect("mounted: /dev/vdb2 at /data rw,nodev,noatime")?;
    boot.expect("mounted: /dev/mapper/mapped at /mapped ro")?;
    boot.ends()?;
    Ok(())
}
