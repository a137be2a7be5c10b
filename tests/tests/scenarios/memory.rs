//! Memory: images that do not fit are reported before they are fetched, or are made to fit; unused memory is
//! released.

use crate::{POWER_OFF, running};
use anyhow::{Context as _, Result};
use iguana_lab::image::{Image, Maker, Recipe};
use iguana_lab::payload;
use iguana_lab::scenario::Scenario;
use std::fs;

const MIB: u64 = 1 << 20;

/// A Debian's files, and several copies of its package archives. Its command prints how much of them can be read.
fn debian(copies: usize, script: &str) -> Result<(Image, u64)> {
    let tar = payload::disk_tools()?;
    let mut recipe = Recipe::empty()?.tar(&tar);
    for number in 0..copies {
        recipe = recipe.copy(&tar, &format!("/copy/{number}"))?;
    }
    let bytes = fs::metadata(&tar)?.len() * (1 + copies as u64);
    let image = recipe.set("Cmd", serde_json::json!(["/bin/sh", "-c", script])).make(Maker::Spec)?;
    Ok((image, bytes))
}

fn mebibytes(bytes: u64, hundredths: u64) -> Result<u32> {
    u32::try_from(bytes * hundredths / 100 / MIB).context("too large for a machine")
}

/// The number after the last `key` on the console.
fn number(said: &str, key: &str) -> Option<u64> {
    let (_, rest) = said.rsplit_once(key)?;
    rest.trim_start().split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[test]
fn an_image_larger_than_memory_is_compressed() -> Result<()> {
    let script = format!("echo \"read: $(cat /copy/* | wc -c)\"\n{POWER_OFF}");
    let (image, bytes) = debian(2, &script)?;
    let memory = mebibytes(bytes, 80)?;
    let mut boot = Scenario::new()?
        .memory(memory)
        .made_image("large", &image)?
        .append("rd.iguana.containers=REGISTRY/large")
        .boot()?;
    boot.expect(" MiB are not enough for the images: compressing them (zstd)")?;
    boot.expect(&format!("read: {}", bytes / 3 * 2))?;
    boot.expect("handover: power off")?;
    let said = boot.ends()?;
    assert!(!said.contains("Out of memory"), "{said}");
    Ok(())
}

#[test]
fn an_image_that_no_compression_fits_is_refused_before_it_is_fetched() -> Result<()> {
    let (image, bytes) = debian(2, "echo never")?;
    let mut boot = Scenario::new()?
        .memory(256)
        .made_image("large", &image)?
        .append("rd.iguana.containers=REGISTRY/large")
        .boot()?;
    boot.expect("the image does not fit into memory: it needs ")?;
    boot.expect("MB more memory, or use a smaller image")?;
    let said = boot.ends()?;
    let told = number(&said, "it needs ").context("no figure")?;
    assert!(told.abs_diff(bytes / 1_000_000) < 20, "{told} of {bytes}:\n{said}");
    assert!(!said.contains("3 layers,"), "{said}");
    Ok(())
}

#[test]
fn the_image_of_the_next_job_is_prefetched_and_later_freed() -> Result<()> {
    const SAY: &str = "echo \"$1 $(sed -n 's/^MemAvailable: *//p' /proc/meminfo)\"";
    let tool = Recipe::busybox()?.file("/say", 0o755, format!("#!/bin/sh\n{SAY}\n"))?;
    let (image, bytes) = debian(0, "echo large one runs")?;
    let mut boot = Scenario::new()?
        .memory(1024)
        .made_image("large", &image)?
        .image("tool", tool)?
        .workflow(
            "
jobs:
  first: {container: {image: REGISTRY/tool, command: [sh, -c, '/say before: ; sleep 30; echo first ends']}}
  large: {container: REGISTRY/large}
  last: {container: {image: REGISTRY/tool, command: [sh, -c, '/say after: ; echo poweroff > /iguana/kernelAction']}}
",
        )
        .boot()?;
    boot.expect_all(&["job first: started", "first ends", "ready, prefetched during the previous job"])?;
    boot.expect_all(&["large one runs", "job last: started", "handover: power off"])?;
    let said = boot.ends()?;
    let available = |key| number(&said, key).context("no figure");
    let (before, after) = (available("before: ")?, available("after: ")?);
    let lost = before.saturating_sub(after) << 10;
    assert!(lost < bytes / 10, "{lost} of {bytes} bytes are not given back:\n{said}");
    Ok(())
}

/// Runs a job that exhausts its memory, and a job after it; returns the console output.
fn exhausted(script: &str) -> Result<String> {
    let workflow = format!(
        "
jobs:
  greedy:
    continue-on-error: true
    container: {{image: REGISTRY/tool, command: [sh, -c, '{script}']}}
  next: {{container: {{image: REGISTRY/tool, command: [echo, the next job runs]}}}}
  end: {{container: REGISTRY/end}}"
    );
    let mut boot = running(&workflow)?.memory(512).boot()?;
    boot.expect_all(&["job greedy: failed: ", "the next job runs", "handover: power off"])?;
    let said = boot.ends()?;
    assert!(!said.contains("the boot program"), "{said}");
    Ok(said)
}

#[test]
fn a_job_that_fills_its_shared_memory_ends_and_the_next_one_runs() -> Result<()> {
    let said = exhausted("mount -o remount,size=100% /dev/shm; cat /dev/zero > /dev/shm/fill")?;
    assert!(said.contains("the memory limit of all containers, "), "{said}");
    Ok(())
}

#[test]
fn a_job_that_forks_without_end_ends_and_the_next_one_runs() -> Result<()> {
    let said = exhausted("bomb() { bomb | bomb & }; while :; do bomb; done")?;
    let is_told = ["all containers together reached the limit of ", "the memory limit of all containers, "];
    assert!(is_told.iter().any(|told| said.contains(told)), "{said}");
    Ok(())
}

/// Without a memory controller Iguana watches the memory, and the kernel kills containers first.
#[test]
fn the_boot_survives_a_full_memory_where_nothing_is_counted() -> Result<()> {
    let workflow = "
jobs:
  greedy:
    continue-on-error: true
    container:
      image: REGISTRY/tool
      command: [sh, -c, 'mount -o remount,size=100% /dev/shm; cat /dev/zero > /dev/shm/fill']
  next: {container: {image: REGISTRY/tool, command: [echo, the next job runs]}}
  end: {container: REGISTRY/end}";
    let mut boot = running(workflow)?.memory(512).append("cgroup_disable=memory,pids").boot()?;
    boot.expect_all(&["job greedy: failed: ", "the next job runs", "handover: power off"])?;
    let said = boot.ends()?;
    assert!(!said.contains("the boot program"), "{said}");
    Ok(())
}
