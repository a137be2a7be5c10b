//! Where what is measured happens: a file system in memory of its own, empty at the beginning and gone at the end.

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

/// How often it is looked at how full the file system is.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const MB: f64 = 1e6;

/// What one command took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Seconds.
    pub(super) wall: f64,
    /// Processor seconds.
    pub(super) cpu: f64,
    /// The most memory of a process, in MB.
    pub(super) resident: f64,
    /// The most that lay in the file system, in MB.
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

    /// Runs a script of sh in the directory, as one that is measured.
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

    /// The most bytes that the file system has while something runs.
    fn fullest_while<T: Send>(&self, act: impl FnOnce() -> T + Send) -> (T, f64) {
        let has_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most = 0_u64;
                while !has_ended.load(Ordering::Relaxed) {
                    most = most.max(used(self.path()));
                    thread::sleep(LOOK_EVERY);
                }
                most.max(used(self.path()))
            });
            let done = act();
            has_ended.store(true, Ordering::Relaxed);
            (done, watch.join().unwrap_or_default() as f64)
        })
    }

    /// MB in the file system now.
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
        unmounted.context("the stage stays mounted").ok();
    }
}
