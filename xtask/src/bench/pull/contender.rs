//! The programs that pull.

use crate::bench::images::ImageKind;
use crate::bench::stage::{Sample, Stage};
use anyhow::{Context, Result};
use iguana_lab::process::{self, QUICK};
use iguana_lab::program;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Options of podman and buildah for a private store.
const STORE: &str = "--root root --runroot run --storage-driver overlay";
/// Clock ticks per second in /proc (proc(5), sysconf(3)).
const TICKS: f64 = 100.0;
const START_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Iguana,
    Podman,
    Buildah,
    Skopeo,
    Containerd,
}

impl Contender {
    /// All contenders, Iguana first.
    pub(super) const ALL: [Contender; 5] =
        [Contender::Iguana, Contender::Podman, Contender::Buildah, Contender::Skopeo, Contender::Containerd];

    /// The contenders that can pull this image.
    pub(super) fn all_for(kind: ImageKind) -> impl Iterator<Item = Contender> {
        // umoci, which unpacks for skopeo, does not support zstd.
        Contender::ALL.into_iter().filter(move |it| *it != Contender::Skopeo || kind != ImageKind::LargeZstd)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Contender::Iguana => "`iguana pull`",
            Contender::Podman => "`podman pull`",
            Contender::Buildah => "`buildah pull`",
            Contender::Skopeo => "`skopeo copy`, `umoci unpack`",
            Contender::Containerd => "`ctr images pull`",
        }
    }

    pub(super) fn version(self) -> Result<String> {
        let said = |words: &[&str]| process::run(Command::new(words[0]).args(&words[1..]), QUICK);
        let said = match self {
            Contender::Iguana => process::run(Command::new(program("iguana")).arg("--version"), QUICK)?,
            Contender::Podman => said(&["podman", "--version"])?,
            Contender::Buildah => said(&["buildah", "--version"])?,
            Contender::Skopeo => {
                format!("{}, {}", said(&["skopeo", "--version"])?.trim(), said(&["umoci", "--version"])?)
            }
            Contender::Containerd => said(&["ctr", "--version"])?,
        };
        Ok(said.trim().lines().next().unwrap_or_default().to_owned())
    }

    /// One pull with an empty store.
    pub(super) fn pull(self, reference: &str) -> Result<Sample> {
        let stage = Stage::set_up()?;
        self.pull_on(&stage, reference).with_context(|| format!("{} of `{reference}`", self.name()))
    }

    fn pull_on(self, stage: &Stage, reference: &str) -> Result<Sample> {
        match self {
            Contender::Iguana => {
                let registry = reference.split('/').next().unwrap_or_default();
                let insecure = format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n");
                fs::write(stage.path().join("tmp/registries.conf"), insecure)?;
                let iguana = program("iguana");
                stage.measure(&format!(
                    "exec {} pull --registries tmp/registries.conf {reference} tree",
                    iguana.display()
                ))
            }
            Contender::Podman => stage.measure(&format!(
                "exec podman {STORE} --cgroup-manager=cgroupfs --events-backend=none pull -q --tls-verify=false {reference}"
            )),
            Contender::Buildah => {
                stage.measure(&format!("exec buildah {STORE} pull -q --tls-verify=false {reference}"))
            }
            Contender::Skopeo => stage.measure(&format!(
                "skopeo copy -q --src-tls-verify=false docker://{reference} oci:layout:latest
                umoci unpack --image layout:latest tree"
            )),
            Contender::Containerd => {
                let daemon = Containerd::start(stage)?;
                let (cpu, _) = daemon.used()?;
                let sample = stage.measure(&format!(
                    "exec ctr -a {} images pull --plain-http --snapshotter overlayfs {reference}:latest",
                    daemon.socket
                ))?;
                let (after, resident) = daemon.used()?;
                Ok(Sample { cpu: sample.cpu + after - cpu, resident: sample.resident.max(resident), ..sample })
            }
        }
    }
}

/// Size in MB of the image's tree as Iguana unpacks it.
pub(super) fn tree_of(reference: &str) -> Result<f64> {
    let stage = Stage::set_up()?;
    Contender::Iguana.pull_on(&stage, reference)?;
    Ok(stage.stored())
}

/// The daemon that pulls for `ctr`. It ends when the value is dropped.
struct Containerd {
    process: Child,
    socket: String,
}

impl Containerd {
    fn start(stage: &Stage) -> Result<Containerd> {
        let home = stage.path().display();
        let socket = format!("{home}/ctrd.sock");
        let config = format!(
            "version = 2\nroot = \"{home}/ctrd\"\nstate = \"{home}/ctrd-state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{socket}\"\n"
        );
        let file = stage.path().join("tmp/ctrd.toml");
        fs::write(&file, config)?;
        let log = fs::File::create(stage.path().join("tmp/ctrd.log"))?;
        let mut containerd = Command::new("containerd");
        containerd.arg("-c").arg(&file).args(["-l", "warn"]).env("TMPDIR", stage.path().join("tmp"));
        let process = containerd.stdout(Stdio::null()).stderr(log).spawn().context("no `containerd`")?;
        let daemon = Containerd { process, socket };
        let start = Instant::now();
        while !process::succeeds(Command::new("ctr").args(["-a", &daemon.socket, "version"])) {
            anyhow::ensure!(start.elapsed() < START_LIMIT, "containerd does not answer");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    /// CPU seconds so far, and peak memory in MB.
    fn used(&self) -> Result<(f64, f64)> {
        let directory = format!("/proc/{}", self.process.id());
        let stat = fs::read_to_string(format!("{directory}/stat"))?;
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
        let ticks: f64 = fields
            .get(11..13)
            .context("`stat` is short")?
            .iter()
            .filter_map(|it| it.parse::<f64>().ok())
            .sum();
        let status = fs::read_to_string(format!("{directory}/status"))?;
        let most = status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?.split_ascii_whitespace().next()?.parse::<f64>().ok()
        });
        Ok((ticks / TICKS, most.unwrap_or_default() * 1024.0 / 1e6))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
