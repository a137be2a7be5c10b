//! A campaign of boots: the shipped initrd in virtual machines, with faults of servers, the network interface, the
//! console, the clock, processes, memory and disks.
//!
//! A boot runs the right tree and powers off as its job says, or it prints one failure block that names the injected
//! cause, and carries out its failure policy. From its first line on it never says nothing for longer than
//! [`SILENCE_LIMIT`](crate::soak::SILENCE_LIMIT).

mod judge;
mod plan;

use crate::disk::Disk;
use crate::fault_proxy::{Action, FaultProxy, Request};
use crate::image::{Image, Maker, Recipe, busybox_root, put};
use crate::registry::Registry;
use crate::scenario::{Boot, Scenario};
use crate::soak::faults::{Fault, Stage};
use crate::soak::{LARGEST_LAYER, Outcome, configuration};
use crate::web_server::WebServer;
use crate::{HOST, scratch_directory};
use anyhow::{Context, Result};
use plan::{Event, Injected, Plan};
use std::fs;
use std::time::Duration;

/// Machines at the same time: each has two processors.
pub const AT_ONCE: usize = 2;

/// What the last job says when every byte of its tree is right.
const RIGHT: &str = "the tree is right";

/// What the system on the disk says.
const SYSTEM: &str = "the installed system runs";

const CHECK: &str = "sha256sum -c /data/sums && echo the tree is right";

/// Fills the memory by shared memory, as a job whose failure does not matter.
const FILL_MEMORY: &str = "mount -o remount,size=100% /dev/shm; cat /dev/zero > /dev/shm/fill";

/// What all boots of a campaign share.
pub struct BootCampaign {
    registry: Registry,
    configuration: String,
    disk: Disk,
}

impl BootCampaign {
    /// Starts the registry, and makes the image and the disk.
    pub fn start() -> Result<BootCampaign> {
        let (registry, image) = (Registry::plain()?, image()?);
        registry.push(&image, "soak")?;
        Ok(BootCampaign { registry, configuration: configuration(&image)?, disk: system()? })
    }

    /// The boot of a seed.
    pub fn run(&self, seed: u64) -> Result<Outcome> {
        let plan = Plan::draw(seed);
        let boot = self.boot(&plan).with_context(|| format!("the boot of the seed {seed}"))?;
        let silence = judge::silence(&boot.lines());
        let broken = judge::broken(&plan, &boot.said(), silence);
        let broken = broken.map(|what| format!("{what}\n{}\n{}", plan.text(), boot.said()));
        Ok(Outcome { seed, faults: vec![plan.injected.name()], broken, silence })
    }

    /// Boots to the end, or to the limit.
    fn boot(&self, plan: &Plan) -> Result<Boot> {
        let of_requests = plan.injected.of_requests();
        let registry = self.proxy(&self.registry.address(), of_requests)?;
        let site = WebServer::plain()?;
        let guest_address = |proxy: &FaultProxy| proxy.address().replace("127.0.0.1", HOST);
        site.serve("/workflow.yaml", workflow(plan, &guest_address(&registry)));
        let pages = site.url("").trim_start_matches("http://").replace(HOST, "127.0.0.1");
        let pages = self.proxy(&pages, of_requests)?;
        let mut scenario = Scenario::new()?
            .monitored()?
            .append(format!("rd.iguana.control_url=http://{}/workflow.yaml", guest_address(&pages)))
            .append("rd.iguana.on_failure=poweroff");
        let home = scratch_directory("soak")?;
        match plan.injected {
            Injected::Clock(date) => scenario = scenario.extra(["-rtc", &format!("base={date}T00:00:00")]),
            Injected::Disk(fault) => {
                let config = home.path().join("blkdebug.conf");
                fs::write(&config, fault.text())?;
                let file = format!("blkdebug:{}:{}", config.display(), self.disk.image().display());
                let drive = format!("if=none,id=bad,format=raw,snapshot=on,file={file}");
                scenario = scenario.extra(["-drive", &drive, "-device", "virtio-blk-pci,drive=bad"]);
            }
            _ => {}
        }
        let mut boot = scenario.boot()?;
        if let Some((line, event)) = plan.injected.event() {
            intervene(&mut boot, line, event)?;
        }
        // A boot that does not end is judged by what it said.
        boot.ends().ok();
        Ok(boot)
    }

    fn proxy(&self, behind: &str, fault: Option<&Fault>) -> Result<FaultProxy> {
        let (configuration, fault) = (self.configuration.clone(), fault.cloned());
        FaultProxy::for_guests(behind, move |request: &Request| {
            let stage = Stage::of(request, &configuration);
            let action = fault.as_ref().filter(|fault| fault.stage == stage);
            action.and_then(|fault| fault.action(request.before)).unwrap_or(Action::Pass)
        })
    }
}

/// Does what the plan wants as soon as the console says `line`; not at all if it never does.
fn intervene(boot: &mut Boot, line: &str, event: Event) -> Result<()> {
    if boot.expect(line).is_err() {
        return Ok(());
    }
    let monitor = boot.monitor().context("the machine has no monitor")?;
    match event {
        Event::Unplug => monitor.unplug("nic"),
        Event::LinkLoss(time) => {
            monitor.set_link("nic", false)?;
            let Some(time) = time else { return Ok(()) };
            std::thread::sleep(time);
            monitor.set_link("nic", true)
        }
        Event::Xoff => boot.types("\x13"),
    }
}

/// The workflow of a boot: one job that checks its tree, before it what the fault needs.
fn workflow(plan: &Plan, registry: &str) -> String {
    let image = format!("{registry}/soak");
    let before = match plan.injected {
        Injected::Signal(signal, after) => job("killer", &image, &kill(signal, after), "options: --pid host"),
        Injected::Memory => job("greedy", &image, FILL_MEMORY, "env: {}")
            .replace("  greedy:", "  greedy:\n    continue-on-error: true"),
        _ => String::new(),
    };
    let last = match plan.injected {
        Injected::Disk(_) => format!("{CHECK}; echo '/dev/vda /sysroot ro' > /iguana/mountlist"),
        _ => format!("{CHECK} && echo poweroff > /iguana/kernelAction"),
    };
    format!("jobs:\n{before}{}", job("check", &image, &last, "env: {}"))
}

fn job(name: &str, image: &str, script: &str, more: &str) -> String {
    let script = script.replace('\'', "''");
    format!(
        "  {name}:\n    container:\n      image: {image}\n      command: [sh, -c, '{script}']\n      {more}\n"
    )
}

/// Sends a signal to the boot's worker after some time.
fn kill(signal: &str, after: Duration) -> String {
    let seconds = after.as_secs_f32();
    format!(
        "sleep {seconds}; for process in /proc/[0-9]*; do case \"$(tr '\\0' ' ' < $process/cmdline)\" in \
         \"/init boot \"*) kill -{signal} ${{process#/proc/}};; esac; done; sleep 3"
    )
}

/// Busybox, and random data with its checksum.
fn image() -> Result<Image> {
    let mut random = vec![0; LARGEST_LAYER];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
    let home = tempfile::tempdir()?;
    fs::write(home.path().join("random"), &random)?;
    let mut sum = std::process::Command::new("sha256sum");
    let sum = crate::process::run(sum.arg("random").current_dir(home.path()), crate::process::QUICK)?;
    Recipe::busybox()?
        .file("/data/random", 0o640, random)?
        .file("/data/sums", 0o644, sum.replace("random", "/data/random"))?
        .make(Maker::Spec)
}

/// A disk with a system that says that it runs, and ends.
fn system() -> Result<Disk> {
    let root = tempfile::tempdir()?;
    busybox_root(root.path())?;
    let init = format!("#!/bin/sh\necho {SYSTEM}\npoweroff -f\n");
    put(root.path(), "/sbin/init", 0o755, init.as_bytes())?;
    Disk::ext4(16, "system", root.path())
}
