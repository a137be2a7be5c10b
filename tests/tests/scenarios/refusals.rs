//! New systems that cannot be started: each gives one clear error block, and no disk is written to beyond what was
//! asked for.

use anyhow::Result;
use iguana_lab::disk::{Disk, Part};
use iguana_lab::image::{Recipe, busybox_root, put};
use iguana_lab::process::{self, QUICK};
use iguana_lab::scenario::Scenario;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

/// Offset in bytes of the group descriptors of ext4 with blocks of 1 KiB; they follow the superblock, and the rest is
/// useless without them.
const GROUPS: u64 = 2048;

/// Runs this job; returns the error block of the handover, which must be followed by a power-off only.
fn refused(job: &str, disks: &[&Disk]) -> Result<String> {
    let scenario = Scenario::new()?.job(Recipe::script(job)?)?.append("rd.iguana.on_failure=poweroff");
    let mut boot = disks.iter().fold(scenario, |scenario, disk| scenario.disk(disk)).boot()?;
    let block = boot.fails_in("handover")?;
    let said = boot.ends()?;
    assert!(said.contains("reboot: Power down"), "no power-off:\n{said}");
    assert_eq!(said.matches("iguana: error: ").count(), 1, "not one block:\n{said}");
    Ok(block)
}

fn list(lines: &str) -> String {
    format!("printf '{lines}' > /iguana/mountlist")
}

fn assert_says(block: &str, words: &[&str]) {
    for word in words {
        assert!(block.contains(word), "`{word}` is not in\n{block}");
    }
}

/// A disk with busybox, changed by `change`.
fn system(change: impl Fn(&Path) -> Result<()>) -> Result<Disk> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    put(root.path(), "/sbin/init", 0o755, b"#!/bin/sh\necho NOT: the new system runs\npoweroff -f\n")?;
    change(root.path())?;
    Disk::ext4(16, "system", root.path())
}

#[test]
fn an_invalid_mount_list_touches_no_disk() -> Result<()> {
    let disk = system(|_| Ok(()))?;
    let before = fs::read(disk.image())?;
    for (job, words) in [
        (list(""), "the mount list is empty"),
        ("head -c 300 /bin/busybox > /iguana/mountlist".into(), "the mount list is not UTF-8 text"),
        ("yes /dev/vda /sysroot | head -c 100000 > /iguana/mountlist".into(), "it has more than 65536 bytes"),
        (list("/dev/vda /etc\\n"), "the mount list has no entry for `/sysroot`"),
    ] {
        assert_says(&refused(&job, &[&disk])?, &[words, "hint: "]);
        assert!(fs::read(disk.image())? == before, "the disk was written to: {words}");
    }
    Ok(())
}

#[test]
fn a_root_without_a_first_program_for_this_machine() -> Result<()> {
    let none = system(|root| {
        fs::remove_file(root.join("bin/init"))?;
        Ok(fs::remove_file(root.join("sbin/init"))?)
    })?;
    let block = refused(&list("/dev/vda /sysroot ro\\n"), &[&none])?;
    assert_says(&block, &["the new system has no executable `/sbin/init`", "or name its init with `init=`"]);
    let foreign = system(|root| {
        let mut header = [0; 64];
        header[..5].copy_from_slice(b"\x7fELF\x02");
        header[18] = 183;
        put(root, "/sbin/init", 0o755, &header)
    })?;
    let block = refused(&list("/dev/vda /sysroot ro\\n"), &[&foreign])?;
    assert_says(&block, &["`/sbin/init` is for `aarch64`, but this machine is `x86_64`"]);
    Ok(())
}

#[test]
fn a_mountpoint_that_leads_out_of_the_new_root_or_nowhere() -> Result<()> {
    let disk = system(|root| {
        symlink("/srv/elsewhere", root.join("out"))?;
        symlink("circle", root.join("cycle"))?;
        Ok(symlink("cycle", root.join("circle"))?)
    })?;
    for (place, why) in [("out", "No such file or directory"), ("cycle", "Too many levels of symbolic links")]
    {
        let block = refused(&list(&format!("/dev/vda /sysroot\\ntmpfs /sysroot/{place}\\n")), &[&disk])?;
        assert_says(&block, &[&format!("cannot create the mountpoint `/sysroot/{place}`"), why, "hint: "]);
    }
    Ok(())
}

#[test]
fn a_file_system_that_is_damaged_or_a_device_that_vanishes() -> Result<()> {
    let damaged = system(|_| Ok(()))?;
    OpenOptions::new().write(true).open(damaged.image())?.write_all_at(&[0xff; 4096], GROUPS)?;
    let before = fs::read(damaged.image())?;
    let block = refused(&list("LABEL=system /sysroot\\n"), &[&damaged])?;
    assert_says(&block, &["cannot mount `/dev/vda` (ext4) at `/sysroot`", "hint: check the file system"]);
    assert!(fs::read(damaged.image())? == before, "the disk was written to");
    // The device disappears after the job has named it.
    let whole = system(|_| Ok(()))?;
    let remove = "echo 1 > $(readlink -f /sys/block/vda/device)/../remove";
    let job = format!("{}; {remove}", list("LABEL=system /sysroot\\n"));
    let block = refused(&job, &[&whole])?;
    assert_says(
        &block,
        &["there is no device `LABEL=system`", "hint: the disks and partitions of this machine are none"],
    );
    Ok(())
}

/// Anyone who can plug in a disk can give it the UUID of another.
#[test]
fn two_disks_with_the_same_tag_are_refused() -> Result<()> {
    let root = tempfile::tempdir()?;
    let part = Part { mib: 16, row: "name=system", directory: root.path() };
    let (whole, divided) = (system(|_| Ok(()))?, Disk::gpt(&[part])?);
    let ask = |disk: &Disk, path: &str, tag: &str| -> Result<String> {
        let mut blkid = Command::new("/sbin/blkid");
        blkid.args(["-p", "-o", "value", "-s", tag, "-O", path]).arg(disk.image());
        Ok(process::run(&mut blkid, QUICK)?.trim().to_owned())
    };
    let uuid = ask(&whole, "0", "UUID")?;
    let mut sfdisk = Command::new("/sbin/sfdisk");
    let of_part = process::run(sfdisk.arg("--part-uuid").arg(divided.image()).arg("1"), QUICK)?;
    for (disk, name, words) in [
        (&whole, format!("UUID={uuid}"), "is on more than one device: `/dev/vda`, `/dev/vdb`"),
        (&whole, format!("/dev/disk/by-uuid/{uuid}"), "is on more than one device: `/dev/vda`, `/dev/vdb`"),
        (&whole, "LABEL=system".into(), "is on more than one device: `/dev/vda`, `/dev/vdb`"),
        (&divided, "PARTLABEL=system".into(), "is on more than one device: `/dev/vda1`, `/dev/vdb1`"),
        (
            &divided,
            format!("PARTUUID={}", of_part.trim()),
            "is on more than one device: `/dev/vda1`, `/dev/vdb1`",
        ),
    ] {
        let copy = Disk::empty(1)?;
        fs::copy(disk.image(), copy.image())?;
        let block = refused(&list(&format!("{name} /sysroot\\n")), &[disk, &copy])?;
        assert_says(&block, &[words, "hint: remove the other disk"]);
    }
    Ok(())
}
