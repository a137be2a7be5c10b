//! `cargo xtask bench containers`: the time of a container that only runs `true`, for Iguana and third-party
//! runtimes, with the same files, alternately.

use super::figures::Figures;
use super::result;
use crate::dist;
use anyhow::{Context, Result, ensure};
use iguana_lab::image::{Image, Maker, Recipe};
use iguana_lab::live::LiveSystem;
use iguana_lab::payload::{Debian, Suite};
use iguana_lab::process::{self, LONG, QUICK};
use iguana_lab::registry::Registry;
use iguana_lab::scenario::Scenario;
use iguana_lab::{packages, program, scratch_directory};
use iguana_vm::Qemu;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Containers of each kind on this host.
    #[arg(long, default_value_t = 100)]
    runs: usize,
    /// Jobs of the one large workflow.
    #[arg(long, default_value_t = 500)]
    jobs: usize,
    /// Containers of each kind in the VM, ours excepted, of which there are 100; 0: no VM.
    #[arg(long, default_value_t = 20)]
    machine_runs: usize,
}

/// The peers; `unshare` is the lower bound for any container.
const PEERS: &[&str] = &["crun", "runc", "podman", "unshare"];

/// crun refuses the hybrid layout of cgroups that some machines still have.
const ONE_CGROUP_TREE: &str =
    "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
const HAS_ONE_CGROUP_TREE: &str = "[ \"$(stat -f -c %T /sys/fs/cgroup)\" = cgroup2fs ]";

/// A root user without CAP_SYS_RESOURCE, as in many CI systems, cannot raise its limits to podman's defaults.
const ULIMIT_OPTIONS: &[&str] =
    &["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--pids-limit=-1"];

/// Jobs per run of Iguana on this host. Only the last job is measured, so that everything was used once before.
const WARM_UP: usize = 3;

/// Iguana's jobs in the VM.
const JOBS_IN_VM: usize = 100;

/// Memory of the VM in MiB: it holds a Debian and podman's copy of an image.
const MACHINE_MIB: u32 = 3072;

/// Measures, prints the tables, and writes them to `bench/results`.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::SCENARIOS, &["podman", "crun", "runc"]].concat())?;
    if !process::succeeds(Command::new("sh").args(["-c", HAS_ONE_CGROUP_TREE])) {
        return continue_in_one_cgroup_tree();
    }
    dist::run()?;
    let mut report = header()?;
    report += &on_this_host(options)?;
    if options.machine_runs > 0 {
        packages::ensure(packages::DEBIAN)?;
        report += &in_a_vm(options)?;
    }
    result::keep("containers", &report)
}

/// Runs the same command again in a mount namespace with a single cgroup tree.
fn continue_in_one_cgroup_tree() -> Result<()> {
    let mut again = Command::new("unshare");
    again.args(["--mount", "sh", "-c", ONE_CGROUP_TREE, "sh"]).args(std::env::args_os());
    Err(again.exec()).context("`unshare` cannot be started")
}

fn header() -> Result<String> {
    let mut versions = Vec::new();
    for peer in PEERS {
        let said = process::run(Command::new(peer).arg("--version"), QUICK)?;
        versions.push(said.lines().next().unwrap_or_default().to_owned());
    }
    Ok(format!(
        "# Containers: from the start to the end of `true`\n\n\
         `{}`, {}. Medians `[least-most]`. Host: {}, {} processors, kernel {}, load before: {}. Peers: {}.\n\n\
         Ours is the time from one job's end to the next one's in a workflow of jobs that run `true`, taken when the \
         line `job NAME: succeeded` comes: to plan the container, to make its namespaces, its cgroup and its root \
         (an overlay of its own over the image's layer), to start `true`, to wait for it, to end the container and \
         to free what it wrote, and to print. What is done once for a workflow (start of `iguana-init`, pull) is not \
         in it. A peer's time is that of its command, from its start to its end: `crun run` and `runc run` of a \
         bundle as umoci unpacks it, on the machine's network, `podman run --rm --privileged --network=host`, \
         `unshare -mpfui chroot`. Every one has the same files (busybox), in memory.\n\n",
        result::command_line(),
        result::today()?,
        result::processor()?,
        std::thread::available_parallelism()?,
        process::run(Command::new("uname").arg("-r"), QUICK)?.trim(),
        fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default(),
        versions.join("; "),
    ))
}

/// The image for all containers.
fn image() -> Result<Image> {
    Recipe::busybox()?.set("Cmd", json!(["true"])).make(Maker::Spec)
}

/// A workflow with jobs that run `true`.
fn workflow(jobs: usize) -> String {
    let jobs = (1..=jobs).map(|number| format!("  n{number}: {{container: REGISTRY/true}}\n"));
    format!("jobs:\n{}", jobs.collect::<String>())
}

fn on_this_host(options: &Options) -> Result<String> {
    let image = image()?;
    let registry = Registry::plain()?;
    registry.push(&image, "true")?;
    let system = LiveSystem::new(registry)?;
    let peers = Peers::prepare(&image, &system)?;
    let mut ours = Figures::default();
    let mut theirs: Vec<Figures> = PEERS.iter().map(|_| Figures::default()).collect();
    for _ in 0..options.runs {
        ours.add(*jobs_on(&system, WARM_UP)?.last().context("no job has ended")?);
        for (peer, figures) in PEERS.iter().zip(&mut theirs) {
            figures.add(milliseconds(&mut peers.command(peer))?);
        }
    }
    let many = jobs_on(&system, options.jobs)?;
    let mut table = format!("## On this host, {} runs of each in turn\n\n", options.runs);
    table += &table_of(&ours, &theirs);
    let mean = many.iter().sum::<f64>() / many.len() as f64;
    let many = many.into_iter().fold(Figures::default(), with);
    writeln!(
        table,
        "A workflow of {} such jobs: {mean:.2} ms per job (goal: under 15), median {many}.\n",
        options.jobs
    )?;
    Ok(table)
}

/// Runs a workflow on this host; returns the milliseconds from the end of one job to the end of the next.
fn jobs_on(system: &LiveSystem, jobs: usize) -> Result<Vec<f64>> {
    let file = system.workflow(&workflow(jobs))?;
    let mut command = system.command(&program("iguana-init"), "iguana-workflow", &[&file])?;
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let said = BufReader::new(run.stderr.take().context("no standard error")?);
    let (mut ends, mut lines) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for line in said.lines() {
        let line = line?;
        if is_end_of_a_job(&line) {
            ends.push(start.elapsed().as_secs_f64() * 1e3);
        }
        lines.push(line);
    }
    ensure!(run.wait()?.success() && ends.len() == jobs, "{}", lines.join("\n"));
    Ok(gaps(&ends))
}

fn is_end_of_a_job(line: &str) -> bool {
    line.contains("iguana: job n") && line.contains(": succeeded")
}

fn gaps(ends: &[f64]) -> Vec<f64> {
    ends.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// The peers on this host, with their data.
struct Peers {
    /// A tmpfs, because Iguana's store is in memory too.
    room: TempDir,
    image: String,
}

impl Peers {
    fn prepare(image: &Image, system: &LiveSystem) -> Result<Peers> {
        let room = tempfile::tempdir_in("/dev/shm")?;
        bundle(image, &room.path().join("bundle"))?;
        let peers = Peers { room, image: system.reference("true") };
        let mut pull = peers.podman();
        process::run(pull.args(["pull", "--quiet", "--tls-verify=false", &peers.image]), LONG)?;
        Ok(peers)
    }

    fn command(&self, peer: &str) -> Command {
        let bundle = self.room.path().join("bundle");
        match peer {
            "podman" => {
                let mut podman = self.podman();
                podman.args(["run", "--rm", "--privileged", "--network=host"]).args(ULIMIT_OPTIONS);
                podman.args([&self.image, "true"]);
                podman
            }
            "unshare" => {
                let mut unshare = Command::new("unshare");
                unshare.args(["-mpfui", "chroot"]).arg(bundle.join("rootfs")).arg("/bin/true");
                unshare
            }
            runtime => {
                let mut command = Command::new(runtime);
                command.arg("--root").arg(self.room.path().join(runtime));
                command.args(["run", "--bundle"]).arg(bundle).arg("iguana-bench");
                command
            }
        }
    }

    fn podman(&self) -> Command {
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(self.room.path().join("podman"));
        podman.arg("--runroot").arg(self.room.path().join("podman-run"));
        podman.args(["--storage-driver=overlay", "--cgroup-manager=cgroupfs", "--events-backend=none"]);
        podman
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // podman leaves its store mounted on itself.
        let _ = Command::new("umount").arg(self.room.path().join("podman/overlay")).output();
    }
}

/// Unpacks the image as a runtime bundle that uses the machine's network.
fn bundle(image: &Image, directory: &Path) -> Result<()> {
    let source = format!("{}:latest", image.layout().display());
    process::run(Command::new("umoci").args(["unpack", "--image", &source]).arg(directory), QUICK)?;
    let file = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["process"]["args"] = json!(["true"]);
    config["process"]["terminal"] = json!(false);
    let namespaces = config["linux"]["namespaces"].as_array_mut().context("no namespaces")?;
    namespaces.retain(|namespace| namespace["type"] != "network");
    let linux = config["linux"].as_object_mut().context("not Linux")?;
    linux.remove("resources");
    linux.insert("cgroupsPath".into(), json!("/iguana-bench"));
    Ok(fs::write(&file, config.to_string())?)
}

fn milliseconds(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let run = command.spawn()?;
    let ended = run.wait_with_output()?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.success(), "`{}`: {said}", command.get_program().display());
    Ok(time)
}

/// The screen as console. Output is not measured: a line takes 5 ms on an emulated serial line, and almost nothing on
/// an absent screen. The output is then in the log.
const CONSOLE: &str = "console=tty0";
const END_SCRIPT: &str = "cat /machine-run/iguana/log > /dev/ttyS0; echo poweroff > /iguana/kernelAction";

/// Runs the peers alternately; `$1` is the number of runs, `$2` podman's image. Prints the milliseconds after
/// `@@NAME`.
const PEERS_SCRIPT: &str = r#"
exec > /dev/ttyS0
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 none /sys/fs/cgroup
podman() { command podman --root /scratch/podman --runroot /scratch/podman-run --storage-driver=overlay \
    --cgroup-manager=cgroupfs --events-backend=none "$@"; }
podman pull --quiet --tls-verify=false "$2"
timed() {
    name=$1; shift
    start=${EPOCHREALTIME/./}
    "$@" < /dev/null > /dev/null 2> /tmp/said || { echo "@@FAILED $name: $(tail -n 1 /tmp/said)"; exit 1; }
    microseconds=$((${EPOCHREALTIME/./} - start))
    echo "@@$name $((microseconds / 1000)).$(printf %03d $((microseconds % 1000)))"
}
for ((run = 0; run < $1; run++)); do
    timed crun crun --root /scratch/crun run --bundle /scratch/bundle iguana-bench
    timed runc runc --root /scratch/runc run --bundle /scratch/bundle iguana-bench
    timed podman podman run --rm --privileged --network=host "$2" true
    timed unshare unshare -mpfui chroot /scratch/bundle/rootfs /bin/true
done
"#;

fn in_a_vm(options: &Options) -> Result<String> {
    let image = image()?;
    let registry = Registry::plain()?;
    let reference = registry.push(&image, "true")?;
    registry.push(&peers_image(&image)?, "peers")?;
    let script = format!("cp -a /bundle /scratch/; exec bash /peers.sh {} {reference}", options.machine_runs);
    let workflow = format!(
        "{}  peers: {{container: {{image: REGISTRY/peers, volumes: [{{type: tmpfs, target: /scratch}}], \
         command: [sh, -c, '{script}']}}}}\n  \
         end: {{container: {{image: REGISTRY/true, volumes: ['/run:/machine-run'], \
         command: [sh, -c, '{END_SCRIPT}']}}}}\n",
        workflow(JOBS_IN_VM)
    );
    let scenario = Scenario::new()?.registry(registry).workflow(workflow).memory(MACHINE_MIB);
    let mut boot = scenario.append(format!("{CONSOLE} rd.iguana.on_failure=poweroff")).boot()?;
    for _ in 0..options.machine_runs {
        boot.expect("@@unshare ")?;
    }
    let said = boot.ends()?;
    let ends: Vec<f64> = said.lines().filter(|line| is_end_of_a_job(line)).filter_map(kernel_time).collect();
    let ours = gaps(&ends).into_iter().fold(Figures::default(), with);
    let theirs: Vec<Figures> = PEERS.iter().map(|peer| behind(&said, &format!("@@{peer} "))).collect();
    let title = format!(
        "## In a VM of {MACHINE_MIB} MiB, {} jobs of ours, then {} runs of each peer in turn, in a job\n\n\
         Accelerator: {:?}. Without one, QEMU translates a program anew at every start, because the kernel loads it \
         at another address each time: with `norandmaps` ours and crun need half.\n\n",
        ends.len(),
        options.machine_runs,
        Qemu::find()?.accelerator,
    );
    Ok(title + &table_of(&ours, &theirs))
}

/// A Debian with the peers and their runtime bundle.
fn peers_image(image: &Image) -> Result<Image> {
    let hooks = vec![r#"rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*"#.into()];
    let packages = "podman,crun,runc,mount,bash";
    let debian = Debian {
        name: "peers",
        suite: Suite::Bookworm,
        packages,
        recommended: false,
        hooks,
        inputs: Vec::new(),
    };
    let room = scratch_directory("bench")?;
    bundle(image, &room.path().join("bundle"))?;
    let packed = room.path().join("bundle.tar");
    process::run(Command::new("tar").arg("-C").arg(room.path()).arg("-cf").arg(&packed).arg("bundle"), LONG)?;
    let recipe = Recipe::empty()?.tar(&debian.tar("tar")?).tar(&packed);
    recipe.file("/peers.sh", 0o755, PEERS_SCRIPT)?.make(Maker::Spec)
}

/// The kernel time in milliseconds at the beginning of a line of Iguana.
fn kernel_time(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once('[')?;
    Some(rest.split_once(']')?.0.trim().parse::<f64>().ok()? * 1e3)
}

fn behind(said: &str, mark: &str) -> Figures {
    let times = said.lines().filter_map(|line| line.split_once(mark)?.1.trim().parse().ok());
    times.fold(Figures::default(), with)
}

fn with(mut figures: Figures, figure: f64) -> Figures {
    figures.add(figure);
    figures
}

fn table_of(ours: &Figures, theirs: &[Figures]) -> String {
    let mut table =
        format!("| | ms | times ours | goal |\n| --- | --- | --- | --- |\n| ours | {ours} | | |\n");
    for (peer, figures) in PEERS.iter().zip(theirs) {
        let goal = match *peer {
            "crun" => "2 or more",
            "podman" => "10 or more",
            _ => "",
        };
        let _ = writeln!(table, "| {peer} | {figures} | {:.2} | {goal} |", ours.ratio_of(figures));
    }
    table + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_lines() {
        let line = "[    7.826] iguana: job n17: succeeded in 0.0 s";
        assert!(is_end_of_a_job(line) && !is_end_of_a_job("[ 1.0] iguana: job n17: started"));
        assert_eq!(kernel_time(line), Some(7826.0));
        assert_eq!(gaps(&[1.0, 3.0, 8.0]), [2.0, 5.0]);
        assert_eq!(behind("@@crun 14.250\n@@runc 9.1\n@@crun 16.750", "@@crun ").median(), 15.5);
    }
}
