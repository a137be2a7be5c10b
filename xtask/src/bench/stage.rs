//! The working directory of measured commands: a tmpfs that is empty at the beginning and removed at the end.

use super::figures::Figures;
use anyhow::{Context, Result, ensure};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::scratch_directory;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Interval for reading the usage of the file system.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const MB: f64 = 1e6;

/// The measurements of one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Wall time in seconds.
    pub(super) wall: f64,
    /// Processor seconds.
    pub(super) cpu: f64,
    /// Peak memory of a process in MB.
    pub(super) resident: f64,
    /// Peak usage of the file system in MB.
    pub(super) stored: f64,
}

/// Samples of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    pub(super) wall: Figures,
    pub(super) cpu: Figures,
    pub(super) resident: Figures,
    pub(super) stored: Figures,
}

impl Samples {
    pub(super) fn add(&mut self, sample: Sample) {
        self.wall.add(sample.wall);
        self.cpu.add(sample.cpu);
        self.resident.add(sample.resident);
        self.stored.add(sample.stored);
    }
}

pub(super) struct Stage(TempDir);

impl Stage {
    pub(super) fn set_up() -> Result<Stage> {
        let stage = Stage(scratch_directory("stage")?);
        let mut mount = Command::new("mount");
        process::run(
            mount.args(["-t", "tmpfs", "-o", "size=80%,nr_inodes=0", "stage"]).arg(stage.path()),
            QUICK,
        )?;
        std::fs::create_dir(stage.path().join("tmp"))?;
        Ok(stage)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs a shell script in the directory and measures it.
    pub(super) fn measure(&self, script: &str) -> Result<Sample> {
        let figures = self.path().join("tmp/figures");
        let mut time = Command::new("/usr/bin/time");
        time.arg("-o").arg(&figures).args(["-f", "%e %U %S %M", "sh", "-ec", script]);
        time.current_dir(self.path()).env("TMPDIR", self.path().join("tmp")).stdout(Stdio::null());
        let (ended, stored) = self.fullest_while(|| process::run(&mut time, LONG));
        ended?;
        let text = std::fs::read_to_string(&figures)?;
        let numbers: Vec<f64> =
            text.lines().last().unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
        ensure!(numbers.len() == 4, "time(1) said `{text}`");
        let [wall, user, system, kib] = numbers[..] else { unreachable!("counted") };
        Ok(Sample { wall, cpu: user + system, resident: kib * 1024.0 / MB, stored: stored / MB })
    }

    /// The peak usage of the file system in bytes while `act` runs.
    fn fullest_while<T: Send>(&self, act: impl FnOnce() -> T + Send) -> (T, f64) {
        let has_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most = 0_u64;
                while !has_ended.load(Ordering::Relaxed) {
                    most = most.max(used(self.path()));
                    thread::sleep(POLL_INTERVAL);
                }
                most.max(used(self.path()))
            });
            let done = act();
            has_ended.store(true, Ordering::Relaxed);
            (done, watch.join().unwrap_or_default() as f64)
        })
    }

    /// The current usage of the file system in MB.
    pub(super) fn stored(&self) -> f64 {
        used(self.path()) as f64 / MB
    }
}

fn used(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| (stat.f_blocks - stat.f_bfree) * stat.f_frsize)
}

impl Drop for Stage {
    fn drop(&mut self) {
        // podman's store and containerd's snapshots are mounts on it.
        let script =
            "findmnt -rno TARGET | grep \"^$1\" | sort -r | while read place; do umount -l \"$place\"; done";
        let unmounted = Command::new("sh").args(["-c", script, "sh"]).arg(self.path()).status();
        unmounted.context("cannot unmount the stage").ok();
    }
}
