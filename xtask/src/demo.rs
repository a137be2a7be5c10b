//! `cargo xtask demo`: installs a Debian on an empty disk with a container, up to its login prompt.

use crate::{dist, table};
use anyhow::{Context, Result};
use iguana_lab::authority::Authority;
use iguana_lab::disk::Disk;
use iguana_lab::image::{Image, Maker, Recipe};
use iguana_lab::initrd::Initrd;
use iguana_lab::kernel::Kernel;
use iguana_lab::registry::Registry;
use iguana_lab::web_server::WebServer;
use iguana_lab::{lab_directory, packages, payload, source_tree};
use iguana_vm::{Console, Echo, Line, Machine, Qemu};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The example that the demo runs.
const EXAMPLE: &str = "examples/debian-install";

/// The registry in the example's workflow, which is replaced by the demo's own.
const EXAMPLE_REGISTRY: &str = "registry.example.com";

/// Memory in MiB: enough for the installation container, the packed Debian and a page cache.
const MEMORY_MIB: u32 = 1024;

/// The end of the installed Debian's boot.
const LOGIN: &str = "login: ";

/// Input that ends the machine: root has no password yet.
const POWER_OFF: &str = "root\nsystemctl poweroff\n";

/// The expected stages of the example on the console, in order.
const STAGES: &[(&str, &str)] = &[
    ("to the first container", "job install: started"),
    ("to the end of the installation", "job install: succeeded"),
    ("to the handover", "handover: switch root"),
    ("to the login prompt", LOGIN),
];

/// How the demo runs.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds that the machine may take to its login prompt.
    #[arg(long, default_value_t = 600)]
    limit: u64,
    /// Boot the disk by itself afterwards, up to its login prompt.
    #[arg(long)]
    reboot: bool,
}

/// Makes everything from scratch, boots, and ends at the login prompt with a table.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&[packages::BUILD, packages::SCENARIOS, packages::DEBIAN].concat())?;
    dist::run()?;
    let authority = Authority::named("demo")?;
    let initrd = Initrd::trusting(&authority)?;
    let registry = Registry::tls(&authority)?;
    registry.push(&installation_image(&initrd.kernel)?, "debian-install")?;
    let web_server = WebServer::tls(&authority)?;
    let workflow = fs::read_to_string(source_tree().join(EXAMPLE).join("workflow.yaml"))?;
    let url = web_server.serve("/workflow.yaml", workflow.replace(EXAMPLE_REGISTRY, &registry.address()));
    let disk = Disk::empty(4096)?;

    let log = lab_directory("logs")?.join("demo.log");
    let limit = Duration::from_secs(options.limit);
    let qemu = Qemu::find()?;
    let mut console = qemu.start(&machine(&initrd, &url, &disk), &log, Echo::Shown)?;
    let reached = watch(&mut console, limit)?;
    if options.reboot {
        console.send(POWER_OFF)?;
        console.wait_exit(limit)?;
        let log = log.with_file_name("demo-reboot.log");
        qemu.start(&installed(&disk), &log, Echo::Shown)?
            .expect(LOGIN, limit)
            .context("the installed disk")?;
    }
    println!("\n\n{}", summary(&initrd, &reached)?);
    Ok(())
}

fn installation_image(kernel: &Kernel) -> Result<Image> {
    let script = fs::read(source_tree().join(EXAMPLE).join("install.sh"))?;
    Recipe::empty()?
        .tar(&payload::installer()?)
        .copy(&payload::installed_debian(kernel)?, "/debian.tar.zst")?
        .file("/install.sh", 0o755, script)?
        .set("Cmd", json!(["/install.sh"]))
        .make(Maker::Spec)
}

fn machine(initrd: &Initrd, url: &str, disk: &Disk) -> Machine {
    Machine {
        initrd: Some(initrd.image.clone()),
        append: format!("console=ttyS0 panic=-1 rd.iguana.on_failure=poweroff rd.iguana.control_url={url}"),
        memory_mib: MEMORY_MIB,
        disks: vec![iguana_vm::Disk::raw(disk.image()).throw_away()],
        ..Machine::new(&initrd.kernel.image)
    }
}

fn installed(disk: &Disk) -> Machine {
    Machine::from_disks(vec![iguana_vm::Disk::raw(disk.image()).throw_away()])
}

/// The times of the stages, and what was printed about memory.
struct Reached {
    stages: Vec<Line>,
    memory: Option<String>,
}

fn watch(console: &mut Console, limit: Duration) -> Result<Reached> {
    let start = std::time::Instant::now();
    let mut stages = Vec::new();
    for (name, text) in STAGES {
        let left = limit.saturating_sub(start.elapsed());
        stages.push(console.expect(text, left).with_context(|| format!("the machine did not come {name}"))?);
    }
    let said = console.lines();
    let memory = said.iter().find_map(|line| line.text.split_once("memory: peak "));
    Ok(Reached { stages, memory: memory.map(|(_, peak)| peak.to_owned()) })
}

fn summary(initrd: &Initrd, reached: &Reached) -> Result<String> {
    let mut rows = vec![vec!["initrd".to_owned(), format!("{:.1} MB", megabytes(&initrd.image)?)]];
    for ((name, _), line) in STAGES.iter().zip(&reached.stages) {
        rows.push(vec![(*name).to_owned(), format!("{:.1} s", line.at)]);
    }
    rows.push(vec!["peak memory".to_owned(), reached.memory.clone().unwrap_or("not told".into())]);
    Ok(table::aligned(&rows))
}

fn megabytes(file: &Path) -> Result<f64> {
    Ok(file.metadata()?.len() as f64 / 1e6)
}
